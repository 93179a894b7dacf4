"""How good a classifier's answers are: top-1, top-5, what was taken for what, and how far its scores can be believed.

Pure. A class without an example has no score: None, never 0. An image on which the model has no score for any of the
classes is a case of its own: nothing was predicted, which is not right, and no class was mistaken for another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from ml_backend.training.scoring import CALIBRATION_BINS, compute_calibration_error
from sync.models.boxes import Flags, Floats, Numbers
from sync.models.evaluation import DEFAULT_THRESHOLD, Evaluation
from sync.models.thresholds import FEWEST_EXAMPLES, Threshold, choose_threshold

METRIC: Final = "top-1"
FEW: Final = 5
NOTHING: Final = -1
"""The place of no class: the model has a score for none."""


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What a model says of images: ``scores`` is (images, classes) in 0..1, NaN where it has none for a class."""

    scores: Floats

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def best(self) -> Numbers:
        """The place of each image's surest class; -1: the model has a score for none."""
        if not self.scores.size:
            return np.full(len(self), NOTHING)
        filled = np.where(np.isnan(self.scores), -np.inf, self.scores)
        return np.where(np.isinf(filled.max(axis=1)), NOTHING, filled.argmax(axis=1))

    @property
    def surest(self) -> Floats:
        """The highest score of each image; NaN: there is none."""
        if not self.scores.size:
            return np.full(len(self), np.nan)
        filled = np.where(np.isnan(self.scores), -np.inf, self.scores).max(axis=1)
        return np.where(np.isinf(filled), np.nan, filled)

    def is_among(self, truth: Numbers, count: int) -> Flags:
        """Return for each image whether people's class is among so many of the surest."""
        if not self.scores.size:
            return np.zeros(len(self), np.bool_)
        filled = np.where(np.isnan(self.scores), -np.inf, self.scores)
        order = np.argsort(-filled, axis=1, kind="stable")[:, :count]
        has_score = ~np.isnan(self.scores[np.arange(len(truth)), truth])
        return np.asarray((order == truth[:, None]).any(axis=1) & has_score)


@dataclass(frozen=True, slots=True)
class AnswerScore:
    """How well one class is told. ``examples`` 0: everything but the count is None, since nothing can be said.

    ``top1`` and ``top5`` are shares of its own images. ``precision`` and ``recall`` are those of what is shown, from
    ``threshold`` on; a precision of None: it is never shown.
    """

    name: str
    examples: int
    top1: float | None
    top5: float | None
    precision: float | None = None
    recall: float | None = None
    threshold: float | None = None

    @property
    def score(self) -> float | None:
        """The one number by which models are compared."""
        return self.top1


@dataclass(frozen=True, slots=True)
class Reliability:
    """How often images whose surest score lies from ``low`` on are right; ``confidence`` is their mean score."""

    low: float
    images: int
    confidence: float
    right: float


@dataclass(frozen=True, slots=True)
class AnswerEvaluation:
    """What was measured on some images, each with one class by people; ``top1`` None: there is no such image.

    ``unanswered`` are images on which the model has a score for no class: they count as not right. ``shown`` have an
    answer at or above its threshold; ``precision`` is the share of them that is right (None: none is shown) and
    ``recall`` the share of all images that is shown and right. ``confusion`` has a row for each class by people and a
    column for each the model is surest of, in the order of ``classes``; its last column counts the unanswered.
    ``calibration_error`` is the expected calibration error of the surest class (0 is best), ``reliability`` what it is
    made of.
    """

    control: str
    images: int
    unanswered: int
    shown: int
    top1: float | None
    top5: float | None
    precision: float | None
    recall: float | None
    calibration_error: float | None
    classes: tuple[AnswerScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    reliability: tuple[Reliability, ...] = ()
    metric: str = METRIC

    @property
    def examples(self) -> int:
        """One an image."""
        return self.images

    @property
    def score(self) -> float | None:
        """The one number by which models are compared."""
        return self.top1

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON; ``from_dict`` is its inverse."""
        rows = {
            "classes": [asdict(one) for one in self.classes],
            "reliability": [asdict(one) for one in self.reliability],
            "confusion": [list(row) for row in self.confusion],
        }
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | rows

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AnswerEvaluation:
        """Return the evaluation of ``to_dict``."""
        rows = {
            "classes": tuple(AnswerScore(**row) for row in values["classes"]),
            "reliability": tuple(Reliability(**row) for row in values["reliability"]),
            "confusion": tuple(tuple(row) for row in values["confusion"]),
        }
        return cls(**{**values, **rows})


AnyEvaluation = Evaluation | AnswerEvaluation


def read_evaluation(values: Mapping[str, Any]) -> AnyEvaluation:
    """Return the evaluation of its plain JSON, whichever it is."""
    return (AnswerEvaluation if "confusion" in values else Evaluation).from_dict(values)


def evaluate_answers(
    control: str,
    classes: Sequence[str],
    truth: Numbers,
    answers: Answers,
    *,
    thresholds: Mapping[str, float] | None = None,
    default_threshold: float = DEFAULT_THRESHOLD,
) -> AnswerEvaluation:
    """Return how good answers are; ``truth`` is the place of each image's class by people."""
    best, surest = answers.best, answers.surest
    floors = np.array([(thresholds or {}).get(name, default_threshold) for name in classes], np.float64)
    is_answered = best != NOTHING
    is_shown = is_answered.copy()
    is_shown[is_answered] = surest[is_answered] >= floors[best[is_answered]]
    is_right, is_near = best == truth, answers.is_among(truth, FEW)
    confusion = np.zeros((len(classes), len(classes) + 1), np.int64)
    # -1, which says that nothing was predicted, is the last column.
    np.add.at(confusion, (truth, best), 1)
    scored = tuple(
        _score_class(name, truth == number, best == number, is_right, is_near, is_shown, float(floors[number]))
        for number, name in enumerate(classes)
    )
    confidence = surest[is_answered].astype(np.float32)
    return AnswerEvaluation(
        control=control,
        images=len(truth),
        unanswered=int((~is_answered).sum()),
        shown=int(is_shown.sum()),
        top1=_share(is_right, len(truth)),
        top5=_share(is_near, len(truth)),
        precision=_share(is_right & is_shown, int(is_shown.sum())),
        recall=_share(is_right & is_shown, len(truth)),
        calibration_error=compute_calibration_error(confidence, is_right[is_answered]) if len(confidence) else None,
        classes=scored,
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        reliability=tuple(_find_reliability(surest[is_answered], is_right[is_answered])),
    )


def _score_class(
    name: str, of_class: Flags, said: Flags, is_right: Flags, is_near: Flags, is_shown: Flags, threshold: float
) -> AnswerScore:
    examples = int(of_class.sum())
    if not examples:
        return AnswerScore(name, 0, None, None)
    return AnswerScore(
        name,
        examples,
        top1=_share(is_right & of_class, examples),
        top5=_share(is_near & of_class, examples),
        precision=_share(is_right & said & is_shown, int((said & is_shown).sum())),
        recall=_share(is_right & of_class & is_shown, examples),
        threshold=threshold,
    )


def _share(flags: Flags, of: int) -> float | None:
    return round(int(flags.sum()) / of, 9) if of else None


def _find_reliability(confidence: Floats, is_right: Flags) -> Iterator[Reliability]:
    places = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    for place in np.unique(places):
        inside = places == place
        mean, right = float(confidence[inside].mean()), float(is_right[inside].mean())
        yield Reliability(round(place / CALIBRATION_BINS, 6), int(inside.sum()), round(mean, 6), round(right, 6))


def choose_answer_thresholds(
    classes: Sequence[str],
    truth: Numbers,
    answers: Answers,
    *,
    precision_floor: float | None = None,
    fewest_examples: int = FEWEST_EXAMPLES,
) -> tuple[Threshold, ...]:
    """Return the threshold of each class, as for boxes: only the surest class of an image is ever shown."""
    best, surest = answers.best, answers.surest
    chosen = []
    for number, name in enumerate(classes):
        rows = best == number
        examples = int((truth == number).sum())
        is_right = truth[rows] == number
        chosen.append(choose_threshold(name, examples, surest[rows], is_right, precision_floor, fewest_examples))
    return tuple(chosen)
