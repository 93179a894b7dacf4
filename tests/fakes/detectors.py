"""Detectors of a few hundred bytes that the real engine runs, and pictures that tell them where the object is.

The first pixel of a picture says it: red and green are the left upper corner of an object of a fixed size, blue is how
far a detector that errs is off. A detector that errs by nothing draws exactly what is there.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from labels.geometry import Box, ImageSize
from labels.results import Label
from ml_backend.detectors.runtimes import METADATA_KEY, Description
from sync.versions.manifest import compute_content_sha256
from sync.versions.version import Split, Version, VersionImage, VersionLabel

SIZE = ImageSize(220, 160)
OBJECT = (40.0, 24.0)
XML = """<View><Image name="image" value="$image"/>
<RectangleLabels name="label" toName="image"><Label value="car"/><Label value="dog"/></RectangleLabels></View>"""


def write_detector(path: Path, *, errs_by: float, score: float = 0.9, name: str = "car") -> Path:
    """Write a detector that draws one box a picture, shifted by up to ``errs_by`` pixels."""
    width, height = OBJECT
    # From (red, green, blue) to x1, y1, x2, y2.
    matrix = np.array([[1, 0, 1, 0], [0, 1, 0, 1], [errs_by / 255] * 4], np.float32)
    constants = {
        "starts": np.array([0, 0], np.int64),
        "ends": np.array([1, 1], np.int64),
        "axes": np.array([1, 2], np.int64),
        "row": np.array([1, 3], np.int64),
        "matrix": matrix,
        "size": np.array([[0, 0, width, height]], np.float32),
        "class_ids": np.array([0], np.int64),
        "sure": np.array([score], np.float32),
    }
    nodes = [
        helper.make_node("Slice", ["pixels", "starts", "ends", "axes"], ["corner"]),
        helper.make_node("Reshape", ["corner", "row"], ["flat"]),
        helper.make_node("Cast", ["flat"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["numbers", "matrix"], ["place"]),
        helper.make_node("Add", ["place", "size"], ["boxes"]),
        helper.make_node("Identity", ["class_ids"], ["classes"]),
        helper.make_node("Identity", ["sure"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "told by a pixel",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, [1, "height", "width", 3])],
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, 4]),
            helper.make_tensor_value_info("classes", TensorProto.INT64, [1]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1]),
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    described = Description({0: name}, decoder="boxes", licence="MIT", takes_pixels=True, batch_size=1)
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, described.to_json()
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path


def write_picture(path: Path, number: int) -> tuple[Path, Box]:
    """Write the picture of a number, and return where its object is."""
    x, y, error = 10 + number * 7 % 150, 5 + number * 5 % 120, number * 37 % 256
    pixels = np.full((SIZE.height, SIZE.width, 3), 90, np.uint8)
    pixels[y : y + int(OBJECT[1]), x : x + int(OBJECT[0])] = (200, 40, 40)
    pixels[0, 0] = (x, y, error)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path, Box(float(x), float(y), *OBJECT)


def make_version(folder: Path, *, test: int, val: int = 20, train: int = 4, number: int = 1) -> Version:
    """Write pictures and return a version with a car on each of them, and one on which nobody looked for objects."""
    images = [
        _make_image(folder, place, split)
        for place, split in enumerate([*["test"] * test, *["val"] * val, *["train"] * train])
    ]
    images.append(VersionImage("f" * 24, folder / "answered.png", "0" * 64, SIZE, "test", has_regions=False))
    draft = Version(f"v{number}-00000000", "", "made", ("car", "dog"), XML, tuple(images))
    digest = compute_content_sha256(draft)
    return Version(f"v{number}-{digest[:8]}", digest, "made", ("car", "dog"), XML, tuple(images))


def _make_image(folder: Path, place: int, split: str) -> VersionImage:
    path, box = write_picture(folder / f"{place:04}.png", place)
    label = VersionLabel(Label(f"{place:024x}", "label", ("car",), box))
    kept: Split = split  # type: ignore[assignment]  # one of the three
    return VersionImage(
        f"{place:024x}", path, hashlib.sha256(path.read_bytes()).hexdigest(), SIZE, kept, labels=(label,)
    )
