"""Writes verdicts on samples that go on being worked on: what people decide or draw meanwhile counts.

Each sample is read again right before it is written, and written only while it is still as it was read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fiftyone_plugins.mistakes.decisions import Decisions
from fiftyone_plugins.mistakes.merging import find_changes, merge
from fiftyone_plugins.mistakes.ranking import KeptBySample, compute_mistakenness
from fiftyone_plugins.mistakes.storing import Change, read_documents, read_judged, read_threshold, write_changes
from fiftyone_plugins.mistakes.verdicts import Subject, Verdict, make_mark
from labels import fields

MOST_TRIES: Final = 5
"""How often a sample is tried that others write on at the same time."""


@dataclass(slots=True)
class Recorded:
    """What became of verdicts: ``overtaken`` are samples whose labels are others by now; they are as they were."""

    moved: int = 0
    unchanged: int = 0
    overtaken: list[Subject] = field(default_factory=list)
    mistakenness: dict[str, float | None] = field(default_factory=dict)


class Recorder:
    """Writes verdicts on the labels of one field."""

    def __init__(self, dataset: Any, folder: Path, labels: str) -> None:
        self._dataset = dataset
        self._labels = labels
        self._names = read_judged(dataset)
        self._threshold = read_threshold(dataset)
        self._decisions = Decisions(folder, dataset.name)
        self._seen: tuple[int, KeptBySample] = -1, {}

    def record(self, verdicts: Mapping[str, tuple[Subject, Verdict]]) -> Recorded:
        """Write verdicts by sample id, each whole or not at all."""
        kept: KeptBySample = {}
        recorded = Recorded()
        left, tried = dict(verdicts), set[str]()
        for _ in range(MOST_TRIES):
            kept = self._read_kept()
            changes = self._find_changes(left, kept, recorded)
            for one in [one for one, change in changes.items() if change.is_stored]:
                recorded.unchanged += one not in tried
                del changes[one], left[one]
            tried |= changes.keys()
            written = write_changes(self._dataset, list(changes.values()))
            recorded.moved += written
            if written == len(changes):
                left = {one: verdict for one, verdict in left.items() if one not in changes}
                break
        recorded.overtaken = [subject for subject, _ in left.values()]
        # Kept after it was read here and before this was written: the mistakenness has it as well.
        decided = self._read_kept()
        for one in verdicts:
            if decided.get(one) != kept.get(one):
                recorded.mistakenness[one] = refresh(self._dataset, self._decisions, one)
        return recorded

    def _find_changes(
        self, verdicts: Mapping[str, tuple[Subject, Verdict]], kept: KeptBySample, recorded: Recorded
    ) -> dict[str, Change]:
        changes = {}
        for document in read_documents(self._dataset, list(verdicts), self._names):
            sample_id = str(document["_id"])
            subject, verdict = verdicts[sample_id]
            if make_mark(document.get(self._labels)) == subject.mark:
                after = merge(document, self._labels, verdict, self._names, kept.get(sample_id, ()))
                recorded.mistakenness[sample_id] = after[fields.MISTAKENNESS]
                has_tag = self._threshold.decide(document, after[fields.MISTAKENNESS])
                values = find_changes(document, after, self._labels, verdict)
                changes[sample_id] = Change(document, [self._labels], values, has_tag)
        return changes

    def _read_kept(self) -> KeptBySample:
        # The size first: what is written while it is read is read the next time.
        size = self._decisions.size()
        if size != self._seen[0]:
            self._seen = size, self._decisions.kept()
        return self._seen[1]


def refresh(dataset: Any, decisions: Decisions, sample_id: str) -> float | None:
    """Compute a sample's mistakenness and its tag anew, after a decision; return the mistakenness."""
    names, threshold = read_judged(dataset), read_threshold(dataset)
    value: float | None = None
    for _ in range(MOST_TRIES):
        kept = decisions.kept().get(sample_id, ())
        documents = read_documents(dataset, [sample_id], names)
        if not documents:
            return None
        value = compute_mistakenness(documents[0], names, kept)
        values = {fields.MISTAKENNESS: value}
        if write_changes(dataset, [Change(documents[0], names, values, threshold.decide(documents[0], value))]):
            break
    return value
