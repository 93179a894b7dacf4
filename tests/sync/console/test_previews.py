"""Previews: made once, bounded in memory, of every kind of image a dataset may hold."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labels.errors import ItemError
from labels.geometry import ImageSize
from sync.catalogue.samples import SampleImage
from sync.console.previews import Previews
from sync.images import read_preview


def make_image(path: Path, sha256: str = "") -> SampleImage:
    return SampleImage("s", path, ImageSize(1, 1), sha256, None)


def open_preview(path: Path, longest_px: int = 320) -> Image.Image:
    return Image.open(io.BytesIO(read_preview(path, longest_px=longest_px)))


def test_a_preview_that_is_kept_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (40, 20)).save(path)
    previews = Previews()
    first = previews.read(make_image(path, "a" * 64), "small")
    path.unlink()

    assert previews.read(make_image(path, "a" * 64), "small") == first


def test_what_was_not_asked_for_the_longest_goes_first(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (40, 20)).save(path)
    size = len(read_preview(path, longest_px=320))
    previews = Previews(max_bytes=2 * size)
    for letter in "abac":
        previews.read(make_image(path, letter * 64), "small")
    path.unlink()

    previews.read(make_image(path, "a" * 64), "small")
    previews.read(make_image(path, "c" * 64), "small")
    with pytest.raises(ItemError):
        previews.read(make_image(path, "b" * 64), "small")


def test_one_image_has_a_preview_of_each_size(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (3000, 1000)).save(path)
    previews = Previews()
    sizes = []
    for size in ("small", "large"):
        with Image.open(io.BytesIO(previews.read(make_image(path, "a" * 64), size).content)) as picture:
            sizes.append(picture.size)

    assert sizes == [(320, 107), (1600, 533)]


def test_a_small_image_is_not_made_larger(tmp_path: Path) -> None:
    Image.new("RGB", (40, 20)).save(tmp_path / "a.png")

    assert open_preview(tmp_path / "a.png").size == (40, 20)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "I;16"])
def test_every_kind_of_pixel_becomes_a_jpeg(tmp_path: Path, mode: str) -> None:
    path = tmp_path / f"a.{'tif' if mode in ('CMYK', 'I;16') else 'png'}"
    Image.new(mode, (40, 20)).save(path)

    picture = open_preview(path)
    assert (picture.format, picture.size) == ("JPEG", (40, 20))


def test_what_is_transparent_shows_white(tmp_path: Path) -> None:
    Image.new("RGBA", (40, 20), (255, 0, 0, 0)).save(tmp_path / "a.png")

    assert np.asarray(open_preview(tmp_path / "a.png")).min() > 250


@pytest.mark.parametrize("content", [b"", b"no image", b"\xff\xd8\xff\xe0 broken off"])
def test_a_file_that_is_no_image_is_refused_by_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)

    with pytest.raises(ItemError, match=r"a\.jpg: cannot be shown"):
        read_preview(path, longest_px=320)
