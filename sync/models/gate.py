"""Whether a candidate may take the place of the current model: better on the frozen test split, and no class is lost.

Pure, and the same for detectors and classifiers. Both looked at the same images. The interval of the difference comes
from drawing the images anew, with replacement, many times (a paired bootstrap), those that belong together as one: a
difference that hangs on a few images, or on a few films, does not pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

import numpy as np

from sync.models.answers import AnswerEvaluation, Answers, AnswerScore, AnyEvaluation
from sync.models.bootstrap import (
    Differences,
    OnDraw,
    draw_answer_differences,
    draw_differences,
    find_interval,
    read_matches,
)
from sync.models.boxes import Boxes, Numbers
from sync.models.evaluation import METRICS, ClassScore, Evaluation

Decision = Literal["better", "not better", "undecided"]
METRIC: Final = METRICS["box"]
FORCED_FOR_NOTHING: Final = "force needs a reason, which is kept with the model: give one as reason (--reason TEXT)"


@dataclass(frozen=True, slots=True)
class Rules:
    """What a candidate is held to.

    ``fewest_images``: with fewer test images nothing is decided; nor with fewer than ``fewest_groups`` of them that do
    not belong together, from which no interval can be drawn. ``class_margin``: a class with at least
    ``fewest_examples`` may not fall by more. The interval is ``confidence`` wide, from ``resamples`` draws of ``seed``.
    """

    fewest_images: int = 30
    fewest_groups: int = 10
    fewest_examples: int = 20
    class_margin: float = 0.05
    confidence: float = 0.95
    resamples: int = 1000
    seed: int = 0


@dataclass(frozen=True, slots=True)
class ClassChange:
    """A class before and after, by the comparison's metric; None: the class has no example.

    The change is from ``low`` to ``high``.
    """

    name: str
    examples: int
    current: float | None
    candidate: float | None
    low: float | None = None
    high: float | None = None

    @property
    def change(self) -> float | None:
        """How much better the candidate is; None: not known."""
        return None if self.current is None or self.candidate is None else self.candidate - self.current


@dataclass(frozen=True, slots=True)
class Comparison:
    """The candidate against the current model on the same images.

    ``difference`` is candidate - current, from ``low`` to ``high`` with the rules' confidence. All are None where
    people drew nothing on the images, or answered nothing. ``metric`` is mAP50-95 by boxes, masks or turned boxes, or a
    classifier's top-1. ``baseline`` is the class that always being said stands for the current model; None: there is a
    current one. ``groups`` is how many of the images do not belong together, each group counted once; None: not known.
    """

    images: int
    examples: int
    current: float | None
    candidate: float | None
    difference: float | None
    low: float | None
    high: float | None
    classes: tuple[ClassChange, ...]
    metric: str = METRIC
    baseline: str | None = None
    groups: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON; ``from_dict`` is its inverse."""
        return asdict(self) | {"classes": [asdict(one) for one in self.classes]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Comparison:
        """Return the comparison of ``to_dict``."""
        return cls(**{**values, "classes": tuple(ClassChange(**row) for row in values["classes"])})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows, with the reasons in words, the one that decides first."""

    decision: Decision
    reasons: tuple[str, ...]

    @property
    def is_pass(self) -> bool:
        """Whether the candidate may be promoted without anybody's word."""
        return self.decision == "better"


def compare_models(
    current: Evaluation,
    candidate: Evaluation,
    truth: Boxes,
    found: tuple[Boxes, Boxes],
    rules: Rules,
    *,
    groups: Numbers,
    on_draw: OnDraw = lambda _: None,
) -> Comparison:
    """Return the difference between two models on the same images; ``found`` is what each found, current first.

    ``groups`` is the number of each image's group, from 0.
    """
    if current.map50_95 is None or candidate.map50_95 is None:
        return _compare_nothing(current, candidate)
    classes = len(current.classes)
    before, after = (read_matches(truth, one, images=current.images, classes=classes) for one in found)
    drawn = draw_differences(before, after, groups=groups, draws=rules.resamples, seed=rules.seed, on_draw=on_draw)
    return _compare(current, candidate, drawn, groups, rules)


def compare_answers(
    current: AnswerEvaluation | None,
    candidate: AnswerEvaluation,
    truth: Numbers,
    answers: tuple[Answers, Answers],
    rules: Rules,
    *,
    groups: Numbers,
    on_draw: OnDraw = lambda _: None,
) -> Comparison:
    """Return the difference in top-1 between two classifiers on the same images, the current one first.

    Where there is no current one (None), the candidate is held against always saying the commonest class, which nobody
    needs a model for; by class there is then nothing to compare with.
    """
    classes = len(candidate.classes)
    if candidate.top1 is None:
        return _compare_nothing(candidate, candidate)
    commonest = int(np.bincount(truth, minlength=classes).argmax())
    said = np.full(len(truth), commonest) if current is None else answers[0].best
    before, after = said == truth, answers[1].best == truth
    drawn = draw_answer_differences(
        before, after, truth, groups=groups, classes=classes, draws=rules.resamples, seed=rules.seed, on_draw=on_draw
    )
    if current is not None:
        return _compare(current, candidate, drawn, groups, rules)
    share = round(float(before.mean()), 9)
    unknown = tuple(replace(one, top1=None) for one in candidate.classes)
    compared = _compare(replace(candidate, top1=share, classes=unknown), candidate, drawn, groups, rules)
    changes = tuple(replace(one, low=None, high=None) for one in compared.classes)
    return replace(compared, classes=changes, baseline=candidate.classes[commonest].name)


def _compare_nothing(current: AnyEvaluation, candidate: AnyEvaluation) -> Comparison:
    unknown = tuple(ClassChange(one.name, one.examples, None, None) for one in current.classes)
    return Comparison(current.images, 0, None, None, None, None, None, unknown, candidate.metric)


def _compare(
    current: AnyEvaluation, candidate: AnyEvaluation, drawn: Differences, groups: Numbers, rules: Rules
) -> Comparison:
    assert current.score is not None
    assert candidate.score is not None
    low, high = find_interval(drawn.overall, rules.confidence) or (None, None)
    changes = []
    before: Sequence[ClassScore | AnswerScore] = current.classes
    after: Sequence[ClassScore | AnswerScore] = candidate.classes
    for number, (one, other) in enumerate(zip(before, after, strict=True)):
        interval = find_interval(drawn.classes[:, number], rules.confidence) or (None, None)
        changes.append(ClassChange(one.name, one.examples, one.score, other.score, *interval))
    return Comparison(
        images=current.images,
        examples=current.examples,
        current=current.score,
        candidate=candidate.score,
        difference=round(candidate.score - current.score, 9),
        low=low,
        high=high,
        classes=tuple(changes),
        metric=candidate.metric,
        groups=len(np.unique(groups)),
    )


def decide(comparison: Comparison, rules: Rules) -> Verdict:
    """Return whether the candidate is better, is not, or whether that cannot be told from so few images."""
    if comparison.difference is None or comparison.low is None:
        nothing = "nobody drew or answered anything on the test images, so nothing can be compared"
        return Verdict("undecided", (nothing,))
    overall = _describe(comparison, rules)
    if comparison.images < rules.fewest_images:
        few = f"{comparison.images} test images are too few to decide (expected at least {rules.fewest_images})"
        return Verdict("undecided", (few, overall))
    if comparison.groups is not None and comparison.groups < rules.fewest_groups:
        few = (
            f"{comparison.images} test images are {comparison.groups} groups of images that belong together: too few"
            f" to decide (expected at least {rules.fewest_groups})"
        )
        return Verdict("undecided", (few, overall))
    fallen = tuple(_name_fallen(comparison, rules))
    if comparison.low <= 0:
        is_worse = comparison.high is not None and comparison.high < 0
        told = "it is worse" if is_worse else "the interval reaches down to 0 or below, so the difference may be chance"
        return Verdict("not better", (f"{overall}: {told}", *fallen))
    if fallen:
        return Verdict("not better", (*fallen, overall))
    return Verdict("better", (overall, _describe_classes(comparison, rules)))


def _describe(comparison: Comparison, rules: Rules) -> str:
    against = "" if comparison.baseline is None else f" of always {comparison.baseline!r}"
    is_grouped = comparison.groups is not None and comparison.groups < comparison.images
    grouped = f" in {comparison.groups} groups" if is_grouped else ""
    return (
        f"{comparison.metric} {comparison.candidate:.4f} against {comparison.current:.4f}{against},"
        f" {comparison.difference:+.4f}"
        f" ({rules.confidence:.0%} interval {comparison.low:+.4f} to {comparison.high:+.4f},"
        f" {comparison.images} images{grouped}, {comparison.examples} examples)"
    )


def _name_fallen(comparison: Comparison, rules: Rules) -> Iterator[str]:
    for one in comparison.classes:
        if one.examples >= rules.fewest_examples and one.change is not None and one.change < -rules.class_margin:
            yield (
                f"class {one.name!r} falls from {one.current:.4f} to {one.candidate:.4f} on {one.examples} examples,"
                f" by more than {rules.class_margin:g}"
            )


def _describe_classes(comparison: Comparison, rules: Rules) -> str:
    if comparison.baseline is not None:
        return "no model answered before: no class was held to a margin"
    known = [one for one in comparison.classes if one.examples >= rules.fewest_examples]
    if not known:
        return f"no class has {rules.fewest_examples} examples: none was held to a margin of its own"
    enough = f"with {rules.fewest_examples} examples or more ({len(known)})"
    return f"of the classes {enough}, none falls by more than {rules.class_margin:g}"
