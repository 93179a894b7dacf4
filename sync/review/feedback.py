"""What a person did to each predicted label: confirmed, moved, relabelled, deleted, added.

Pure: compares two label sets of one image. Storing the verdicts is the ledger's part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from labels.geometry import Keypoint, compute_iou
from labels.results import Label, is_same
from sync.review.merge import label_key

Kind = Literal["confirmed", "moved", "relabelled", "deleted", "added"]

REDRAWN_IOU: Final = 0.5
"""From this overlap on, a shape drawn by hand stands for the deleted prediction under it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What happened to one label between prediction and review.

    ``label_id`` is the predicted label's id, for an added one the reviewed label's. ``iou`` is in 0..1, and None where
    there is no pair of shapes to compare. ``class_before`` is None for what was added, ``class_after`` for what was
    deleted; several choices are joined by ", ", a rating is its number. ``confidence`` is the prediction's.
    """

    label_id: str
    control: str
    kind: Kind
    class_before: str | None = None
    class_after: str | None = None
    iou: float | None = None
    confidence: float | None = None


def compare_review(predicted: Sequence[Label], reviewed: Sequence[Label]) -> tuple[Verdict, ...]:
    """Return one verdict per predicted label, in that order, then one per added label.

    Labels are paired by id, answers about the whole image by their control. A predicted shape that was deleted and
    drawn again by hand counts as moved (or relabelled), not as deleted and added: the model did find that object, and
    calling it a false alarm plus a miss would blame it twice. Such a pair needs an overlap of ``REDRAWN_IOU``; the
    best overlaps are paired first, those of one class before the others. What was moved and relabelled is
    "relabelled" with an IoU below 1.

    >>> from labels.geometry import Box
    >>> before = Label("1", "label", ("car",), Box(0, 0, 4, 2), confidence=0.9)
    >>> compare_review([before], [])[0].kind
    'deleted'
    """
    reviewed_for = _pair(predicted, reviewed)
    paired = {id(label) for label in reviewed_for.values()}
    verdicts = [_compare(label, reviewed_for.get(position)) for position, label in enumerate(predicted)]
    added = (
        Verdict(label.id, label.control, "added", class_after=_class_text(label))
        for label in reviewed
        if id(label) not in paired
    )
    return (*verdicts, *added)


def find_version_seen(reviewed: Iterable[Label], pushed: Mapping[str, Sequence[Label]]) -> str | None:
    """Return the model version whose prediction a review goes back to, by the ids they share; None: it shows none.

    For reviews whose prediction was deleted in Label Studio, which forgets then that there was one. ``pushed`` holds
    what was sent for the sample, by model version; of versions that share as many ids the last one counts.

    >>> sent = [Label("1", "label", ("car",))]
    >>> find_version_seen([Label("1", "label", ("bus",))], {"yolo-1": sent}), find_version_seen([], {"yolo-1": sent})
    ('yolo-1', None)
    """
    ids = {label.id for label in reviewed}
    shared = {version: len(ids & {label.id for label in labels}) for version, labels in pushed.items()}
    best = max(shared.values(), default=0)
    return next((version for version in reversed(shared) if shared[version] == best), None) if best else None


def _pair(predicted: Sequence[Label], reviewed: Sequence[Label]) -> dict[int, Label]:
    """Return the reviewed label of each predicted one, by its position."""
    by_key = {label_key(label): label for label in reviewed}
    pairs = {n: by_key[label_key(label)] for n, label in enumerate(predicted) if label_key(label) in by_key}
    taken = {id(label) for label in pairs.values()}
    gone = [(n, label) for n, label in enumerate(predicted) if n not in pairs]
    new = [label for label in reviewed if id(label) not in taken]
    for position, label in _find_redrawn(gone, new):
        if position not in pairs and id(label) not in taken:
            pairs[position] = label
            taken.add(id(label))
    return pairs


def _find_redrawn(gone: Iterable[tuple[int, Label]], new: Sequence[Label]) -> Iterator[tuple[int, Label]]:
    """Yield candidate pairs, best first."""
    candidates = []
    for position, before in gone:
        for order, after in enumerate(new):
            iou = _compute_pair_iou(before, after)
            if iou is not None and iou >= REDRAWN_IOU:
                other_class = sorted(before.classes) != sorted(after.classes)
                candidates.append((other_class, -iou, position, order))
    for _, _, position, order in sorted(candidates):
        yield position, new[order]


def _compare(before: Label, after: Label | None) -> Verdict:
    verdict = Verdict(
        before.id, before.control, "deleted", class_before=_class_text(before), confidence=before.confidence
    )
    if after is None:
        return verdict
    said = replace(after, classes=before.classes, rating=before.rating, control=before.control)
    is_moved = not is_same(before, said)
    is_relabelled = not is_same(before, replace(after, geometry=before.geometry, control=before.control))
    kind: Kind = "relabelled" if is_relabelled else "moved" if is_moved else "confirmed"
    iou = _compute_pair_iou(before, after) if is_moved else 1.0
    if before.geometry is None or after.geometry is None:
        iou = None
    return replace(verdict, kind=kind, class_after=_class_text(after), iou=iou)


def _compute_pair_iou(before: Label, after: Label) -> float | None:
    """Return the overlap of two shapes; None where one has no area to overlap with (a point, a whole-image answer)."""
    shapes = before.geometry, after.geometry
    if shapes[0] is None or shapes[1] is None or any(isinstance(shape, Keypoint) for shape in shapes):
        return None
    return compute_iou(shapes[0], shapes[1])


def _class_text(label: Label) -> str | None:
    if label.rating is not None:
        return str(label.rating)
    return ", ".join(label.classes) if label.classes else None
