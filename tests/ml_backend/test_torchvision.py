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
from ml_backend.detectors import Detector, DetectorOptions
from ml_backend.detectors.cards import find_published, read_coco_names
from ml_backend.detectors.torchvision import to_detections
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
)
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


def run_library(model: Any, image: Any) -> dict[str, Any]:
    tensor = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    with torch.inference_mode():
        (answer,) = model([tensor])
    return {key: value[answer["scores"] > FLOOR].numpy() for key, value in answer.items()}


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
    assert detector.task == ("segment" if name.startswith("mask") else "detect")
    assert detector.licence == "BSD-3-Clause"
    for ours, image in zip(found, images, strict=True):
        theirs = run_library(model, image)
        assert_same(ours, theirs["boxes"], theirs["scores"], theirs["labels"])
        assert len(ours) > 3


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


@pytest.mark.parametrize("runtime", ["onnx"])
def test_the_compiled_form_finds_the_same_set_of_boxes(runtime: str, tmp_path: Path, images: list[Any]) -> None:
    path, _ = save("fasterrcnn_mobilenet_v3_large_320_fpn", tmp_path)
    options = DetectorOptions(runtime=runtime, cache_dir=tmp_path / "compiled")

    plain = build_detector(path, device="cpu").detect(images, score_floor=FLOOR)
    compiled = build_detector(path, device="cpu", options=options).detect(images, score_floor=FLOOR)

    for ours, theirs in zip(compiled, plain, strict=True):
        assert_same_set(ours, theirs)


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
