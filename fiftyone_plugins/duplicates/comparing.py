"""Says how much two small grey pictures show the same: as they lie, or one moved, scaled or sheared onto the other."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fiftyone_plugins.duplicates.fingerprints import Small, list_turns

SAME_PICTURE: Final = 0.6
"""Correlation from which on two pictures show the same. Chosen on edits of photos and of blood cells."""

LEAST_OVERLAP: Final = 0.5
"""Part of the picture that has to lie on the other."""

BROAD: Final = 6.4
"""Pixels: what changes more slowly than this is light and background, and says little."""

ROUNDS: Final = 60
SMALLEST_STEP: Final = 1e-4
SMOOTHING: Final = 5

Floats = NDArray[np.float32]


def compute_likeness(first: Small, second: Small, *, turns: bool = False) -> float:
    """Return the correlation (-1..1) of the fine structure of two small pictures; 1 is the same.

    Where they do not lie on each other, the second is moved, scaled and sheared until it does as well as it can; with
    ``turns`` it is turned by right angles and mirrored as well.

    >>> random = np.random.default_rng(0)
    >>> picture = np.repeat(np.repeat(random.integers(0, 255, (16, 16)), 4, 0), 4, 1).astype(np.uint8)
    >>> compute_likeness(picture, picture), compute_likeness(picture, np.full((64, 64), 9, np.uint8))
    (1.0, 0.0)
    """
    fixed = _to_fine(first)
    best = max(
        ((_correlate(fixed, _to_fine(turned)), turned) for turned in (list_turns(second) if turns else [second])),
        key=lambda one: one[0],
    )
    if best[0] >= SAME_PICTURE:
        return round(best[0], 6)
    return round(max(best[0], _align(first, best[1])), 6)


def _align(first: Small, second: Small) -> float:
    """Return the correlation after the second was laid onto the first; -1 where that cannot be done.

    Source: Evangelidis and Psarakis 2008, enhanced correlation coefficient.
    """
    import cv2

    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, ROUNDS, SMALLEST_STEP)
    shape = (first.shape[1], first.shape[0])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    try:
        _, found = cv2.findTransformECC(  # type: ignore[call-overload]  # its types ask for a mask
            first.astype(np.float32),
            second.astype(np.float32),
            np.eye(2, 3, dtype=np.float32),
            cv2.MOTION_AFFINE,
            criteria,
            None,
            SMOOTHING,
        )
    except cv2.error:
        # It found no way: the pictures have nothing in common.
        return -1.0
    overlap = cv2.warpAffine(np.ones(first.shape, np.float32), found, shape, flags=flags) > 0.99
    if overlap.mean() < LEAST_OVERLAP:
        return -1.0
    moved = cv2.warpAffine(_to_fine(second), found, shape, flags=flags)
    return _correlate(_to_fine(first)[overlap], moved[overlap])


def _to_fine(small: Small) -> Floats:
    import cv2

    picture = small.astype(np.float32)
    return np.asarray(picture - cv2.GaussianBlur(picture, (0, 0), BROAD), np.float32)


def _correlate(first: NDArray[Any], second: NDArray[Any]) -> float:
    first, second = first - first.mean(), second - second.mean()
    size = float(np.sqrt((first * first).sum() * (second * second).sum()))
    return float((first * second).sum()) / size if size > 1e-6 else 0.0
