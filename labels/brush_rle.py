"""The run-length code in which Label Studio stores what a brush painted.

The stream is bits, most significant first: a 32-bit count of values; five bits, one less than the bits of a value; four
times four bits, one less than the bits of a run length of that kind. Then blocks follow until all values are there: one
bit (1: a run of one value, 0: that many single values), two bits that pick the kind of length, the length less one, the
value or values. A value is one of the four bytes (red, green, blue, alpha) of a pixel, row by row; alpha tells what is
painted. Source: the format of thi.ng/rle-pack, which Label Studio's editor uses.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

CHANNELS = 4
VALUE_BITS = 8
LENGTH_BITS = (3, 6, 10, 16)


def decode_mask(rle: Sequence[int], *, height: int, width: int) -> npt.NDArray[np.bool_]:
    """Return the painted pixels as a boolean array of shape (height, width).

    Raises:
        ValueError: the stream is broken off, or does not hold height x width pixels.
    """
    values = _decode_values(np.asarray(rle, dtype=np.uint8))
    if values.size != height * width * CHANNELS:
        raise ValueError(f"the brush stroke holds {values.size // CHANNELS} pixels, the image {width}x{height}")
    return values.reshape(height, width, CHANNELS)[:, :, CHANNELS - 1] > 0


def encode_mask(pixels: npt.NDArray[np.bool_]) -> list[int]:
    """Return the bytes of a boolean array of shape (height, width), painted pixels as opaque white.

    >>> pixels = np.array([[True, False, False], [True, True, False]])
    >>> bool((decode_mask(encode_mask(pixels), height=2, width=3) == pixels).all())
    True
    """
    flat = pixels.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = np.concatenate([[0], edges]) if flat.size else np.empty(0, dtype=np.int64)
    lengths = np.diff(np.append(starts, flat.size)) * CHANNELS
    blocks = [_encode_number(flat.size * CHANNELS, 32), _encode_number(VALUE_BITS - 1, 5)]
    blocks += [_encode_number(bits - 1, 4) for bits in LENGTH_BITS]
    for start, length in zip(starts, lengths, strict=True):
        blocks += _encode_run(int(length), 255 if flat[start] else 0)
    bits = np.concatenate(blocks)
    return [int(byte) for byte in np.packbits(bits)]


def _encode_run(length: int, value: int) -> list[npt.NDArray[np.uint8]]:
    blocks = []
    longest = 1 << LENGTH_BITS[-1]
    while length > 0:
        part = min(length, longest)
        kind = next(kind for kind, bits in enumerate(LENGTH_BITS) if part <= 1 << bits)
        number = (1 << 2 | kind) << LENGTH_BITS[kind] | (part - 1)
        blocks.append(_encode_number(number << VALUE_BITS | value, 3 + LENGTH_BITS[kind] + VALUE_BITS))
        length -= part
    return blocks


def _encode_number(number: int, bits: int) -> npt.NDArray[np.uint8]:
    return np.array([number >> shift & 1 for shift in range(bits - 1, -1, -1)], dtype=np.uint8)


class _BitReader:
    """Reads numbers off an array of bits, front to back."""

    def __init__(self, stream: npt.NDArray[np.uint8]) -> None:
        self._bits = np.unpackbits(stream)
        self._at = 0

    def read(self, bits: int) -> int:
        return int(self.read_many(1, bits)[0])

    def read_many(self, count: int, bits: int) -> npt.NDArray[np.int64]:
        end = self._at + count * bits
        if end > self._bits.size:
            raise ValueError("the brush stroke is broken off")
        weights = 1 << np.arange(bits - 1, -1, -1, dtype=np.int64)
        numbers = self._bits[self._at : end].reshape(count, bits).astype(np.int64) @ weights
        self._at = end
        return np.asarray(numbers, dtype=np.int64)


def _decode_values(stream: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    reader = _BitReader(stream)
    count = reader.read(32)
    # Each block is at least five bits long and yields at most 65,536 values: a count beyond that is not a stream.
    if count > stream.size * 2 * (1 << LENGTH_BITS[-1]):
        raise ValueError("the brush stroke is broken off")
    value_bits = reader.read(5) + 1
    length_bits = [reader.read(4) + 1 for _ in LENGTH_BITS]
    values = np.empty(count, dtype=np.uint8)
    filled = 0
    while filled < count:
        is_run = reader.read(1)
        length = reader.read(length_bits[reader.read(2)]) + 1
        end = filled + length
        values[filled:end] = (
            reader.read(value_bits) if is_run else reader.read_many(length, value_bits)[: count - filled]
        )
        filled = end
    return values
