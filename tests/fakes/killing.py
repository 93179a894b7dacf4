"""The end of a process, at a write of a given number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from sync.jobs.context import Context


class KilledError(Exception):
    """Stands for the end of the process."""


class KillSwitch:
    """Counts every write of a job, and ends the job before or after the write of a given number.

    ``error`` is what is raised there: a ServiceError in place of the end stands for an answer that was lost. With
    ``meanwhile`` nothing ends: that is done at this moment, by somebody else.
    """

    def __init__(
        self,
        at: int | None = None,
        *,
        before: bool = True,
        error: type[Exception] = KilledError,
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        self.writes = 0
        self._at = at
        self._before = before
        self._error = error
        self._meanwhile = meanwhile

    def guard(self, context: Context) -> Context:
        """Return the context with each of its tools behind this switch."""
        tools: Mapping[str, Any] = {
            name: _Guarded(getattr(context, name), self) for name in ("ledger", "dataset", "label_studio")
        }
        return replace(context, **tools)

    def write(self, call: Callable[[], Any]) -> Any:
        """Make one write, unless the end comes first."""
        if self.writes == self._at and self._meanwhile is None:
            # The dead write nothing, whatever their clean-up would like to.
            raise self._error(f"after write {self.writes}")
        self.writes += 1
        is_the_end = self.writes == self._at
        if is_the_end and self._meanwhile is not None:
            self._meanwhile()
            return call()
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
            return lambda *args, **kwargs: self._switch.write(lambda: found(*args, **kwargs))
        return found
