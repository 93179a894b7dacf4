"""torchvision's detectors find what the library finds; networks that were never trained."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import models

from labels.errors import LabelingError
from ml_backend.answers.uncertainty import compute_iou_matrix
from ml_backend.detectors import Detections, Detector, DetectorOptions
from ml_backend.detectors.cards import Card, find_published, read_coco_names
from ml_backend.detectors.exported import BoxesDetector, to_detector
from ml_backend.detectors.runtimes import Description
from ml_backend.detectors.torchvision import TorchvisionDetector, make_network, to_detections
from ml_backend.models.building import build_detector
from tests.ml_backend.models import assert_same, assert_same_set, read_rgb, to_full

FLOOR = 0.06
SMALL = ("fasterrcnn_mobilenet_v3_large_320_fpn", "ssdlite320_mobilenet_v3_large")
# Seconds an image each, on a CPU.
LARGE = (
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "retinanet_resnet50_fpn",
    "retinanet_resnet50_fpn_v2",
    "fcos_resnet50_fpn",
    "ssd300_vgg16",
    "maskrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn_v2",
    "keypointrcnn_resnet50_fpn",
)
POINTS = 17
CLASSES = ["cat", "dog", "cow"]


def save(name: str, folder: Path) -> tuple[Path, Any]:
    torch.manual_seed(0)
    model = models.get_model(name, weights=None, weights_backbone=None, num_classes=4).eval()
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if ("cls" in key or "classification" in key) and key.endswith("weight"):
                weight.mul_(3)
    path = folder / f"{name}.pth"
    torch.save(model.state_dict(), path)
    card = {"adapter": "torchvision", "model": name, "names": CLASSES, "licence": "BSD-3-Clause"}
    path.with_suffix(".json").write_text(json.dumps(card))
    return path, model


def run_library(model: Any, image: Any, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    tensor = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        (answer,) = model([tensor])
    is_shown = answer["scores"] > FLOOR
    return {
        key: (value if value.dtype == torch.int64 else value.float())[is_shown].numpy() for key, value in answer.items()
    }


@pytest.fixture(scope="module")
def images(request: pytest.FixtureRequest) -> list[Any]:
    photos = request.getfixturevalue("photos")
    return [read_rgb(photos / name, step=6) for name in ("bus.jpg", "zidane.jpg")]


@pytest.mark.parametrize("name", SMALL if os.environ.get("LABELLOOP_TEST_DETECTORS") != "all" else (*SMALL, *LARGE))
def test_boxes_are_those_of_the_library(name: str, tmp_path: Path, images: list[Any]) -> None:
    path, model = save(name, tmp_path)
    detector = build_detector(path, device="cpu")

    found = detector.detect(images, score_floor=FLOOR)

    assert dict(detector.names) == {1: "cat", 2: "dog", 3: "cow"}
    assert detector.task == {"mask": "segment", "keyp": "pose"}.get(name[:4], "detect")
    assert detector.licence == "BSD-3-Clause"
    for ours, image in zip(found, images, strict=True):
        theirs = run_library(model, image)
        assert_same(ours, theirs["boxes"], theirs["scores"], theirs["labels"])
        assert len(ours) > 3
        if "keypoints" not in theirs:
            assert ours.keypoints is None
            continue
        assert ours.keypoints is not None
        assert ours.keypoints.shape == (len(ours), POINTS, 3)
        np.testing.assert_allclose(ours.keypoints[..., :2], theirs["keypoints"][..., :2], atol=0.05)
        # The library gives logits.
        expected = torch.from_numpy(theirs["keypoints_scores"]).sigmoid().numpy()
        np.testing.assert_allclose(ours.keypoints[..., 2], expected, atol=1e-4)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precision_finds_what_the_library_finds_in_it(precision: str, tmp_path: Path, images: list[Any]) -> None:
    path, model = save("fasterrcnn_mobilenet_v3_large_320_fpn", tmp_path)
    detector = build_detector(path, device="cpu", options=DetectorOptions(precision=precision))

    found = detector.detect(images, score_floor=FLOOR)

    whole = build_detector(path, device="cpu").detect(images, score_floor=FLOOR)
    for ours, image, other in zip(found, images, whole, strict=True):
        theirs = run_library(model, image, getattr(torch, precision))
        assert_same(ours, theirs["boxes"], theirs["scores"], theirs["labels"])
        assert len(ours) > 3
        # It is another computation than the whole one.
        assert not np.array_equal(ours.scores[:3], other.scores[:3])


def test_key_points_carry_their_place_and_how_visible_they_are() -> None:
    answer = {
        "boxes": torch.tensor([[8.0, 5.0, 28.0, 10.0], [1.0, 1.0, 2.0, 2.0]]),
        "scores": torch.tensor([0.9, 0.05]),
        "labels": torch.tensor([1, 1]),
        "keypoints": torch.tensor([[[10.0, 6.0, 1.0], [20.5, 7.5, 1.0]]] * 2),
        "keypoints_scores": torch.tensor([[0.0, 100.0]] * 2),
    }

    found = to_detections(answer, 0.1)

    assert found.keypoints is not None
    np.testing.assert_array_equal(found.keypoints, np.array([[[10, 6, 0.5], [20.5, 7.5, 1]]], np.float32))


def test_masks_keep_every_pixel_of_the_library_also_outside_of_their_boxes() -> None:
    probabilities = torch.zeros(3, 1, 40, 60)
    probabilities[0, 0, 5:11, 7:30] = 0.5
    probabilities[1, 0, 20, 20] = 0.9
    answer = {
        "boxes": torch.tensor([[8.2, 5.1, 28.0, 10.0], [19.0, 19.0, 21.0, 21.0], [1.0, 1.0, 2.0, 2.0]]),
        "scores": torch.tensor([0.9, 0.8, 0.7]),
        "labels": torch.tensor([1, 2, 3]),
        "masks": probabilities,
    }

    found = to_detections(answer, 0.1)

    for row in range(3):
        np.testing.assert_array_equal(to_full(found, row, (40, 60)), probabilities[row, 0].numpy() >= 0.5)


@pytest.mark.parametrize("nms_iou", [None, 0.2])
def test_the_compiled_form_finds_the_same_set_of_boxes(
    nms_iou: float | None, tmp_path: Path, images: list[Any]
) -> None:
    path, _ = save("fasterrcnn_mobilenet_v3_large_320_fpn", tmp_path)
    options = DetectorOptions(runtime="onnx", cache_dir=tmp_path / "compiled", nms_iou=nms_iou)

    plain = build_detector(path, device="cpu", options=DetectorOptions(nms_iou=nms_iou))
    compiled = build_detector(path, device="cpu", options=options)
    ours, theirs = (one.detect(images, score_floor=FLOOR) for one in (compiled, plain))

    for one, other in zip(ours, theirs, strict=True):
        assert_same_set(one, other)
        assert (find_overlap(one) > 0.2) == (nms_iou is None)


def find_overlap(found: Detections) -> float:
    """Return how far two boxes of one class overlap at most."""
    overlap = compute_iou_matrix(found.xyxy, found.xyxy)
    overlap[found.class_ids[:, None] != found.class_ids] = 0
    return float(np.triu(overlap, 1).max())


def test_a_file_that_chooses_its_own_boxes_is_not_asked_for_another_overlap(tmp_path: Path) -> None:
    described = Description({1: "cat"}, decoder="boxes", takes_pixels=True, batch_size=1, nms_iou=0.1)

    detector = to_detector(described, lambda batch: [], nms_iou=0.1)

    assert isinstance(detector, BoxesDetector)
    assert detector.has_nms
    with pytest.raises(LabelingError, match=r"LABELLOOP_NMS_IOU=0\.6: the file chooses its boxes itself"):
        to_detector(described, lambda batch: [], nms_iou=0.6)


def make_card(name: str, *, side: int | None = None) -> Card:
    return Card("torchvision", name, dict(enumerate(CLASSES, 1)), 4, side=side)


@pytest.mark.parametrize("name", [*SMALL, *LARGE])
def test_every_network_finds_boxes_from_one_hundredth_on_and_takes_the_overlap_it_is_told(name: str) -> None:
    with torch.device("meta"):
        usual, told = make_network(make_card(name)), make_network(make_card(name), nms_iou=0.35)
        own = models.get_model(name, weights=None, weights_backbone=None, num_classes=4)

    usual, told, own = (getattr(one, "roi_heads", one) for one in (usual, told, own))
    assert (usual.score_thresh, told.score_thresh) == (0.01, 0.01)
    assert (usual.nms_thresh, told.nms_thresh) == (own.nms_thresh, 0.35)


def test_fcos_finds_what_lies_below_the_library_s_own_floor(images: list[Any]) -> None:
    torch.manual_seed(0)
    model = make_network(make_card("fcos_resnet50_fpn", side=64)).eval()
    with torch.no_grad():
        # A score is the root of class times centre: sqrt(0.029 x 0.5) = 0.12, where the library begins at 0.2.
        model.head.classification_head.cls_logits.bias.fill_(-3.5)
    detector = TorchvisionDetector(make_card("fcos_resnet50_fpn"), model, torch.device("cpu"), torch.float32)

    (found,) = detector.detect(images[:1], score_floor=0.05)
    (none,) = detector.detect(images[:1], score_floor=0.2)
    (again,) = detector.detect(images[:1], score_floor=0.001)

    assert len(found) > 3
    assert 0.05 < found.scores.min() < found.scores.max() < 0.2
    assert len(none) == 0
    assert len(again) >= len(found)


def test_a_card_with_other_names_is_served_with_them_in_the_compiled_form_too(tmp_path: Path) -> None:
    path, _ = save("fasterrcnn_mobilenet_v3_large_320_fpn", tmp_path)
    options = DetectorOptions(runtime="onnx", cache_dir=tmp_path / "compiled")
    card = json.loads(path.with_suffix(".json").read_text())

    served = []
    for names in (CLASSES, CLASSES[::-1]):
        path.with_suffix(".json").write_text(json.dumps(card | {"names": names}))
        served.append(dict(build_detector(path, device="cpu", options=options).names))

    assert served == [{1: "cat", 2: "dog", 3: "cow"}, {1: "cow", 2: "dog", 3: "cat"}]


def test_published_files_are_known_by_their_names() -> None:
    faster = find_published("fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth")
    ssd = find_published("ssd300_vgg16_coco-b556d3b4.pth")

    assert faster is not None
    assert ssd is not None
    assert (faster.model, faster.outputs, faster.names[90]) == ("fasterrcnn_resnet50_fpn_v2", 91, "toothbrush")
    assert (ssd.model, ssd.outputs, len(ssd.names)) == ("ssd300_vgg16", 91, 80)
    assert len(read_coco_names()) == 80
    assert find_published("my own.pth") is None


def load(path: Path) -> Detector:
    return build_detector(path, device="cpu")


def test_what_cannot_be_used_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "best.pth"
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(LabelingError, match=r"best\.json beside it"):
        load(path)

    card = {"adapter": "torchvision", "model": "ssdlite320_mobilenet_v3_large", "names": CLASSES}
    path.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(LabelingError, match="its tensors are not those of ssdlite320"):
        load(path)

    path.with_suffix(".json").write_text(json.dumps(card | {"model": "resnet18"}))
    with pytest.raises(LabelingError, match="has no detector 'resnet18'"):
        load(path)

    path.with_suffix(".json").write_text(json.dumps(card | {"names": []}))
    with pytest.raises(LabelingError, match="list of class names"):
        load(path)


def test_a_file_with_more_than_tensors_is_refused_and_nothing_of_it_runs(tmp_path: Path) -> None:
    path, _ = save("ssdlite320_mobilenet_v3_large", tmp_path)
    target = tmp_path / "it ran"
    torch.save({"a": Touch(target)}, path)

    with pytest.raises(LabelingError, match="more than tensors"):
        load(path)

    assert not target.exists()


class Touch:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.target,))
