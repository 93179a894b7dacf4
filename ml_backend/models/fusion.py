"""Several detectors as one: their boxes fused, with the number of members that see each and how far they agree.

The fusion itself is the ensemble-boxes library's. Only boxes are fused: masks, points and turns are left out.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from ensemble_boxes import nms, weighted_boxes_fusion

from labels.errors import LabelingError
from ml_backend.detectors import FUSIONS, Detections, Detector, Image, OpenVocabularyDetector

# A member sees a box from this probability on, even where it would not show it by itself.
MEMBER_FLOOR: Final = 0.05
# Of each member as many boxes are remembered as a network usually gives at most.
MAX_VIEW_BOXES: Final = 300
FUSED_TASKS: Final = ("detect", "segment", "pose", "zero_shot")

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Fusion:
    """How boxes are fused: ``method`` is one of ``FUSIONS``, ``weights`` one a member, ``min_votes`` of them agree."""

    method: str = "wbf"
    iou: float = 0.7
    weights: tuple[float, ...] = ()
    min_votes: int = 1

    def __post_init__(self) -> None:
        if self.method not in FUSIONS:
            raise LabelingError(f"fusion {self.method!r}: expected one of {', '.join(FUSIONS)}")
        if not all(weight > 0 for weight in self.weights):
            raise LabelingError(f"member weights {self.weights}: each must be above 0 (leave the member out instead)")


def compute_majority(members: int) -> int:
    """Return how many members are more than half of them.

    >>> [compute_majority(members) for members in (1, 2, 3, 4)]
    [1, 2, 2, 3]
    """
    return members // 2 + 1


def fuse(members: Sequence[Detections], fusion: Fusion, size: tuple[int, int]) -> Detections:
    """Return one Detections for what the members found in an image of (width, height); class ids mean the same in all.

    A member votes for a box when it has one of the same class that overlaps it by at least ``iou``. Agreement is the
    mean over all pairs of members of IoU times the ratio of their scores; a pair with a member that does not see the
    box counts 0 (one member alone agrees with itself: 1).
    """
    members = [_clean(found, size) for found in members]
    views = tuple(map(_to_view, members))
    if not any(len(found) for found in members):
        return _to_nothing(views)
    side = np.array([*size, *size], np.float64)
    boxes, scores, class_ids = _run(members, fusion, side)
    order = np.argsort(-scores, kind="stable")
    boxes, scores, class_ids = boxes[order], scores[order], class_ids[order]
    matches = np.stack([_match(boxes, class_ids, found, fusion.iou) for found in members])
    votes = np.maximum((matches >= 0).sum(axis=0), 1)
    fused = Detections(
        boxes,
        scores,
        class_ids,
        _fuse_probabilities(members, matches, fusion, scores, class_ids),
        votes=votes.astype(np.int64),
        agreement=_compute_agreement(members, matches),
        views=views,
    )
    return fused.select(votes >= fusion.min_votes)


class EnsembleDetector:
    """Two or more detectors of any kind; their classes are the same where their names are, whatever the case."""

    task = "detect"

    def __init__(self, members: Sequence[Detector], fusion: Fusion) -> None:
        if fusion.weights and len(fusion.weights) != len(members):
            raise LabelingError(f"{len(fusion.weights)} member weights for {len(members)} models")
        if not 1 <= fusion.min_votes <= len(members):
            raise LabelingError(f"at least {fusion.min_votes} of {len(members)} models cannot agree")
        for member in members:
            if member.task not in FUSED_TASKS:
                raise LabelingError(f"a model for {member.task!r} cannot be a member of an ensemble")
        self._members = members
        self._fusion = fusion
        self._names: dict[int, str] = {}
        self._maps: list[npt.NDArray[np.int64]] = []
        self._read_names()

    @property
    def names(self) -> Mapping[int, str]:
        """The classes of all members by id, in the order in which they are first named."""
        return self._names

    @property
    def licence(self) -> str:
        """The licences of all members."""
        return " + ".join(dict.fromkeys(member.licence for member in self._members))

    def detect(self, images: Sequence[Image], *, score_floor: float) -> list[Detections]:
        """Return one Detections for each image, in order."""
        floor = min(score_floor, MEMBER_FLOOR)
        answers = [member.detect(images, score_floor=floor) for member in self._members]
        found = []
        for index, image in enumerate(images):
            same = [self._rename(answer[index], place) for place, answer in enumerate(answers)]
            one = fuse(same, self._fusion, (image.shape[1], image.shape[0]))
            found.append(one.select(one.scores > score_floor))
        return found

    def _read_names(self, told: Sequence[str] = ()) -> None:
        """Number the classes: those that were told by their places, then the members' in their order."""
        ids = _number(told, self._members)
        self._names, self._maps = {}, []
        for member in self._members:
            table = np.full(max(member.names, default=-1) + 1, -1, np.int64)
            for class_id, name in member.names.items():
                number = ids[_fold(name)]
                self._names.setdefault(number, name)
                table[class_id] = number
            self._maps.append(table)

    def _rename(self, found: Detections, place: int) -> Detections:
        """Return a member's boxes with the ensemble's class ids; a class without a name is no class."""
        table = self._maps[place]
        class_ids = table[found.class_ids] if len(found) else found.class_ids
        probabilities = None
        if found.probabilities is not None:
            probabilities = np.zeros((len(found), max(self._names) + 1), np.float32)
            known = np.flatnonzero(table[: found.probabilities.shape[1]] >= 0)
            # Two classes of one member with the same name are one class: as likely as the likelier of them.
            for column in known:
                target = table[column]
                probabilities[:, target] = np.maximum(probabilities[:, target], found.probabilities[:, column])
        boxes = Detections(found.xyxy, found.scores, class_ids, probabilities)
        return boxes.select(class_ids >= 0)


class VocabularyEnsemble(EnsembleDetector):
    """An ensemble with a member that looks for the classes it is told."""

    def set_classes(self, names: Sequence[str]) -> None:
        """Have the members that can look for these classes; the others keep theirs. See ``OpenVocabularyDetector``."""
        for member in self._members:
            if isinstance(member, OpenVocabularyDetector):
                member.set_classes(names)
        self._read_names(names)

    def name_classes(self, told: Sequence[str]) -> dict[int, str]:
        """Return the classes by id as they are once these were told: those, and what only closed members know."""
        closed = [member for member in self._members if not isinstance(member, OpenVocabularyDetector)]
        own = {_fold(name): name for member in reversed(closed) for name in member.names.values()}
        ids = _number(told, closed)
        return {number: own[name] for name, number in ids.items() if number >= len(told)} | dict(enumerate(told))


def _number(told: Sequence[str], members: Sequence[Detector]) -> dict[str, int]:
    """Return the number of each class: of one that was told its place, of any other the next after those."""
    ids: dict[str, int] = {}
    for place, name in enumerate(told):
        ids.setdefault(_fold(name), place)
    others = dict.fromkeys(_fold(name) for member in members for name in member.names.values())
    return ids | {name: number for number, name in enumerate((one for one in others if one not in ids), len(told))}


def _fold(name: str) -> str:
    return name.strip().lower()


def build_ensemble(members: Sequence[Detector], fusion: Fusion) -> EnsembleDetector:
    """Return the ensemble of some detectors.

    Raises:
        LabelingError: they cannot be one, or the weights or votes do not fit their number.
    """
    is_open = any(isinstance(member, OpenVocabularyDetector) for member in members)
    return (VocabularyEnsemble if is_open else EnsembleDetector)(members, fusion)


def _clean(found: Detections, size: tuple[int, int]) -> Detections:
    """Return the boxes with an area inside the image: the library prints a line for each other one, or fails."""
    boxes = found.xyxy.astype(np.float32).clip(0, np.array([*size, *size], np.float32))
    has_area = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return Detections(boxes, found.scores, found.class_ids, found.probabilities).select(has_area)


def _to_view(found: Detections) -> Detections:
    """Return what the disagreement is computed from, once it is known what is shown."""
    best = np.argsort(-found.scores, kind="stable")[:MAX_VIEW_BOXES]
    return Detections(found.xyxy, found.scores, found.class_ids).take(best)


def _to_nothing(views: tuple[Detections, ...]) -> Detections:
    return replace(Detections.nothing(), votes=np.zeros(0, np.int64), agreement=np.zeros(0, np.float32), views=views)


def _run(
    members: Sequence[Detections], fusion: Fusion, side: npt.NDArray[np.float64]
) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    weights = np.array(fusion.weights or [1.0] * len(members))
    lists: dict[str, Any] = {
        "boxes": [found.xyxy / side for found in members],
        "scores": [found.scores.astype(np.float64) for found in members],
        "labels": [found.class_ids for found in members],
    }
    if fusion.method == "wbf":
        boxes, scores, labels = weighted_boxes_fusion(
            lists["boxes"], lists["scores"], lists["labels"], weights=weights.tolist(), iou_thr=fusion.iou
        )
    else:
        # The library would divide by the sum of the weights, and a certain box would end below all thresholds.
        scores_list = [one * weight for one, weight in zip(lists["scores"], weights / weights.max(), strict=True)]
        boxes, scores, labels = nms(lists["boxes"], scores_list, lists["labels"], iou_thr=fusion.iou)
    return (boxes * side).astype(np.float32), scores.astype(np.float32), labels.astype(np.int64)


def _match(boxes: Floats, class_ids: npt.NDArray[np.int64], found: Detections, iou: float) -> npt.NDArray[np.int64]:
    """Return which row of a member's each box matches best, or -1."""
    if not len(found):
        return np.full(len(boxes), -1, np.int64)
    overlaps = compute_ious(boxes, found.xyxy)
    overlaps[class_ids[:, None] != found.class_ids] = -1
    best = overlaps.argmax(axis=1)
    return np.where(overlaps[np.arange(len(boxes)), best] >= iou, best, -1)


def compute_ious(a: Floats, b: Floats) -> npt.NDArray[np.float64]:
    """Return intersection over union of every box of ``a`` with every box of ``b``, (len(a), len(b))."""
    first, second = a.astype(np.float64), b.astype(np.float64)
    low = np.maximum(first[:, None, :2], second[:, :2])
    high = np.minimum(first[:, None, 2:], second[:, 2:])
    overlap = (high - low).clip(min=0).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1] - overlap
    result: npt.NDArray[np.float64] = np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
    return result


def _compute_agreement(members: Sequence[Detections], matches: npt.NDArray[np.int64]) -> Floats:
    if len(members) == 1:
        return np.ones(matches.shape[1], np.float32)
    pairs = list(itertools.combinations(range(len(members)), 2))
    total = np.zeros(matches.shape[1])
    for first, second in pairs:
        for box in np.flatnonzero((matches[first] >= 0) & (matches[second] >= 0)):
            row, other = matches[first, box], matches[second, box]
            a, b = members[first], members[second]
            overlap = compute_ious(a.xyxy[row : row + 1], b.xyxy[other : other + 1])[0, 0]
            low, high = sorted((float(a.scores[row]), float(b.scores[other])))
            total[box] += overlap * (low / high if high > 0 else 0.0)
    return (total / len(pairs)).astype(np.float32)


def _fuse_probabilities(
    members: Sequence[Detections],
    matches: npt.NDArray[np.int64],
    fusion: Fusion,
    scores: Floats,
    class_ids: npt.NDArray[np.int64],
) -> Floats | None:
    """Return the weighted mean of the members' probabilities, scaled so that the box's own class has its score."""
    given = [found.probabilities for found in members]
    if any(one is None for one in given):
        return None
    weights = fusion.weights or (1.0,) * len(members)
    classes = max(one.shape[1] for one in given if one is not None)
    total = np.zeros((len(scores), classes), np.float64)
    for probabilities, weight, rows in zip(given, weights, matches, strict=True):
        seen = rows >= 0
        if probabilities is not None and seen.any():
            total[seen] += weight * probabilities[rows[seen]]
    own = total[np.arange(len(scores)), class_ids]
    factor = np.divide(scores, own, out=np.zeros(len(scores)), where=own > 0)
    result: Floats = (total * factor[:, None]).clip(0, 1).astype(np.float32)
    return result
