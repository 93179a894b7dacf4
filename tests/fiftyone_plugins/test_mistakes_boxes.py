"""Boxes against a detector's, and rules: each planted mistake is found by its own score, and by no other."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fiftyone_plugins.mistakes.boxes import BoxScores, ImageBoxes, compute_overlaps, expect, score_boxes
from fiftyone_plugins.mistakes.objectlab import score_with_objectlab
from fiftyone_plugins.mistakes.rules import check_boxes, learn_usual

CAR, DOG, TREE = 0, 1, 2
SIZE = (640.0, 400.0)
AREA = SIZE[0] * SIZE[1]
Row = tuple[float, float, float, float, int]


def make_image(labels: list[Row], found: list[tuple[float, float, float, float, int, float]]) -> ImageBoxes:
    people = np.array(labels, np.float64).reshape(-1, 5)
    seen = np.array(found, np.float64).reshape(-1, 6)
    return ImageBoxes(
        people[:, :4], people[:, 4].astype(np.int64), seen[:, :4], seen[:, 4].astype(np.int64), seen[:, 5], AREA
    )


# Two right images show what the detector can see of cars and dogs.
RIGHT = [
    make_image([(10, 10, 210, 110, CAR)], [(12, 11, 208, 112, CAR, 0.9)]),
    make_image([(300, 100, 500, 300, DOG)], [(301, 99, 498, 305, DOG, 0.8)]),
]


def score_last(image: ImageBoxes, known: list[int] | None = None) -> BoxScores:
    return score_boxes([*RIGHT * 3, image], known)[-1]


def test_a_box_the_detector_draws_alike_is_suspected_of_nothing():
    scores = score_boxes(RIGHT * 3)[0]
    assert max(scores.swapped[0], scores.location[0], scores.spurious[0], scores.missing[0]) < 0.05


def test_another_class_in_the_same_place_is_a_swapped_class():
    scores = score_last(make_image([(10, 10, 210, 110, DOG)], [(12, 11, 208, 112, CAR, 0.9)]))
    assert scores.swapped[0] > 0.5
    assert scores.seen_as[0] == CAR
    assert scores.location[0] < 0.1
    # It lies on a label: that object is not missing.
    assert scores.missing[0] < 0.1


def test_the_class_beside_the_box_is_a_box_in_the_wrong_place():
    scores = score_last(make_image([(10, 10, 210, 110, CAR)], [(110, 10, 310, 110, CAR, 0.9)]))
    assert scores.location[0] > 0.3
    assert scores.seen_at[0] == 0
    assert scores.swapped[0] < 0.1


def test_a_box_that_no_label_explains_is_a_missing_one():
    found = [(12, 11, 208, 112, CAR, 0.9), (300, 200, 400, 300, DOG, 0.95)]
    scores = score_last(make_image([(10, 10, 210, 110, CAR)], found))
    assert scores.missing[1] > 0.5
    assert scores.missing[0] < 0.01


def test_a_label_where_the_detector_sees_nothing_is_spurious_where_it_sees_others_like_it():
    scores = score_last(make_image([(10, 10, 210, 110, CAR)], []))
    assert scores.spurious[0] > 0.5
    assert max(scores.swapped[0], scores.location[0]) < 0.1


def test_a_class_the_detector_does_not_know_is_not_judged():
    scores = score_last(make_image([(10, 10, 210, 110, TREE)], [(12, 11, 208, 112, CAR, 0.9)]), [CAR, DOG])
    assert all(math.isnan(column[0]) for column in (scores.swapped, scores.location, scores.spurious))


def test_in_a_crowd_the_neighbours_box_says_nothing_against_a_label():
    labels: list[Row] = [(10, 10, 110, 210, CAR), (60, 10, 160, 210, CAR)]
    found = [(10, 10, 110, 210, CAR, 0.9), (60, 10, 160, 210, CAR, 0.9)]
    scores = score_last(make_image(labels, found))
    assert max(scores.location.max(), scores.missing.max()) < 0.05


def test_an_image_without_labels_and_one_without_boxes_have_scores_too():
    empty, unlabelled = score_boxes([*RIGHT, make_image([], []), make_image([], [(0, 0, 50, 50, CAR, 0.9)])])[-2:]
    assert (len(empty.swapped), len(empty.missing)) == (0, 0)
    assert unlabelled.missing[0] > 0.5


def test_nothing_at_all_is_no_error():
    assert score_boxes([]) == []
    assert len(expect(np.zeros(0), np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.bool_))) == 0


def test_scores_do_not_depend_on_how_images_are_put_together():
    random = np.random.default_rng(1)
    images = []
    for _ in range(40):
        corners = random.uniform(0, 300, (12, 2))
        boxes = np.column_stack([corners, corners + random.uniform(5, 200, (12, 2))])
        classes = random.integers(0, 3, 12)
        images.append(ImageBoxes(boxes[:5], classes[:5], boxes[5:], classes[5:], random.random(7), AREA))
    whole, pieces = score_boxes(images), score_boxes(images, pairs_per_chunk=1)
    for one, other in zip(whole, pieces, strict=True):
        for name in ("swapped", "location", "spurious", "missing", "seen_as", "seen_at"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_overlaps_are_those_of_pycocotools():
    from pycocotools import mask

    random = np.random.default_rng(2)
    corners = random.uniform(0, 100, (50, 2))
    boxes = np.column_stack([corners, corners + random.uniform(1, 80, (50, 2))])
    sides = np.column_stack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
    expected = mask.iou(sides[:25], sides[25:], [0] * 25)
    iou, _ = compute_overlaps(np.repeat(boxes[:25], 25, axis=0), np.tile(boxes[25:], (25, 1)))
    np.testing.assert_allclose(iou.reshape(25, 25), expected, atol=1e-9)


def test_objectlab_says_nothing_of_an_image_without_labels():
    scores = score_with_objectlab([*RIGHT, make_image([], [(0, 0, 50, 50, CAR, 0.9)])])
    assert scores[2] is None
    assert all(one is not None and 0 <= one <= 1 for one in scores[:2])


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((50.0, 50.0, 50.0, 90.0), "the box has no area"),
        ((700.0, 10.0, 800.0, 90.0), "the box lies outside the image"),
        ((-100.0, 10.0, 100.0, 90.0), "50% of the box lies outside the image"),
    ],
)
def test_a_box_that_cannot_be_right_breaks_a_rule(box: tuple[float, float, float, float], reason: str):
    (broken,) = check_boxes(np.array([box]), ["car"], SIZE, {})
    assert broken is not None
    assert broken.reason == reason


def test_a_box_that_reaches_over_the_edge_is_to_be_cut():
    (broken,) = check_boxes(np.array([[-100.0, 10.0, 100.0, 90.0]]), ["car"], SIZE, {})
    assert broken is not None
    assert broken.box == (0.0, 10.0, 100.0, 90.0)


def test_the_second_of_two_equal_boxes_of_a_class_is_superfluous():
    boxes = np.array([[10.0, 10, 110, 60], [11, 10, 110, 60], [11, 10, 110, 60]])
    broken = check_boxes(boxes, ["car", "car", "dog"], SIZE, {})
    assert [None if one is None else one.is_superfluous for one in broken] == [None, True, None]


def test_a_size_and_a_shape_that_a_class_never_has_are_odd():
    random = np.random.default_rng(3)
    sizes, aspects = random.uniform(0.02, 0.05, 60), random.uniform(0.8, 1.2, 60)
    usual = learn_usual(["car"] * 60, sizes, aspects)
    large, slim, usual_one = np.array([[0, 0, 640, 400]]), np.array([[0, 0, 400, 12]]), np.array([[0, 0, 95, 95]])
    for box, word in ((large, "takes"), (slim, "as wide as high")):
        (broken,) = check_boxes(box.astype(np.float64), ["car"], SIZE, usual)
        assert broken is not None
        assert word in broken.reason
    assert check_boxes(usual_one.astype(np.float64), ["car"], SIZE, usual) == [None]


def test_of_a_class_with_few_boxes_nobody_knows_what_is_usual():
    assert learn_usual(["car"] * 5, np.full(5, 0.1), np.ones(5)) == {}
