"""Small JPEGs of the dataset's images for the pages, kept in memory up to a bound; the path is never a visitor's."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sync.catalogue.samples import SampleImage
from sync.images import read_preview

MAX_BYTES: Final = 64 * 1024 * 1024
LONGEST_PX: Final[Mapping[str, int]] = {"small": 320, "large": 1600}


@dataclass(frozen=True, slots=True)
class Preview:
    """A JPEG, and what changes when it does."""

    content: bytes
    etag: str


class Previews:
    """Makes each preview once; those that were not asked for the longest go first when there are too many."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._byte_count = 0
        self._lock = threading.Lock()

    def read(self, image: SampleImage, size: str) -> Preview:
        """Return the preview of an image, in one of the sizes of ``LONGEST_PX``.

        Raises:
            ItemError: the file cannot be read.
        """
        etag = to_etag(image, size)
        with self._lock:
            content = self._kept.get(etag)
            if content is not None:
                self._kept.move_to_end(etag)
                return Preview(content, etag)
        content = read_preview(image.path, longest_px=LONGEST_PX[size])
        self._keep(etag, content)
        return Preview(content, etag)

    def _keep(self, etag: str, content: bytes) -> None:
        with self._lock:
            if etag in self._kept:
                return
            self._kept[etag] = content
            self._byte_count += len(content)
            while self._byte_count > self._max_bytes:
                _, dropped = self._kept.popitem(last=False)
                self._byte_count -= len(dropped)


def to_etag(image: SampleImage, size: str) -> str:
    """Return what names a preview by its content: that of the image's file, which the catalogue knows, and the size."""
    content = image.sha256 or hashlib.sha256(str(image.path).encode()).hexdigest()
    return f"{content[:32]}-{size}"
