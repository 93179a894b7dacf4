"""A clock that moves only when somebody does something."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

STEP = timedelta(milliseconds=1)


@dataclass
class FakeClock:
    """Every reading is a millisecond later than the one before, so that no two events have one time."""

    _now: datetime = field(default_factory=lambda: datetime(2020, 3, 1, 8, 0, tzinfo=UTC))

    def now(self) -> datetime:
        """Return the time; the next reading is later."""
        self._now += STEP
        return self._now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self._now += timedelta(seconds=seconds)
