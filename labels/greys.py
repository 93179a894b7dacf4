"""Grey values of more than eight bits, as the eight that screens and models take: one rule, whoever converts."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

# 65535 / 255: what turns sixteen bits into eight.
SIXTEEN_TO_EIGHT = 257


def to_eight_bits(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return grey values stretched so that the darkest is 0 and the brightest 255: cameras use a part of the bits.

    An image of one value has nothing to stretch and keeps its brightness on the scale of its type: fractions are of 1,
    two bytes of 65535. What is not a number is as dark as the darkest.

    >>> to_eight_bits(np.array([[1000, 2000, 3000]], np.uint16)).tolist()
    [[0, 127, 255]]
    >>> to_eight_bits(np.array([[25700, 25700]], np.uint16)).tolist()
    [[100, 100]]
    """
    numbers = values.astype(np.float64)
    is_number = np.isfinite(numbers)
    if not is_number.all():
        numbers = np.where(is_number, numbers, numbers[is_number].min() if is_number.any() else 0.0)
    low, high = float(numbers.min(initial=np.inf)), float(numbers.max(initial=-np.inf))
    if high > low:
        scaled = (numbers - low) * (255 / (high - low))
    elif values.dtype.kind == "f":
        scaled = numbers * (255 if high <= 1 else 1)
    else:
        scaled = numbers / (
            SIXTEEN_TO_EIGHT if values.dtype.itemsize == np.dtype(np.uint16).itemsize or high > 255 else 1
        )
    # A hair above, since 255 / span times span may end just below 255.
    return (scaled + 1e-6).clip(0, 255).astype(np.uint8)
