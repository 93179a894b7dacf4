"""The end of a process, at a write of a given number or name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from sync.jobs.context import Context

LATE: Final = ("send_tasks", "send_predictions", "send_annotation")


class KilledError(Exception):
    """Stands for the end of the process."""


class KillSwitch:
    """Counts the writes of a job, and ends it before or after the one of a given number, or the first of some names.

    ``error`` is what is raised there: a ServiceError in place of the end stands for an answer that was lost. With
    ``meanwhile`` nothing ends: that is done at this moment, by somebody else. ``late`` is given what a request that
    makes something would have done, if that is where the job ends: the server goes on with it.
    """

    def __init__(
        self,
        at: int | tuple[str, ...] | None = None,
        *,
        before: bool = True,
        error: type[Exception] = KilledError,
        meanwhile: Callable[[], None] | None = None,
        late: Callable[[Callable[[], Any]], None] | None = None,
    ) -> None:
        self.writes = 0
        self.is_over = False
        self._at = at
        self._before = before
        self._error = error
        self._meanwhile = meanwhile
        self._late = late

    def guard(self, context: Context) -> Context:
        """Return the context with each of its tools behind this switch."""
        tools: Mapping[str, Any] = {
            name: _Guarded(getattr(context, name), self) for name in ("ledger", "dataset", "label_studio")
        }
        return replace(context, **tools)

    def write(self, name: str, call: Callable[[], Any]) -> Any:
        """Make one write, unless the end comes first."""
        if self.is_over:
            # The dead write nothing, whatever their clean-up would like to.
            raise self._error(f"after write {self.writes}")
        self.writes += 1
        is_there = name in self._at if isinstance(self._at, tuple) else self.writes == self._at
        is_the_end = self.is_over = is_there and self._meanwhile is None
        if is_there and self._meanwhile is not None:
            self._meanwhile()
            return call()
        if is_the_end and self._late is not None and name in LATE:
            self._late(call)
            raise self._error(f"during write {self.writes}")
        if is_the_end and self._before:
            raise self._error(f"before write {self.writes}")
        answer = call()
        if is_the_end:
            raise self._error(f"after write {self.writes}")
        return answer


class _Guarded:
    """Hands everything on; writes go through the switch."""

    def __init__(self, target: Any, switch: KillSwitch) -> None:
        self._target = target
        self._switch = switch

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if name.partition("_")[0] in ("write", "record", "send", "delete", "update"):
            return lambda *args, **kwargs: self._switch.write(name, lambda: found(*args, **kwargs))
        return found
