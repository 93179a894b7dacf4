"""Turns image files into the pictures a model looks at: upright, RGB, transparency on white; or says what is wrong."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from pathlib import Path
from typing import Final

import numpy as np
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

from labels.errors import ItemError
from labels.greys import to_eight_bits
from labels.limits import MAX_IMAGE_BYTES, MAX_PIXELS

# Once loaded, Ultralytics puts one in its place that installs packages for what is no image, and keeps this one aside.
open_image: Final = getattr(sys.modules.get("ultralytics.utils.patches"), "_image_open", Image.open)

FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
GREYS_OF_MANY_BITS: Final = ("I", "I;16", "I;16B", "I;16L", "F")
REDUCED_SIDES: Final = 2
"""A JPEG is decoded at a half, a quarter or an eighth while its shorter side keeps this many times the model's."""
SMALLEST_CROP_PX: Final = 4
DAMAGED: Final = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    IndexError,
    OverflowError,
    EOFError,
    struct.error,
    zlib.error,
)

Relative = tuple[float, float, float, float]
"""A box as parts of the image's width and height: left, top, width, height."""


def read_picture(path: Path, side: int | None = None) -> Image.Image:
    """Return a file's first picture, turned as its EXIF says.

    With ``side``, the side of a model's input, a much larger JPEG comes out reduced: faster, and for that model nearly
    the same.

    Raises:
        ItemError: it is no image, is damaged, or is too large.
    """
    try:
        content = path.read_bytes()
        if len(content) > MAX_IMAGE_BYTES:
            raise ItemError(path.name, f"has {len(content)} bytes (expected at most {MAX_IMAGE_BYTES})")
        with open_image(io.BytesIO(content), formats=FORMATS) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                size = f"{opened.width} x {opened.height} pixels"
                raise ItemError(path.name, f"has {size} (expected at most {MAX_PIXELS})")
            picture = _decode_jpeg(content, opened, side)
            if picture is None:
                opened.load()
                return _to_rgb(ImageOps.exif_transpose(opened))
            # Only now: what simplejpeg gave has no EXIF of its own.
            return _turn(picture, opened)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ItemError(path.name, f"has too many pixels (expected at most {MAX_PIXELS})") from error
    except UnidentifiedImageError as error:
        raise ItemError(path.name, "cannot be read as an image (no known format)") from error
    except DAMAGED as error:
        told = " ".join(str(error).replace(str(path), path.name).split()) or type(error).__name__
        raise ItemError(path.name, f"cannot be read as an image ({told})") from error


def crop(picture: Image.Image, box: Relative) -> Image.Image | None:
    """Return the part of a picture inside a box, as far as the picture reaches; None: less than some pixels are.

    >>> crop(Image.new("RGB", (100, 50)), (0.5, 0.5, 0.75, 0.5)).size
    (50, 25)
    >>> crop(Image.new("RGB", (100, 50)), (0.5, 0.5, 0.001, 0.5)) is None
    True
    """
    left, top, width, height = box
    edges = (
        max(0, round(left * picture.width)),
        max(0, round(top * picture.height)),
        min(picture.width, round((left + width) * picture.width)),
        min(picture.height, round((top + height) * picture.height)),
    )
    if edges[2] - edges[0] < SMALLEST_CROP_PX or edges[3] - edges[1] < SMALLEST_CROP_PX:
        return None
    return picture.crop(edges)


def choose_divisor(size: tuple[int, int], side: int | None) -> int:
    """Return how far a JPEG may be reduced: by 8, 4, 2, or 1 for not at all.

    >>> choose_divisor((4000, 3000), 224), choose_divisor((800, 600), 224), choose_divisor((4000, 3000), None)
    (4, 1, 1)
    """
    if side is None:
        return 1
    return next((by for by in (8, 4, 2) if min(size) // by >= REDUCED_SIDES * side), 1)


def _decode_jpeg(content: bytes, opened: Image.Image, side: int | None) -> Image.Image | None:
    """Return the picture of a plain JPEG as it lies; None: let Pillow do it, or say what is wrong with it."""
    if opened.format != "JPEG" or opened.mode not in ("RGB", "L"):
        return None
    divisor = choose_divisor(opened.size, side)
    smallest = {}
    if divisor > 1:
        smallest = {"min_width": -(-opened.width // divisor), "min_height": -(-opened.height // divisor)}
    try:
        return Image.fromarray(simplejpeg.decode_jpeg(content, "RGB", **smallest))
    except ValueError:
        return None


def _turn(picture: Image.Image, opened: Image.Image) -> Image.Image:
    try:
        picture.info["exif"] = opened.getexif().tobytes()
        return ImageOps.exif_transpose(picture)
    except DAMAGED:
        # Browsers show a photo with unreadable EXIF as it lies.
        return picture


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode in GREYS_OF_MANY_BITS:
        return Image.fromarray(to_eight_bits(np.asarray(picture))).convert("RGB")
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return picture.convert("RGB")
