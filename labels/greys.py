"""Grey values of more than eight bits, as the eight that screens and models take: one rule, whoever converts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

# 65535 / 255: what turns sixteen bits into eight.
SIXTEEN_TO_EIGHT: Final = 257
STRIP_VALUES: Final = 256 * 1024


def to_eight_bits(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return grey values stretched so that the darkest is 0 and the brightest 255: cameras use a part of the bits.

    An image of one value has nothing to stretch and keeps its brightness on the scale of its type: fractions are of 1,
    two bytes of 65535. What is not a number is as dark as the darkest.

    >>> to_eight_bits(np.array([[1000, 2000, 3000]], np.uint16)).tolist()
    [[0, 127, 255]]
    >>> to_eight_bits(np.array([[25700, 25700]], np.uint16)).tolist()
    [[100, 100]]
    """
    greys = np.empty(values.shape, np.uint8)
    source, target = values.reshape(-1), greys.reshape(-1)
    # Exact numbers take eight times the memory of the result: a large image has room for some of them at once.
    strips = [slice(start, start + STRIP_VALUES) for start in range(0, source.size, STRIP_VALUES)]
    low, high = _find_range(source[strip] for strip in strips)
    for strip in strips:
        target[strip] = _stretch(source[strip], low, high)
    return greys


def _find_range(strips: Iterable[npt.NDArray[Any]]) -> tuple[float, float]:
    low, high = np.inf, -np.inf
    for strip in strips:
        numbers = strip[np.isfinite(strip)] if strip.dtype.kind == "f" else strip
        if numbers.size:
            low, high = min(low, float(numbers.min())), max(high, float(numbers.max()))
    return (low, high) if low <= high else (0.0, 0.0)


def _stretch(values: npt.NDArray[Any], low: float, high: float) -> npt.NDArray[np.uint8]:
    numbers = values.astype(np.float64)
    if values.dtype.kind == "f":
        numbers[~np.isfinite(numbers)] = low
    if high > low:
        numbers -= low
        numbers *= 255 / (high - low)
    elif values.dtype.kind == "f":
        numbers *= 255 if high <= 1 else 1
    else:
        is_wide = values.dtype.itemsize == np.dtype(np.uint16).itemsize or high > 255
        numbers /= SIXTEEN_TO_EIGHT if is_wide else 1
    # A hair above, since 255 / span times span may end just below 255.
    numbers += 1e-6
    return numbers.clip(0, 255, out=numbers).astype(np.uint8)
