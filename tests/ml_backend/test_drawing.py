from dataclasses import replace

import numpy as np

from ml_backend.answers.drawing import draw_detections, to_colour
from ml_backend.detectors import Detections, MaskCrop

GREY = np.full((120, 200, 3), 128, np.uint8)
NAMES = {0: "car", 1: "person"}


def make_found(class_id: int = 0, score: float = 0.5) -> Detections:
    return Detections(
        np.array([[40, 50, 100, 90]], np.float32), np.array([score], np.float32), np.array([class_id], np.int64)
    )


def test_a_box_is_drawn_in_the_colour_of_its_class_and_the_image_itself_stays() -> None:
    drawn = np.asarray(draw_detections(GREY, make_found(1), NAMES))

    assert drawn.shape == GREY.shape
    assert tuple(drawn[70, 40]) == to_colour(1)
    assert tuple(drawn[70, 70]) == (128, 128, 128)  # inside of the box
    assert np.all(GREY == 128)


def test_a_turned_box_is_drawn_round_its_centre() -> None:
    turned = replace(make_found(), rotations_deg=np.array([90], np.float32))

    drawn = np.asarray(draw_detections(GREY, turned, NAMES))

    # 60 x 40 round (70, 70), turned: from x = 50 to 90 and y = 40 to 100.
    assert tuple(drawn[98, 50]) == to_colour(0)
    assert tuple(drawn[70, 40]) == (128, 128, 128)


def test_a_mask_is_a_veil_over_its_object() -> None:
    pixels = np.zeros((40, 60), np.bool_)
    pixels[10:30, 20:40] = True

    drawn = np.asarray(draw_detections(GREY, replace(make_found(), masks=(MaskCrop(40, 50, pixels),)), NAMES))

    assert tuple(drawn[70, 70]) not in {(128, 128, 128), to_colour(0)}
    assert tuple(drawn[55, 90]) == (128, 128, 128)


def test_key_points_that_can_be_seen_are_dots() -> None:
    points = np.array([[[60, 70, 0.9], [80, 70, 0.1]]], np.float32)

    drawn = np.asarray(draw_detections(GREY, replace(make_found(), keypoints=points), NAMES))

    assert tuple(drawn[70, 60]) == to_colour(0)
    assert tuple(drawn[70, 80]) == (128, 128, 128)


def test_the_classes_of_an_image_are_written_on_it() -> None:
    drawn = np.asarray(draw_detections(GREY, Detections.nothing(np.array([0.1, 0.9], np.float32)), NAMES))

    assert not np.array_equal(drawn, GREY)
    assert tuple(drawn[0, 0]) == to_colour(1)  # the best class comes first


def test_eighty_classes_have_eighty_colours_that_differ() -> None:
    colours = np.array([to_colour(class_id) for class_id in range(80)])

    farthest_channel = np.abs(colours[:, None] - colours).max(axis=2)
    assert farthest_channel[~np.eye(80, dtype=bool)].min() > 20
    assert farthest_channel[45, 50] > 100  # bowl and broccoli
    assert farthest_channel[2, 36] > 100  # car and skateboard


def test_labels_of_boxes_at_one_place_do_not_hide_each_other() -> None:
    found = Detections(
        np.array([[40, 50, 100, 90], [42, 51, 100, 90]], np.float32),
        np.array([0.9, 0.5], np.float32),
        np.array([0, 1], np.int64),
    )

    drawn = np.asarray(draw_detections(GREY, found, NAMES))

    plates = [np.argwhere((drawn[:, 45:80] == to_colour(class_id)).all(axis=2).sum(axis=1) > 5) for class_id in (0, 1)]
    assert [int(rows.min()) for rows in plates] == [35, 51]  # 14.3 pixels high each, the surer one above its box


def test_nothing_found_is_the_image_as_it_is() -> None:
    assert np.array_equal(np.asarray(draw_detections(GREY, Detections.nothing(), NAMES)), GREY)
