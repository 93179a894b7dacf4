"""What is kept of each image to know it again: the sum of its bytes, its size and sharpness, and a small grey picture.

All else (hashes, turned and mirrored ones, comparisons) is computed from these. Knows no FiftyOne.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fiftyone_plugins.embeddings.decoding import read_picture
from labels.errors import ItemError

SIDE: Final = 64
"""Side of the small grey picture, whatever the shape of the image."""

HASH_BITS: Final = 64
SHARPNESS_SIDE: Final = 256
LEAST_DETAIL: Final = 2.0
"""Standard deviation of the small picture's greys: below it an image shows too little to be like another."""

Small = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Fingerprint:
    """One image: its file's ``sha256`` and ``bytes``, upright ``width`` and ``height``, and its small grey picture.

    ``sharpness`` is the variance of the Laplacian, of the grey image at most 256 pixels wide or high.
    """

    sha256: str
    bytes: int
    width: int
    height: int
    sharpness: float
    small: Small

    @property
    def has_detail(self) -> bool:
        """Whether there is enough to see that a likeness means something."""
        return has_detail(self.small)


def read_fingerprint(path: Path) -> Fingerprint:
    """Return the fingerprint of an image file.

    Raises:
        ItemError: it is no image, or damaged.
    """
    # Not reduced while it is read: a reduced one has another size.
    picture = read_picture(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ItemError(path.name, f"cannot be read ({error.strerror})") from error
    grey = picture.convert("L")
    return Fingerprint(
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        width=picture.width,
        height=picture.height,
        sharpness=_compute_sharpness(grey),
        small=np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.uint8),
    )


def has_detail(small: Small) -> bool:
    """Return whether a small picture shows something: one of a single colour does not.

    >>> has_detail(np.full((64, 64), 200, np.uint8))
    False
    """
    return float(small.std()) >= LEAST_DETAIL


def compute_hash(small: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the perceptual hash of a small picture (8 bytes): signs of its 64 lowest frequencies."""
    import imagehash

    bits = imagehash.phash(Image.fromarray(np.ascontiguousarray(small)), hash_size=8).hash
    return np.packbits(bits.ravel())


def list_turns(small: Small) -> list[Small]:
    """Return a small picture as it is, then turned by 90, 180 and 270 degrees, then the mirrored four."""
    mirrored = small[:, ::-1]
    return [np.ascontiguousarray(np.rot90(one, quarter)) for one in (small, mirrored) for quarter in range(4)]


def compute_hashes(smalls: Iterable[Small]) -> NDArray[np.uint8]:
    """Return the hashes (n, 8) of small pictures."""
    hashes = [compute_hash(small) for small in smalls]
    return np.stack(hashes) if hashes else np.empty((0, HASH_BITS // 8), np.uint8)


def _compute_sharpness(grey: Image.Image) -> float:
    import cv2

    small = grey.copy()
    small.thumbnail((SHARPNESS_SIDE, SHARPNESS_SIDE))
    return float(cv2.Laplacian(np.asarray(small, dtype=np.float32), cv2.CV_32F).var())
