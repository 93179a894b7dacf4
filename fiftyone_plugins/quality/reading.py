"""Reads an image file once: its facts, and a picture that is as large as the checks need. Judges nothing."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from labels.errors import ItemError
from labels.greys import to_eight_bits
from labels.limits import MAX_IMAGE_BYTES, MAX_PIXELS

LONGEST_PX: Final = 640
"""At this size blur that a person would see is seen, and noise of the sensor is not."""
ORIENTATION_TAG: Final = 0x0112
# ImportError: where Ultralytics is loaded, it puts an open in place of Pillow's that looks for further packages.
UNREADABLE: Final = (OSError, SyntaxError, ValueError, ImportError, Image.DecompressionBombError)
SIXTEEN_BIT_MODES: Final = ("I", "I;16", "I;16B", "I;16L", "F")
JPEG_SIGN: Final = b"\xff\xd8\xff"


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One image: size in the file (``width``, ``height``), and ``rgb`` (h, w, 3), at most ``LONGEST_PX`` long.

    ``is_damaged``: it was decoded, and its bytes are not what they should be. ``is_turned``: EXIF says to turn it.
    """

    width: int
    height: int
    rgb: NDArray[np.uint8]
    is_damaged: bool
    is_turned: bool


def read_picture(path: Path) -> Picture | None:
    """Return the picture of a file; None: its bytes are there and cannot be decoded to the last pixel.

    Raises:
        ItemError: there is no such file, or it is not readable or too large: nothing is known about the picture.
    """
    try:
        if not path.is_file():
            raise ItemError(str(path), "is no file")
        if path.stat().st_size > MAX_IMAGE_BYTES:
            raise ItemError(str(path), f"has {path.stat().st_size} bytes (expected at most {MAX_IMAGE_BYTES})")
        content = path.read_bytes()
    except OSError as error:
        raise ItemError(str(path), f"cannot be read ({error.strerror})") from error
    try:
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ItemError(str(path), f"has {width} x {height} pixels (expected at most {MAX_PIXELS})")
            is_turned = image.getexif().get(ORIENTATION_TAG, 1) in range(2, 9)
            rgb, is_damaged = _decode(image, content)
    except UNREADABLE:
        return None
    return Picture(width, height, rgb, is_damaged, is_turned)


def _decode(image: Image.Image, content: bytes) -> tuple[NDArray[np.uint8], bool]:
    """Return the picture, made small, and whether its bytes are damaged."""
    if image.format == "JPEG" and image.mode in ("RGB", "L"):
        small = _decode_jpeg(content)
        if small is not None:
            return small, False
        # Pillow says nothing of bytes it had to skip: what it can show nevertheless is damaged.
        return _shrink(_to_rgb(image)), True
    return _shrink(_to_rgb(image)), False


def _decode_jpeg(content: bytes) -> NDArray[np.uint8] | None:
    """Return a JPEG made small while it is decoded, or None where its bytes are not what they should be."""
    import simplejpeg

    try:
        decoded = simplejpeg.decode_jpeg(content, "RGB", min_height=LONGEST_PX, min_width=LONGEST_PX, strict=True)
    except ValueError:
        return None
    return _shrink(decoded)


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    image.load()
    if image.mode in SIXTEEN_BIT_MODES:
        return np.asarray(Image.fromarray(to_eight_bits(np.asarray(image))).convert("RGB"))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        # What is transparent shows white, as in the App.
        layered = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        return np.asarray(Image.alpha_composite(ground, layered).convert("RGB"))
    return np.asarray(image.convert("RGB"))


def _shrink(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = rgb.shape[:2]
    if max(height, width) <= LONGEST_PX:
        return rgb
    scale = LONGEST_PX / max(height, width)
    return resize(rgb, max(1, round(width * scale)), max(1, round(height * scale)))


def resize(pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Return pixels made smaller, each the mean of those it stands for."""
    import cv2

    resized: Any = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, dtype=np.uint8)
