"""The simulation: for each seed and strategy, train, measure, choose, and let the labelled set answer; then again.

What was measured is kept line by line in a file: started again, it goes on from there.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from labels.errors import LabelingError
from labels.report import OnProgress
from ml_backend.detectors import Detections
from ml_backend.training import TrainingItem
from sync.models.boxes import Boxes
from sync.models.evaluation import evaluate_boxes
from sync.simulation.labelled import LabelledSet
from sync.simulation.learner import Learner
from sync.simulation.noise import spoil
from sync.simulation.strategies import RANDOM, Situation, Vectors, check_strategy, choose_next
from sync.simulation.summary import Point

RESULTS_NAME: Final = "results.jsonl"
PLAN_NAME: Final = "plan.json"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is tried. ``start`` images are labelled at first (the same for each strategy), ``budget`` more a round.

    ``noise`` are parts (0..1) of the boxes that are spoiled in one more training each, on as many images as chance has
    in the end. ``test_share`` of the images are kept for measuring. ``training`` says how each model is trained.
    """

    strategies: tuple[str, ...]
    rounds: int
    start: int
    budget: int
    seeds: tuple[int, ...]
    noise: tuple[float, ...] = ()
    test_share: float = 0.3
    training: Mapping[str, Any] | None = None

    @property
    def most_images(self) -> int:
        """How many images are labelled at the end."""
        return self.start + self.rounds * self.budget

    @property
    def trainings(self) -> int:
        """How many models are trained."""
        return len(self.seeds) * (1 + len(self.strategies) * self.rounds + len(self.noise))

    def check(self, labelled: LabelledSet) -> None:
        """Refuse what cannot be done.

        Raises:
            LabelingError: a strategy nobody knows, numbers below 1, or more images than there are.
        """
        if not self.strategies and not self.noise:
            raise LabelingError("--strategies: expected at least one")
        for strategy in self.strategies:
            check_strategy(strategy)
        for name, number in (("rounds", self.rounds), ("start", self.start), ("budget", self.budget)):
            if number < 1:
                raise LabelingError(f"--{name} {number}: expected 1 or more")
        if not all(0 < rate <= 1 for rate in self.noise):
            raise LabelingError("--noise: expected parts of the boxes in percent, above 0 and at most 100")
        pool, test = labelled.split(self.test_share)
        if self.most_images > len(pool):
            raise LabelingError(
                f"{self.most_images} images would be labelled, and {labelled.name} has {len(pool)}"
                f" (besides {len(test)} for the test): choose a smaller --budget, --start or --rounds"
            )


class Simulation:
    """One plan on one labelled set, kept in a folder.

    ``vectors`` (n, d) say what images look alike, a row an image of the set; they are needed by strategies that spread.

    Raises:
        LabelingError: the plan cannot be done, or the folder has the results of another one.
    """

    def __init__(
        self, labelled: LabelledSet, plan: Plan, learner: Learner, folder: Path, vectors: Vectors | None = None
    ) -> None:
        plan.check(labelled)
        self._set, self._plan, self._learner, self._vectors = labelled, plan, learner, vectors
        self._pool, self._test = labelled.split(plan.test_share)
        self._records = _Records(folder, labelled, plan)
        self._seen: dict[tuple[int, tuple[int, ...], float], dict[int, Detections]] = {}
        self._trained = 0

    def run(self, on_progress: OnProgress) -> Iterator[Point]:
        """Yield each measurement, also those that were there already; what ``on_progress`` raises ends it."""
        rounds = range(self._plan.rounds + 1)
        for seed in self._plan.seeds:
            # What is seen after the first images is the same for every strategy; of another seed it is no use.
            self._seen.clear()
            for strategy in self._plan.strategies:
                labelled = self._draw(seed)
                for number in rounds:
                    labelled = self._extend(strategy, seed, number, labelled, on_progress)
                    yield self._measure(strategy, seed, number, labelled, 0.0, on_progress)
            if self._plan.noise:
                labelled = self._draw(seed)
                for number in rounds:
                    labelled = self._extend(RANDOM, seed, number, labelled, on_progress)
                clean = () if RANDOM in self._plan.strategies else (0.0,)
                for rate in (*clean, *self._plan.noise):
                    yield self._measure(RANDOM, seed, self._plan.rounds, labelled, rate, on_progress)

    def _draw(self, seed: int) -> tuple[int, ...]:
        """Return the images that are labelled at first."""
        return tuple(sorted(random.Random(seed).sample(self._pool, self._plan.start)))  # noqa: S311  no secret

    def _extend(
        self, strategy: str, seed: int, number: int, labelled: tuple[int, ...], on_progress: OnProgress
    ) -> tuple[int, ...]:
        """Return the images that are labelled in a round, which the strategy chose after the round before."""
        known = self._records.find(strategy, seed, number)
        if number == 0 or known is not None:
            return labelled if known is None else known
        left = tuple(place for place in self._pool if place not in set(labelled))
        seen = {} if strategy == RANDOM else self._look(seed, labelled, 0.0, on_progress)
        situation = Situation(
            self._set.classes, self._set.items, left, labelled, seen, self._vectors, _mix(seed, number)
        )
        return tuple(sorted((*labelled, *choose_next(strategy, situation, self._plan.budget))))

    def _measure(
        self, strategy: str, seed: int, number: int, labelled: tuple[int, ...], noise: float, on_progress: OnProgress
    ) -> Point:
        known = self._records.read(strategy, seed, number, noise)
        if known is not None:
            return known
        seen = self._look(seed, labelled, noise, on_progress)
        items = [self._set.items[place] for place in self._test]
        map50_95, map50 = measure(items, [seen[place] for place in self._test], self._set.classes)
        boxes = self._set.count_boxes(labelled)
        point = Point(strategy, seed, number, len(labelled), boxes, map50_95, map50, noise)
        self._records.add(point, labelled)
        return point

    def _look(
        self, seed: int, labelled: tuple[int, ...], noise: float, on_progress: OnProgress
    ) -> Mapping[int, Detections]:
        """Return what a model that learned these images sees on all others, by place."""
        key = (seed, labelled, noise)
        if key in self._seen:
            return self._seen[key]
        self._trained += 1
        count = f"model {self._trained} of at most {self._plan.trainings}"

        def tell(part: float | None, message: str) -> None:
            on_progress((self._trained - 1 + (part or 0.0)) / self._plan.trainings, f"{message} ({count})")

        items = spoil([self._set.items[place] for place in labelled], noise, len(self._set.classes), seed=seed)
        model = self._learner.learn(items, self._set.classes, seed, tell)
        others = [place for place in range(len(self._set.items)) if place not in set(labelled)]
        found = model.find([self._set.items[place] for place in others])
        self._seen[key] = dict(zip(others, found, strict=True))
        return self._seen[key]


def measure(
    items: Sequence[TrainingItem], found: Sequence[Detections], classes: tuple[str, ...]
) -> tuple[float, float]:
    """Return mAP50-95 and mAP50 of what was found on labelled images.

    Raises:
        LabelingError: the images have no box at all.
    """
    truth = Boxes.from_rows(
        [(number, box.class_id, box.xyxy) for number, item in enumerate(items) for box in item.boxes]
    )
    if not len(truth):
        raise LabelingError("the test images have no box; nothing can be measured on them")
    seen = Boxes(
        np.repeat(np.arange(len(found)), [len(one) for one in found]),
        np.concatenate([one.class_ids for one in found]).astype(np.int64),
        np.concatenate([one.xyxy for one in found]).astype(np.float64).reshape(-1, 4),
        np.concatenate([one.scores for one in found]).astype(np.float64),
    )
    evaluation = evaluate_boxes([item.size for item in items], classes, truth, seen)
    return evaluation.map50_95 or 0.0, evaluation.map50 or 0.0


def _mix(seed: int, number: int) -> int:
    """Return a seed for a round, another one for each."""
    return 1000 * seed + number


class _Records:
    """What was measured, a line each, with the images it was measured after."""

    def __init__(self, folder: Path, labelled: LabelledSet, plan: Plan) -> None:
        self._file = folder / RESULTS_NAME
        folder.mkdir(parents=True, exist_ok=True)
        told = {"set": labelled.name, "content": labelled.compute_sha256(), "images": len(labelled.items)}
        said = json.dumps({**told, **_describe(plan)}, sort_keys=True)
        file = folder / PLAN_NAME
        if file.is_file() and file.read_text(encoding="utf-8") != said:
            raise LabelingError(
                f"{folder}: has the results of another simulation, or of other labels; name another folder with --out"
            )
        file.write_text(said, encoding="utf-8")
        self._points: dict[tuple[str, int, int, float], Point] = {}
        self._places: dict[tuple[str, int, int], tuple[int, ...]] = {}
        text = self._file.read_text(encoding="utf-8") if self._file.is_file() else ""
        for line in text.split("\n"):
            self._keep(line)
        if not text.endswith("\n") and text:
            # Broken off in a line: what comes next starts one of its own.
            with self._file.open("a", encoding="utf-8") as broken:
                broken.write("\n")

    def _keep(self, line: str) -> None:
        try:
            values = json.loads(line)
        except ValueError:
            # The end of a line that was being written when the program was ended: it is measured again.
            return
        point = Point(**values["point"])
        self._points[point.strategy, point.seed, point.round, point.noise] = point
        self._places[point.strategy, point.seed, point.round] = tuple(values["places"])

    def find(self, strategy: str, seed: int, number: int) -> tuple[int, ...] | None:
        """Return the images that were labelled in a round, where that is known."""
        return self._places.get((strategy, seed, number))

    def read(self, strategy: str, seed: int, number: int, noise: float) -> Point | None:
        """Return what was measured, if it was."""
        return self._points.get((strategy, seed, number, noise))

    def add(self, point: Point, places: tuple[int, ...]) -> None:
        """Keep a measurement."""
        line = json.dumps({"point": point.to_dict(), "places": places})
        with self._file.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        self._keep(line)


def _describe(plan: Plan) -> dict[str, Any]:
    """Return what the results hang on; more seeds, strategies or noise may be asked for later."""
    told = asdict(plan)
    return {name: value for name, value in told.items() if name not in ("strategies", "seeds", "noise", "rounds")}
