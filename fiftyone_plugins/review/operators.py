"""The plugin's operators: forms, progress and results in the App; what they do lies in console and selection.

FiftyOne runs this file under a name of its own, and again when the plugin changes: nothing is kept here.
"""

from __future__ import annotations

import os
from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_plugins.app.console import Console
from fiftyone_plugins.app.forms import TARGET, add_targets, check_dataset, place_button, to_sentence
from fiftyone_plugins.app.markdown import status_to_markdown, tasks_to_markdown
from fiftyone_plugins.app.operators import JobOperator
from fiftyone_plugins.app.running import run_for_python
from fiftyone_plugins.app.targets import Target, choose_target, collect, to_sample_params
from fiftyone_plugins.review.curating import QueueNext, ResolveConflicts
from fiftyone_plugins.review.selection import count_target, offer_push_targets, read_tasks
from labels.errors import LabelingError


class SendToLabelStudio(JobOperator):
    """Sends the selected samples, the current view, or everything not sent yet to Label Studio."""

    name_in_app = "send_to_label_studio"
    label = "Send to Label Studio"
    about = "Make tasks of samples, with pre-labels, for annotators to review"
    icon = "send"
    job = "push"
    submit = "Send"

    def fill_form(self, ctx: Any, inputs: types.Object) -> str | None:
        """Ask what to send, say how many samples that is and what to know about them."""
        targets = offer_push_targets(ctx.dataset, ctx.view, ctx.selected)
        add_targets(inputs, targets, "What to send")
        plan = count_target(ctx.dataset, ctx.view, ctx.selected, choose_target(ctx.params.get(TARGET), targets))
        if plan.problem is None:
            inputs.view("summary", types.Notice(label=plan.summary))
            for number, warning in enumerate(plan.warnings):
                inputs.view(f"warning_{number}", types.Warning(label=warning))
        return plan.problem

    def read_form(self, ctx: Any) -> dict[str, Any]:
        """Return the sample ids, or none for everything not sent yet."""
        targets = offer_push_targets(ctx.dataset, ctx.view, ctx.selected)
        target = choose_target(ctx.params.get(TARGET), targets)
        return to_sample_params(ctx.dataset, ctx.view, ctx.selected, target)

    def __call__(self, samples: Any) -> dict[str, Any]:
        """Send a dataset (everything not sent yet) or a view of one to Label Studio; return the report.

        Raises:
            ServiceError: the console does not answer, serves another dataset, or the job failed.
        """
        dataset = samples._root_dataset
        target: Target = "view" if samples != dataset else "dataset"
        return run_for_python(dataset.name, self.job, to_sample_params(dataset, samples, [], target))


class PullReviewedLabels(JobOperator):
    """Brings the labels that annotators submitted since the last pull into the dataset."""

    name_in_app = "pull_reviewed_labels"
    label = "Pull reviewed labels"
    about = "Bring what annotators submitted in Label Studio into this dataset"
    icon = "download"
    job = "pull"
    submit = "Pull"

    def fill_form(self, ctx: Any, inputs: types.Object) -> str | None:
        """Say what will happen."""
        told = "Labels that annotators submitted since the last pull come into this dataset."
        kept = "Where both sides changed the same label, both are kept and listed as a conflict."
        inputs.view("summary", types.Notice(label=f"{told} {kept}"))
        return None

    def read_form(self, ctx: Any) -> dict[str, Any]:
        """Return no parameters: a pull reads what changed."""
        return {}

    def __call__(self, dataset: Any) -> dict[str, Any]:
        """Pull into a dataset and return the report.

        Raises:
            ServiceError: the console does not answer, serves another dataset, or the job failed.
        """
        report = run_for_python(dataset.name, self.job, {})
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
        try:
            status = self()
        except LabelingError as error:
            return _show_problem(ctx, error)
        _show_markdown(ctx, status_to_markdown(status))
        return status

    def __call__(self) -> dict[str, Any]:
        """Return the console's status.

        Raises:
            ServiceError: the console does not answer.
        """
        return Console.from_environ(os.environ).fetch_status()


class ShowTasks(foo.Operator):  # type: ignore[misc]  # FiftyOne has no types
    """Shows the task of the open image, or of the selected samples: its state, who reviewed it, and the way there."""

    @property
    def config(self) -> foo.OperatorConfig:
        """How the App lists this operator."""
        return foo.OperatorConfig(
            name="show_tasks",
            label="Task in Label Studio",
            description="State, reviewer and link of the open image's task, or of the selected samples' tasks",
            icon="open_in_new",
            view_target=False,
            risk_level=types.RiskLevel.LOW,
        )

    def resolve_placement(self, ctx: Any) -> types.Placement:
        """Put a button beside the open image."""
        button = types.Button(label=self.config.label, icon=self.config.icon, prompt=False)
        return types.Placement(types.Places.SAMPLES_VIEWER_ACTIONS, button)

    def execute(self, ctx: Any) -> dict[str, Any]:
        """Show the tasks with their links, and return their numbers."""
        shown = [ctx.current_sample] if ctx.current_sample else list(ctx.selected)
        if not shown:
            return _show_problem(ctx, LabelingError("open an image, or select samples first"))
        try:
            check_dataset(status := Console.from_environ(os.environ).fetch_status(), ctx.dataset.name)
        except LabelingError as error:
            return _show_problem(ctx, error)
        tasks = read_tasks(collect(ctx.dataset, ctx.view, shown, "selected"))
        _show_markdown(ctx, tasks_to_markdown(tasks, status["links"].get("label_studio")))
        return {"tasks": [task.task_id for task in tasks]}


def _show_markdown(ctx: Any, text: str) -> None:
    # Shown from here and not by resolve_output: a button that asks nothing drops what an operator returns.
    outputs = types.Object()
    outputs.md(text, name="text")
    ctx.ops.show_output(types.Property(outputs).to_json(), {})


def _show_problem(ctx: Any, error: LabelingError) -> dict[str, Any]:
    outputs = types.Object()
    outputs.view("problem", types.Error(label=to_sentence(str(error))))
    ctx.ops.show_output(types.Property(outputs).to_json(), {})
    return {"error": str(error)}


def register(plugin: Any) -> None:
    """Register the operators; FiftyOne calls this."""
    plugin.register(SendToLabelStudio)
    plugin.register(PullReviewedLabels)
    plugin.register(ResolveConflicts)
    plugin.register(QueueNext)
    plugin.register(SyncStatus)
    plugin.register(ShowTasks)
