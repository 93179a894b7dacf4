"""A simulation goes round after round, is the same each time, and goes on where it was ended."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labels.errors import LabelingError
from labels.geometry import ImageSize
from labels.report import OnProgress
from ml_backend.detectors import Detections
from ml_backend.training import TrainingBox, TrainingItem
from sync.simulation.experiment import RESULTS_NAME, Plan, Simulation, measure
from sync.simulation.labelled import LabelledSet, read_folder
from sync.simulation.noise import spoil
from sync.simulation.strategies import Situation, choose_next
from sync.simulation.summary import Point, compute_savings, to_curve, to_noise_curve

CLASSES = ("cat", "dog")
SIZE = ImageSize(60, 40)
BOX = (10.0, 5.0, 40.0, 30.0)


def detections(score: float | None, class_id: int = 0, xyxy: tuple[float, float, float, float] = BOX) -> Detections:
    if score is None:
        return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    return Detections(np.array([xyxy], np.float32), np.array([score], np.float32), np.array([class_id]))


@dataclass
class FakeLearner:
    """Learns a class once it saw ``needed`` boxes of it, and is surer the more it saw; keeps what it was taught."""

    needed: int = 3
    taught: list[int] = field(default_factory=list)
    ends_after: int | None = None

    def learn(self, items: Sequence[TrainingItem], classes: Sequence[str], seed: int, tell: OnProgress) -> FakeModel:
        if self.ends_after is not None and len(self.taught) == self.ends_after:
            raise KeyboardInterrupt
        tell(0.5, "learning")
        self.taught.append(len(items))
        counts = [sum(box.class_id == number for item in items for box in item.boxes) for number in range(2)]
        return FakeModel(tuple(count / (count + self.needed) for count in counts), self.needed)


@dataclass
class FakeModel:
    sureness: tuple[float, ...]
    needed: int

    def find(self, items: Sequence[TrainingItem]) -> list[Detections]:
        return [detections(self.sureness[item.boxes[0].class_id] or None, item.boxes[0].class_id) for item in items]


@pytest.fixture
def labelled(tmp_path: Path) -> LabelledSet:
    """Forty images; every fifth shows a dog, the others a cat."""
    items = []
    for number in range(40):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (60, 40), (number, 0, 0)).save(path)
        items.append(TrainingItem(path, SIZE, (TrainingBox(BOX, int(number % 5 == 0)),)))
    return LabelledSet("pets", CLASSES, tuple(items))


PLAN = Plan(("random", "rare"), rounds=2, start=4, budget=4, seeds=(0, 1))


def quiet(_done: float | None, _message: str) -> None: ...


def test_every_strategy_starts_with_the_same_images_and_gets_as_many_a_round(
    labelled: LabelledSet, tmp_path: Path
) -> None:
    learner = FakeLearner()
    points = [*Simulation(labelled, PLAN, learner, tmp_path / "out").run(quiet)]

    assert [(one.strategy, one.round, one.images) for one in points if one.seed == 0] == [
        (name, number, 4 + 4 * number) for name in ("random", "rare") for number in (0, 1, 2)
    ]
    first = {seed: {one.map50_95 for one in points if one.seed == seed and one.round == 0} for seed in (0, 1)}
    assert all(len(scores) == 1 for scores in first.values())
    # The first images are learned once a seed.
    assert len(learner.taught) == len(PLAN.seeds) * (1 + 2 * 2) == PLAN.trainings


def test_one_that_was_ended_goes_on_and_ends_like_an_undisturbed_one(labelled: LabelledSet, tmp_path: Path) -> None:
    whole = [*Simulation(labelled, PLAN, FakeLearner(), tmp_path / "whole").run(quiet)]
    with pytest.raises(KeyboardInterrupt):
        [*Simulation(labelled, PLAN, FakeLearner(ends_after=4), tmp_path / "ended").run(quiet)]
    file = tmp_path / "ended" / RESULTS_NAME
    kept = len(file.read_text().splitlines())
    file.write_text(file.read_text() + '{"point": {"strat')

    again = FakeLearner()
    points = [*Simulation(labelled, PLAN, again, tmp_path / "ended").run(quiet)]

    assert points == whole
    assert kept >= 4
    assert len(again.taught) < PLAN.trainings
    assert [*Simulation(labelled, PLAN, FakeLearner(ends_after=0), tmp_path / "ended").run(quiet)] == whole


def test_a_folder_of_another_plan_is_refused_and_more_seeds_are_not(labelled: LabelledSet, tmp_path: Path) -> None:
    [*Simulation(labelled, PLAN, FakeLearner(), tmp_path).run(quiet)]
    more = Plan(("random", "rare", "uncertainty"), rounds=2, start=4, budget=4, seeds=(0, 1, 2))
    other = Plan(("random",), rounds=2, start=5, budget=4, seeds=(0,))

    assert len([*Simulation(labelled, more, FakeLearner(), tmp_path).run(quiet)]) == 3 * 3 * 3
    with pytest.raises(LabelingError, match="has the results of another simulation"):
        Simulation(labelled, other, FakeLearner(), tmp_path)


def test_a_folder_with_results_of_other_labels_or_pictures_is_refused(labelled: LabelledSet, tmp_path: Path) -> None:
    [*Simulation(labelled, PLAN, FakeLearner(), tmp_path / "out").run(quiet)]
    first, *rest = labelled.items
    mended = replace(labelled, items=(replace(first, boxes=(replace(first.boxes[0], class_id=0),)), *rest))

    with pytest.raises(LabelingError, match="or of other labels"):
        Simulation(mended, PLAN, FakeLearner(), tmp_path / "out")
    Image.new("RGB", (60, 40), "white").save(first.image)
    with pytest.raises(LabelingError, match="or of other labels"):
        Simulation(labelled, PLAN, FakeLearner(), tmp_path / "out")


def test_an_image_of_which_a_label_cannot_be_had_is_left_out_whole(tmp_path: Path) -> None:
    lines = {"good": "0 .5 .5 .2 .2\n", "unreadable": "0 .5 .5 .2 .2\n0 .2 .2 nonsense .1\n"}
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    (tmp_path / "data.yaml").write_text("names: [cell]\n")
    for number, (name, text) in enumerate(lines.items()):
        Image.new("RGB", (60, 40), (number, 0, 0)).save(tmp_path / "images" / f"{name}.png")
        (tmp_path / "labels" / f"{name}.txt").write_text(text)

    labelled = read_folder(tmp_path)

    assert [item.image.name for item in labelled.items] == ["good.png"]
    assert "1 images of which a label cannot be read, or does not fit" in labelled.left_out


@pytest.mark.parametrize(
    ("plan", "problem"),
    [
        (Plan(("magic",), 1, 1, 1, (0,)), "strategy 'magic' is not known"),
        (Plan(("random",), 9, 9, 9, (0,)), "90 images would be labelled"),
        (Plan(("random",), 0, 1, 1, (0,)), "--rounds 0"),
        (Plan(("random",), 1, 1, 1, (0,), noise=(1.5,)), "--noise"),
        (Plan(("random",), 1, 1, 1, (0,), test_share=0.0), "too few to keep"),
    ],
)
def test_what_cannot_be_tried_is_refused_before_anything_is_written(
    labelled: LabelledSet, tmp_path: Path, plan: Plan, problem: str
) -> None:
    with pytest.raises(LabelingError, match=problem):
        Simulation(labelled, plan, FakeLearner(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pool_and_test_images_are_the_same_each_time_and_share_none(labelled: LabelledSet) -> None:
    pool, test = labelled.split(0.3)

    assert sorted((*pool, *test)) == list(range(40))
    assert labelled.split(0.3) == (pool, test)
    # More for the test takes from the pool, and nothing back.
    assert set(test) < set(labelled.split(0.6)[1])


def test_images_that_belong_together_are_all_in_the_pool_or_all_in_the_test(labelled: LabelledSet) -> None:
    films = replace(labelled, groups=tuple(f"film {number // 4}" if number < 38 else None for number in range(40)))

    pool, test = films.split(0.3)

    assert sorted((*pool, *test)) == list(range(40))
    assert not {place // 4 for place in pool if place < 36} & {place // 4 for place in test if place < 36}


def test_spoiled_boxes_are_tried_on_the_images_of_chance(labelled: LabelledSet, tmp_path: Path) -> None:
    plan = Plan(("random",), rounds=1, start=4, budget=4, seeds=(0,), noise=(0.5, 1.0))
    points = [*Simulation(labelled, plan, FakeLearner(), tmp_path / "out").run(quiet)]

    assert [(one.round, one.noise, one.images) for one in points] == [
        (0, 0.0, 4),
        (1, 0.0, 8),
        (1, 0.5, 8),
        (1, 1.0, 8),
    ]
    assert [rate for rate, _ in to_noise_curve(points)] == [0.0, 0.5, 1.0]
    assert len(to_curve(points, "random")) == 2


# Strategies


def situation(labelled: LabelledSet, seen: dict[int, Detections], vectors: object = None) -> Situation:
    return Situation(CLASSES, labelled.items, tuple(sorted(seen)), (1, 2, 3), seen, vectors, 7)  # type: ignore[arg-type]


def test_each_strategy_takes_what_it_is_named_for(labelled: LabelledSet) -> None:
    seen = {
        10: detections(0.95),
        11: detections(0.25),
        12: detections(0.6, class_id=1),
        13: detections(None),
    }
    at = situation(labelled, seen)

    assert choose_next("uncertainty", at, 1) == (11,)
    # Three cats were answered and no dog: a dog counts whole and a cat half.
    assert choose_next("rare", at, 2) == (12, 11)
    assert set(choose_next("random", at, 2)) <= set(seen)
    assert choose_next("random", at, 2) == choose_next("random", at, 2)


def test_spreading_takes_what_is_like_nothing_that_is_answered(labelled: LabelledSet) -> None:
    vectors = np.zeros((40, 2), np.float32)
    vectors[:] = (1, 0)
    vectors[12] = (0, 1)
    seen = {place: detections(0.5) for place in (10, 11, 12)}

    assert choose_next("diversity", situation(labelled, seen, vectors), 1) == (12,)
    assert choose_next("uncertainty+diversity", situation(labelled, seen, vectors), 1) == (12,)


# Noise


def test_as_many_boxes_are_spoiled_as_asked_for_and_all_stay_in_the_image(labelled: LabelledSet) -> None:
    items = tuple(labelled.items) * 50
    spoiled = spoil(items, 0.3, 2, seed=1)
    changed = sum(before.boxes != after.boxes for before, after in zip(items, spoiled, strict=True))
    removed = sum(not one.boxes for one in spoiled)

    assert 0.26 < changed / len(items) < 0.34
    assert 0.07 < removed / len(items) < 0.13
    assert all(
        0 <= box.xyxy[0] < box.xyxy[2] <= SIZE.width and 0 <= box.xyxy[1] < box.xyxy[3] <= SIZE.height
        for one in spoiled
        for box in one.boxes
    )
    assert spoil(items, 0.3, 2, seed=1) == spoiled
    assert spoil(items, 0.0, 2, seed=1) == items


def test_what_is_moved_keeps_its_size() -> None:
    item = TrainingItem(Path("a.png"), SIZE, (TrainingBox(BOX, 0),) * 200)
    (spoiled,) = spoil([item], 1.0, 1, seed=0)
    sides = {(round(box.xyxy[2] - box.xyxy[0], 6), round(box.xyxy[3] - box.xyxy[1], 6)) for box in spoiled.boxes}

    assert sides == {(30.0, 25.0)}
    assert len(spoiled.boxes) < 200


# Summary


def point(strategy: str, number: int, images: int, score: float, seed: int = 0) -> Point:
    return Point(strategy, seed, number, images, 10 * images, score, score)


def test_savings_are_read_off_between_the_points_seed_by_seed() -> None:
    points = [
        *(point("random", number, images, score) for number, (images, score) in enumerate([(10, 0.1), (20, 0.3)])),
        *(point("clever", number, images, score) for number, (images, score) in enumerate([(10, 0.1), (20, 0.5)])),
        *(point("worse", number, images, score) for number, (images, score) in enumerate([(10, 0.1), (20, 0.2)])),
    ]
    clever, worse = compute_savings(points)

    # 0.3 is halfway between 0.1 and 0.5: reached with 15 images instead of 20.
    assert (clever.strategy, clever.images.mean, clever.reached, clever.is_shown) == ("clever", 0.25, 1, False)
    assert clever.gain.mean == pytest.approx(0.2)
    assert (worse.strategy, worse.images.mean, worse.reached) == ("worse", 0.0, 0)
    assert compute_savings([one for one in points if one.strategy != "random"]) == []


def test_a_saving_is_shown_where_its_interval_lies_above_zero() -> None:
    points = [
        point(name, number, images, score, seed)
        for seed in range(4)
        for name, end in (("random", 0.3), ("clever", 0.5 + seed / 100))
        for number, (images, score) in enumerate([(10, 0.1), (20, end)])
    ]
    (clever,) = compute_savings(points)

    assert clever.is_shown
    assert clever.seeds == 4


def test_a_curve_leaves_out_rounds_that_not_every_seed_has() -> None:
    points = [point("random", 0, 10, 0.1), point("random", 0, 10, 0.3, seed=1), point("random", 1, 20, 0.5)]
    (only,) = to_curve(points, "random")

    assert (only.images, only.boxes, only.score.mean) == (10, 100, pytest.approx(0.2))


def test_a_model_that_finds_all_scores_one_and_one_that_finds_nothing_zero(labelled: LabelledSet) -> None:
    items = labelled.items[:6]
    right = [detections(0.9, item.boxes[0].class_id) for item in items]

    assert measure(items, right, CLASSES) == (pytest.approx(1.0), pytest.approx(1.0))
    assert measure(items, [detections(None)] * 6, CLASSES) == (0.0, 0.0)
    with pytest.raises(LabelingError, match="have no box"):
        measure([TrainingItem(Path("a.png"), SIZE)], [detections(0.9)], CLASSES)


def test_results_are_plain_lines(labelled: LabelledSet, tmp_path: Path) -> None:
    [*Simulation(labelled, PLAN, FakeLearner(), tmp_path).run(quiet)]
    lines = [json.loads(line) for line in (tmp_path / RESULTS_NAME).read_text().splitlines()]

    assert {"point", "places"} == set(lines[0])
    assert len(lines) == 2 * 2 * 3
