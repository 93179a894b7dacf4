"""The detectors: which one draws now, which were there before, which want to be; to promote and to roll back."""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, flash, redirect, render_template, request, send_file, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound

from labels.errors import LabelingError
from sync.backend import ServedWeights
from sync.console.intervals import draw_intervals
from sync.console.parts import Parts
from sync.console.status import Counts
from sync.console.training_view import JOB as TRAIN
from sync.models.registry import Card, Registry
from sync.models.shelf import SeenCandidate, Shelf

WHO: Final = "the console"
CHANGES_SHOWN: Final = 20


def make_models(parts: Parts) -> Blueprint:
    """Return /models."""
    models = Blueprint("models", __name__, url_prefix="/models")
    _add_lists(models, parts)
    _add_promotion(models, parts)
    _add_way_back(models, parts)
    return models


def _add_lists(models: Blueprint, parts: Parts) -> None:
    @models.get("/")
    def show_models() -> ResponseReturnValue:
        served: ServedWeights | None = None
        problem: str | None = None
        try:
            served = parts.catalogue.fetch_served()
        except LabelingError as error:
            problem = str(error)
        shelf = parts.catalogue.read_shelf()
        return render_template(
            "models.html",
            served=served,
            problem=problem,
            shown_version=parts.status.read_or_problem().model_version,
            shelf=shelf,
            waits=_waits(parts.status.read_or_problem().counts),
            at_work=_find_at_work(parts),
            changes=shelf.promotions[:CHANGES_SHOWN],
            models=parts.catalogue.read_models(),
        )

    @models.get("/registered/<model_id>")
    def show_registered(model_id: str) -> ResponseReturnValue:
        shelf = parts.catalogue.read_shelf()
        card = _find_card(shelf, model_id)
        drawings = () if card.comparison is None else draw_intervals(card.comparison)
        return render_template("model.html", card=card, drawings=drawings, is_current=shelf.current == card.id)

    @models.get("/registered/<model_id>/<name>")
    def show_curve(model_id: str, name: str) -> ResponseReturnValue:
        # By the card's own list: a name of the request opens no other file.
        card = _find_card(parts.catalogue.read_shelf(), model_id)
        path = Registry(parts.settings.home).folder_of(card.id) / name
        if name not in card.curves or not path.is_file():
            raise NotFound(f"{name}: there is no such drawing")
        return send_file(path, mimetype="image/svg+xml")


def _add_promotion(models: Blueprint, parts: Parts) -> None:
    @models.get("/candidates/<candidate_id>")
    def show_candidate(candidate_id: str) -> ResponseReturnValue:
        seen = _find_candidate(parts.catalogue.read_shelf(), candidate_id)
        drawings = () if seen.gate is None else draw_intervals(seen.gate.comparison)
        return render_template("candidate.html", seen=seen, drawings=drawings, at_work=_find_at_work(parts))

    @models.post("/candidates/<candidate_id>/check")
    def check_candidate(candidate_id: str) -> ResponseReturnValue:
        candidate = _find_candidate(parts.catalogue.read_shelf(), candidate_id).candidate
        back = url_for("models.show_candidate", candidate_id=candidate_id)
        return _submit(parts, "promote", {"candidate": candidate.id, "by": WHO, "dry_run": True}, back)

    @models.get("/candidates/<candidate_id>/promote")
    def ask_promote(candidate_id: str) -> ResponseReturnValue:
        shelf = parts.catalogue.read_shelf()
        return render_template("promote.html", seen=_find_candidate(shelf, candidate_id), shelf=shelf)

    @models.post("/candidates/<candidate_id>/promote")
    def promote(candidate_id: str) -> ResponseReturnValue:
        candidate = _find_candidate(parts.catalogue.read_shelf(), candidate_id).candidate
        back = url_for("models.ask_promote", candidate_id=candidate_id)
        params = {"candidate": candidate.id, "by": WHO} | _read_reason()
        if request.form.get("force") == "yes":
            if "reason" not in params:
                flash("A model is forced for a reason: say why.", "bad")
                return redirect(back, 303)
            params["force"] = True
        return _submit(parts, "promote", params, back)


def _add_way_back(models: Blueprint, parts: Parts) -> None:
    @models.get("/registered/<model_id>/back")
    def ask_rollback(model_id: str) -> ResponseReturnValue:
        shelf = parts.catalogue.read_shelf()
        return render_template("rollback.html", card=_find_card(shelf, model_id), shelf=shelf)

    @models.post("/registered/<model_id>/back")
    def roll_back(model_id: str) -> ResponseReturnValue:
        card = _find_card(parts.catalogue.read_shelf(), model_id)
        back = url_for("models.ask_rollback", model_id=model_id)
        return _submit(parts, "rollback", {"to": card.id, "by": WHO} | _read_reason(), back)


def _waits(counts: Counts) -> bool:
    """Return whether an image is left that the served model could draw for annotators; not known: one may be."""
    return counts.queued is None or counts.not_sent is None or counts.queued + counts.not_sent > 0


def _find_at_work(parts: Parts) -> set[int]:
    """Return the trainings that run or wait; a candidate without one of them is not being trained."""
    return {run.id for run in parts.runner.read_active() if run.job == TRAIN}


def _find_card(shelf: Shelf, model_id: str) -> Card:
    card = shelf.find_card(model_id)
    if card is None:
        raise NotFound(f"model {model_id}: is not registered")
    return card


def _find_candidate(shelf: Shelf, candidate_id: str) -> SeenCandidate:
    seen = shelf.find_candidate(candidate_id)
    if seen is None:
        raise NotFound(f"candidate {candidate_id}: is not known")
    return seen


def _read_reason() -> dict[str, Any]:
    reason = request.form.get("reason", "").strip()
    return {"reason": reason} if reason else {}


def _submit(parts: Parts, job: str, params: dict[str, Any], back: str) -> ResponseReturnValue:
    """Start a job and show its run; where that is refused, say why on the page one came from."""
    try:
        run = parts.runner.submit(job, params, started_by="console")
    except LabelingError as error:
        flash(str(error), "bad")
        return redirect(back, 303)
    return redirect(url_for("runs.show_run", run_id=run.id), 303)
