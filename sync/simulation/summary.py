"""What the trainings of a simulation show: a curve a strategy, and how many labels it saves against chance. Pure.

Every strategy starts with the same images and the same seed, so they are compared seed by seed.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

CONFIDENCE: Final = 0.95
Count = Callable[["Point"], int]


@dataclass(frozen=True, slots=True)
class Point:
    """One training: how many images and boxes were labelled, and how good the model was on the test images.

    ``noise`` is the part of the boxes that were spoiled. ``map50_95`` and ``map50`` are 0..1.
    """

    strategy: str
    seed: int
    round: int
    images: int
    boxes: int
    map50_95: float
    map50: float
    noise: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95 % interval over ``count`` seeds; ``low`` and ``high`` None: of one seed nothing is known."""

    mean: float
    low: float | None
    high: float | None
    count: int

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.mean:.3f} (one seed)"
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"


def in_percent(share: Interval) -> str:
    """Return a share of 1 in words.

    >>> in_percent(Interval(0.25, 0.125, 0.375, 3)), in_percent(Interval(0.25, None, None, 1))
    ('25 % (12 to 38 %)', '25 % (one seed)')
    """
    if share.low is None or share.high is None:
        return f"{100 * share.mean:.0f} % (one seed)"
    return f"{100 * share.mean:.0f} % ({100 * share.low:.0f} to {100 * share.high:.0f} %)"


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One place of a curve: ``images`` and ``boxes`` (means over the seeds), and how good the model was."""

    images: float
    boxes: float
    score: Interval


@dataclass(frozen=True, slots=True)
class Saving:
    """What part of the images, and of the boxes, a strategy saves for the mAP that chance reaches in the end.

    0.2: a fifth less; below 0: it needs more. ``reached`` of ``seeds`` reached that mAP at all; the others count as if
    they had with their last image, so what they save is less than said. ``gain`` is the difference in mAP at the end.
    """

    strategy: str
    images: Interval
    boxes: Interval
    gain: Interval
    reached: int
    seeds: int

    @property
    def is_shown(self) -> bool:
        """Whether the interval of the images saved lies above 0."""
        return self.images.low is not None and self.images.low > 0


def to_interval(values: Sequence[float]) -> Interval:
    """Return the mean with Student's interval.

    >>> print(to_interval([1.0, 2.0, 3.0]))
    2.000 (-0.484 to 4.484)
    """
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Interval(mean, None, None, len(values))
    from scipy.stats import t  # takes a second, and the command line imports this

    reach = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return Interval(mean, mean - reach, mean + reach, len(values))


def to_curve(points: Iterable[Point], strategy: str) -> list[CurvePoint]:
    """Return the curve of a strategy, round by round; a round that not every seed has is left out."""
    rounds: dict[int, list[Point]] = defaultdict(list)
    for point in points:
        if point.strategy == strategy and point.noise == 0:
            rounds[point.round].append(point)
    most = max((len(one) for one in rounds.values()), default=0)
    return [
        CurvePoint(
            statistics.fmean(one.images for one in rounds[number]),
            statistics.fmean(one.boxes for one in rounds[number]),
            to_interval([one.map50_95 for one in rounds[number]]),
        )
        for number in sorted(rounds)
        if len(rounds[number]) == most
    ]


def to_noise_curve(points: Iterable[Point]) -> list[tuple[float, Interval]]:
    """Return how good the model was for each part of spoiled boxes, the smallest first."""
    rates: dict[float, list[float]] = defaultdict(list)
    known = [*points]
    noisy = {(point.strategy, point.round) for point in known if point.noise > 0}
    for point in known:
        if (point.strategy, point.round) in noisy:
            rates[point.noise].append(point.map50_95)
    return [(rate, to_interval(rates[rate])) for rate in sorted(rates)]


def compute_savings(points: Sequence[Point], against: str = "random") -> list[Saving]:
    """Return what each other strategy saves against one, seed by seed; empty where that one was not tried."""
    paths: dict[str, dict[int, list[Point]]] = defaultdict(lambda: defaultdict(list))
    for point in points:
        if point.noise == 0:
            paths[point.strategy][point.seed].append(point)
    chance = paths.pop(against, None)
    if chance is None:
        return []
    savings = (_compute_saving(name, of_seed, chance) for name, of_seed in paths.items())
    return sorted((one for one in savings if one is not None), key=lambda one: -one.images.mean)


def _compute_saving(
    name: str, of_seed: Mapping[int, Sequence[Point]], chance: Mapping[int, Sequence[Point]]
) -> Saving | None:
    images, boxes, gains, reached = [], [], [], 0
    for seed in sorted(of_seed.keys() & chance.keys()):
        mine, theirs = sorted(of_seed[seed], key=_by_round), sorted(chance[seed], key=_by_round)
        target = theirs[-1].map50_95
        reached += any(point.map50_95 >= target for point in mine)
        images.append(_save(mine, theirs, target, lambda point: point.images))
        boxes.append(_save(mine, theirs, target, lambda point: point.boxes))
        gains.append(mine[-1].map50_95 - target)
    if not images:
        return None
    return Saving(name, to_interval(images), to_interval(boxes), to_interval(gains), reached, len(images))


def _by_round(point: Point) -> int:
    return point.round


def _save(mine: Sequence[Point], theirs: Sequence[Point], target: float, count: Count) -> float:
    return 1 - _reach(mine, target, count) / _reach(theirs, target, count)


def _reach(path: Sequence[Point], target: float, count: Count) -> float:
    """Return after how many labels a path first reaches a score, on straight lines between its points; else all."""
    before: Point | None = None
    for point in path:
        if point.map50_95 >= target:
            if before is None:
                return float(count(point))
            share = (target - before.map50_95) / (point.map50_95 - before.map50_95)
            return count(before) + share * (count(point) - count(before))
        before = point
    return float(count(path[-1]))
