"""How much of the memory decoded images take, whoever waits for them: a place is taken before one is decoded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from ml_backend.serving.batching import Lane

# Four of the largest images; batch jobs get no further than to the half.
MAX_DECODED_BYTES: Final = 1024 * 1024 * 1024


class Room:
    """Memory for decoded images, from before they are decoded until the model is done with them.

    Nobody is refused: who finds no room waits, a person for other people's images alone, since batch jobs leave half of
    it free and their images come after people's. An image too large for all of it goes in alone.
    """

    def __init__(self, max_bytes: int = MAX_DECODED_BYTES) -> None:
        self._max_bytes = max_bytes
        self._changed = threading.Condition()
        self._taken = 0
        self._waiting_people = 0

    @property
    def taken_bytes(self) -> int:
        """How much is taken."""
        with self._changed:
            return self._taken

    def take(self, size: int, read_lane: Callable[[], Lane]) -> None:
        """Wait for room for an image of so many bytes; ``leave`` gives it back.

        ``read_lane`` is asked again after each ``look_again``: a person may come to wait for a batch job's image.
        """
        with self._changed:
            while not self._has_room(size, read_lane()):
                self._changed.wait()
            self._taken += size

    def leave(self, size: int) -> None:
        """Give back what was taken."""
        with self._changed:
            self._taken -= size
            self._changed.notify_all()

    def look_again(self) -> None:
        """Have all who wait read their lane again."""
        with self._changed:
            self._changed.notify_all()

    @contextmanager
    def hold(self, size: int, lane: Lane) -> Iterator[None]:
        """Have room for as long as the block lasts."""
        self.take(size, lambda: lane)
        try:
            yield
        finally:
            self.leave(size)

    def _has_room(self, size: int, lane: Lane) -> bool:
        limit = self._max_bytes if lane is Lane.PERSON else self._max_bytes // 2
        return self._taken == 0 or self._taken + size <= limit
