"""How good what a detector finds is, by COCO's rules: mAP over IoU 0.50 to 0.95, for each class and size. Pure.

A class without an example has no score: None, never 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from hotcoco.metrics import calibration_error

from labels.geometry import ImageSize
from sync.models.boxes import Boxes, Flags, Floats, Overlap, find_right, match_coco

METRICS: Final[Mapping[Overlap, str]] = {
    "box": "mAP50-95",
    "mask": "mask mAP50-95",
    "turned": "turned-box mAP50-95",
}
SIZES: Final = ("small", "medium", "large")
"""Of an object, by its area in pixels of the image: below 32 x 32, below 96 x 96, above."""
SIZE_ENDS: Final = (32.0**2, 96.0**2)
DEFAULT_THRESHOLD: Final = 0.2
"""From which score on boxes are shown, unless somebody says otherwise."""
_ALL: Final = 0
_LAST: Final = -1


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

    @property
    def score(self) -> float | None:
        """The one number by which models are compared."""
        return self.map50_95


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
    metric: str = METRICS["box"]
    """Says by what objects overlap: by their boxes, masks or turned boxes."""

    @property
    def score(self) -> float | None:
        """The one number by which models are compared."""
        return self.map50_95

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
        metric=METRICS[truth.overlap],
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
    places = np.digitize(truth.areas, SIZE_ENDS)
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
