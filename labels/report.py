"""What a job did, in the one form that the command line, the console and the plugin show."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

MOVED_IN_WORDS: Final = {
    "mistakes": "scored",
    "ingest": "added",
    "prelabel": "pre-labelled",
    "push": "sent",
    "pull": "merged",
    "export": "exported",
    "report": "written",
    "sweep": "cleaned",
    "resolve": "decided",
    "queue": "queued",
    "relabel": "relabelled",
    "calibrate": "calibrated",
    "embed": "embedded",
    "visualize": "placed",
    "cluster": "grouped",
    "outliers": "scored",
    "similarity": "indexed",
    "zeroshot": "classified",
    "train": "trained",
    "evaluate": "looked at",
    "promote": "promoted",
    "rollback": "rolled back",
    "duplicates": "grouped anew",
    "duplicates_drop": "dropped",
    "duplicates_undo": "taken back",
    "quality": "measured",
    "quality_decide": "tagged as trash",
    "quality_undo": "taken back",
    "quality_learn": "learnt from",
    "quality_examples": "written",
    "clean": "judged",
    "clean_apply": "changed",
    "clean_undo": "taken back",
}
# It moves nothing: what it says of a sample is whether the three agree on it.
VERIFY: Final = "verify"

OnProgress = Callable[[float | None, str], None]
"""Called with the part that is done (0..1, None when not known) and what is being done."""


def ignore_progress(_done: float | None, _message: str) -> None:
    """The listener for those who do not watch."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One item a job could not use, and why; ``sample_id`` where it is known: the job can be run again for it alone."""

    item: str
    problem: str
    sample_id: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What a job did: ``moved`` items changed something, ``unchanged`` ones were right already.

    ``conflicts`` lists samples that wait for a person; ``details`` counts what is worth knowing besides. Of a dry run
    ``moved`` is what would have changed, and its lines say «would».
    """

    job: str
    moved: int = 0
    unchanged: int = 0
    failed: tuple[Failure, ...] = ()
    conflicts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    details: Mapping[str, int] = field(default_factory=dict)
    is_dry_run: bool = False

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
            "failed": [asdict(failure) for failure in self.failed],
            "conflicts": list(self.conflicts),
            "notes": list(self.notes),
            "details": dict(self.details),
            "is_dry_run": self.is_dry_run,
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
            # What an older version kept has neither this nor the failures' sample ids.
            is_dry_run=values.get("is_dry_run", False),
        )

    def lines(self) -> Iterator[str]:
        """Yield the report as lines for people, the summary first.

        >>> list(Report("push", moved=2, unchanged=1).lines())
        ['push: 2 sent, 1 unchanged']
        >>> list(Report("queue", moved=2, is_dry_run=True).lines())
        ['queue: 2 would be queued, 0 unchanged']
        """
        yield self._summarize()
        if self.details:
            yield "  " + ", ".join(f"{name} {count}" for name, count in sorted(self.details.items()))
        for note in self.notes:
            yield f"  note: {note}"
        word = "differs" if self.job == VERIFY else "failed"
        for failure in self.failed:
            yield f"  {word}: {failure.item}: {failure.problem}"
        for conflict in self.conflicts:
            yield f"  conflict: {conflict}"

    def _summarize(self) -> str:
        if self.job == VERIFY:
            return f"{VERIFY}: {self.unchanged} agree, {len(self.failed)} differ"
        moved = f"{'would be ' if self.is_dry_run else ''}{MOVED_IN_WORDS.get(self.job, 'moved')}"
        parts = [f"{self.job}: {self.moved} {moved}", f"{self.unchanged} unchanged"]
        parts += [f"{len(self.failed)} failed"] if self.failed else []
        parts += [f"{len(self.conflicts)} in conflict"] if self.conflicts else []
        return ", ".join(parts)
