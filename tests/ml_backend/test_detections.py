from dataclasses import replace

import numpy as np
import pytest

from ml_backend.detectors import Detections, DetectorOptions, MaskCrop, to_box, to_served_version

MASKS = tuple(MaskCrop(x, 0, np.ones((1, 1), np.bool_)) for x in range(3))


def make_full() -> Detections:
    rows = np.arange(3)
    return Detections(
        np.stack([rows, rows, rows + 4, rows + 2], axis=1).astype(np.float32),
        np.array([0.9, 0.5, 0.3], np.float32),
        rows.astype(np.int64),
        probabilities=np.eye(3, dtype=np.float32),
        rotations_deg=np.array([0, 30, 90], np.float32),
        masks=MASKS,
        keypoints=np.arange(9, dtype=np.float32).reshape(3, 1, 3),
        votes=np.array([3, 2, 1]),
        agreement=np.array([1, 0.5, 0], np.float32),
        views=(Detections.nothing(), Detections.nothing()),
    )


def test_every_array_keeps_in_step_when_rows_are_chosen() -> None:
    chosen = make_full().take(np.array([2, 0]))

    assert chosen.class_ids.tolist() == [2, 0]
    assert chosen.scores.tolist() == pytest.approx([0.3, 0.9])
    assert chosen.masks == (MASKS[2], MASKS[0])
    assert chosen.rotations_deg is not None
    assert chosen.rotations_deg.tolist() == [90, 0]
    assert chosen.votes is not None
    assert chosen.votes.tolist() == [1, 3]
    assert chosen.keypoints is not None
    assert chosen.keypoints[0].tolist() == [[6, 7, 8]]
    assert chosen.views is not None
    assert len(chosen.views) == 2


def test_what_a_model_does_not_give_stays_unknown() -> None:
    found = Detections(np.zeros((2, 4), np.float32), np.ones(2, np.float32), np.zeros(2, np.int64))

    chosen = found.select(np.array([True, False]))

    assert len(chosen) == 1
    assert chosen.probabilities is None
    assert chosen.masks is None


def test_a_turned_box_keeps_its_centre() -> None:
    found = Detections(
        np.array([[10, 20, 50, 40]], np.float32),
        np.ones(1, np.float32),
        np.zeros(1, np.int64),
        rotations_deg=np.array([30], np.float32),
    )

    box = to_box(found, 0)

    assert box.centre == pytest.approx((30, 30))
    assert (box.width, box.height, box.rotation_deg) == pytest.approx((40, 20, 30))
    # By hand: the corner (-20, -10) from the centre, turned clockwise on the screen by 30 degrees.
    assert (box.x, box.y) == pytest.approx((30 - 20 * 0.8660254 + 10 * 0.5, 30 - 20 * 0.5 - 10 * 0.8660254))


def test_what_changes_what_is_drawn_changes_the_version() -> None:
    version = "yolo11n-c130b90b"

    assert to_served_version(version, DetectorOptions(is_trusted=True, runtime="openvino")) == version
    flipped = to_served_version(version, DetectorOptions(views=("flip",)))
    assert flipped.startswith(version + "-")
    assert flipped != to_served_version(version, DetectorOptions(views=("flip", "832")))


def test_what_only_an_ensemble_reads_is_no_part_of_a_single_model_s_version() -> None:
    version = "yolo11n-c130b90b"
    told = DetectorOptions(fusion="nms", fusion_iou=0.6, member_weights=(2.0,), min_votes=1)
    flip = DetectorOptions(views=("flip",))

    assert to_served_version(version, told) == version
    assert to_served_version(version, told, members=2) != to_served_version(version, DetectorOptions(), members=2)
    # Views of one model are fused as well, without weights and votes.
    assert to_served_version(version, replace(flip, member_weights=(2.0,), min_votes=1)) == to_served_version(
        version, flip
    )
    assert to_served_version(version, replace(flip, fusion_iou=0.6)) != to_served_version(version, flip)
