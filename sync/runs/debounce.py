"""Turns a burst of calls into one; knows nothing of jobs."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Debounce:
    """Calls an action once, delay_s after the first of a burst of calls.

    The delay runs from the first call, not from the last: a stream that never pauses must not put the action off for
    ever.
    """

    def __init__(self, delay_s: float, action: Callable[[], object]) -> None:
        self._delay_s = delay_s
        self._action = action
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def call(self) -> None:
        """Ask for the action; return at once."""
        with self._lock:
            if self._timer is not None:
                return
            self._timer = threading.Timer(self._delay_s, self._act)
            self._timer.daemon = True
            self._timer.start()

    def flush(self) -> None:
        """Do now what was asked for and has not happened yet."""
        with self._lock:
            timer = self._timer
        if timer is not None:
            timer.cancel()
            self._act()

    def _act(self) -> None:
        with self._lock:
            if self._timer is None:
                return
            self._timer = None
        self._action()
