"""A small catalogue of images that are not square, with labels of every kind, to be exported."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from labels.config import LabelConfig
from labels.geometry import ImageSize
from labels.results import Label
from sync.exports.records import ExportImage

CONFIG_XML = """
<View>
  <Image name="image" value="$image"/>
  <RectangleLabels name="label" toName="image"><Label value="person"/><Label value="car"/></RectangleLabels>
  <PolygonLabels name="outline" toName="image"><Label value="car"/><Label value="bus"/></PolygonLabels>
  <BrushLabels name="brush" toName="image"><Label value="bus"/></BrushLabels>
  <KeyPointLabels name="points" toName="image"><Label value="no"/></KeyPointLabels>
  <Choices name="quality" toName="image"><Choice value="keep"/><Choice value="trash"/></Choices>
</View>
"""


@pytest.fixture
def config() -> LabelConfig:
    """Four classes in an order that is not the alphabet's: person, car, bus, no."""
    return LabelConfig.from_xml(CONFIG_XML)


AddImage = Callable[..., ExportImage]


@pytest.fixture
def add_image(tmp_path: Path) -> AddImage:
    """Make an image file in the folder "photos", its left half red and the rest blue, and return its record.

    ``size`` is that of the stored pixels; the record has the one of the upright image.
    """
    names: list[str] = []

    def add(
        name: str,
        labels: tuple[Label, ...] = (),
        *,
        size: tuple[int, int] = (40, 20),
        orientation: int | None = None,
    ) -> ExportImage:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.zeros((size[1], size[0], 3), dtype=np.uint8)
        pixels[:, : size[0] // 2, 0], pixels[:, size[0] // 2 :, 2] = 255, 255
        picture, exif = Image.fromarray(pixels), Image.Exif()
        if orientation is not None:
            exif[ExifTags.Base.Orientation] = orientation
        picture.save(path, exif=exif)
        upright = ImageSize(*(size[::-1] if orientation in (5, 6, 7, 8) else size))
        names.append(name)
        return ExportImage(f"s{len(names)}", path, upright, hashlib.sha256(path.read_bytes()).hexdigest(), labels)

    return add
