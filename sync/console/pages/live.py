"""What an open page asks for again and again: how far the jobs are, and whether the page looks different by now."""

from __future__ import annotations

import hashlib
import json

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from sync.console.parts import Parts
from sync.console.training_view import JOB, count_epochs

RUNS_WATCHED = 25


def make_live(parts: Parts) -> Blueprint:
    """Return /live.json."""
    live = Blueprint("live", __name__)

    @live.get("/live.json")
    def show_live() -> ResponseReturnValue:
        active = parts.runner.read_active()
        return jsonify(
            active=[
                {"id": run.id, "job": run.job, "state": run.state, "progress": run.progress, "message": run.message}
                for run in active
            ],
            waiting={"conflicts": parts.catalogue.count_conflicts(), "runs": len(active)},
            revision=compute_revision(parts),
        )

    return live


def compute_revision(parts: Parts) -> str:
    """Return a word that changes when a page would look different in more than a job's progress."""
    watched = parts.runner.read_runs(RUNS_WATCHED)
    runs = [(run.id, run.state, run.cancel_requested) for run in watched]
    # A training's curves grow with each epoch.
    home = parts.settings.home
    epochs = [count_epochs(home, run.id) for run in watched if run.job == JOB and not run.is_over]
    status = parts.status.read_or_problem().to_dict()
    # The runs stand above; those of the status carry the progress.
    text = json.dumps([{key: value for key, value in status.items() if key != "runs"}, runs, epochs], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
