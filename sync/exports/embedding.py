"""Images inside the files of an export, for formats that hold both in one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from labels.errors import ItemError
from labels.report import Failure
from sync.exports.images import read_upright
from sync.exports.items import Item, Tally
from sync.exports.records import ImagesMode


@dataclass(frozen=True, slots=True)
class Embedded:
    """An item with its image's bytes; None: it is referenced by its path, which is then ``file_name``."""

    item: Item
    content: bytes | None
    file_name: str


def embed(items: Iterable[Item], images_mode: ImagesMode, tally: Tally) -> Iterator[Embedded]:
    """Yield the items with their upright images, one at a time; what cannot be read is counted as left out.

    A file inside another one cannot be a link: ``link`` does as ``copy``.
    """
    for item in items:
        if images_mode == "none":
            yield Embedded(item, None, str(item.image.path))
            continue
        try:
            upright = read_upright(item.image)
        except ItemError as error:
            tally.left_out.append(Failure(error.item, error.problem))
            continue
        tally.turned += upright.is_turned
        tally.copied += not upright.is_turned
        yield Embedded(item, upright.content, item.stem + upright.suffix)
