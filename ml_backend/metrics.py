"""Counts of what the server did since it started."""

from __future__ import annotations

import threading
from collections import Counter


class Metrics:
    """Named counters that any thread may raise."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def count(self, name: str, amount: int = 1) -> None:
        """Raise a counter."""
        with self._lock:
            self._counts[name] += amount

    def to_dict(self) -> dict[str, int]:
        """Return every counter that was ever raised, by name.

        >>> metrics = Metrics()
        >>> metrics.count("images", 2)
        >>> metrics.to_dict()
        {'images': 2}
        """
        with self._lock:
            return dict(sorted(self._counts.items()))
