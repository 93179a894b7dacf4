"""Every family and task of Ultralytics finds what the library's own predict finds; networks that were never trained."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ultralytics import YOLO, YOLOE

from labels.errors import LabelingError
from ml_backend.detectors import Detections, DetectorOptions, OpenVocabularyDetector
from ml_backend.models.building import build_detector
from tests.ml_backend.models import (
    assert_same,
    assert_same_set,
    find_floor,
    make_yolo,
    read_rgb,
    run_ultralytics,
    settle,
    to_full,
)


@pytest.fixture(scope="module")
def images(request: pytest.FixtureRequest) -> list[Any]:
    photos = request.getfixturevalue("photos")
    return [read_rgb(photos / name, step=4) for name in ("bus.jpg", "zidane.jpg")]


def detect(weights: Path, images: list[Any], **options: Any) -> tuple[list[Detections], float]:
    """Return what is found, and the floor above which there is something."""
    detector = build_detector(weights, device="cpu", options=DetectorOptions(**options))
    floor = find_floor(detector, images)
    return detector.detect(images, score_floor=floor), floor


@pytest.mark.parametrize("name", ["yolov5n", "yolov10n", "yolo12n", "yolo26n"])
def test_every_family_finds_what_the_library_finds(name: str, tmp_path: Path, images: list[Any]) -> None:
    weights = make_yolo(name, tmp_path)

    found, floor = detect(weights, images)

    for ours, image in zip(found, images, strict=True):
        theirs = run_ultralytics(weights, image, floor).boxes
        assert_same(ours, theirs.xyxy, theirs.conf, theirs.cls)
        assert len(ours) > 3
        assert ours.probabilities is not None
        np.testing.assert_array_equal(ours.probabilities.argmax(axis=1), ours.class_ids)
        np.testing.assert_array_equal(ours.probabilities.max(axis=1), ours.scores)


@pytest.mark.parametrize("name", ["yolov10n", "yolo26n-seg"])
def test_a_head_without_nms_is_used_when_asked_for(name: str, tmp_path: Path, images: list[Any]) -> None:
    weights = make_yolo(name, tmp_path)

    found, floor = detect(weights, images, is_nms_free=True)

    for ours, image in zip(found, images, strict=True):
        theirs = run_ultralytics(weights, image, floor, nms=False).boxes
        assert_same(ours, theirs.xyxy, theirs.conf, theirs.cls)
        assert len(ours) > 3


def test_rt_detr_finds_what_the_library_finds(tmp_path: Path, images: list[Any]) -> None:
    weights = make_yolo("rtdetr-l", tmp_path)

    found, floor = detect(weights, images)

    for ours, image in zip(found, images, strict=True):
        theirs = run_ultralytics(weights, image, floor).boxes
        height, width = image.shape[:2]
        # The library lets boxes stand out of the image.
        boxes = theirs.xyxy.numpy().clip(0, [width, height] * 2)
        assert_same_set(ours, Detections(boxes, theirs.conf.numpy(), theirs.cls.numpy().astype(np.int64)))
        assert len(ours) > 3


def test_masks_are_those_of_the_library_pixel_by_pixel(tmp_path: Path, images: list[Any]) -> None:
    weights = make_yolo("yolov8n-seg", tmp_path)

    found, floor = detect(weights, images)

    for ours, image in zip(found, images, strict=True):
        theirs = run_ultralytics(weights, image, floor)
        assert_same(ours, theirs.boxes.xyxy, theirs.boxes.conf, theirs.boxes.cls)
        for row in range(len(ours)):
            np.testing.assert_array_equal(to_full(ours, row, image.shape), theirs.masks.data[row].numpy() > 0)


def test_key_points_are_those_of_the_library(tmp_path: Path, images: list[Any]) -> None:
    weights = make_yolo("yolo11n-pose", tmp_path)

    found, floor = detect(weights, images)

    for ours, image in zip(found, images, strict=True):
        theirs = run_ultralytics(weights, image, floor)
        assert ours.keypoints is not None
        np.testing.assert_allclose(ours.keypoints, theirs.keypoints.data.numpy(), atol=0.05)
        assert ours.keypoints.shape[1:] == (17, 3)


def test_turned_boxes_are_those_of_the_library(tmp_path: Path, images: list[Any]) -> None:
    weights = make_yolo("yolo11n-obb", tmp_path)

    found, floor = detect(weights, images)

    for ours, image in zip(found, images, strict=True):
        x, y, width, height, radians = run_ultralytics(weights, image, floor).obb.xywhr.numpy().T
        assert len(ours) == len(x)
        assert len(ours) > 3
        boxes = np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], axis=1)
        np.testing.assert_allclose(ours.xyxy, boxes, atol=0.05)
        assert ours.rotations_deg is not None
        np.testing.assert_allclose(ours.rotations_deg, np.degrees(radians), atol=0.01)


def test_a_classifier_speaks_of_the_whole_image(tmp_path: Path, images: list[Any]) -> None:
    weights = make_yolo("yolo11n-cls", tmp_path)

    found = build_detector(weights, device="cpu").detect(images, score_floor=0.2)

    for ours, image in zip(found, images, strict=True):
        assert len(ours) == 0
        theirs = run_ultralytics(weights, image, 0.2).probs.data.numpy()
        assert ours.image_probabilities is not None
        np.testing.assert_allclose(ours.image_probabilities, theirs, atol=1e-6)


class Bomb:
    """A pickle that would write a file when it is read."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.target,))


def test_no_code_of_a_file_runs_without_trust(tmp_path: Path) -> None:
    target = tmp_path / "it ran"
    torch.save({"model": Bomb(target)}, tmp_path / "bad.pt")

    with pytest.raises(LabelingError, match="--trust-weights"):
        build_detector(tmp_path / "bad.pt", device="cpu")

    assert not target.exists()


def test_a_bare_pickle_is_refused_and_does_not_run(tmp_path: Path) -> None:
    target = tmp_path / "it ran"
    (tmp_path / "bad.pt").write_bytes(pickle.dumps(Bomb(target)))

    with pytest.raises(LabelingError, match=r"bad\.pt"):
        build_detector(tmp_path / "bad.pt", device="cpu")

    assert not target.exists()


def test_with_trust_a_file_is_read_as_it_is(tmp_path: Path) -> None:
    target = tmp_path / "it ran"
    torch.save({"model": Bomb(target)}, tmp_path / "bad.pt")

    with pytest.raises(LabelingError, match="has no model inside"):
        build_detector(tmp_path / "bad.pt", device="cpu", options=DetectorOptions(is_trusted=True))

    assert target.exists()


def test_a_network_looks_for_the_classes_it_is_told(
    tmp_path: Path, images: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    weights = make_yolo("yolov8s-worldv2", tmp_path)
    detector = build_detector(weights, device="cpu")
    assert isinstance(detector, OpenVocabularyDetector)
    known = list(detector.names.values())

    detector.set_classes([known[5], "a class nobody knows", known[2].upper()])
    floor = find_floor(detector, images[:1])
    found = detector.detect(images[:1], score_floor=floor)[0]

    # What cannot be looked for is left out and said once; the others keep their places.
    assert detector.names == {0: known[5], 2: known[2].upper()}
    assert "a class nobody knows" in caplog.text
    assert set(found.class_ids) <= {0, 2}
    assert found.probabilities is not None
    assert found.probabilities.shape[1] == 3
    # The library itself, with the embeddings of these two.
    model: Any = YOLO(str(weights))
    model.model.txt_feats = model.model.txt_feats[:, [5, 2]]
    model.model.model[-1].nc = 2
    model.model.names = {0: "five", 1: "two"}
    bgr = np.ascontiguousarray(images[0][..., ::-1])
    (theirs,) = model.predict(bgr, conf=floor, iou=0.7, device="cpu", verbose=False, save=False)
    assert_same(found, theirs.boxes.xyxy, theirs.boxes.conf, theirs.boxes.cls * 2)
    assert len(found) > 3


def test_a_network_that_can_look_for_nothing_it_is_told_keeps_its_classes(tmp_path: Path) -> None:
    detector: Any = build_detector(make_yolo("yolov8s-worldv2", tmp_path), device="cpu")
    before = dict(detector.names)

    with pytest.raises(LabelingError, match="text encoder"):
        detector.set_classes(["a class nobody knows"])

    assert detector.names == before


def test_yoloe_finds_what_the_library_finds_with_the_classes_it_was_saved_with(
    tmp_path: Path, images: list[Any]
) -> None:
    torch.manual_seed(0)
    model: Any = YOLOE("yoloe-11s-seg.yaml")
    rows = torch.nn.functional.normalize(torch.randn(1, 3, model.model.model[-1].embed), dim=-1)
    model.model.set_classes(["car", "person", "bus"], rows)
    settle(model.model)
    with torch.no_grad():
        for head in model.model.model[-1].cv4:
            head.bias.fill_(-3.0)
    model.save(tmp_path / "nete-seg.pt")
    weights = tmp_path / "nete-seg.pt"

    detector = build_detector(weights, device="cpu")
    floor = find_floor(detector, images[:1])
    found = detector.detect(images[:1], score_floor=floor)[0]

    bgr = np.ascontiguousarray(images[0][..., ::-1])
    (theirs,) = YOLOE(str(weights)).predict(
        bgr, conf=floor, iou=0.7, device="cpu", verbose=False, save=False, retina_masks=True
    )
    assert (detector.task, list(detector.names.values())) == ("segment", ["car", "person", "bus"])
    assert_same(found, theirs.boxes.xyxy, theirs.boxes.conf, theirs.boxes.cls)
    assert len(found) > 3
    for row in range(len(found)):
        np.testing.assert_array_equal(to_full(found, row, images[0].shape[:2]), theirs.masks.data[row].numpy() > 0)
