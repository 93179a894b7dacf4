"""What a job did, in the one form that the command line, the console and the plugin show."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

MOVED_IN_WORDS: Final = {
    "ingest": "added",
    "prelabel": "pre-labelled",
    "push": "sent",
    "pull": "merged",
    "export": "exported",
}

OnProgress = Callable[[float | None, str], None]
"""Called with the part that is done (0..1, None when not known) and what is being done."""


def ignore_progress(_done: float | None, _message: str) -> None:
    """The listener for those who do not watch."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One item a job could not use, and why."""

    item: str
    problem: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a job did: ``moved`` items changed something, ``unchanged`` ones were right already.

    ``conflicts`` lists samples that wait for a person; ``details`` counts what is worth knowing besides.
    """

    job: str
    moved: int = 0
    unchanged: int = 0
    failed: tuple[Failure, ...] = ()
    conflicts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    details: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_clean(self) -> bool:
        """Whether nothing failed and nothing waits for a person."""
        return not self.failed and not self.conflicts

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON; ``from_dict`` is its inverse."""
        return {
            "job": self.job,
            "moved": self.moved,
            "unchanged": self.unchanged,
            "failed": [{"item": failure.item, "problem": failure.problem} for failure in self.failed],
            "conflicts": list(self.conflicts),
            "notes": list(self.notes),
            "details": dict(self.details),
            "lines": list(self.lines()),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Report:
        """Return the report of ``to_dict``.

        >>> report = Report("push", moved=2, failed=(Failure("a.jpg", "is empty"),))
        >>> Report.from_dict(report.to_dict()) == report
        True
        """
        return cls(
            job=values["job"],
            moved=values["moved"],
            unchanged=values["unchanged"],
            failed=tuple(Failure(**failure) for failure in values["failed"]),
            conflicts=tuple(values["conflicts"]),
            notes=tuple(values["notes"]),
            details=dict(values["details"]),
        )

    def lines(self) -> Iterator[str]:
        """Yield the report as lines for people, the summary first.

        >>> list(Report("push", moved=2, unchanged=1).lines())
        ['push: 2 sent, 1 unchanged']
        """
        summary = f"{self.job}: {self.moved} {MOVED_IN_WORDS.get(self.job, 'moved')}, {self.unchanged} unchanged"
        if self.failed:
            summary += f", {len(self.failed)} failed"
        if self.conflicts:
            summary += f", {len(self.conflicts)} in conflict"
        yield summary
        if self.details:
            yield "  " + ", ".join(f"{name} {count}" for name, count in sorted(self.details.items()))
        for note in self.notes:
            yield f"  note: {note}"
        for failure in self.failed:
            yield f"  failed: {failure.item}: {failure.problem}"
        for conflict in self.conflicts:
            yield f"  conflict: {conflict}"
