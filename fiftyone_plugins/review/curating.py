"""The operators by which a curator decides: conflicts of samples, and what annotators see next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_plugins.review.in_app import add_problem, find_problem, place_button, run_for_python, run_in_app
from fiftyone_plugins.review.selection import (
    SIDES,
    STRATEGIES,
    conflicting_ids,
    find_queue_problem,
    offer_fields,
    to_queue_params,
    to_resolve_params,
)

SIDE = "side"
DEFAULT_COUNT = 100


class ResolveConflicts(foo.Operator):  # type: ignore[misc]  # FiftyOne has no types
    """Decides the open conflicts of the selected samples, or of the current view, for one of the two sides."""

    @property
    def config(self) -> foo.OperatorConfig:
        """How the App lists this operator."""
        return foo.OperatorConfig(
            name="resolve_conflicts",
            label="Resolve conflicts",
            description="Decide what was changed both here and in Label Studio",
            icon="rule",
            dynamic=True,
            execute_as_generator=True,
            view_target=False,
        )

    def resolve_placement(self, ctx: Any) -> types.Placement:
        """Put a button into the grid's actions."""
        return place_button(self.config)

    def resolve_input(self, ctx: Any) -> types.Property:
        """Say how many samples are decided, and ask for which side."""
        inputs = types.Object()
        problem = find_problem(ctx.dataset)
        if problem is None:
            count = len(conflicting_ids(ctx.dataset, ctx.view, ctx.selected))
            told = "1 sample is" if count == 1 else f"{count:,} samples are"
            where = "selected" if ctx.selected else "in the current view"
            inputs.view("summary", types.Notice(label=f"{told} in conflict of those {where}."))
            choices = types.RadioGroup(orientation="vertical")
            for name, label in SIDES.items():
                choices.add_choice(name, label=label)
            inputs.enum(SIDE, choices.values(), required=True, label="Which labels stay", view=choices)
            inputs.view(
                "hint", types.Notice(label="For another answer on each label, use the Conflicts page of the console.")
            )
            problem = None if count else "There is nothing to decide."
        add_problem(inputs, problem)
        return types.Property(inputs, view=types.PromptView(label="Resolve conflicts", submit_button_label="Decide"))

    def execute(self, ctx: Any) -> Iterator[Any]:
        """Run the resolve job; the App shows its progress, then its report."""
        params = to_resolve_params(ctx.dataset, ctx.view, ctx.selected, ctx.params[SIDE])
        yield from run_in_app(ctx, "resolve", params)

    def __call__(self, samples: Any, side: str) -> dict[str, Any]:
        """Decide the open conflicts of a dataset or view for "reviewed" or "curated"; return the report.

        Raises:
            ServiceError: the console does not answer, serves another dataset, or the job failed.
        """
        dataset = samples._dataset
        report = run_for_python(dataset.name, "resolve", to_resolve_params(dataset, samples, [], side))
        dataset.reload()
        return report


class QueueNext(foo.Operator):  # type: ignore[misc]  # FiftyOne has no types
    """Chooses what annotators see next among the samples that were not sent yet, and sends it."""

    @property
    def config(self) -> foo.OperatorConfig:
        """How the App lists this operator."""
        return foo.OperatorConfig(
            name="queue_next",
            label="Queue for review",
            description="Choose what annotators see next: by uncertainty, likely mistakes, diversity or a field",
            icon="playlist_add",
            dynamic=True,
            execute_as_generator=True,
            view_target=False,
        )

    def resolve_placement(self, ctx: Any) -> types.Placement:
        """Put a button into the grid's actions."""
        return place_button(self.config)

    def resolve_input(self, ctx: Any) -> types.Property:
        """Ask by what, how many, and under which name the choice is kept as a view."""
        inputs = types.Object()
        problem = find_problem(ctx.dataset)
        if problem is None:
            choices = types.Choices()
            for name, label in STRATEGIES.items():
                choices.add_choice(name, label=label)
            for name in offer_fields(ctx.dataset):
                choices.add_choice(name, label=f"The highest {name}")
            inputs.enum("by", choices.values(), default=next(iter(STRATEGIES)), label="Choose by", view=choices)
            inputs.int("count", default=DEFAULT_COUNT, min=1, label="How many at most")
            inputs.str("view", label="Name of the saved view", description="Empty: the choice is not kept as a view")
            inputs.bool("dry_run", default=False, label="Only say what would be sent")
            problem = find_queue_problem(ctx.params.get("count", DEFAULT_COUNT))
        add_problem(inputs, problem)
        return types.Property(inputs, view=types.PromptView(label="Queue for review", submit_button_label="Queue"))

    def execute(self, ctx: Any) -> Iterator[Any]:
        """Run the queue job; the App shows its progress, then its report."""
        yield from run_in_app(ctx, "queue", to_queue_params({"count": DEFAULT_COUNT, **ctx.params}))

    def __call__(
        self, dataset: Any, by: str = "uncertainty", count: int = DEFAULT_COUNT, view: str | None = None
    ) -> dict[str, Any]:
        """Choose and send, and return the report.

        Raises:
            ServiceError: the console does not answer, serves another dataset, or the job failed.
        """
        report = run_for_python(dataset.name, "queue", to_queue_params({"by": by, "count": count, "view": view}))
        dataset.reload()
        return report
