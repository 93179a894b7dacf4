"""Which images look nearly the same: a perceptual hash of 64 bits each, compared by the bits that differ.

On photographs (COCO, flowers, blood cells under a microscope) no two different ones came nearer than 8 bits, while
copies that were scaled, brightened, blurred or saved anew mostly stayed within 6. Crops and turns are not found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from labels.limits import IMAGE_FORMATS

THRESHOLD_BITS: Final = 6
DRAFT_PX: Final = 128
THREADS: Final = 4
ROWS_AT_ONCE: Final = 256
# ImportError: where Ultralytics is loaded, it puts an open in place of Pillow's that looks for further packages.
UNREADABLE: Final = (ImportError, OSError, SyntaxError, ValueError, Image.DecompressionBombError)

Hashes = npt.NDArray[np.uint64]


def read_look(path: Path) -> str | None:
    """Return the perceptual hash of an image, 16 hexadecimal digits; None where the file cannot be read."""
    import imagehash  # half a second, and only for this

    try:
        with Image.open(path, formats=IMAGE_FORMATS) as image:
            # A JPEG is decoded at an eighth of its size: the hash looks at 32 x 32 pixels.
            image.draft("L", (DRAFT_PX, DRAFT_PX))
            return str(imagehash.phash(ImageOps.exif_transpose(image).convert("L")))
    except UNREADABLE:
        return None


def read_looks(paths: Sequence[Path]) -> list[str | None]:
    """Return the perceptual hash of each image, in their order."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(read_look, paths))


def tie_near(looks: Mapping[str, str | None], *, threshold_bits: int = THRESHOLD_BITS) -> Iterator[tuple[str, str]]:
    """Yield pairs of names whose hashes differ in at most so many bits; None is like nothing.

    Not all pairs, of which a still camera's images have as many as the square of their number: just as many as tie
    together whatever is like something that is like it.

    >>> list(tie_near({"a": "00000000000000ff", "b": "00000000000000fe", "c": None, "d": "ff00ff00ff00ff00"}))
    [('a', 'b')]
    """
    names = _sort(looks)
    units = np.arange(len(names))
    for at, near in _compare(looks, names, threshold_bits):
        others = near & (units != units[at])
        while others.any():
            other = int(others.argmax())
            yield names[at], names[other]
            units[units == units[other]] = units[at]
            others = near & (units != units[at])


def find_near_twins(
    looks: Mapping[str, str | None], parts: Mapping[str, str], *, threshold_bits: int = THRESHOLD_BITS
) -> Iterator[tuple[str, str]]:
    """Yield each name with the first one in another part that looks like it, where there is one.

    >>> list(find_near_twins({"a": "0f", "b": "0f", "c": "0e"}, {"a": "train", "b": "test", "c": "train"}))
    [('a', 'b'), ('b', 'a'), ('c', 'b')]
    """
    names = _sort(looks)
    codes = np.unique([parts[name] for name in names], return_inverse=True)[1] if names else np.empty(0, dtype=np.intp)
    for at, near in _compare(looks, names, threshold_bits):
        twins = near & (codes != codes[at])
        if twins.any():
            yield names[at], names[int(twins.argmax())]


def _sort(looks: Mapping[str, str | None]) -> list[str]:
    return sorted(name for name, look in looks.items() if look is not None)


def _compare(
    looks: Mapping[str, str | None], names: Sequence[str], threshold_bits: int
) -> Iterator[tuple[int, npt.NDArray[np.bool_]]]:
    """Yield for each name, by its number, which ones look like it."""
    hashes: Hashes = np.array([int(looks[name] or "0", 16) for name in names], dtype=np.uint64)
    for start in range(0, len(names), ROWS_AT_ONCE):
        rows = hashes[start : start + ROWS_AT_ONCE, None]
        yield from enumerate(np.bitwise_count(rows ^ hashes) <= threshold_bits, start)
