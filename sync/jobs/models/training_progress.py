"""Turns what a training tells into one line and a part that is done: epoch, loss, score, and how long it will take."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from labels.report import OnProgress

SCORES_SHOWN: Final = {"map50_95": "mAP", "top1": "top-1"}
MINUTE_S: Final = 60
HOUR_S: Final = 3600


class Progress:
    """Listens to one training; what ``on_progress`` raises passes through, and so ends it."""

    def __init__(self, name: str, epochs: int, on_progress: OnProgress) -> None:
        self._name = name
        self._epochs = epochs
        self._on_progress = on_progress
        self._done: float | None = None
        self._message = f"{name}: starting"
        self._last: Mapping[str, Any] | None = None
        # How long the epochs of this process take; those before a kill are told again in no time.
        self._seconds: list[float] = []
        self._started_s = time.monotonic()

    def on_event(self, event: Mapping[str, Any] | None) -> None:
        """Take in what happened, and tell it; None: nothing did, and whoever watches may want the end of it."""
        kind = None if event is None else event["kind"]
        if event is not None and kind == "check":
            self._message = f"{self._name}: checking the images, {event['done']:.0%}"
        elif event is not None and kind == "step":
            self._done = (event["epoch"] - 1 + event["done"]) / self._epochs
            self._message = self._describe(int(event["epoch"]))
        elif event is not None and kind == "epoch":
            self._last = event
            self._seconds.append(float(event["seconds"]))
            self._done = event["epoch"] / self._epochs
            self._message = self._describe(int(event["epoch"]))
        self._on_progress(self._done, self._message)

    def _describe(self, epoch: int) -> str:
        parts = [f"epoch {epoch}/{self._epochs}"]
        if self._last is not None:
            losses, scores = self._last["losses"], self._last["scores"]
            parts += [f"loss {losses['loss']:.3f}"] if "loss" in losses else []
            parts += [f"{word} {scores[name]:.3f}" for name, word in SCORES_SHOWN.items() if name in scores]
        if self._seconds and self._done is not None:
            each = sum(self._seconds[-3:]) / len(self._seconds[-3:])
            left_s = each * self._epochs * (1 - self._done)
            parts += [f"{to_words(left_s)} left"] if left_s >= 1 else []
        return f"{self._name}: {', '.join(parts)}"


def to_words(seconds: float) -> str:
    """Return a length of time as people say it.

    >>> to_words(42), to_words(170), to_words(8000)
    ('42 s', '3 min', '2.2 h')
    """
    if seconds < MINUTE_S:
        return f"{seconds:.0f} s"
    return f"{round(seconds / MINUTE_S)} min" if seconds < HOUR_S else f"{seconds / HOUR_S:.1f} h"
