"""Which jobs start by the clock: a pull every few minutes, a sweep every night. Starts nothing itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, time
from typing import Any, Final

from labels.errors import LabelingError

DEFAULT_PULL_EVERY_MIN: Final = 5
DEFAULT_SWEEP_AT: Final = time(3, 0)
MINUTES_PER_DAY: Final = 24 * 60


@dataclass(frozen=True, slots=True)
class Schedule:
    """``pull_every_min`` 0: no pull starts by itself; ``sweep_at`` (local time) None: no sweep does."""

    pull_every_min: int = DEFAULT_PULL_EVERY_MIN
    sweep_at: time | None = DEFAULT_SWEEP_AT

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Schedule:
        """Return the schedule of LABELLOOP_PULL_EVERY_MIN (0 = off) and LABELLOOP_SWEEP_AT (empty = off).

        Raises:
            LabelingError: a value that cannot be used; its variable is named.

        >>> Schedule.from_environ({"LABELLOOP_PULL_EVERY_MIN": "15", "LABELLOOP_SWEEP_AT": ""}).describe()
        {'pull': 'every 15 minutes', 'sweep': 'off'}
        """
        minutes = environ.get("LABELLOOP_PULL_EVERY_MIN") or str(DEFAULT_PULL_EVERY_MIN)
        if not minutes.isdecimal() or int(minutes) > MINUTES_PER_DAY:
            raise LabelingError(
                f"LABELLOOP_PULL_EVERY_MIN: '{minutes}' (expected minutes, 0 to {MINUTES_PER_DAY}; 0 = off)"
            )
        sweep_at = environ.get("LABELLOOP_SWEEP_AT", f"{DEFAULT_SWEEP_AT:%H:%M}")
        return cls(int(minutes), _read_time(sweep_at) if sweep_at else None)

    def is_pull_due(self, at: datetime) -> bool:
        """Return whether a pull starts in this minute.

        >>> [minute for minute in range(12) if Schedule(5).is_pull_due(datetime(2026, 5, 4, 10, minute))]
        [0, 5, 10]
        """
        return self.pull_every_min > 0 and (at.hour * 60 + at.minute) % self.pull_every_min == 0

    def is_sweep_due(self, at: datetime) -> bool:
        """Return whether a sweep starts in this minute."""
        return self.sweep_at is not None and (at.hour, at.minute) == (self.sweep_at.hour, self.sweep_at.minute)

    def describe(self) -> dict[str, Any]:
        """Return each job with when it starts, in words."""
        every = "every minute" if self.pull_every_min == 1 else f"every {self.pull_every_min} minutes"
        return {
            "pull": every if self.pull_every_min else "off",
            "sweep": f"every day at {self.sweep_at:%H:%M}" if self.sweep_at else "off",
        }


NEVER: Final = Schedule(0, None)


def _read_time(text: str) -> time:
    try:
        return datetime.strptime(text, "%H:%M").time()  # noqa: DTZ007  a time of day has no zone
    except ValueError:
        raise LabelingError(f"LABELLOOP_SWEEP_AT: '{text}' is no time of day (expected HH:MM; empty = off)") from None
