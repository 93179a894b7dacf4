"""What a decision changed, as JSON lines: written before it is done, read to undo it. Knows no FiftyOne.

    FOLDER/decisions/DATASET/trash-1.jsonl     {"run": "trash-1", "about": {…}}
                                               {"sample_id": "…", …}            one a change
                                               {"end": "done"} and, later, {"end": "undone"}

A log without an end is of a decision that was killed: it can be undone as far as it came.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from fiftyone_plugins.app.lines import add_lines, open_alone
from fiftyone_plugins.app.naming import to_file_name
from labels.errors import LabelingError

DECISIONS: Final = "decisions"
NOTHING_STANDS: Final = "there is no decision to take back"
End = Literal["done", "undone"]
Change = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Decided:
    """One decision: its name, what it was about, its changes in their order, and its end (None: it was killed)."""

    run: str
    about: Mapping[str, Any]
    changes: tuple[Change, ...]
    end: End | None

    @property
    def kind(self) -> str:
        """What was decided: ``trash`` of ``trash-1``."""
        return _kind_of(self.run)


class Journal:
    """The log of one decision, which is there from its first line on."""

    def __init__(self, file: Path) -> None:
        self.file = file

    @property
    def run(self) -> str:
        """The decision's name, such as ``trash-1``."""
        return self.file.stem

    @classmethod
    def begin(cls, folder: Path, dataset: str, kind: str, about: Mapping[str, Any]) -> Journal:
        """Start a log under the next free number of its kind."""
        place = to_folder(folder, dataset)
        place.mkdir(parents=True, exist_ok=True)
        number = 1 + max((_number_of(file, kind) for file in place.glob(f"{kind}-*.jsonl")), default=0)
        while (journal := cls(place / f"{kind}-{number}.jsonl")).file.exists() or not journal._write_first(about):
            number += 1
        return journal

    def _write_first(self, about: Mapping[str, Any]) -> bool:
        """Make the log, with its first line in it at once; False: somebody else made it."""
        part = self.file.with_name(f".{self.run}.{os.getpid()}-{threading.get_ident()}.part")
        with part.open("w", encoding="utf-8") as stream:
            stream.write(json.dumps({"run": self.run, "about": dict(about)}) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(part, self.file)
        except FileExistsError:
            return False
        finally:
            part.unlink()
        return True

    def add(self, changes: Iterable[Change]) -> None:
        """Write what is about to be changed; it is on the disk when this returns."""
        with open_alone(self.file) as stream:
            add_lines(stream, changes)

    def close(self, end: End) -> None:
        """Write how the decision ended."""
        self.add([{"end": end}])


def read_decided(folder: Path, dataset: str, run: str) -> Decided:
    """Return a decision by its name.

    Raises:
        LabelingError: there is none of that name.
    """
    known = {file.stem: file for file in to_folder(folder, dataset).glob("*.jsonl")}
    decided = _read(known[run]) if run in known else None
    if decided is None:
        raise LabelingError(f"decision {run!r} is not known (known: {', '.join(sorted(known)) or 'none'})")
    return decided


def list_decided(folder: Path, dataset: str, *kinds: str) -> list[Decided]:
    """Return the decisions of these kinds, the last one first."""
    files = [file for file in to_folder(folder, dataset).glob("*.jsonl") if _kind_of(file.stem) in kinds]
    read = [_read(file) for file in sorted(files, key=lambda file: (file.stat().st_mtime_ns, file.stem), reverse=True)]
    return [one for one in read if one is not None]


def list_standing(folder: Path, dataset: str, *kinds: str) -> list[Decided]:
    """Return the decisions of these kinds that were not taken back, the last one first."""
    return [one for one in list_decided(folder, dataset, *kinds) if one.end != "undone"]


def find_standing(folder: Path, dataset: str, *kinds: str, run: str | None) -> Decided:
    """Return the decision to take back: the one of that name; None: the last one of these kinds.

    Raises:
        LabelingError: there is none of that name, it is of another kind, or it was taken back already.
    """
    if run is None:
        standing = list_standing(folder, dataset, *kinds)
        if not standing:
            raise LabelingError(NOTHING_STANDS)
        return standing[0]
    decided = read_decided(folder, dataset, run)
    if decided.kind not in kinds:
        raise LabelingError(f"{run}: is another kind of decision (expected one of: {', '.join(kinds)})")
    if decided.end == "undone":
        raise LabelingError(f"{run}: was taken back already")
    return decided


def mark_undone(folder: Path, dataset: str, decided: Decided) -> None:
    """Write that a decision was taken back."""
    Journal(to_folder(folder, dataset) / f"{decided.run}.jsonl").close("undone")


def to_folder(folder: Path, dataset: str) -> Path:
    """Return where the decisions about a dataset are kept.

    >>> to_folder(Path("curation"), "a/b").as_posix()
    'curation/decisions/a%2Fb'
    """
    return folder / DECISIONS / to_file_name(dataset)


def _read(file: Path) -> Decided | None:
    """Return a decision; None: the first line is missing, as after a loss of power before anything was changed."""
    about: Mapping[str, Any] | None = None
    changes: list[Change] = []
    end: End | None = None
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            values = json.loads(line)
        except ValueError:
            # The last line of a process that was killed while it wrote: what it says was not begun.
            continue
        if "run" in values:
            about = values["about"]
        elif "end" in values:
            end = values["end"]
        else:
            changes.append(values)
    return None if about is None else Decided(file.stem, about, tuple(changes), end)


def _kind_of(run: str) -> str:
    return run.rpartition("-")[0]


def _number_of(file: Path, kind: str) -> int:
    text = file.stem.removeprefix(f"{kind}-")
    return int(text) if text.isdigit() else 0
