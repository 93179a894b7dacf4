"""The people's own files of samples, and whether each is the one that was measured. Opens no image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fiftyone_plugins.quality.checks import CORRUPT, find_check
from labels import fields


@dataclass(frozen=True, slots=True)
class OwnFile:
    """The file of a sample: the person's own where the App shows a copy. ``stamp`` is of the file as it was measured.

    ``is_measured``: there are scores of it; without a ``stamp`` nobody knows of which content.
    """

    sample_id: str
    path: Path
    is_measured: bool
    stamp: str | None

    @property
    def is_current(self) -> bool:
        """Whether there are scores, and they are of the file as it is now."""
        return self.is_measured and self.stamp is not None and self.stamp == read_stamp(self.path)


def read_files(samples: Any) -> list[OwnFile]:
    """Return the file of each sample, in their order; read as columns."""
    names = ["id", "filepath"]
    optional = [fields.SOURCE_PATH, find_check(CORRUPT).field, fields.QUALITY_STAMP]
    present = [name for name in optional if samples._dataset.has_sample_field(name)]
    columns = dict(zip([*names, *present], samples.values([*names, *present]), strict=True))
    unknown = [None] * len(columns["id"])
    rows = zip(*(columns.get(name, unknown) for name in [*names, *optional]), strict=True)
    return [
        OwnFile(str(sample_id), Path(source or path), score is not None, stamp)
        for sample_id, path, source, score, stamp in rows
    ]


def read_stamp(path: Path) -> str | None:
    """Return what names a file's content: its size and the time of its last change; None: there is no such file."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return f"{facts.st_size}-{facts.st_mtime_ns}"
