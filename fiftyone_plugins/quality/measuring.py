"""Scores of a picture, from its pixels alone. Reads no file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fiftyone_plugins.quality import checks
from fiftyone_plugins.quality.reading import Picture, resize

Greys = NDArray[np.float32]

GOOD_SIDE_PX: Final = 1000
REBLUR_SIGMA_PX: Final = 1.5
MOST_KEPT: Final = 0.6
"""Of a picture without any detail, about this part of the second derivative is left when it is blurred once more."""
SECOND_DERIVATIVE: Final = np.array([[1, -2, 1]], np.float32)
FAINTEST_EDGES: Final = 0.125
"""Mean second derivative, in grey levels, below which there is nothing that could be sharp or not."""
SAME_LEVELS: Final = 10
SMALLER_LEVELS: Final = 2
SAMPLE_PX: Final = 64
COLOURFUL_LEVELS: Final = 40


def compute_scores(picture: Picture | None) -> dict[str, float | None]:
    """Return the score of every check of ``CHECKS``; None: there is nothing to compute it from.

    A picture of None could not be decoded: it is corrupt, and of the other checks nothing is known.
    """
    if picture is None:
        return dict.fromkeys(checks.CHECKS) | {checks.CORRUPT: 1.0}
    grey = _to_grey(picture.rgb)
    low, dark, high, bright = np.percentile(grey, (2, 5, 98, 99)).tolist()
    shorter, longer = sorted((picture.width, picture.height))
    size_px = (picture.width * picture.height) ** 0.5
    thumb = resize(picture.rgb, min(SAMPLE_PX, picture.rgb.shape[1]), min(SAMPLE_PX, picture.rgb.shape[0]))
    return {
        checks.BLURRY: compute_blur(grey),
        checks.DARK: 1 - bright / 255,
        checks.BRIGHT: dark / 255,
        checks.LOW_CONTRAST: 1 - (high - low) / 255,
        checks.LOW_RESOLUTION: max(0.0, 1 - size_px / GOOD_SIDE_PX),
        checks.ODD_ASPECT: 1 - shorter / longer,
        checks.UNIFORM: compute_uniformity(thumb),
        checks.CORRUPT: 0.5 if picture.is_damaged else 0.0,
        checks.GRAYSCALE: compute_greyness(thumb),
        checks.EXIF_TURNED: float(picture.is_turned),
    }


def compute_blur(grey: Greys) -> float | None:
    """Return how blurred a picture is: the part of its fine detail that is left after blurring it once more.

    A sharp picture loses most of it, a blurred one has little to lose. Looked at in full, at half and at a quarter of
    the size: made small, strong blur is seen where the grain of a JPEG looks like detail. None: there is no detail.

    Source: the idea of Crété et al. 2007, "The blur effect", with second derivatives.

    >>> compute_blur(np.full((64, 64), 80, np.float32)) is None
    True
    """
    parts = [part for level in _to_levels(grey) if (part := _part_kept(level)) is not None]
    return min(1.0, max(parts) / MOST_KEPT) if parts else None


def compute_uniformity(rgb: NDArray[np.uint8]) -> float:
    """Return the part of a picture that has nearly its most usual colour, the median of each channel.

    >>> compute_uniformity(np.full((8, 8, 3), 90, np.uint8))
    1.0
    """
    levels = rgb.reshape(-1, 3).astype(np.int16)
    apart = np.abs(levels - np.median(levels, axis=0)).max(axis=1)
    return float((apart <= SAME_LEVELS).mean())


def compute_greyness(rgb: NDArray[np.uint8]) -> float:
    """Return how little colour a picture has: 1 none at all, 0 as much as a photo in colour usually has.

    >>> compute_greyness(np.full((8, 8, 3), 90, np.uint8)), compute_greyness(np.full((8, 8, 3), (250, 9, 9), np.uint8))
    (1.0, 0.0)
    """
    levels = rgb.reshape(-1, 3).astype(np.int16)
    colour = np.percentile(levels.max(axis=1) - levels.min(axis=1), 99)
    return float(max(0.0, 1 - colour / COLOURFUL_LEVELS))


def _to_grey(rgb: NDArray[np.uint8]) -> Greys:
    # ITU-R BT.601, which is what JPEG and Pillow take for brightness.
    grey: Greys = np.dot(rgb, np.array([0.299, 0.587, 0.114], np.float32))
    return grey


def _to_levels(grey: Greys) -> Iterator[Greys]:
    """Yield the picture, then each time half as wide and high, as long as that says anything."""
    yield grey
    for _ in range(SMALLER_LEVELS):
        height, width = grey.shape
        if min(height, width) < 2 * SAMPLE_PX:
            return
        grey = resize(grey.astype(np.uint8), width // 2, height // 2).astype(np.float32)
        yield grey


def _part_kept(grey: Greys) -> float | None:
    """Return the part of the detail that is left, along the rows or down the columns, whichever is more.

    Whoever moves the camera sideways blurs one of the two alone.
    """
    import cv2

    blurred = cv2.GaussianBlur(grey, (0, 0), REBLUR_SIGMA_PX)
    parts = []
    for kernel in (SECOND_DERIVATIVE, SECOND_DERIVATIVE.T):
        detail = float(np.abs(cv2.filter2D(grey, cv2.CV_32F, kernel)).mean())
        if detail >= FAINTEST_EDGES:
            parts.append(float(np.abs(cv2.filter2D(blurred, cv2.CV_32F, kernel)).mean()) / detail)
    return max(parts, default=None)
