"""Whether a candidate may take the place of the current model: better on the frozen test split, and no class is lost.

Pure. Both looked at the same images. The interval of the difference comes from drawing the images anew, with
replacement, many times (a paired bootstrap): a difference that hangs on a few images does not pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from sync.models.bootstrap import OnDraw, draw_differences, find_interval, read_matches
from sync.models.evaluation import Boxes, Evaluation

Decision = Literal["better", "not better", "undecided"]
METRIC: Final = "mAP50-95"


@dataclass(frozen=True, slots=True)
class Rules:
    """What a candidate is held to.

    ``fewest_images``: with fewer test images nothing is decided. ``class_margin``: a class with at least
    ``fewest_examples`` may not fall by more. The interval is ``confidence`` wide, from ``resamples`` draws of ``seed``.
    """

    fewest_images: int = 30
    fewest_examples: int = 20
    class_margin: float = 0.05
    confidence: float = 0.95
    resamples: int = 1000
    seed: int = 0


@dataclass(frozen=True, slots=True)
class ClassChange:
    """A class before and after, by mAP50-95; None: the class has no example. The change is from ``low`` to ``high``."""

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
    people drew nothing on the images.
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
    on_draw: OnDraw = lambda _: None,
) -> Comparison:
    """Return the difference between two models on the same images; ``found`` is what each found, current first."""
    pairs = tuple(zip(current.classes, candidate.classes, strict=True))
    if current.map50_95 is None or candidate.map50_95 is None:
        unknown = tuple(ClassChange(before.name, before.examples, None, None) for before, _ in pairs)
        return Comparison(current.images, 0, None, None, None, None, None, unknown)
    before, after = (read_matches(truth, one, images=current.images, classes=len(pairs)) for one in found)
    drawn = draw_differences(
        before, after, images=current.images, draws=rules.resamples, seed=rules.seed, on_draw=on_draw
    )
    low, high = find_interval(drawn.overall, rules.confidence) or (None, None)
    changes = []
    for number, (one, other) in enumerate(pairs):
        interval = find_interval(drawn.classes[:, number], rules.confidence) or (None, None)
        changes.append(ClassChange(one.name, one.examples, one.map50_95, other.map50_95, *interval))
    return Comparison(
        images=current.images,
        examples=current.examples,
        current=current.map50_95,
        candidate=candidate.map50_95,
        difference=round(candidate.map50_95 - current.map50_95, 9),
        low=low,
        high=high,
        classes=tuple(changes),
    )


def decide(comparison: Comparison, rules: Rules) -> Verdict:
    """Return whether the candidate is better, is not, or whether that cannot be told from so few images."""
    if comparison.difference is None or comparison.low is None:
        return Verdict("undecided", ("nobody drew anything on the test images, so nothing can be compared",))
    overall = _describe(comparison, rules)
    if comparison.images < rules.fewest_images:
        few = f"{comparison.images} test images are too few to decide (expected at least {rules.fewest_images})"
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
    return (
        f"{comparison.metric} {comparison.candidate:.4f} against {comparison.current:.4f}, {comparison.difference:+.4f}"
        f" ({rules.confidence:.0%} interval {comparison.low:+.4f} to {comparison.high:+.4f},"
        f" {comparison.images} images, {comparison.examples} examples)"
    )


def _name_fallen(comparison: Comparison, rules: Rules) -> Iterator[str]:
    for one in comparison.classes:
        if one.examples >= rules.fewest_examples and one.change is not None and one.change < -rules.class_margin:
            yield (
                f"class {one.name!r} falls from {one.current:.4f} to {one.candidate:.4f} on {one.examples} examples,"
                f" by more than {rules.class_margin:g}"
            )


def _describe_classes(comparison: Comparison, rules: Rules) -> str:
    known = [one for one in comparison.classes if one.examples >= rules.fewest_examples]
    if not known:
        return f"no class has {rules.fewest_examples} examples: none was held to a margin of its own"
    enough = f"with {rules.fewest_examples} examples or more ({len(known)})"
    return f"of the classes {enough}, none falls by more than {rules.class_margin:g}"
