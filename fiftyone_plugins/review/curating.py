"""The operators by which a curator decides: conflicts of samples, and what annotators see next."""

from __future__ import annotations

from typing import Any

from fiftyone.operators import types

from fiftyone_plugins.app.forms import add_choice
from fiftyone_plugins.app.operators import JobOperator
from fiftyone_plugins.app.running import run_for_python
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


class ResolveConflicts(JobOperator):
    """Decides the open conflicts of the selected samples, or of the current view, for one of the two sides."""

    name_in_app = "resolve_conflicts"
    label = "Resolve conflicts"
    about = "Decide what was changed both here and in Label Studio"
    icon = "rule"
    job = "resolve"
    submit = "Decide"

    def fill_form(self, ctx: Any, inputs: types.Object) -> str | None:
        """Say how many samples are decided, and ask for which side."""
        count = len(conflicting_ids(ctx.dataset, ctx.view, ctx.selected))
        told = "1 sample is" if count == 1 else f"{count:,} samples are"
        where = "selected" if ctx.selected else "in the current view"
        inputs.view("summary", types.Notice(label=f"{told} in conflict of those {where}."))
        add_choice(inputs, SIDE, SIDES, label="Which labels stay")
        inputs.view(
            "hint", types.Notice(label="For another answer on each label, use the Conflicts page of the console.")
        )
        return None if count else "There is nothing to decide."

    def read_form(self, ctx: Any) -> dict[str, Any]:
        """Return each sample in conflict with the side that stays."""
        return to_resolve_params(ctx.dataset, ctx.view, ctx.selected, ctx.params[SIDE])

    def __call__(self, samples: Any, side: str) -> dict[str, Any]:
        """Decide the open conflicts of a dataset or view for "reviewed" or "curated"; return the report.

        Raises:
            ServiceError: the console does not answer, serves another dataset, or the job failed.
        """
        dataset = samples._root_dataset
        report = run_for_python(dataset.name, self.job, to_resolve_params(dataset, samples, [], side))
        dataset.reload()
        return report


class QueueNext(JobOperator):
    """Chooses what annotators see next among the samples that were not sent yet, and sends it."""

    name_in_app = "queue_next"
    label = "Queue for review"
    about = "Choose what annotators see next: by uncertainty, likely mistakes, diversity or a field"
    icon = "playlist_add"
    job = "queue"
    submit = "Queue"

    def fill_form(self, ctx: Any, inputs: types.Object) -> str | None:
        """Ask by what, how many, and under which name the choice is kept as a view."""
        choices = types.Choices()
        for name, label in STRATEGIES.items():
            choices.add_choice(name, label=label)
        for name in offer_fields(ctx.dataset):
            choices.add_choice(name, label=f"The highest {name}")
        inputs.enum("by", choices.values(), default=next(iter(STRATEGIES)), label="Choose by", view=choices)
        inputs.int("count", default=DEFAULT_COUNT, min=1, label="How many at most")
        inputs.str("view", label="Name of the saved view", description="Empty: the choice is not kept as a view")
        inputs.bool("dry_run", default=False, label="Only say what would be sent")
        return find_queue_problem(ctx.params.get("count", DEFAULT_COUNT))

    def read_form(self, ctx: Any) -> dict[str, Any]:
        """Return by what, how many, and the name of the view."""
        return to_queue_params({"count": DEFAULT_COUNT, **ctx.params})

    def __call__(
        self, dataset: Any, by: str = "uncertainty", count: int = DEFAULT_COUNT, view: str | None = None
    ) -> dict[str, Any]:
        """Choose and send, and return the report.

        Raises:
            ServiceError: the console does not answer, serves another dataset, or the job failed.
        """
        report = run_for_python(dataset.name, self.job, to_queue_params({"by": by, "count": count, "view": view}))
        dataset.reload()
        return report
