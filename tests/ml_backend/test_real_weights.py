"""Trained networks on real photos, where they are at hand: as exact as the library itself."""

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml_backend.answers.uncertainty import compute_disagreement
from ml_backend.detectors import Detections, DetectorOptions
from ml_backend.models.building import build_detector
from tests.ml_backend.models import SHARED_WEIGHTS, assert_same, read_rgb, run_ultralytics, to_full

PHOTOS = SHARED_WEIGHTS.parent / "data" / "coco128"
COUNT = 8

pytestmark = pytest.mark.skipif(not SHARED_WEIGHTS.is_dir() or not PHOTOS.is_dir(), reason="needs shared/")


class Judge:
    """pycocotools on the first photos of coco128."""

    def __init__(self) -> None:
        from pycocotools.coco import COCO

        with contextlib.redirect_stdout(io.StringIO()):
            self.truth = COCO(str(PHOTOS / "instances.json"))
        self.categories = {one["name"]: one["id"] for one in self.truth.loadCats(self.truth.getCatIds())}
        self.image_ids = sorted(self.truth.getImgIds())[:COUNT]
        self.images = [read_rgb(PHOTOS / "images" / one["file_name"]) for one in self.truth.loadImgs(self.image_ids)]

    def to_rows(self, image_id: int, boxes: Any, scores: Any, names: list[str]) -> list[dict[str, Any]]:
        return [
            {
                "image_id": image_id,
                "category_id": self.categories[name],
                "bbox": [float(x1), float(y1), float(x2 - x1), float(y2 - y1)],
                "score": float(score),
            }
            for (x1, y1, x2, y2), score, name in zip(boxes, scores, names, strict=True)
        ]

    def compute_map(self, rows: list[dict[str, Any]]) -> float:
        from pycocotools.cocoeval import COCOeval

        with contextlib.redirect_stdout(io.StringIO()):
            run = COCOeval(self.truth, self.truth.loadRes(rows), "bbox")
            run.params.imgIds = self.image_ids
            run.evaluate()
            run.accumulate()
            run.summarize()
        return float(run.stats[0])


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge()


@pytest.mark.parametrize("name", ["yolov8n.pt", "yolo26n.pt"])
def test_the_accuracy_is_that_of_the_library(name: str, judge: Judge, tmp_path: Path) -> None:
    weights = SHARED_WEIGHTS / name
    ours: list[dict[str, Any]] = []
    compiled: list[dict[str, Any]] = []
    theirs: list[dict[str, Any]] = []
    detector = build_detector(weights, device="cpu")
    options = DetectorOptions(runtime="onnx", cache_dir=tmp_path)
    other = build_detector(weights, device="cpu", options=options)

    for image_id, image in zip(judge.image_ids, judge.images, strict=True):
        for rows, one in ((ours, detector), (compiled, other)):
            found: Detections = one.detect([image], score_floor=0.001)[0]
            rows += judge.to_rows(image_id, found.xyxy, found.scores, [one.names[int(c)] for c in found.class_ids])
        boxes = run_ultralytics(weights, image, 0.001).boxes
        names = [detector.names[int(number)] for number in boxes.cls]
        theirs += judge.to_rows(image_id, boxes.xyxy.numpy(), boxes.conf.numpy(), names)

    expected = judge.compute_map(theirs)
    assert expected > 0.3
    assert judge.compute_map(ours) == pytest.approx(expected, abs=0.005)
    assert judge.compute_map(compiled) == pytest.approx(expected, abs=0.005)


def test_trained_masks_and_points_are_those_of_the_library(photos: Path) -> None:
    image = read_rgb(photos / "bus.jpg")
    masks, points = (SHARED_WEIGHTS / name for name in ("yolov8n-seg.pt", "yolo11n-pose.pt"))

    (segmented,) = build_detector(masks, device="cpu").detect([image], score_floor=0.25)
    (posed,) = build_detector(points, device="cpu").detect([image], score_floor=0.25)

    theirs = run_ultralytics(masks, image, 0.25)
    assert_same(segmented, theirs.boxes.xyxy, theirs.boxes.conf, theirs.boxes.cls)
    for row in range(len(segmented)):
        np.testing.assert_array_equal(to_full(segmented, row, image.shape), theirs.masks.data[row].numpy() > 0)
    assert posed.keypoints is not None
    expected = run_ultralytics(points, image, 0.25).keypoints.data.numpy()
    np.testing.assert_allclose(posed.keypoints, expected, atol=0.05)


@pytest.mark.parametrize(("precision", "pixels", "score"), [("float16", 1.0, 0.005), ("bfloat16", 8.0, 0.02)])
def test_half_precision_finds_the_same_objects(precision: str, pixels: float, score: float, photos: Path) -> None:
    images = [read_rgb(photos / name) for name in ("bus.jpg", "zidane.jpg")]
    weights, options = SHARED_WEIGHTS / "yolov8n.pt", DetectorOptions(precision=precision)

    whole = build_detector(weights, device="cpu").detect(images, score_floor=0.25)
    half = build_detector(weights, device="cpu", options=options).detect(images, score_floor=0.25)

    for ours, theirs in zip(half, whole, strict=True):
        np.testing.assert_array_equal(ours.class_ids, theirs.class_ids)
        np.testing.assert_allclose(ours.xyxy, theirs.xyxy, atol=pixels)
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=score)
        assert not np.array_equal(ours.scores, theirs.scores)


def test_a_trained_network_finds_the_classes_it_is_told(photos: Path) -> None:
    options = DetectorOptions(class_names=("Person", "forklift", "bus"))
    detector = build_detector(SHARED_WEIGHTS / "yolov8s-worldv2.pt", device="cpu", options=options)

    (found,) = detector.detect([read_rgb(photos / "bus.jpg")], score_floor=0.4)

    assert dict(detector.names) == {0: "Person", 2: "bus"}
    names = [detector.names[int(number)] for number in found.class_ids]
    assert names.count("bus") == 1
    assert names.count("Person") >= 3


def test_two_networks_agree_on_the_bus(photos: Path) -> None:
    members = [SHARED_WEIGHTS / "yolov8n.pt", SHARED_WEIGHTS / "yolo26n.pt"]
    detector = build_detector(members, device="cpu", options=DetectorOptions(views=("flip",)))

    (found,) = detector.detect([read_rgb(photos / "bus.jpg")], score_floor=0.4)

    names = [detector.names[int(number)] for number in found.class_ids]
    assert names.count("bus") == 1
    assert names.count("person") >= 3
    assert found.votes is not None
    assert set(found.votes.tolist()) == {2}
    disagreement = compute_disagreement(found.views or ())
    assert disagreement is not None
    assert 0 < disagreement < 1
