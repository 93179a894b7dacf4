"""The kinds of operators: one starts a job of the console, one does a plugin's own work, one takes such work back."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_plugins.app.forms import TARGET, add_choice, add_problem, add_targets, find_problem, place_button
from fiftyone_plugins.app.journal import Decided, list_standing
from fiftyone_plugins.app.running import find_curation_folder, run_in_app, run_work_for_python, run_work_in_app
from fiftyone_plugins.app.targets import (
    Target,
    choose_target,
    collect,
    find_count_problem,
    find_media_problem,
    offer_targets,
    to_sample_params,
)


def to_config(operator: Any, **more: Any) -> foo.OperatorConfig:
    """Return how the App lists an operator: its name, label, sentence and icon, with a form that follows answers."""
    return foo.OperatorConfig(
        name=operator.name_in_app,
        label=operator.label,
        description=operator.about,
        icon=operator.icon,
        dynamic=True,
        view_target=False,
        **more,
    )


class JobOperator(foo.Operator):  # type: ignore[misc]  # FiftyOne has no types
    """A button in the grid whose form starts a job of the console and shows its progress and report."""

    name_in_app: ClassVar[str]
    label: ClassVar[str]
    about: ClassVar[str]
    icon: ClassVar[str]
    job: ClassVar[str]
    submit: ClassVar[str]

    @property
    def config(self) -> foo.OperatorConfig:
        """How the App lists this operator."""
        return to_config(self, execute_as_generator=True)

    def resolve_placement(self, ctx: Any) -> types.Placement | None:
        """Put a button into the grid's actions."""
        return place_button(self.config)

    def resolve_input(self, ctx: Any) -> types.Property:
        """Return the form; what is wrong stands in it as a sentence, and it cannot be executed then."""
        inputs = types.Object()
        problem = self.find_problem(ctx)
        if problem is None:
            problem = self.fill_form(ctx, inputs)
        add_problem(inputs, problem)
        return types.Property(inputs, view=types.PromptView(label=self.label, submit_button_label=self.submit))

    def execute(self, ctx: Any) -> Iterator[Any]:
        """Run the job; the App shows its progress, then its report."""
        yield from run_in_app(ctx, self.job, self.read_form(ctx))

    def find_problem(self, ctx: Any) -> str | None:
        """Return why nothing can be started at all, or None."""
        return find_problem(ctx.dataset)

    @abstractmethod
    def fill_form(self, ctx: Any, inputs: types.Object) -> str | None:
        """Ask, and say what will happen to how many samples; return what is wrong, or None."""

    @abstractmethod
    def read_form(self, ctx: Any) -> dict[str, Any]:
        """Return the job's parameters."""


class WorkOperator(JobOperator):
    """A plugin's own work on the selected samples, the current view or the dataset.

    ``job`` names the work in ``WORKS``. It runs as a job of the console, and in this process where none is there. It is
    started from the plugin's panel or from the list of operators: the grid has no room for a button each.
    ``asks_for_samples`` False: the work is about the dataset, whatever is shown or selected.
    """

    asks_for_samples: ClassVar[bool] = True

    def resolve_placement(self, ctx: Any) -> types.Placement | None:
        """Put no button into the grid's actions."""
        return None

    def find_problem(self, ctx: Any) -> str | None:
        """Return why nothing can be started at all, or None: a console is not needed."""
        return "No dataset is open: open one first." if ctx.dataset is None else find_media_problem(ctx.dataset)

    def fill_form(self, ctx: Any, inputs: types.Object) -> str | None:
        """Ask for the samples, then what ``ask`` adds."""
        if not self.asks_for_samples:
            return self.ask(ctx, inputs, ctx.dataset)
        targets = self._offer(ctx)
        add_targets(inputs, targets, "Which samples")
        target = choose_target(ctx.params.get(TARGET), targets)
        samples = collect(ctx.dataset, ctx.view, ctx.selected, target)
        return find_count_problem(len(samples), target) or self.ask(ctx, inputs, samples)

    def execute(self, ctx: Any) -> Iterator[Any]:
        """Do the work; the App shows its progress, then its report."""
        yield from run_work_in_app(ctx, self.job, self.read_form(ctx))

    def read_form(self, ctx: Any) -> dict[str, Any]:
        """Return the parameters: the samples, and what ``read_answers`` adds."""
        if not self.asks_for_samples:
            return self.read_answers(ctx.params)
        target = choose_target(ctx.params.get(TARGET), self._offer(ctx))
        return to_sample_params(ctx.dataset, ctx.view, ctx.selected, target) | self.read_answers(ctx.params)

    def __call__(self, samples: Any, **params: Any) -> dict[str, Any]:
        """Do the work for a dataset or view, with the parameters of the job, and return the report.

        Of a view of patches it is done for the samples they were cut from, of groups for all that is in them.

        Raises:
            LabelingError: a parameter cannot be used, or the work cannot be done.
        """
        dataset = samples._root_dataset
        target: Target = "dataset" if samples is dataset else "view"
        return run_work_for_python(dataset, self.job, to_sample_params(dataset, samples, [], target) | params)

    @abstractmethod
    def ask(self, ctx: Any, inputs: types.Object, samples: Any) -> str | None:
        """Ask for what the work needs besides its samples, say what it will touch; return what is wrong, or None."""

    @abstractmethod
    def read_answers(self, answers: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters besides the samples, of what the form holds; what was left empty is left out."""

    def _offer(self, ctx: Any) -> Any:
        return offer_targets(ctx.dataset, ctx.view, ctx.selected, f"The whole dataset ({len(ctx.dataset):,})")


class UndoOperator(WorkOperator):
    """Takes back one of a plugin's decisions, by its journal, which says itself what it changed."""

    asks_for_samples = False
    icon = "undo"
    submit = "Take back"
    kinds: ClassVar[tuple[str, ...]]

    def ask(self, ctx: Any, inputs: types.Object, samples: Any) -> str | None:
        """Ask which decision; the last one is the default."""
        standing = list_standing(find_curation_folder(os.environ), ctx.dataset.name, *self.kinds)
        if not standing:
            return "There is no decision to take back."
        names = {one.run: self.describe(one) for one in standing}
        add_choice(inputs, "run", names, label="Which decision", default=standing[0].run)
        return None

    def read_answers(self, answers: dict[str, Any]) -> dict[str, Any]:
        """Return the decision; none: the last one."""
        return {"run": answers["run"]} if answers.get("run") else {}

    def describe(self, decided: Decided) -> str:
        """Return a decision in words."""
        return f"{decided.run}: {len(decided.changes):,} images"
