"""A conflict as its page shows it: both versions of a label with their shapes, and in words what they differ in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from labels.geometry import Keypoint, compute_iou
from labels.results import Label, is_same
from sync.console.catalogue import OpenConflict
from sync.console.drawing import Shape, describe_answer, describe_place, to_shape
from sync.review.merge import Conflict, label_key

DESCRIBED: Final = 3


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


def to_row(conflict: Conflict) -> Row:
    """Return what the page shows of one label in conflict."""
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


def find_agreed(found: OpenConflict) -> list[tuple[str, Version]]:
    """Return the sample's other labels, on which both sides agree; a painted one stays out of the drawing's way."""
    disputed = {
        label_key(label)
        for conflict in found.conflicts
        for label in (conflict.base, conflict.ours, conflict.theirs)
        if label is not None
    }
    return [(label.id, _to_version(label)) for label in found.held if label_key(label) not in disputed]
