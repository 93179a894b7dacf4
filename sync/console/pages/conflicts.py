"""Labels that both sides changed: the list, and one sample after the other with both versions drawn over the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from flask import Blueprint, Response, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest, NotFound

from labels.geometry import Mask
from labels.results import Label
from sync.console.catalogue import OpenConflict
from sync.console.drawing import draw_mask, fit
from sync.console.pages.conflict_rows import describe_conflicts, find_agreed, to_row
from sync.console.pages.live import compute_revision
from sync.console.parts import Parts
from sync.review.merge import Conflict, conflicts_version

PAGE_SIZE: Final = 48
# A side as the ledger names it, and the word by which people and the job know it.
WORDS: Final[Mapping[str, str]] = {"ours": "curated", "theirs": "reviewed"}


def make_conflicts(parts: Parts) -> Blueprint:
    """Return /conflicts."""
    conflicts = Blueprint("conflicts", __name__, url_prefix="/conflicts")

    @conflicts.get("/")
    def show_conflicts() -> ResponseReturnValue:
        return _show_list(parts, page=max(1, request.args.get("page", 1, type=int)))

    @conflicts.get("/<sample_id>")
    def show_conflict(sample_id: str) -> ResponseReturnValue:
        found = parts.catalogue.read_conflict(sample_id)
        return _go_back_decided() if found is None else _show_one(parts, sample_id, found)

    @conflicts.get("/<sample_id>/masks/<label_id>-<any(ours,theirs,base,agreed):side>.png")
    def show_mask(sample_id: str, label_id: str, side: str) -> ResponseReturnValue:
        found = parts.catalogue.read_conflict(sample_id)
        label = None if found is None else _find_label(found, label_id, side)
        if label is None or not isinstance(label.geometry, Mask):
            raise NotFound("there is no such mask")
        return Response(draw_mask(label.geometry, side), mimetype="image/png")

    @conflicts.post("/<sample_id>")
    def decide(sample_id: str) -> ResponseReturnValue:
        found = parts.catalogue.read_conflict(sample_id)
        return _go_back_decided() if found is None else _decide(parts, sample_id, found)

    return conflicts


def _show_list(parts: Parts, *, page: int) -> ResponseReturnValue:
    # First: what changes while the page is made shows it to be out of date.
    revision = compute_revision(parts)
    ids = parts.catalogue.conflict_ids()
    shown = ids[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]
    return render_template(
        "conflicts.html",
        conflicts=parts.catalogue.read_conflicts(shown),
        images=parts.catalogue.find_images(shown) if shown else {},
        deciding=_find_deciding(parts),
        total=len(ids),
        page=page,
        pages=max(1, -(-len(ids) // PAGE_SIZE)),
        describe=describe_conflicts,
        revision=revision,
    )


def _show_one(parts: Parts, sample_id: str, found: OpenConflict) -> ResponseReturnValue:
    waiting = _find_waiting(parts, but=sample_id)
    return render_template(
        "conflict.html",
        sample_id=sample_id,
        image=found.image,
        rows=[to_row(conflict) for conflict in found.conflicts],
        agreed=find_agreed(found),
        whole=fit(found.image.size),
        version=conflicts_version(found.conflicts),
        following=_next_of(waiting, sample_id),
        waiting=len(waiting),
        is_deciding=sample_id in _find_deciding(parts),
    )


def _decide(parts: Parts, sample_id: str, found: OpenConflict) -> ResponseReturnValue:
    """Start the job that writes what was chosen, and go on to the next conflict."""
    version = conflicts_version(found.conflicts)
    if request.form.get("version") != version:
        flash("The labels changed while you looked. Nothing was decided: please look again.", "bad")
        return redirect(url_for("conflicts.show_conflict", sample_id=sample_id), 303)
    decision = _read_decision(found.conflicts, request.form)
    # The job looks again: until its turn comes, somebody may save the task once more.
    params = {"decisions": {sample_id: decision}, "shown": {sample_id: version}}
    run = parts.runner.submit("resolve", params, started_by="console")
    following = _next_of(_find_waiting(parts, but=sample_id), sample_id)
    flash(f"{found.image.path.name}: decided, run {run.id} writes it.", "good")
    if following is None:
        return redirect(url_for("conflicts.show_conflicts"), 303)
    return redirect(url_for("conflicts.show_conflict", sample_id=following), 303)


def _go_back_decided() -> ResponseReturnValue:
    flash("This conflict is decided already, or the image is gone.", "good")
    return redirect(url_for("conflicts.show_conflicts"), 303)


def _find_label(found: OpenConflict, label_id: str, side: str) -> Label | None:
    if side == "agreed":
        return next((label for label in found.held if label.id == label_id), None)
    conflict = next((one for one in found.conflicts if one.label_id == label_id), None)
    return None if conflict is None else {"ours": conflict.ours, "theirs": conflict.theirs, "base": conflict.base}[side]


def _find_deciding(parts: Parts) -> set[str]:
    """Return the samples whose decision waits or is being written."""
    runs = [run for run in parts.runner.read_active() if run.job == "resolve"]
    decisions = [run.params.get("decisions") for run in runs]
    return {sample_id for decision in decisions if isinstance(decision, Mapping) for sample_id in decision}


def _find_waiting(parts: Parts, *, but: str) -> list[str]:
    """Return the samples in conflict that nobody decides yet, without this one."""
    return sorted({*parts.catalogue.conflict_ids()} - _find_deciding(parts) - {but})


def _next_of(waiting: Sequence[str], sample_id: str) -> str | None:
    """Return the one after this sample, the first one where it was the last."""
    return next((one for one in waiting if one > sample_id), waiting[0] if waiting else None)


def _read_decision(conflicts: Sequence[Conflict], form: Mapping[str, str]) -> str | dict[str, str]:
    """Return what was chosen: one side for all labels, or one for each."""
    for_all = form.get("all")
    if for_all is not None:
        if for_all not in WORDS.values():
            raise BadRequest("expected one of the two sides")
        return for_all
    chosen = {conflict.label_id: form.get(f"side-{conflict.label_id}", "") for conflict in conflicts}
    if not all(side in WORDS.values() for side in chosen.values()):
        raise BadRequest("choose a side for every label, or one side for all")
    return chosen
