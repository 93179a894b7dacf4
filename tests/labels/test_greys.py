"""One rule from more than eight bits to eight: what annotators see is what the model sees."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labels import greys
from labels.greys import to_eight_bits
from ml_backend.imaging.decoding import decode_image
from sync.images import write_copy


def test_twelve_bits_fill_the_eight() -> None:
    values = np.array([[0, 1024, 4095]], np.uint16)

    # 1024 / 4095 x 255 = 63.8
    assert to_eight_bits(values).tolist() == [[0, 63, 255]]


def test_what_is_no_number_is_as_dark_as_the_darkest() -> None:
    values = np.array([[np.nan, 2.0, 3.0, 4.0, np.inf]], np.float32)

    assert to_eight_bits(values).tolist() == [[0, 0, 127, 255, 0]]
    assert to_eight_bits(np.full((1, 2), np.nan, np.float32)).tolist() == [[0, 0]]


@pytest.mark.parametrize("kind", ["u1", "<u2", ">u2", "<i4", "<f4", "<f8"])
def test_an_image_of_many_strips_has_the_pixels_it_has_as_a_whole(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values: Any = (np.random.default_rng(0).random((61, 47)) * 250).astype(kind)
    if values.dtype.kind == "f":
        values[3, 4], values[60, 46] = np.nan, -np.inf
    numbers = values[np.isfinite(values)].astype(np.float64)
    whole = (np.where(np.isfinite(values), values, numbers.min()) - numbers.min()) * (255 / np.ptp(numbers)) + 1e-6

    monkeypatch.setattr(greys, "STRIP_VALUES", 100)

    assert np.array_equal(to_eight_bits(values), whole.clip(0, 255).astype(np.uint8))
    assert np.array_equal(to_eight_bits(values[:, ::2]), to_eight_bits(np.ascontiguousarray(values[:, ::2])))


def test_an_image_without_pixels_is_none_still() -> None:
    assert to_eight_bits(np.zeros((0, 4), np.uint16)).shape == (0, 4)


@pytest.mark.parametrize(
    ("kind", "dtype", "highest"),
    [("PNG", np.uint16, 4095), ("TIFF", np.uint16, 4095), ("TIFF", np.int32, 70_000), ("TIFF", np.float32, 1)],
)
def test_the_copy_that_annotators_see_has_the_pixels_that_the_model_sees(
    kind: str, dtype: type, highest: int, tmp_path: Path
) -> None:
    values = (np.random.default_rng(7).random((20, 30)) * highest).astype(dtype)
    written = io.BytesIO()
    Image.fromarray(values).save(written, kind)
    source = tmp_path / f"a.{kind.lower()}"
    source.write_bytes(written.getvalue())

    write_copy(source, tmp_path / "copy.png")
    copy = decode_image((tmp_path / "copy.png").read_bytes(), item="copy").pixels
    original = decode_image(source.read_bytes(), item="original").pixels

    np.testing.assert_array_equal(copy, original)
    assert original.min() == 0
    assert original.max() == 255
