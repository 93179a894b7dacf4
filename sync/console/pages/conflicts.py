"""Labels that both sides changed: the list, and one sample after the other with both versions drawn over the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from flask import Blueprint, Response, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest, NotFound

from labels.geometry import Keypoint, Mask, compute_iou
from labels.results import Label, is_same
from sync.console.catalogue import OpenConflict
from sync.console.drawing import Shape, describe_answer, describe_place, draw_mask, fit, to_shape
from sync.console.pages.live import compute_revision
from sync.console.parts import Parts
from sync.review.merge import Conflict, conflicts_version, label_key

PAGE_SIZE: Final = 48
DESCRIBED: Final = 3
# A side as the ledger names it, and the word by which people and the job know it.
WORDS: Final[Mapping[str, str]] = {"ours": "curated", "theirs": "reviewed"}


@dataclass(frozen=True, slots=True)
class Version:
    """One side of a conflict as it is shown; ``shape`` None: the label is not there, or speaks of the whole image."""

    answer: str
    place: str
    shape: Shape | None
    is_there: bool = True


GONE: Final = Version("not there", "", None, is_there=False)


@dataclass(frozen=True, slots=True)
class Row:
    """One label to decide: its versions by side, and in words what they differ in."""

    label_id: str
    title: str
    difference: str
    versions: Mapping[str, Version]
    view_box: str | None


def make_conflicts(parts: Parts) -> Blueprint:
    """Return /conflicts."""
    conflicts = Blueprint("conflicts", __name__, url_prefix="/conflicts")

    @conflicts.get("/")
    def show_conflicts() -> ResponseReturnValue:
        ids = parts.catalogue.conflict_ids()
        deciding = _find_deciding(parts)
        page = max(1, request.args.get("page", 1, type=int))
        shown = ids[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]
        return render_template(
            "conflicts.html",
            conflicts=parts.catalogue.read_conflicts(shown),
            images=parts.catalogue.find_images(shown) if shown else {},
            deciding=deciding,
            total=len(ids),
            page=page,
            pages=max(1, -(-len(ids) // PAGE_SIZE)),
            describe=describe_conflicts,
            revision=compute_revision(parts),
        )

    @conflicts.get("/<sample_id>")
    def show_conflict(sample_id: str) -> ResponseReturnValue:
        found = parts.catalogue.read_conflict(sample_id)
        if found is None:
            flash("This conflict is decided already, or the image is gone.", "good")
            return redirect(url_for("conflicts.show_conflicts"), 303)
        waiting = _find_waiting(parts, but=sample_id)
        return render_template(
            "conflict.html",
            sample_id=sample_id,
            image=found.image,
            rows=[_to_row(conflict) for conflict in found.conflicts],
            agreed=_find_agreed(found),
            whole=fit(found.image.size),
            version=conflicts_version(found.conflicts),
            following=_next_of(waiting, sample_id),
            waiting=len(waiting),
            is_deciding=sample_id in _find_deciding(parts),
        )

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
        if found is None:
            flash("This conflict is decided already, or the image is gone.", "good")
            return redirect(url_for("conflicts.show_conflicts"), 303)
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

    return conflicts


def describe_conflicts(conflicts: Sequence[Conflict]) -> str:
    """Return in words what the two sides differ in, label by label, of the first few."""
    told = " · ".join(describe_conflict(one) for one in conflicts[:DESCRIBED])
    return told if len(conflicts) <= DESCRIBED else f"{told} · and {len(conflicts) - DESCRIBED} more"


def describe_conflict(conflict: Conflict) -> str:
    """Return in words what the two sides differ in."""
    ours, theirs = conflict.ours, conflict.theirs
    if ours is None or theirs is None:
        kept = "Label Studio" if ours is None else "FiftyOne"
        return f"deleted in {'FiftyOne' if ours is None else 'Label Studio'}, changed in {kept}"
    parts = []
    if describe_answer(ours) != describe_answer(theirs):
        parts.append(f"{describe_answer(ours)} or {describe_answer(theirs)}")
    ours_shape, theirs_shape = ours.geometry, theirs.geometry
    if ours_shape is not None and theirs_shape is not None and _is_moved(ours, theirs):
        has_area = not isinstance(ours_shape, Keypoint) and not isinstance(theirs_shape, Keypoint)
        overlap = f", overlap {100 * compute_iou(ours_shape, theirs_shape):.0f} %" if has_area else ""
        parts.append(f"other outline{overlap}")
    return "; ".join(parts) or "drawn with another tool"


def _is_moved(ours: Label, theirs: Label) -> bool:
    said = Label(ours.id, ours.control, ours.classes, theirs.geometry, ours.rating)
    return not is_same(ours, said)


def _to_row(conflict: Conflict) -> Row:
    sides = {"ours": conflict.ours, "theirs": conflict.theirs, "base": conflict.base}
    versions = {side: GONE if label is None else _to_version(label) for side, label in sides.items()}
    some = conflict.ours or conflict.theirs or conflict.base
    assert some is not None
    boxes = [version.shape.box for version in versions.values() if version.shape is not None]
    return Row(
        conflict.label_id,
        describe_answer(some),
        describe_conflict(conflict),
        versions,
        _to_view_box(boxes) if boxes else None,
    )


def _to_version(label: Label) -> Version:
    return Version(describe_answer(label), describe_place(label), to_shape(label))


def _to_view_box(boxes: Sequence[tuple[float, float, float, float]]) -> str:
    """Return the part of the image around all boxes, with half their size on each side to see what is around them."""
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    left, top, width, height = min(lefts), min(tops), max(rights) - min(lefts), max(bottoms) - min(tops)
    margin = max(width, height, 16) / 2
    return f"{left - margin:.1f} {top - margin:.1f} {width + 2 * margin:.1f} {height + 2 * margin:.1f}"


def _find_agreed(found: OpenConflict) -> list[tuple[str, Version]]:
    """Return the sample's other labels, on which both sides agree; a painted one stays out of the drawing's way."""
    disputed = {
        label_key(label)
        for conflict in found.conflicts
        for label in (conflict.base, conflict.ours, conflict.theirs)
        if label is not None
    }
    return [(label.id, _to_version(label)) for label in found.held if label_key(label) not in disputed]


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
