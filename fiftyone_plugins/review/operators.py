"""The plugin's operators: forms, progress and results in the App; what they do lies in console and selection.

FiftyOne runs this file under a name of its own, and again when the plugin changes: nothing is kept here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_plugins.review.app_text import report_to_markdown, status_to_markdown
from fiftyone_plugins.review.console import Console, Job
from fiftyone_plugins.review.selection import Target, count_target, offer_targets, to_push_params
from labels.errors import LabelingError, ServiceError

TARGET = "target"
# The form is asked for on every change: it may not wait long for a console that hangs.
FORM_TIMEOUT_S = 3.0


class SendToLabelStudio(foo.Operator):  # type: ignore[misc]  # FiftyOne has no types
    """Sends the selected samples, the current view, or everything not sent yet to Label Studio."""

    @property
    def config(self) -> foo.OperatorConfig:
        """How the App lists this operator."""
        return foo.OperatorConfig(
            name="send_to_label_studio",
            label="Send to Label Studio",
            description="Make tasks of samples, with pre-labels, for annotators to review",
            icon="send",
            dynamic=True,
            execute_as_generator=True,
            view_target=False,
        )

    def resolve_placement(self, ctx: Any) -> types.Placement:
        """Put a button into the grid's actions."""
        return _place_button(self.config)

    def resolve_input(self, ctx: Any) -> types.Property:
        """Ask what to send, say how many samples that is and what to know about them."""
        inputs = types.Object()
        problem = _find_problem(ctx.dataset)
        if problem is None:
            targets = offer_targets(ctx.dataset, ctx.view, ctx.selected)
            choices = types.RadioGroup(orientation="vertical")
            for name, label in targets.items():
                choices.add_choice(name, label=label)
            default = next(iter(targets))
            inputs.enum(TARGET, choices.values(), default=default, label="What to send", view=choices)
            plan = count_target(ctx.dataset, ctx.view, ctx.selected, _read_target(ctx, targets))
            problem = plan.problem
            if problem is None:
                inputs.view("summary", types.Notice(label=plan.summary))
                for number, warning in enumerate(plan.warnings):
                    inputs.view(f"warning_{number}", types.Warning(label=warning))
        _add_problem(inputs, problem)
        return types.Property(inputs, view=types.PromptView(label="Send to Label Studio", submit_button_label="Send"))

    def execute(self, ctx: Any) -> Iterator[Any]:
        """Run the push job; the App shows its progress, then its report."""
        targets = offer_targets(ctx.dataset, ctx.view, ctx.selected)
        params = to_push_params(ctx.dataset, ctx.view, ctx.selected, _read_target(ctx, targets))
        yield from _run_in_app(ctx, "push", params)

    def __call__(self, samples: Any) -> dict[str, Any]:
        """Send a dataset (everything not sent yet) or a view of one to Label Studio; return the report.

        Raises:
            ServiceError: the console does not answer, serves another dataset, or the job failed.
        """
        target: Target = "view" if samples != samples._dataset else "dataset"
        return _run(samples._dataset.name, "push", to_push_params(samples._dataset, samples, [], target))


class PullReviewedLabels(foo.Operator):  # type: ignore[misc]  # FiftyOne has no types
    """Brings the labels that annotators submitted since the last pull into the dataset."""

    @property
    def config(self) -> foo.OperatorConfig:
        """How the App lists this operator."""
        return foo.OperatorConfig(
            name="pull_reviewed_labels",
            label="Pull reviewed labels",
            description="Bring what annotators submitted in Label Studio into this dataset",
            icon="download",
            execute_as_generator=True,
            view_target=False,
        )

    def resolve_placement(self, ctx: Any) -> types.Placement:
        """Put a button into the grid's actions."""
        return _place_button(self.config)

    def resolve_input(self, ctx: Any) -> types.Property:
        """Say what will happen, or why it cannot."""
        inputs = types.Object()
        problem = _find_problem(ctx.dataset)
        if problem is None:
            told = "Labels that annotators submitted since the last pull come into this dataset."
            kept = "Where both sides changed the same label, both are kept and listed as a conflict."
            inputs.view("summary", types.Notice(label=f"{told} {kept}"))
        _add_problem(inputs, problem)
        return types.Property(inputs, view=types.PromptView(label="Pull reviewed labels", submit_button_label="Pull"))

    def execute(self, ctx: Any) -> Iterator[Any]:
        """Run the pull job; the App shows its progress, then its report."""
        yield from _run_in_app(ctx, "pull", {})

    def __call__(self, dataset: Any) -> dict[str, Any]:
        """Pull into a dataset and return the report.

        Raises:
            ServiceError: the console does not answer, serves another dataset, or the job failed.
        """
        report = _run(dataset.name, "pull", {})
        dataset.reload()
        return report


class SyncStatus(foo.Operator):  # type: ignore[misc]  # FiftyOne has no types
    """Shows how many samples wait, came back or need a decision, and where to click."""

    @property
    def config(self) -> foo.OperatorConfig:
        """How the App lists this operator."""
        return foo.OperatorConfig(
            name="sync_status",
            label="Label Studio sync status",
            description="How many samples wait for review, came back, or need a decision",
            icon="sync",
            view_target=False,
            risk_level=types.RiskLevel.LOW,
        )

    def resolve_placement(self, ctx: Any) -> types.Placement:
        """Put a button into the grid's actions."""
        return _place_button(self.config, prompt=False)

    def execute(self, ctx: Any) -> dict[str, Any]:
        """Show the status, or why there is none, and return it."""
        # Shown from here and not by resolve_output: a button that asks nothing drops what an operator returns.
        outputs = types.Object()
        try:
            status = self()
        except LabelingError as error:
            outputs.view("problem", types.Error(label=str(error)))
            status = {"error": str(error)}
        else:
            outputs.md(status_to_markdown(status), name="status")
        ctx.ops.show_output(types.Property(outputs).to_json(), {})
        return status

    def __call__(self) -> dict[str, Any]:
        """Return the console's status.

        Raises:
            ServiceError: the console does not answer.
        """
        return Console.from_environ(os.environ).fetch_status()


def register(plugin: Any) -> None:
    """Register the operators; FiftyOne calls this."""
    plugin.register(SendToLabelStudio)
    plugin.register(PullReviewedLabels)
    plugin.register(SyncStatus)


def _place_button(config: foo.OperatorConfig, *, prompt: bool = True) -> types.Placement:
    button = types.Button(label=config.label, icon=config.icon, prompt=prompt)
    return types.Placement(types.Places.SAMPLES_GRID_SECONDARY_ACTIONS, button)


def _read_target(ctx: Any, targets: Mapping[Target, str]) -> Target:
    """Return the chosen target; the first one offered where none was chosen or the choice is no longer offered."""
    chosen = ctx.params.get(TARGET)
    return cast(Target, chosen) if chosen in targets else next(iter(targets))


def _find_problem(dataset: Any | None) -> str | None:
    """Return why no job can be started for a dataset, or None; no dataset is open where it is None."""
    if dataset is None:
        return "No dataset is open: open one first."
    try:
        _check_dataset(Console.from_environ(os.environ).fetch_status(FORM_TIMEOUT_S), dataset.name)
    except LabelingError as error:
        return str(error)
    return None


def _check_dataset(status: Mapping[str, Any], dataset: str) -> None:
    served = status.get("dataset")
    if served is not None and served != dataset:
        raise ServiceError(f"labelloop's console serves the dataset '{served}', not '{dataset}': open that one")


def _add_problem(inputs: types.Object, problem: str | None) -> None:
    """Show a problem in a form, which then cannot be executed."""
    if problem is not None:
        shown = inputs.view("problem", types.Error(label=problem))
        shown.invalid = True
        shown.error_message = problem


def _run(dataset: str, job: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Run a job to its end, for Python, and return its report."""
    console = Console.from_environ(os.environ)
    _check_dataset(console.fetch_status(), dataset)
    return dict(console.run_to_end(job, params).report or {})


def _run_in_app(ctx: Any, job: str, params: Mapping[str, Any]) -> Iterator[Any]:
    """Run a job, yielding what the App is to show: progress, then the report, and the samples as they are now."""
    try:
        console = Console.from_environ(os.environ)
        _check_dataset(console.fetch_status(), ctx.dataset.name)
        for current in console.run(job, params):
            if current.is_over:
                yield from _show_end(ctx, current)
            else:
                yield ctx.ops.set_progress(label=current.message or current.state, progress=current.progress or 0.0)
    except LabelingError as error:
        yield _show_lines(ctx, types.Error, [str(error)])
        yield ctx.ops.notify(str(error), variant="error")


def _show_end(ctx: Any, job: Job) -> Iterator[Any]:
    view = types.Error if job.state == "failed" else types.Success if job.is_clean else types.Warning
    yield _show_lines(ctx, view, job.lines)
    yield ctx.ops.notify(job.lines[0], variant=view.__name__.lower())
    yield ctx.ops.reload_dataset()


def _show_lines(ctx: Any, view: type[types.View], lines: Sequence[str]) -> Any:
    """Show a report: its first line in a box that says how it went, the others as a list."""
    outputs = types.Object()
    outputs.view("summary", view(label=lines[0]))
    if len(lines) > 1:
        outputs.md(report_to_markdown(lines[1:]), name="details")
    return ctx.ops.show_output(types.Property(outputs).to_json(), {})
