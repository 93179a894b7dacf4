"""The image files of an export: copied, linked or left where they are, and always as their labels see them.

Labels are in pixels of the upright image. Some readers turn a file by its EXIF tag (OpenCV, Ultralytics), others do not
(plain Pillow), so a file with such a tag is written with its pixels turned and without the tag: every reader then sees
the same image. A turned JPEG stays a JPEG of quality 95; any other format becomes PNG, without loss. Files without the
tag are copied byte for byte.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from PIL import ExifTags, Image, ImageOps

from labels.errors import ItemError
from labels.limits import IMAGE_FORMATS, JPEG_FORMATS
from sync.exports.folder import Stage
from sync.exports.layout import export_suffix
from sync.exports.records import ExportImage, ImagesMode

JPEG_QUALITY: Final = 95
UPRIGHT: Final = 1
TURNED: Final = range(2, 9)


@dataclass(frozen=True, slots=True)
class PlacedImage:
    """An image of an export: its file name and how it got there."""

    file_name: str
    is_turned: bool = False
    is_copied: bool = False


@dataclass(frozen=True, slots=True)
class UprightImage:
    """An image as its labels see it: the file's bytes, and the suffix they go by."""

    content: bytes
    suffix: str
    is_turned: bool = False


def read_upright(image: ExportImage) -> UprightImage:
    """Return the bytes of an upright image.

    Raises:
        ItemError: the file cannot be read, or is not the one the labels were drawn on.
    """
    with _say_which(image):
        content = image.path.read_bytes()
        if hashlib.sha256(content).hexdigest() != image.sha256:
            raise ItemError(_item(image), f"{image.path} has changed since it was catalogued (ingest it again)")
        with Image.open(io.BytesIO(content), formats=IMAGE_FORMATS) as picture:
            if picture.getexif().get(ExifTags.Base.Orientation, UPRIGHT) in TURNED:
                turned, suffix = _turn(image, picture)
                return UprightImage(turned, suffix, is_turned=True)
            _check_size(image, picture.size)
    return UprightImage(content, export_suffix(image.path))


def place_image(stage: Stage, folder: str, stem: str, image: ExportImage, mode: ImagesMode) -> PlacedImage:
    """Write one image into a folder of the export; with mode ``none`` nothing is written, nor is the file looked at.

    Raises:
        ItemError: the file cannot be read, or is not the one the labels were drawn on.
    """
    if mode == "none":
        return PlacedImage(stem + export_suffix(image.path))
    upright = read_upright(image)
    name = stem + upright.suffix
    target = f"{folder}/{name}"
    if mode == "link" and not upright.is_turned and _link(stage, image, target):
        return PlacedImage(name)
    stage.write(target, upright.content)
    return PlacedImage(name, is_turned=upright.is_turned, is_copied=not upright.is_turned)


def _turn(image: ExportImage, picture: Image.Image) -> tuple[bytes, str]:
    """Return the upright picture's file and its suffix."""
    is_jpeg = picture.format in JPEG_FORMATS
    # Loading comes first: Pillow turns a TIFF while it loads it, and then there is nothing left to turn.
    picture.load()
    upright = ImageOps.exif_transpose(picture)
    _check_size(image, upright.size)
    output = io.BytesIO()
    profile = picture.info.get("icc_profile")
    if is_jpeg:
        upright.save(output, "JPEG", quality=JPEG_QUALITY, subsampling=0, icc_profile=profile, exif=b"")
    else:
        upright.save(output, "PNG", icc_profile=profile, exif=b"")
    return output.getvalue(), ".jpg" if is_jpeg else ".png"


def _link(stage: Stage, image: ExportImage, target: str) -> bool:
    """Link the file into the export; False where the file system cannot."""
    try:
        (stage.path / target).parent.mkdir(parents=True, exist_ok=True)
        # The file itself: a link to a symbolic link would point nowhere once that is gone.
        os.link(image.path.resolve(), stage.path / target)
    except OSError:
        return False
    stage.add(target, image.sha256)
    return True


def _check_size(image: ExportImage, size: tuple[int, int]) -> None:
    width, height = size
    if size != (image.size.width, image.size.height):
        expected = f"{image.size.width}x{image.size.height}"
        raise ItemError(_item(image), f"{image.path} is {width}x{height} (its labels were drawn on {expected})")


@contextmanager
def _say_which(image: ExportImage) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ItemError(_item(image), f"{image.path} cannot be read ({error})") from error


def _item(image: ExportImage) -> str:
    return f"sample {image.sample_id}"
