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


def find_near_pairs(
    looks: Mapping[str, str | None], *, threshold_bits: int = THRESHOLD_BITS
) -> Iterator[tuple[str, str]]:
    """Yield the pairs of names whose hashes differ in at most so many bits, each once; None is like nothing.

    >>> list(find_near_pairs({"a": "00000000000000ff", "b": "00000000000000fe", "c": None, "d": "ff00ff00ff00ff00"}))
    [('a', 'b')]
    """
    names = sorted(name for name, look in looks.items() if look is not None)
    hashes: Hashes = np.array([int(looks[name] or "0", 16) for name in names], dtype=np.uint64)
    for start in range(0, len(names), ROWS_AT_ONCE):
        rows = hashes[start : start + ROWS_AT_ONCE, None]
        near = np.bitwise_count(rows ^ hashes[None, start:]) <= threshold_bits
        for row, column in zip(*np.nonzero(near), strict=True):
            if column > row:
                yield names[start + row], names[start + column]
