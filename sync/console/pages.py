"""The admin's page and the few numbers it refreshes itself by; open on loopback, and it starts nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import NamedTuple

from flask import Blueprint, jsonify, render_template
from flask.typing import ResponseReturnValue

from sync.console.health import Health
from sync.console.status import CachedStatus, Counts, Status, Tool
from sync.jobs.runner import JobRunner
from sync.jobs.state import JobState


class Tile(NamedTuple):
    """One number of the overview: what it counts, and what that says to a person where there are some and none."""

    key: str
    title: str
    hint: str
    hint_for_none: str


TILES = (
    Tile("not_sent", "not sent", "in FiftyOne only", "all were sent"),
    Tile("queued", "queued", "wait for an annotator", "nobody has work"),
    Tile("reviewed", "reviewed", "labels are back", "none came back yet"),
    Tile("skipped", "skipped", "an annotator passed", "nobody passed"),
    Tile("conflicts", "conflicts", "need a decision", "nothing to decide"),
    Tile("failed", "failed", "see the last runs", "nothing failed"),
)


class Segment(NamedTuple):
    """A part of the bar over the tiles; x and width in percent of it."""

    key: str
    x: float
    width: float


def make_pages(
    runner: JobRunner, status: CachedStatus, fetch_health: Callable[[Sequence[Tool] | None], Mapping[str, Health]]
) -> Blueprint:
    """Return the page and /status.json."""
    pages = Blueprint("pages", __name__)

    @pages.get("/")
    def show_overview() -> ResponseReturnValue:
        current, jobs = status.read_or_problem(), runner.read_jobs()
        return render_template(
            "overview.html",
            status=current,
            failed_job=_last_if_failed(jobs),
            active=_active(jobs),
            health=fetch_health(current.tools),
            tiles=TILES,
            segments=_segments(current.counts),
            revision=_revision(current, jobs),
        )

    @pages.get("/status.json")
    def show_numbers() -> ResponseReturnValue:
        current, jobs = status.read_or_problem(), runner.read_jobs()
        return jsonify(
            counts=asdict(current.counts),
            active=[
                {"id": job.id, "job": job.job, "state": job.state, "progress": job.progress, "message": job.message}
                for job in _active(jobs)
            ],
            revision=_revision(current, jobs),
        )

    return pages


def _active(jobs: Sequence[JobState]) -> list[JobState]:
    """Return the jobs that run or wait, in the order they will run."""
    return [job for job in jobs if not job.is_over]


def _last_if_failed(jobs: Sequence[JobState]) -> JobState | None:
    """Return the job that ended last where it failed: what failed before a success needs nobody any more."""
    over = [job for job in jobs if job.is_over]
    return over[-1] if over and over[-1].state == "failed" else None


def _segments(counts: Counts) -> list[Segment]:
    """Return the bar's parts, in the order of the tiles; empty where there is nothing to draw."""
    total = counts.total
    if not total:
        return []
    segments: list[Segment] = []
    x = 0.0
    for key in ("not_sent", "queued", "reviewed", "skipped", "conflicts"):
        width = 100 * (getattr(counts, key) or 0) / total
        segments.append(Segment(key, round(x, 3), round(width, 3)))
        x += width
    return [segment for segment in segments if segment.width > 0]


def _revision(status: Status, jobs: Sequence[JobState]) -> str:
    """Return a word that changes when the page would look different in more than a job's progress."""
    text = json.dumps([status.to_dict(), [(job.id, job.state) for job in jobs]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
