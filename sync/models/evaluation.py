"""How good a detector's boxes are, by COCO's rules: mAP over IoU 0.50 to 0.95, for each class and size. Pure.

hotcoco does the matching (its numbers are pycocotools'). A class without an example has no score: None, never 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from hotcoco import COCO, COCOeval
from hotcoco.metrics import calibration_error
from hotcoco.primitives import bbox_iou

from labels.geometry import ImageSize

MATCH_IOU: Final = 0.5
SIZES: Final = ("small", "medium", "large")
"""Of a box, by its area in pixels of the image: below 32 x 32, below 96 x 96, above."""
SIZE_ENDS: Final = (32.0**2, 96.0**2)
DEFAULT_THRESHOLD: Final = 0.2
"""From which score on boxes are shown, unless somebody says otherwise."""
MOST_BOXES: Final = 100
"""Of a class in an image; COCO counts no more."""
_ALL: Final = 0
_LAST: Final = -1

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """Boxes of many images in columns: ``images`` and ``classes`` are places in their lists, ``xyxy`` is (n, 4).

    ``scores`` are None for what people drew. Sides are pixels of the upright image.
    """

    images: Numbers
    classes: Numbers
    xyxy: Floats
    scores: Floats | None = None

    def __len__(self) -> int:
        return len(self.images)

    @classmethod
    def from_rows(cls, rows: Sequence[tuple[int, int, tuple[float, float, float, float]]]) -> Boxes:
        """Return the boxes people drew, from (image, class, xyxy).

        >>> Boxes.from_rows([(0, 2, (1.0, 2.0, 3.0, 4.0))]).xyxy.tolist()
        [[1.0, 2.0, 3.0, 4.0]]
        """
        return cls(
            np.array([row[0] for row in rows], np.int64),
            np.array([row[1] for row in rows], np.int64),
            np.array([row[2] for row in rows], np.float64).reshape(-1, 4),
        )


@dataclass(frozen=True, slots=True)
class ClassScore:
    """How well one class is found. ``examples`` 0: everything but the counts is None, since nothing can be said.

    ``precision`` and ``recall`` are those at ``threshold`` and IoU 0.5; a precision of None: nothing reaches it.
    """

    name: str
    examples: int
    images: int
    map50_95: float | None
    map50: float | None
    precision: float | None = None
    recall: float | None = None
    threshold: float | None = None


@dataclass(frozen=True, slots=True)
class SizeScore:
    """How well boxes of one size are found; None: there is none of that size."""

    name: str
    examples: int
    map50_95: float | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured on some images. ``map50_95`` None: nobody drew anything on them.

    ``empty_images`` are those on which people drew nothing; what is found there is wrong. ``calibration_error`` is the
    expected calibration error of the scores (0 is best); None: nothing was found.
    """

    images: int
    empty_images: int
    examples: int
    found: int
    map50_95: float | None
    map50: float | None
    map75: float | None
    precision: float | None
    recall: float | None
    calibration_error: float | None
    sizes: tuple[SizeScore, ...]
    classes: tuple[ClassScore, ...]
    curve: tuple[float, ...] = field(default=(), repr=False)
    """The precision at recall 0, 0.01, ..., 1 and IoU 0.5, the mean over the classes; empty where there is none."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON; ``from_dict`` is its inverse."""
        return {name: _to_plain(getattr(self, name)) for name in self.__dataclass_fields__}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Evaluation:
        """Return the evaluation of ``to_dict``."""
        rows = {
            "sizes": tuple(SizeScore(**row) for row in values["sizes"]),
            "classes": tuple(ClassScore(**row) for row in values["classes"]),
            "curve": tuple(values["curve"]),
        }
        return cls(**{**values, **rows})


def _to_plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_to_plain(one) for one in value]
    if hasattr(value, "__dataclass_fields__"):
        return {name: getattr(value, name) for name in value.__dataclass_fields__}
    return value


def match_coco(sizes: Sequence[ImageSize], classes: Sequence[str], truth: Boxes, found: Boxes) -> COCOeval:
    """Return hotcoco's matches of what was found with what people drew, on images of these sizes."""
    images = [{"id": number, "width": size.width, "height": size.height} for number, size in enumerate(sizes, 1)]
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, 1)]
    drawn = COCO.from_arrays(images, categories, truth.images + 1, truth.classes + 1, _to_xywh(truth.xyxy))
    assert found.scores is not None
    rows = np.column_stack([found.images + 1, _to_xywh(found.xyxy), found.scores, found.classes + 1])
    matched = COCOeval(drawn, drawn.load_res(rows.astype(np.float64)), "bbox")
    matched.evaluate()
    return matched


def _to_xywh(xyxy: Floats) -> Floats:
    return np.column_stack([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]]).astype(np.float64)


def evaluate_boxes(
    sizes: Sequence[ImageSize],
    classes: Sequence[str],
    truth: Boxes,
    found: Boxes,
    *,
    thresholds: Mapping[str, float] | None = None,
    default_threshold: float = DEFAULT_THRESHOLD,
) -> Evaluation:
    """Return how good what was found is. ``thresholds`` by class name are those of precision and recall."""
    matched = match_coco(sizes, classes, truth, found)
    matched.accumulate()
    assert matched.eval is not None
    precision = np.asarray(matched.eval["precision"], np.float64)
    shown = {name: (thresholds or {}).get(name, default_threshold) for name in classes}
    is_right = find_right(truth, found)
    assert found.scores is not None
    floors = np.array([shown[name] for name in classes], np.float64)
    is_shown = found.scores >= floors[found.classes] if len(found) else np.zeros(0, np.bool_)
    counts = np.bincount(truth.classes, minlength=len(classes))
    scored = tuple(
        _score_class(name, number, truth, precision, found, is_right & is_shown, is_shown, shown[name])
        for number, name in enumerate(classes)
    )
    rights, all_shown = int((is_right & is_shown).sum()), int(is_shown.sum())
    return Evaluation(
        images=len(sizes),
        empty_images=len(sizes) - len(np.unique(truth.images)),
        examples=len(truth),
        found=len(found),
        map50_95=_mean(precision[:, :, :, _ALL, _LAST]),
        map50=_mean(precision[0, :, :, _ALL, _LAST]),
        map75=_mean(precision[5, :, :, _ALL, _LAST]),
        precision=rights / all_shown if all_shown else None,
        recall=rights / len(truth) if len(truth) else None,
        calibration_error=_round(calibration_error(found.scores, is_right)[0]) if len(found) else None,
        sizes=tuple(_score_sizes(truth, precision)),
        classes=scored,
        curve=_draw_curve(precision[0, :, :, _ALL, _LAST][:, counts > 0]),
    )


def _score_class(
    name: str,
    number: int,
    truth: Boxes,
    precision: Floats,
    found: Boxes,
    is_right: Flags,
    is_shown: Flags,
    threshold: float,
) -> ClassScore:
    of_class, found_of_class = truth.classes == number, found.classes == number
    examples, images = int(of_class.sum()), len(np.unique(truth.images[of_class]))
    if not examples:
        return ClassScore(name, 0, 0, None, None)
    shown, right = int((found_of_class & is_shown).sum()), int((found_of_class & is_right).sum())
    return ClassScore(
        name,
        examples,
        images,
        map50_95=_mean(precision[:, :, number, _ALL, _LAST]),
        map50=_mean(precision[0, :, number, _ALL, _LAST]),
        precision=right / shown if shown else None,
        recall=right / examples,
        threshold=threshold,
    )


def _score_sizes(truth: Boxes, precision: Floats) -> Iterator[SizeScore]:
    areas = (truth.xyxy[:, 2] - truth.xyxy[:, 0]) * (truth.xyxy[:, 3] - truth.xyxy[:, 1])
    places = np.digitize(areas, SIZE_ENDS)
    for place, name in enumerate(SIZES):
        yield SizeScore(name, int((places == place).sum()), _mean(precision[:, :, :, place + 1, _LAST]))


def _draw_curve(precision: Floats) -> tuple[float, ...]:
    """Return the mean over the classes that have examples, for each recall."""
    return tuple(np.round(precision.mean(axis=1), 6).tolist()) if precision.shape[1] else ()


def _mean(values: Floats) -> float | None:
    """Return the mean of what was computed: hotcoco, like pycocotools, says -1 where there is no example."""
    computed = values[values > -1]
    return _round(float(computed.mean())) if computed.size else None


def _round(value: float) -> float:
    return round(value, 9)


def find_right(truth: Boxes, found: Boxes) -> Flags:
    """Return for each box that was found whether it is right at IoU 0.5, the surest first, each example once."""
    is_right: Flags = match_boxes(truth, found, (MATCH_IOU,))[0][0]
    return is_right


def match_boxes(truth: Boxes, found: Boxes, overlaps: Sequence[float]) -> tuple[Flags, Flags]:
    """Return which boxes are right at each overlap, (overlaps, boxes), and which count at all: no more than COCO takes.

    As COCO does it: within an image and class the surest box takes the example it overlaps most, then the next one.
    """
    assert found.scores is not None
    least = np.array(overlaps, np.float64)
    is_right = np.zeros((len(least), len(found)), np.bool_)
    is_counted = np.ones(len(found), np.bool_)
    drawn = dict(_group(truth))
    found_xywh, truth_xywh = _to_xywh(found.xyxy), _to_xywh(truth.xyxy)
    for key, rows in _group(found):
        examples = drawn.get(key)
        if examples is None and len(rows) <= MOST_BOXES:
            continue
        ordered = rows[np.argsort(-found.scores[rows], kind="stable")]
        is_counted[ordered[MOST_BOXES:]] = False
        if examples is not None:
            ordered = ordered[:MOST_BOXES]
            is_right[:, ordered] = _match_group(found_xywh[ordered], truth_xywh[examples], least)
    return is_right, is_counted


def _match_group(found: Floats, examples: Floats, least: Floats) -> Flags:
    common = bbox_iou(found, examples, np.zeros(len(examples), np.bool_))
    if len(found) == 1:
        is_alone: Flags = common.max(axis=1) >= least[:, None]
        return is_alone
    rows = np.arange(len(least))
    is_taken = np.zeros((len(least), len(examples)), np.bool_)
    is_right = np.zeros((len(least), len(found)), np.bool_)
    for place in range(len(found)):
        left = np.where(is_taken, -1.0, common[place])
        # Of equal ones the last, as pycocotools takes it.
        best = len(examples) - 1 - np.argmax(left[:, ::-1], axis=1)
        is_hit = left[rows, best] >= least
        is_right[:, place] = is_hit
        is_taken[rows[is_hit], best[is_hit]] = True
    return is_right


def _group(boxes: Boxes) -> Iterator[tuple[tuple[int, int], Numbers]]:
    """Yield the rows of each image and class that has any."""
    if not len(boxes):
        return
    order = np.lexsort((boxes.classes, boxes.images))
    keys = np.column_stack([boxes.images[order], boxes.classes[order]])
    starts = np.flatnonzero(np.any(np.diff(keys, axis=0, prepend=keys[:1] - 1) != 0, axis=1))
    for rows in np.split(order, starts[1:]):
        yield (int(boxes.images[rows[0]]), int(boxes.classes[rows[0]])), np.sort(rows)
