"""Reads a task's image, from the shared file system when Label Studio serves it from there, else over HTTP.

An image is what an annotator sees: turned as its EXIF says, its first frame, transparency on white, always RGB.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from PIL import ImageOps, UnidentifiedImageError

# Taken while it is still Pillow's own: Ultralytics, once loaded, puts a function in its place that tries to install
# packages whenever a file is no image.
from PIL.Image import open as open_image

from labels.errors import ItemError
from labels.geometry import ImageSize
from ml_backend.detectors import Image
from ml_backend.fetching import Fetcher, FetchError

LOCAL_FILES_PATH: Final = "/data/local-files/"
FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
# Below Pillow's own warning at 89 million: a photo of 80 megapixels takes 240 MB once decoded.
MAX_PIXELS: Final = 80_000_000
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
class LoadedImage:
    """A decoded image and the sha256 of the file it came from."""

    pixels: Image
    sha256: str

    @property
    def size(self) -> ImageSize:
        """The size as an annotator sees it, EXIF turn included."""
        height, width = self.pixels.shape[:2]
        return ImageSize(width, height)


class ImageReader:
    """Reads images by the URL a task carries."""

    def __init__(self, *, media_root: Path, fetcher: Fetcher, max_bytes: int) -> None:
        self._media_root = os.path.abspath(media_root)
        self._fetcher = fetcher
        self._max_bytes = max_bytes

    def read_image(self, url: str, *, item: str) -> LoadedImage:
        """Return the image of a URL.

        Raises:
            ItemError: the URL leads nowhere we may go, or what is there is no image we can decode; ``item`` is named.
        """
        content = self._read_content(url, item)
        return LoadedImage(decode_image(content, item=item), hashlib.sha256(content).hexdigest())

    def _read_content(self, url: str, item: str) -> bytes:
        try:
            parts = urlsplit(url)
            is_own = not (parts.scheme or parts.netloc) or self._fetcher.is_label_studio(url)
        except (ValueError, FetchError) as error:
            raise ItemError(item, f"{_shorten(url)}: not an http or https address") from error
        if is_own and parts.path.rstrip("/") + "/" == LOCAL_FILES_PATH:
            path = self._find_local(parse_qs(parts.query).get("d", [""])[0], item)
            # os.path answers False where pathlib raises: a name that is too long, say.
            if os.path.isfile(path):
                return self._read_file(path, url, item)
        if not parts.scheme and self._fetcher.label_studio_url is None:
            raise ItemError(item, f"{_shorten(url)}: no such file under LABELLOOP_MEDIA_ROOT, and no LABEL_STUDIO_URL")
        try:
            return self._fetcher.fetch(url)
        except FetchError as error:
            raise ItemError(item, f"{_shorten(url)}: {error}") from error

    def _find_local(self, relative: str, item: str) -> Path:
        """Return the file's place under the media root; links inside are followed: user folders are linked there."""
        if not relative or "\0" in relative:
            raise ItemError(item, "the local file's path is empty or broken")
        path = os.path.normpath(os.path.join(self._media_root, relative))
        if not path.startswith(self._media_root.rstrip(os.sep) + os.sep):
            raise ItemError(item, f"{_shorten(relative)}: outside of the media root")
        return Path(path)

    def _read_file(self, path: Path, url: str, item: str) -> bytes:
        try:
            with path.open("rb") as file:
                content = file.read(self._max_bytes + 1)
        except OSError as error:
            raise ItemError(item, f"{_shorten(url)}: cannot be read ({error.strerror})") from error
        if len(content) > self._max_bytes:
            raise ItemError(item, f"{_shorten(url)}: larger than {self._max_bytes} bytes")
        return content


def decode_image(content: bytes, *, item: str) -> Image:
    """Return an image file's first frame as RGB, turned as its EXIF says.

    Raises:
        ItemError: no image, one of a format we do not read, a truncated one, or one of too many pixels.
    """
    try:
        with open_image(io.BytesIO(content), formats=FORMATS) as opened:
            width, height = opened.size
            if width * height > MAX_PIXELS:
                raise ItemError(item, f"the image has {width} x {height} pixels (expected at most {MAX_PIXELS})")
            opened.load()
            return np.ascontiguousarray(np.asarray(_to_rgb(_turn(opened))))
    except (PillowImage.DecompressionBombError, PillowImage.DecompressionBombWarning) as error:
        raise ItemError(item, f"the image has too many pixels (expected at most {MAX_PIXELS})") from error
    except UnidentifiedImageError as error:
        raise ItemError(item, f"not an image that can be read (expected one of {', '.join(FORMATS)})") from error
    except DECODE_ERRORS as error:
        raise ItemError(item, f"the image is damaged ({type(error).__name__}: {error})") from error


def _turn(image: PillowImage.Image) -> PillowImage.Image:
    try:
        return ImageOps.exif_transpose(image)
    except DECODE_ERRORS:
        # Browsers show a photo with unreadable EXIF as it lies, and so must we, or the boxes lie beside the objects.
        return image


def _to_rgb(image: PillowImage.Image) -> PillowImage.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return PillowImage.fromarray(_to_bytes(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return PillowImage.alpha_composite(PillowImage.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _to_bytes(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return grey values of 16 or 32 bits in 8: Pillow's own conversion cuts at 255, and most images would be white."""
    numbers = np.nan_to_num(values.astype(np.float32))
    brightest = float(numbers.max(initial=0))
    factor = 1.0
    if values.dtype.kind == "f":
        factor = 255.0 if brightest <= 1 else 1.0
    elif values.dtype.itemsize == 2 or brightest > 255:
        factor = 1 / 257
    return (numbers * np.float32(factor)).clip(0, 255).astype(np.uint8)


def _shorten(url: str) -> str:
    """Return a URL as fit for a message: no query that could carry a signature, but the path of a local file."""
    text = url if LOCAL_FILES_PATH in url else url.partition("?")[0]
    return text if len(text) <= 200 else text[:199] + "…"
