"""Exported networks: what is compiled finds the same boxes, and serving it needs no library under the AGPL."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labels.errors import LabelingError
from ml_backend.detectors import DetectorOptions
from ml_backend.detectors.runtimes import Description, describe
from ml_backend.models.building import build_detector
from ml_backend.models.compiling import compile_model, compute_cache_name
from ml_backend.models.weights import Weights
from tests.ml_backend.models import SHARED_WEIGHTS, assert_same_set, find_floor, make_yolo, read_rgb, to_full

YOLOX = SHARED_WEIGHTS / "yolox_nano.onnx"


@pytest.fixture(scope="module")
def images(request: pytest.FixtureRequest) -> list[Any]:
    photos = request.getfixturevalue("photos")
    return [read_rgb(photos / name, step=4) for name in ("bus.jpg", "zidane.jpg")]


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
@pytest.mark.parametrize("name", ["yolov8n-seg", "yolo11n-pose", "yolo11n-cls"])
def test_a_compiled_network_finds_the_same_set(runtime: str, name: str, tmp_path: Path, images: list[Any]) -> None:
    weights = make_yolo(name, tmp_path)
    plain = build_detector(weights, device="cpu")
    options = DetectorOptions(runtime=runtime, cache_dir=tmp_path / "compiled")
    compiled = build_detector(weights, device="cpu", options=options)
    floor = 0.1 if name.endswith("cls") else find_floor(plain, images, rank=20)

    for ours, theirs, image in zip(
        compiled.detect(images, score_floor=floor), plain.detect(images, score_floor=floor), images, strict=True
    ):
        assert_same_set(ours, theirs)
        if theirs.image_probabilities is not None:
            np.testing.assert_allclose(ours.image_probabilities, theirs.image_probabilities, atol=1e-5)
        if theirs.masks is not None:
            covered = [sum(to_full(one, row, image.shape).sum() for row in range(len(one))) for one in (ours, theirs)]
            assert covered[0] == pytest.approx(covered[1], rel=0.001)
    assert (compiled.task, compiled.licence, dict(compiled.names)) == (plain.task, "AGPL-3.0", dict(plain.names))


def test_a_model_is_compiled_once_for_its_content(tmp_path: Path) -> None:
    weights = make_yolo("yolov8n", tmp_path)
    cache = tmp_path / "compiled"

    first = compile_model(weights, "onnx", cache_dir=cache)
    written = first.stat().st_mtime_ns
    second = compile_model(weights, "onnx", cache_dir=cache)

    assert second == first
    assert first.stat().st_mtime_ns == written
    assert first.parent.name == compute_cache_name(weights, "onnx")
    weights.write_bytes(weights.read_bytes() + b"more")
    assert compute_cache_name(weights, "onnx") != first.parent.name
    # Nothing of an export that broke off, or is under way, stands among those that are whole.
    assert [entry.name for entry in cache.iterdir() if entry.is_dir()] == [first.parent.name]


def test_what_cannot_be_compiled_runs_in_torch_when_nobody_insists(tmp_path: Path, images: list[Any]) -> None:
    weights = make_yolo("yolov8s-worldv2", tmp_path)
    cache = tmp_path / "compiled"

    with pytest.raises(LabelingError, match="is not exported"):
        build_detector(weights, device="cpu", options=DetectorOptions(runtime="onnx", cache_dir=cache))
    detector = build_detector(weights, device="cpu", options=DetectorOptions(runtime="auto", cache_dir=cache))

    assert detector.task == "zero_shot"


def test_openvino_runs_an_onnx_file_as_it_is(real_weights: Weights, images: list[Any]) -> None:
    plain = build_detector(real_weights.path, device="cpu")
    other = build_detector(real_weights.path, device="cpu", options=DetectorOptions(runtime="openvino"))

    for ours, theirs in zip(other.detect(images, score_floor=0.1), plain.detect(images, score_floor=0.1), strict=True):
        assert_same_set(ours, theirs)
        assert len(ours) >= 3


SERVE = """
import sys
import numpy as np
from pathlib import Path
from ml_backend.detectors import DetectorOptions
from ml_backend.models.building import build_detector, import_libraries

import_libraries(sys.argv[1])
detector = build_detector(Path(sys.argv[1]), device="cpu", options=DetectorOptions(runtime=sys.argv[2]))
detector.detect([np.zeros((40, 60, 3), np.uint8)], score_floor=0.2)
loaded = {name.partition(".")[0] for name in sys.modules}
assert "torch" in loaded
print("ultralytics" in loaded)
"""


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_serving_an_exported_network_imports_no_ultralytics(real_weights: Weights, runtime: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", SERVE, str(real_weights.path), runtime], capture_output=True, text=True, check=True
    )

    assert run.stdout.strip() == "False"


def test_serving_a_model_of_torchvision_imports_no_ultralytics(tmp_path: Path) -> None:
    import torch
    from torchvision import models

    name = "ssdlite320_mobilenet_v3_large"
    path = tmp_path / "best.pth"
    model = models.get_model(name, weights=None, weights_backbone=None, num_classes=2)
    torch.save(model.state_dict(), path)
    path.with_suffix(".json").write_text(json.dumps({"adapter": "torchvision", "model": name, "names": ["cell"]}))

    run = subprocess.run([sys.executable, "-c", SERVE, str(path), "torch"], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == "False"


def test_a_file_that_does_not_say_what_it_is_can_be_told_by_a_file_beside_it(tmp_path: Path) -> None:
    weights = tmp_path / "best.onnx"
    with pytest.raises(LabelingError, match=r"best\.json beside it"):
        describe(weights, {}, [1, 3, 640, 640])

    told = Description({0: "car"}, decoder="yolox", licence="Apache-2.0", size=(416, 416), is_dynamic=False)
    weights.with_suffix(".json").write_text(told.to_json())

    assert describe(weights, {}, [1, 3, 416, 416]) == told


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"decoder": "magic"}', '{"decoder": "yolo"}', '{"decoder": "yolo", "names": []}']
)
def test_a_description_that_is_none_is_a_clear_error(tmp_path: Path, text: str) -> None:
    weights = tmp_path / "best.onnx"
    weights.with_suffix(".json").write_text(text)

    with pytest.raises(LabelingError, match="not a description"):
        describe(weights, {}, [1, 3, 416, 416])


@pytest.mark.skipif(not YOLOX.is_file(), reason="needs shared/weights")
def test_yolox_finds_the_bus_and_the_people(photos: Path) -> None:
    detector = build_detector(YOLOX, device="cpu")

    (found,) = detector.detect([read_rgb(photos / "bus.jpg")], score_floor=0.5)

    assert detector.licence == "Apache-2.0"
    assert [detector.names[int(number)] for number in found.class_ids] == ["bus", "person", "person", "person"]
    # The bus, as Ultralytics' networks and our eyes see it.
    np.testing.assert_allclose(found.xyxy[0], [13, 231, 805, 737], atol=25)
