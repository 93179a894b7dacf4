"""Turns an image file into pixels: what an annotator sees, or a clear error.

Turned as its EXIF says, its first frame, transparency on white, always RGB. JPEG goes through a faster decoder than
Pillow's where the pixels are the same; what that one does not take, Pillow decides.
"""

from __future__ import annotations

import io
import struct
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
import simplejpeg
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError

from labels.errors import ItemError
from labels.geometry import ImageSize
from labels.greys import to_eight_bits
from labels.image_parts import check_parts, check_tiles
from labels.limits import IMAGE_FORMATS, MAX_PIXELS
from ml_backend.detectors import Image

# Once loaded, Ultralytics puts one in its place that installs packages for what is no image, and keeps this one aside.
open_image: Final = getattr(sys.modules.get("ultralytics.utils.patches"), "_image_open", PillowImage.open)

ORIENTATION: Final = 0x0112
LYING: Final = (5, 6, 7, 8)  # EXIF orientations that swap width and height
# A reduced image keeps this many times the side that the model looks at.
REDUCED_SIDES: Final = 2
STRIP_PIXELS: Final = 1024 * 1024
# Pillow's decoders answer a broken file with any of these.
DECODE_ERRORS: Final = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    IndexError,
    OverflowError,
    EOFError,
    MemoryError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """Pixels, and the size of the image as an annotator sees it: larger than the pixels' where it was reduced."""

    pixels: Image
    size: ImageSize

    @property
    def scale(self) -> tuple[float, float]:
        """How many pixels of the image one of these pixels is, in width and height."""
        height, width = self.pixels.shape[:2]
        return self.size.width / width, self.size.height / height


class OpenedImage:
    """An image file whose size is known, and whose pixels are not read yet."""

    def __init__(self, content: bytes, opened: PillowImage.Image) -> None:
        self._content = content
        self._opened = opened

    @property
    def decoded_bytes(self) -> int:
        """How much memory the pixels will take, at most."""
        return self._opened.width * self._opened.height * 3

    def decode(self, model_side: int | None = None) -> DecodedImage:
        """Return the first frame as RGB, turned as its EXIF says.

        With ``model_side``, the longer side of the model's input, a JPEG of more than four times that comes out at
        half, a quarter or an eighth of its size: much faster, and not quite the same pixels for the model.
        """
        opened = self._opened
        pixels = _decode_jpeg(self._content, opened, model_side)
        if pixels is None:
            opened.load()
            # Asked for after loading: Pillow turns a TIFF by itself.
            return _whole(_turn(_to_pixels(opened), _read_orientation(opened)))
        orientation = _read_orientation(opened)
        width, height = opened.size
        size = ImageSize(height, width) if orientation in LYING else ImageSize(width, height)
        return DecodedImage(_turn(pixels, orientation), size)


@contextmanager
def open_file(content: bytes, *, item: str) -> Iterator[OpenedImage]:
    """Open an image file; what goes wrong with it in the block is an ItemError too.

    Raises:
        ItemError: no image, one of a format we do not read, a truncated one, or one of too many pixels or parts.
    """
    check_parts(content, item=item)
    try:
        with open_image(io.BytesIO(content), formats=IMAGE_FORMATS) as opened:
            width, height = opened.size
            if width * height > MAX_PIXELS:
                raise ItemError(item, f"the image has {width} x {height} pixels (expected at most {MAX_PIXELS})")
            check_tiles(opened, item=item)
            yield OpenedImage(content, opened)
    except (PillowImage.DecompressionBombError, PillowImage.DecompressionBombWarning) as error:
        raise ItemError(item, f"the image has too many pixels (expected at most {MAX_PIXELS})") from error
    except UnidentifiedImageError as error:
        raise ItemError(item, f"not an image that can be read (expected one of {', '.join(IMAGE_FORMATS)})") from error
    except DECODE_ERRORS as error:
        problem = " ".join(str(error).split()) or type(error).__name__
        raise ItemError(item, f"the image is damaged ({problem})") from error


def decode_image(content: bytes, *, item: str, model_side: int | None = None) -> DecodedImage:
    """Return an image file's pixels: see ``open_file`` and ``OpenedImage.decode``."""
    with open_file(content, item=item) as opened:
        return opened.decode(model_side)


def _whole(pixels: Image) -> DecodedImage:
    height, width = pixels.shape[:2]
    return DecodedImage(pixels, ImageSize(width, height))


def _read_orientation(image: PillowImage.Image) -> int:
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except DECODE_ERRORS:
        # Browsers show a photo with unreadable EXIF as it lies, and so must we, or the boxes lie beside the objects.
        return 1


def _turn(pixels: Image, orientation: int) -> Image:
    match orientation:
        case 2:
            pixels = pixels[:, ::-1]
        case 3:
            pixels = pixels[::-1, ::-1]
        case 4:
            pixels = pixels[::-1]
        case 5:
            pixels = pixels.transpose(1, 0, 2)
        case 6:
            pixels = np.rot90(pixels, -1)
        case 7:
            pixels = pixels.transpose(1, 0, 2)[::-1, ::-1]
        case 8:
            pixels = np.rot90(pixels)
    return np.ascontiguousarray(pixels)


def _decode_jpeg(content: bytes, opened: PillowImage.Image, model_side: int | None) -> Image | None:
    """Return the pixels of a plain JPEG as it lies; None: let Pillow do it, or say what is wrong with it."""
    if not content.startswith(b"\xff\xd8") or opened.mode not in {"RGB", "L"}:
        return None
    smallest = {}
    divisor = choose_divisor(opened.size, model_side)
    if divisor > 1:
        smallest = {"min_width": -(-opened.width // divisor), "min_height": -(-opened.height // divisor)}
    try:
        pixels: Image = simplejpeg.decode_jpeg(content, "RGB", **smallest)
    except ValueError:
        return None
    is_as_asked = divisor > 1 or pixels.shape[:2] == (opened.height, opened.width)
    return pixels if is_as_asked else None


def choose_divisor(size: tuple[int, int], model_side: int | None) -> int:
    """Return how far a JPEG may be reduced for a model's input side: by 8, 4, 2, or 1 for not at all.

    Only halves are worth it: the factors in between cost more time than they save.

    >>> choose_divisor((4000, 3000), 640), choose_divisor((1920, 1080), 640), choose_divisor((4000, 3000), None)
    (2, 1, 1)
    """
    if model_side is None:
        return 1
    room = max(size) // (REDUCED_SIDES * model_side)
    return next((divisor for divisor in (8, 4, 2) if divisor <= room), 1)


def _to_pixels(image: PillowImage.Image) -> Image:
    """Return an image's pixels as RGB, made strip by strip: Pillow holds up every thread while it converts."""
    if image.mode.startswith("I") or image.mode == "F":
        # What is darkest and what is brightest can only be told from the whole.
        return np.repeat(to_eight_bits(np.asarray(image))[..., None], 3, axis=2)
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        pixels[top:bottom] = np.asarray(_to_rgb(image.crop((0, top, image.width, bottom))))
    return pixels


def _to_rgb(image: PillowImage.Image) -> PillowImage.Image:
    if image.mode == "RGB":
        return image
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return PillowImage.alpha_composite(PillowImage.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")
