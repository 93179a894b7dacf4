"""The plugin's operators: forms, progress and results in the App; what they do lies in console and selection.

FiftyOne runs this file under a name of its own, and again when the plugin changes: nothing is kept here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, cast

import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_plugins.review.app_text import status_to_markdown
from fiftyone_plugins.review.console import Console
from fiftyone_plugins.review.curating import QueueNext, ResolveConflicts
from fiftyone_plugins.review.in_app import add_problem, find_problem, place_button, run_for_python, run_in_app
from fiftyone_plugins.review.selection import Target, count_target, offer_targets, to_push_params
from labels.errors import LabelingError

TARGET = "target"


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
        return place_button(self.config)

    def resolve_input(self, ctx: Any) -> types.Property:
        """Ask what to send, say how many samples that is and what to know about them."""
        inputs = types.Object()
        problem = find_problem(ctx.dataset)
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
        add_problem(inputs, problem)
        return types.Property(inputs, view=types.PromptView(label="Send to Label Studio", submit_button_label="Send"))

    def execute(self, ctx: Any) -> Iterator[Any]:
        """Run the push job; the App shows its progress, then its report."""
        targets = offer_targets(ctx.dataset, ctx.view, ctx.selected)
        params = to_push_params(ctx.dataset, ctx.view, ctx.selected, _read_target(ctx, targets))
        yield from run_in_app(ctx, "push", params)

    def __call__(self, samples: Any) -> dict[str, Any]:
        """Send a dataset (everything not sent yet) or a view of one to Label Studio; return the report.

        Raises:
            ServiceError: the console does not answer, serves another dataset, or the job failed.
        """
        target: Target = "view" if samples != samples._dataset else "dataset"
        return run_for_python(samples._dataset.name, "push", to_push_params(samples._dataset, samples, [], target))


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
        return place_button(self.config)

    def resolve_input(self, ctx: Any) -> types.Property:
        """Say what will happen, or why it cannot."""
        inputs = types.Object()
        problem = find_problem(ctx.dataset)
        if problem is None:
            told = "Labels that annotators submitted since the last pull come into this dataset."
            kept = "Where both sides changed the same label, both are kept and listed as a conflict."
            inputs.view("summary", types.Notice(label=f"{told} {kept}"))
        add_problem(inputs, problem)
        return types.Property(inputs, view=types.PromptView(label="Pull reviewed labels", submit_button_label="Pull"))

    def execute(self, ctx: Any) -> Iterator[Any]:
        """Run the pull job; the App shows its progress, then its report."""
        yield from run_in_app(ctx, "pull", {})

    def __call__(self, dataset: Any) -> dict[str, Any]:
        """Pull into a dataset and return the report.

        Raises:
            ServiceError: the console does not answer, serves another dataset, or the job failed.
        """
        report = run_for_python(dataset.name, "pull", {})
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
        return place_button(self.config, prompt=False)

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
    plugin.register(ResolveConflicts)
    plugin.register(QueueNext)
    plugin.register(SyncStatus)


def _read_target(ctx: Any, targets: Mapping[Target, str]) -> Target:
    """Return the chosen target; the first one offered where none was chosen or the choice is no longer offered."""
    chosen = ctx.params.get(TARGET)
    return cast(Target, chosen) if chosen in targets else next(iter(targets))
