"""Image files: finding them in a folder, reading what the catalogue keeps, and copies that a browser can show.

A file that cannot be decoded to its last pixel is refused by name; nothing is guessed about it.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from labels.errors import ItemError, LabelingError
from labels.geometry import ImageSize
from labels.greys import to_eight_bits
from labels.image_parts import check_parts, check_tiles
from labels.limits import IMAGE_FORMATS, JPEG_FORMATS, MAX_IMAGE_BYTES, MAX_PIXELS

COPIES_FOLDER: Final = "_converted"
# An export's manifest, and the file that makes a folder a home.
OUR_FILES: Final = ("labelloop.json", "project.json")
SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
MIME_TYPES: Final = {
    **dict.fromkeys(JPEG_FORMATS, "image/jpeg"),
    "PNG": "image/png",
    "WEBP": "image/webp",
    "BMP": "image/bmp",
}
PNG_END: Final = b"\0\0\0\0IEND\xaeB`\x82"
ORIENTATION_TAG: Final = 0x0112
UPRIGHT: Final = 1
SIDEWAYS: Final = (5, 6, 7, 8)
# ImportError: where Ultralytics is loaded, it puts an open in place of Pillow's that looks for further packages.
NO_KNOWN_FORMAT: Final = (UnidentifiedImageError, ImportError)
UNREADABLE: Final = (*NO_KNOWN_FORMAT, OSError, SyntaxError, ValueError, Image.DecompressionBombError)
SIXTEEN_BIT_MODES: Final = ("I", "I;16", "I;16B", "I;16L", "F")


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What one decoding of a file tells. ``size`` is that of the upright image.

    ``needs_copy``: no browser shows this file as it should be shown.
    """

    sha256: str
    size: ImageSize
    byte_count: int
    mime_type: str
    needs_copy: bool


def find_images(
    folder: Path,
    on_error: Callable[[OSError], None] | None = None,
    *,
    suffixes: Collection[str] = SUFFIXES,
    on_own: Callable[[Path], None] = lambda _: None,
) -> Iterator[Path]:
    """Yield the image files of a folder and its subfolders, sorted; ``on_error`` hears of a folder that cannot be read.

    Hidden files and folders are left out, and so are folders in it that labelloop itself wrote: exports, state folders,
    copies. ``on_own`` hears of those.

    Raises:
        LabelingError: the folder is not there.
    """
    if not folder.is_dir():
        raise LabelingError(f"{folder}: no such folder")
    for here, folders, files in os.walk(folder, onerror=on_error):
        shown = sorted(name for name in folders if not name.startswith("."))
        own = [name for name in shown if _is_ours(Path(here, name))]
        for name in own:
            on_own(Path(here, name))
        folders[:] = [name for name in shown if name not in own]
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in suffixes:
                yield Path(here, name)


def to_text(path: Path) -> str:
    """Return a path for people, in which bytes that are no UTF-8 are written as they are.

    >>> to_text(Path("caf\\udce9.jpg"))
    'caf\\\\xe9.jpg'
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _is_ours(folder: Path) -> bool:
    return folder.name == COPIES_FOLDER or any((folder / name).is_file() for name in OUR_FILES)


def read_facts(path: Path) -> ImageFacts:
    """Return the facts of a file, after decoding all of it.

    Raises:
        ItemError: no image, broken off, too large to be one, or not readable.
    """
    if to_text(path) != str(path):
        raise ItemError(to_text(path), "its name is not valid UTF-8, which no database holds; rename it")
    if not path.is_file():
        # A pipe or a device could be waited for for ever.
        raise ItemError(str(path), "is no regular file")
    byte_count = path.stat().st_size
    if byte_count > MAX_IMAGE_BYTES:
        raise ItemError(str(path), f"has {byte_count} bytes (expected at most {MAX_IMAGE_BYTES}); save it smaller")
    try:
        content = path.read_bytes()
        check_parts(content, item=str(path))
        with Image.open(io.BytesIO(content), formats=IMAGE_FORMATS) as image:
            # Nothing could be drawn on it: the ML backend has the same limits.
            _check_pixels(path, image.size)
            check_tiles(image, item=str(path))
            image.load()
            kind, mode, (width, height) = image.format, image.mode, image.size
            orientation = _orientation_of(image)
    except UNREADABLE as error:
        raise ItemError(str(path), f"cannot be read as an image ({_in_words(error, path)})") from error
    if orientation in SIDEWAYS:
        width, height = height, width
    # Browsers turn a JPEG by its EXIF tag; whether they turn other formats differs from one to the next. Of sixteen
    # bits they show the upper eight, which may be all black.
    is_shown_right = kind in JPEG_FORMATS or (
        kind in MIME_TYPES and orientation == UPRIGHT and mode not in SIXTEEN_BIT_MODES
    )
    return ImageFacts(
        sha256=hashlib.sha256(content).hexdigest(),
        size=ImageSize(width, height),
        byte_count=len(content),
        mime_type=MIME_TYPES.get(kind or "", "image/png"),
        needs_copy=not is_shown_right,
    )


def _check_pixels(path: Path, size: tuple[int, int]) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        problem = f"has {width} x {height} pixels (expected at most {MAX_PIXELS}); save it smaller"
        raise ItemError(str(path), problem)


def write_copy(path: Path, target: Path) -> None:
    """Write an upright PNG of the file's first picture that every browser shows; an existing copy is left alone.

    Raises:
        ItemError: the file cannot be read.
    """
    if target.exists():
        return
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path, formats=IMAGE_FORMATS) as image:
            upright = ImageOps.exif_transpose(image)
            _to_eight_bits(upright).save(part, "PNG")
    except UNREADABLE as error:
        raise ItemError(str(path), f"cannot be converted ({_in_words(error, path)})") from error
    part.replace(target)


def is_whole_png(path: Path) -> bool:
    """Return whether a PNG ends as one does: one that was broken off does not."""
    with path.open("rb") as file:
        file.seek(-min(len(PNG_END), path.stat().st_size), os.SEEK_END)
        return file.read() == PNG_END


def read_preview(path: Path, *, longest_px: int) -> bytes:
    """Return a JPEG of the upright image for a page, its longer side at most so many pixels; never larger than it is.

    Raises:
        ItemError: the file cannot be read.
    """
    try:
        with Image.open(path, formats=IMAGE_FORMATS) as image:
            # A JPEG is decoded at a half, a quarter or an eighth of its size where that is enough.
            image.draft("RGB", (longest_px, longest_px))
            upright = _to_eight_bits(ImageOps.exif_transpose(image))
            upright.thumbnail((longest_px, longest_px))
            written = io.BytesIO()
            _on_white(upright).save(written, "JPEG", quality=85)
    except UNREADABLE as error:
        raise ItemError(str(path), f"cannot be shown ({_in_words(error, path)})") from error
    return written.getvalue()


def _on_white(image: Image.Image) -> Image.Image:
    """Return the image as JPEG can hold it: what is transparent shows white."""
    if image.mode not in ("RGBA", "LA") and "transparency" not in image.info:
        return image.convert("RGB")
    layered = image.convert("RGBA")
    ground = Image.new("RGB", image.size, "white")
    ground.paste(layered, mask=layered.getchannel("A"))
    return ground


def _orientation_of(image: Image.Image) -> int:
    found = image.getexif().get(ORIENTATION_TAG)
    # A tag that says nothing known turns nothing, for browsers and Pillow alike.
    return found if isinstance(found, int) and UPRIGHT <= found <= max(SIDEWAYS) else UPRIGHT


def _to_eight_bits(image: Image.Image) -> Image.Image:
    if image.mode not in SIXTEEN_BIT_MODES:
        return image if image.mode in ("L", "LA", "RGB", "RGBA", "P", "1") else image.convert("RGB")
    return Image.fromarray(to_eight_bits(np.asarray(image)))


def _in_words(error: Exception, path: Path) -> str:
    if isinstance(error, NO_KNOWN_FORMAT):
        return "no known image format"
    return str(error).replace(str(path), path.name) or type(error).__name__
