"""Refuses files that take far longer than their pixels should: some formats let a file repeat parts without limit.

Only the frames of where the parts begin are read, none of what is in them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from labels.errors import ItemError

# Each scan of a JPEG may go over all of its pixels, and takes a hundred bytes. Usual encoders write about ten.
MAX_SCANS: Final = 100
# Segments, chunks and blocks are read one by one, in Python; large files of usual encoders have some thousands.
MAX_PARTS: Final = 100_000
# A tile is decoded as a whole, however small the image is.
MAX_TILE_PIXELS: Final = 4096 * 4096
# A search stops this often, so that other threads get their turn.
WINDOW_BYTES: Final = 1024 * 1024

END_OF_IMAGE: Final = 0xD9
START_OF_SCAN: Final = 0xDA
PROGRESSIVE: Final = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Zero after 0xFF is a byte of pixels; 0x01 and 0xD0 to 0xD7 stand alone and begin nothing.
MARKER: Final = re.compile(rb"\xff+([^\x00\x01\xff\xd0-\xd7])", re.DOTALL)
TILE_SIDES: Final = (322, 323)


def check_parts(content: bytes, *, item: str) -> None:
    """Refuse a JPEG of too many scans, and a JPEG, PNG or GIF of too many parts; to be called before it is opened.

    Raises:
        ItemError: the file; ``item`` is named.
    """
    walk = next((walk for start, walk in WALKS.items() if content.startswith(start)), None)
    scans = 0
    for number, kind in enumerate(walk(content) if walk is not None else (), 1):
        scans += kind == START_OF_SCAN
        if scans > MAX_SCANS:
            raise ItemError(item, f"the JPEG has more than {MAX_SCANS} scans (save it anew)")
        if number > MAX_PARTS:
            raise ItemError(item, f"the file has more than {MAX_PARTS} parts (save it anew)")


def check_tiles(image: Any, *, item: str) -> None:
    """Refuse a TIFF whose tiles are far larger than itself; to be called on what Pillow opened, before it is decoded.

    Raises:
        ItemError: the file; ``item`` is named.
    """
    tags: Mapping[int, object] = getattr(image, "tag_v2", {})
    sides = [side for side in map(tags.get, TILE_SIDES) if isinstance(side, int)]
    if len(sides) == len(TILE_SIDES) and sides[0] * sides[1] > max(MAX_TILE_PIXELS, image.width * image.height):
        raise ItemError(item, f"the TIFF has tiles of {sides[0]} x {sides[1]} pixels (save it anew)")


def _walk_jpeg(content: bytes) -> Iterator[int]:
    """Yield the marker of each segment, scans too, as far as a decoder reads; thumbnails lie inside of segments.

    Where there cannot be too many scans, the first one is the last that is looked at.
    """
    place, is_first = 2, True
    components, is_progressive = 0, False
    while (found := _find_marker(content, place)) is not None:
        marker, place = found[1][0], found.end()
        if marker == END_OF_IMAGE:
            return
        yield marker
        if marker in FRAMES:
            components, is_progressive = _read_number(content, place + 7, 1), marker in PROGRESSIVE
        elif marker == START_OF_SCAN and not is_progressive and _read_number(content, place + 2, 1) >= components:
            return  # all of it is in this one, and decoders take no other: most photos end here
        elif marker == START_OF_SCAN and is_first:
            if _count_at_most(content, place) < MAX_SCANS:
                return
            is_first = False
        place += max(_read_number(content, place, 2), 2)


def _count_at_most(content: bytes, place: int) -> int:
    """Return how many scans may begin behind a place: much faster than to find them, as some may lie in a segment."""
    starts = range(place, len(content), WINDOW_BYTES)
    return sum(content.count(b"\xff\xda", start, start + WINDOW_BYTES + 1) for start in starts)


def _find_marker(content: bytes, place: int) -> re.Match[bytes] | None:
    while place < len(content):
        found = MARKER.search(content, place, place + WINDOW_BYTES)
        if found is not None:
            return found
        place += WINDOW_BYTES - 1  # the last byte may be the first of a marker
    return None


def _walk_png(content: bytes) -> Iterator[int]:
    """Yield 0 for each chunk."""
    place = 8
    while place < len(content):
        yield 0
        place += 12 + _read_number(content, place, 4)


def _walk_gif(content: bytes) -> Iterator[int]:
    """Yield 0 for each block before the first frame; no other frame is looked at."""
    flags = _read_number(content, 10, 1)
    place = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    while place < len(content) and content[place] != ord(","):
        yield 0
        if content[place] != ord("!"):
            place += 1
            continue
        place += 2
        while length := _read_number(content, place, 1):
            yield 0
            place += 1 + length
        place += 1


def _read_number(content: bytes, place: int, size: int) -> int:
    """Return a number as these formats write it; 0 where the file has ended."""
    return int.from_bytes(content[place : place + size], "big")


WALKS: Final[Mapping[bytes, Callable[[bytes], Iterator[int]]]] = {
    b"\xff\xd8": _walk_jpeg,
    b"\x89PNG": _walk_png,
    b"GIF8": _walk_gif,
}
