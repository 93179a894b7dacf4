"""The real detector on real photos; Ultralytics' own predict is the judge."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask import Flask
from PIL import Image as PillowImage

from labels.config import LabelConfig, default_label_config_path
from labels.errors import LabelingError
from labels.geometry import Box, compute_iou
from labels.results import from_result
from ml_backend.detectors import Detections, Detector, Image
from ml_backend.models.building import build_detector
from ml_backend.models.weights import Weights

SaveImage = Callable[..., str]
PHOTOS = ("bus.jpg", "zidane.jpg")
FLOOR = 0.05


def read_rgb(path: Path) -> Image:
    with PillowImage.open(path) as image:
        return np.asarray(image.convert("RGB"))


def predict_with_ultralytics(weights: Path, image: Image, floor: float) -> Detections:
    from ultralytics.models import YOLO

    # Ultralytics takes arrays as BGR.
    bgr = np.ascontiguousarray(image[..., ::-1])
    model: Any = YOLO(str(weights), task="detect")
    (result,) = model.predict(bgr, conf=floor, device="cpu", verbose=False, save=False)
    boxes = result.boxes
    return Detections(boxes.xyxy.numpy(), boxes.conf.numpy(), boxes.cls.numpy().astype(np.int64))


def assert_same(ours: Detections, theirs: Detections) -> None:
    assert len(ours) == len(theirs)
    np.testing.assert_array_equal(ours.class_ids, theirs.class_ids)
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-4)
    np.testing.assert_allclose(ours.xyxy, theirs.xyxy, atol=0.05)


@pytest.fixture(scope="session")
def random_weights(real_detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ``.pt`` file of a network that was never trained, made to see boxes everywhere; a model of three classes."""
    import torch
    from ultralytics.models import YOLO

    torch.manual_seed(0)
    model: Any = YOLO("yolov8n.yaml", task="detect", verbose=False)
    model.model.names = {0: "cat", 1: "dog", 2: "cow"} | {number: f"class {number}" for number in range(3, 80)}
    with torch.no_grad():
        for branch in model.model.model[-1].cv3:
            branch[-1].bias.fill_(-2.0)
            branch[-1].weight.mul_(3.0)
    path = tmp_path_factory.mktemp("weights") / "random.pt"
    model.save(path)
    return path


def test_the_weights_of_the_installed_package_know_the_classes_of_coco(real_detector: Detector) -> None:
    config = LabelConfig.read(default_label_config_path())

    assert tuple(real_detector.names[number] for number in range(80)) == config.region_classes


def test_an_onnx_model_finds_what_ultralytics_finds(
    real_detector: Detector, real_weights: Weights, photos: Path
) -> None:
    images = [read_rgb(photos / name) for name in PHOTOS]

    found = real_detector.detect(images, score_floor=FLOOR)

    for ours, image in zip(found, images, strict=True):
        assert_same(ours, predict_with_ultralytics(real_weights.path, image, FLOOR))
        assert len(ours) >= 3


def test_a_torch_model_finds_what_ultralytics_finds(random_weights: Path, photos: Path) -> None:
    detector = build_detector(random_weights, device="cpu")
    images = [read_rgb(photos / name)[::3, ::3] for name in PHOTOS]

    found = detector.detect(images, score_floor=0.001)

    for ours, image in zip(found, images, strict=True):
        assert_same(ours, predict_with_ultralytics(random_weights, image, 0.001))
        assert len(ours) >= 3
    assert detector.names[1] == "dog"


def test_what_is_found_does_not_depend_on_the_images_beside_it(real_detector: Detector, photos: Path) -> None:
    bus, zidane = (read_rgb(photos / name) for name in PHOTOS)

    alone = [real_detector.detect([image], score_floor=FLOOR)[0] for image in (bus, zidane, bus[:300])]
    together = real_detector.detect([bus, zidane, bus, bus[:300], zidane], score_floor=FLOOR)

    for ours, theirs in zip(together, [alone[0], alone[1], alone[0], alone[2], alone[1]], strict=True):
        assert_same(ours, theirs)


def test_the_smallest_and_the_thinnest_image_are_looked_at(real_detector: Detector) -> None:
    images = [np.zeros(shape, np.uint8) for shape in ((1, 1, 3), (2, 900, 3), (900, 2, 3))]

    assert [len(found) for found in real_detector.detect(images, score_floor=0.25)] == [0, 0, 0]


def test_no_images_are_no_answers(real_detector: Detector) -> None:
    assert real_detector.detect([], score_floor=FLOOR) == []


@pytest.mark.parametrize("name", ["broken.onnx", "broken.pt"])
def test_a_file_that_is_no_model_is_one_clear_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"not a model")

    with pytest.raises(LabelingError, match=name) as caught:
        build_detector(tmp_path / name, device="cpu")

    assert "\n" not in str(caught.value)


def test_a_device_that_is_not_there_is_a_clear_error(real_weights: Weights) -> None:
    with pytest.raises(LabelingError, match="cuda:99"):
        build_detector(real_weights.path, device="cuda:99")


def predict(app: Flask, urls: list[str]) -> dict[str, Any]:
    body = {
        "tasks": [{"id": number, "data": {"image": url}} for number, url in enumerate(urls)],
        "label_config": default_label_config_path().read_text(encoding="utf-8"),
    }
    response = app.test_client().post("/predict", json=body)
    assert response.status_code == 200
    answer: dict[str, Any] = response.get_json()
    return answer


def test_a_real_photo_gets_the_boxes_ultralytics_finds(
    make_app: Callable[..., Flask],
    real_detector: Detector,
    real_weights: Weights,
    photos: Path,
    save_image: SaveImage,
) -> None:
    urls = [save_image(name, (photos / name).read_bytes()) for name in PHOTOS]
    config = LabelConfig.read(default_label_config_path())

    answer = predict(make_app(real_detector), urls)

    assert answer["errors"] == []
    for name, prediction in zip(PHOTOS, answer["results"], strict=True):
        labels = from_result(prediction["result"], config, item=name)
        theirs = predict_with_ultralytics(real_weights.path, read_rgb(photos / name), 0.2)
        assert [label.class_name for label in labels] == [real_detector.names[number] for number in theirs.class_ids]
        for label, xyxy in zip(labels, theirs.xyxy, strict=True):
            assert label.geometry is not None
            assert label.geometry.to_xyxy() == pytest.approx(tuple(xyxy), abs=0.05)
        assert prediction["score"] == pytest.approx(float(theirs.scores.mean()), abs=1e-4)


def test_boxes_of_a_photo_turned_by_exif_lie_in_the_turned_frame(
    make_app: Callable[..., Flask], real_detector: Detector, photos: Path, save_image: SaveImage, tmp_path: Path
) -> None:
    with PillowImage.open(photos / "bus.jpg") as upright:
        lying = upright.convert("RGB").transpose(PillowImage.Transpose.ROTATE_90)
    exif = lying.getexif()
    exif[0x0112] = 6  # show it turned by 90 degrees clockwise, which puts it upright again
    lying.save(tmp_path / "turned.png", exif=exif)
    config = LabelConfig.read(default_label_config_path())

    answer = predict(
        make_app(real_detector),
        [
            save_image("a.jpg", (photos / "bus.jpg").read_bytes()),
            save_image("b.png", (tmp_path / "turned.png").read_bytes()),
        ],
    )

    straight, turned = ([*from_result(one["result"], config, item="bus")] for one in answer["results"])
    assert lying.size == (1080, 810)
    assert [(r["original_width"], r["original_height"]) for r in answer["results"][1]["result"][:1]] == [(810, 1080)]
    assert [label.class_name for label in turned] == [label.class_name for label in straight]
    for ours, theirs in zip(turned, straight, strict=True):
        assert isinstance(ours.geometry, Box)
        assert isinstance(theirs.geometry, Box)
        assert compute_iou(ours.geometry, theirs.geometry) > 0.999
