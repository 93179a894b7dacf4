"""Where the project stands: the way of the images, what needs a decision, what runs, and the buttons that start it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from flask import Blueprint, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from labels.errors import LabelingError
from sync.console.charts import draw_columns
from sync.console.pages.live import compute_revision
from sync.console.parts import Parts
from sync.console.status import Counts
from sync.ledger.overview import Day
from sync.ledger.run_rows import CLI
from sync.ledger.runs import Run

DAYS_SHOWN = 14
RUNS_SHOWN = 6
RUNS_LOOKED_AT = 50
WEAK_F1 = 0.5


class Step(NamedTuple):
    """One step of an image's way: what it counts, and what that says to a person where there are some and none."""

    key: str
    title: str
    hint: str
    hint_for_none: str


STEPS = (
    Step("not_sent", "not sent", "in FiftyOne only", "all were sent"),
    Step("queued", "queued", "wait for an annotator", "nobody has work"),
    Step("reviewed", "reviewed", "labels are back", "none came back yet"),
    Step("exported", "exported", "in the newest export", "no export yet"),
)


class Action(NamedTuple):
    """A button that starts a job."""

    job: str
    title: str
    does: str


ACTIONS = (
    Action("pull", "Pull", "Bring submitted labels back to FiftyOne"),
    Action("prelabel", "Pre-label", "Let the detector draw where the served weights have not drawn yet"),
    Action("push", "Push", "Send to Label Studio what has no task yet, and curators' corrections"),
    Action("export", "Export", "Write the reviewed images as a COCO training set"),
    Action("sweep", "Sweep", "Look for deleted tasks and doubled predictions, and clean up"),
    Action("verify", "Verify", "Compare Label Studio, ledger and FiftyOne; changes nothing"),
)


def make_overview(parts: Parts) -> Blueprint:
    """Return the first page."""
    overview = Blueprint("overview", __name__)

    @overview.get("/")
    def show_overview() -> ResponseReturnValue:
        # First: what changes while the page is made shows it to be out of date.
        revision = compute_revision(parts)
        status = parts.status.read_or_problem()
        days = parts.catalogue.read_days(DAYS_SHOWN)
        runs = parts.runner.read_runs(RUNS_LOOKED_AT)
        return render_template(
            "overview.html",
            status=status,
            steps=STEPS,
            counts=_count_steps(parts, status.counts),
            total=status.counts.total,
            actions=ACTIONS,
            active=parts.runner.read_active(),
            decisions=[
                *_find_decisions(status.counts, runs, parts.runner.read_dismissed()),
                *_find_weak_classes(parts),
            ],
            runs=[run for run in runs[:RUNS_SHOWN] if run.is_over],
            days=days,
            has_days=any(day != Day(day.date) for day in days),
            chart=draw_columns(
                f"Images a day, the last {DAYS_SHOWN} days",
                [day.date[5:] for day in days],
                {
                    "sent": [day.sent for day in days],
                    "reviewed": [day.reviewed for day in days],
                    "skipped": [day.skipped for day in days],
                },
            ),
            health=parts.fetch_health(status.tools),
            revision=revision,
        )

    @overview.post("/runs/<int:run_id>/dismiss")
    def dismiss_run(run_id: int) -> ResponseReturnValue:
        try:
            parts.runner.dismiss(run_id)
        except LabelingError as error:
            flash(str(error), "bad")
        return redirect(url_for(".show_overview"), 303)

    return overview


def _count_steps(parts: Parts, counts: Counts) -> dict[str, int | None]:
    """Return the numbers of the steps; None where one is not known."""
    exports = parts.catalogue.read_exports()
    newest = exports[0].what if exports else None
    # A model has no images; what is no export cannot be the newest one.
    exported = getattr(newest, "images", 0)
    return {
        "not_sent": counts.not_sent,
        "queued": counts.queued,
        "reviewed": counts.reviewed,
        "skipped": counts.skipped,
        "exported": exported,
        "task_deleted": counts.task_deleted,
    }


def _find_weak_classes(parts: Parts) -> list[Decision]:
    """Return the class the detector is worst at, where that is bad and enough was reviewed to say so."""
    (summary,) = parts.catalogue.summarize_feedback().values()
    for one in summary.classes:
        if one.f1 is not None and one.f1 < WEAK_F1 and not one.is_few:
            text = f"The detector is weak at {one.name}: F1 {100 * one.f1:.0f} %"
            return [Decision("warn", text, "feedback.show_feedback")]
    return []


class Decision(NamedTuple):
    """Something that waits for the admin: how urgent, what, and where to go."""

    kind: str
    text: str
    endpoint: str
    run_id: int | None = None


def _find_decisions(counts: Counts, runs: Sequence[Run], dismissed: Mapping[str, int]) -> list[Decision]:
    """Return what waits for the admin. What failed before a success of the same job needs nobody any more.

    ``dismissed`` says by job up to which run the admin has seen how it ended.

    A command that failed said so in its terminal, and most often for what was typed there: it is left out. So is a dry
    run, which did nothing.
    """
    found = []
    if counts.conflicts:
        some = "1 image is" if counts.conflicts == 1 else f"{counts.conflicts:,} images are"
        found.append(Decision("warn", f"{some} in conflict: both sides changed a label", "conflicts.show_conflicts"))
    newest: dict[str, Run] = {}
    for run in runs:
        if run.is_over and not _is_dry(run) and not (run.state == "failed" and run.started_by == CLI):
            newest.setdefault(run.job, run)
    for run in newest.values():
        if run.id <= dismissed.get(run.job, 0):
            continue
        if run.state in ("failed", "interrupted"):
            text = f"The last {run.job} {'failed' if run.state == 'failed' else 'was interrupted'}"
            found.append(Decision("bad", f"{text}: {run.error}" if run.error else text, "runs.show_run", run.id))
        elif run.failed:
            found.append(Decision("bad", f"The last {run.summary}", "runs.show_run", run.id))
    return found


def _is_dry(run: Run) -> bool:
    """Return whether a run only said what it would do. A list leaves long reports out: then its parameters say so."""
    return run.params.get("dry_run") is True or bool((run.report or {}).get("is_dry_run"))
