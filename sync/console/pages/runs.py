"""Every run of a job: the list, one run with its report, and the buttons that start, cancel and repeat."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest, NotFound

from labels.errors import LabelingError
from sync.console.pages.live import compute_revision
from sync.console.parts import Parts
from sync.console.training_view import JOB, describe_training
from sync.ledger.runs import Run

PAGE_SIZE: Final = 25
FAILURES_SHOWN: Final = 500
# What the buttons may start; a job that needs more than its name has a page of its own.
STARTABLE: Final = ("pull", "prelabel", "push", "export", "sweep", "verify")
STARTED_ELSEWHERE: Final = (
    *("ingest", "queue", "resolve", "relabel", "calibrate"),
    *("train", "evaluate", "promote", "rollback"),
)
STATE_MARKS: Final[Mapping[str, str]] = {
    "queued": "wait",
    "running": "wait",
    "done": "good",
    "failed": "bad",
    "interrupted": "bad",
    "cancelled": "rest",
    "stopped": "rest",
}


def make_runs(parts: Parts) -> Blueprint:
    """Return /runs."""
    runs = Blueprint("runs", __name__, url_prefix="/runs")

    runs.add_app_template_filter(to_mark, "mark")
    runs.add_app_template_filter(to_seconds, "took")

    @runs.get("/")
    def show_runs() -> ResponseReturnValue:
        revision = compute_revision(parts)
        job = request.args.get("job") or None
        page = max(1, request.args.get("page", 1, type=int))
        total = parts.runner.count_runs(job=job)
        return render_template(
            "runs.html",
            runs=parts.runner.read_runs(PAGE_SIZE, (page - 1) * PAGE_SIZE, job=job),
            job=job,
            jobs=sorted({*STARTABLE, *STARTED_ELSEWHERE}),
            page=page,
            pages=max(1, -(-total // PAGE_SIZE)),
            total=total,
            revision=revision,
        )

    @runs.get("/<int:run_id>")
    def show_run(run_id: int) -> ResponseReturnValue:
        # Before the run is read: a worker may take it while the page is made, which then is out of date and says so.
        revision = compute_revision(parts)
        run = parts.runner.read_run(run_id)
        if run is None:
            raise NotFound(f"run {run_id} is not known; the list has those that are kept")
        return render_template(
            "run.html",
            run=run,
            report=run.report or {},
            training=describe_training(parts.settings.home, run.id) if run.job == JOB else None,
            params=_describe_params(run.params),
            failures_shown=FAILURES_SHOWN,
            revision=revision,
        )

    @runs.post("/")
    def start_run() -> ResponseReturnValue:
        job = request.form.get("job", "")
        if job not in STARTABLE:
            raise BadRequest(f"job '{job}' is started on its own page, or not at all")
        return _go_to(lambda: parts.runner.submit(job, {}, started_by="console"), url_for("overview.show_overview"))

    @runs.post("/<int:run_id>/cancel")
    def cancel_run(run_id: int) -> ResponseReturnValue:
        before = parts.runner.read_run(run_id)
        if before is not None and before.is_over:
            flash(f"Run {run_id} was over already; there was nothing to cancel.", "good")
        return _go_to(lambda: parts.runner.cancel(run_id), url_for("runs.show_runs"))

    @runs.post("/<int:run_id>/retry")
    def retry_run(run_id: int) -> ResponseReturnValue:
        only_failed = request.form.get("only") == "failed"
        return _go_to(
            lambda: parts.runner.retry(run_id, only_failed=only_failed, started_by="console"),
            url_for("runs.show_run", run_id=run_id),
        )

    return runs


def to_mark(run: Run) -> str:
    """Return the colour and form a run's state is shown with."""
    is_partly_bad = run.state == "done" and bool(run.failed or run.conflicts)
    return "warn" if is_partly_bad else STATE_MARKS[run.state]


def to_seconds(run: Run) -> float | None:
    """Return how long a run took; None: it is not over, or it never began."""
    if run.started_at is None or run.ended_at is None:
        return None
    return (datetime.fromisoformat(run.ended_at) - datetime.fromisoformat(run.started_at)).total_seconds()


def _go_to(start: Any, back: str) -> ResponseReturnValue:
    """Start or change a run and show it; where that is refused, say why on the page one came from."""
    try:
        run = start()
    except LabelingError as error:
        flash(str(error), "bad")
        return redirect(back, 303)
    return redirect(url_for("runs.show_run", run_id=run.id), 303)


def _describe_params(params: Mapping[str, Any]) -> dict[str, str]:
    """Return the parameters as text, each short enough for a line or two."""
    return {name: text if len(text := _to_text(value)) <= 300 else text[:300] + "…" for name, value in params.items()}


def _to_text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_to_text(one)}" for name, one in value.items())
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)
