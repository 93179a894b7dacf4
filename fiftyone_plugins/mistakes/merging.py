"""What a sample says once there is a verdict on the labels of one field, beside what is known of its other fields.

Plain dicts, as the database holds them; no database.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fiftyone_plugins.mistakes.ranking import (
    BOX_KINDS,
    CLASS,
    FIELD_OF_KIND,
    MISSING,
    Kept,
    compute_mistakenness,
    list_labels,
)
from fiftyone_plugins.mistakes.verdicts import Values, Verdict
from labels import fields

Document = Mapping[str, Any]

# What is said of a field that has no labels any more.
SILENT: Final[Mapping[str, Verdict]] = {
    "boxes": Verdict(
        (), dict.fromkeys([*(FIELD_OF_KIND[kind] for kind in (*BOX_KINDS, MISSING)), fields.MISTAKE_OBJECTLAB]), ()
    ),
    "images": Verdict((), dict.fromkeys([FIELD_OF_KIND[CLASS], fields.MISTAKE_DATALAB]), None),
}


@dataclass(frozen=True, slots=True)
class Threshold:
    """From which mistakenness on a sample has the tag: ``now``, and the ``lowest`` of all runs so far."""

    now: float
    lowest: float

    def decide(self, document: Document, mistakenness: float | None) -> bool:
        """Return whether a sample is to have the tag; a person's own tag on one that we never tagged stays."""
        if mistakenness is not None and mistakenness >= self.now:
            return True
        before = document.get(fields.MISTAKENNESS)
        return fields.MISTAKE_TAG in (document.get("tags") or ()) and (before is None or before < self.lowest)


def merge(
    document: Document, labels: str, verdict: Verdict, names: Sequence[str], kept: Sequence[Kept]
) -> dict[str, Any]:
    """Return the sample as it will be; ``names`` are the fields that were judged, ``labels`` the one of the verdict.

    A score of the sample is the highest of all its fields, and proposals to other fields stay.
    """
    held = (document.get(fields.MISTAKE_PROPOSALS) or {}).get("detections", ())
    proposals = [one for one in held if one.get(fields.MISTAKE_FIELD) != labels]
    others = [label for name in names if name != labels for label in list_labels(document.get(name))]
    after = {**document, **_find_highest(verdict.sample, others, proposals)}
    about = document.get(labels)
    if about and verdict.labels:
        pairs = zip(list_labels(about), verdict.labels, strict=True)
        judged = [{**label, **values} for label, values in pairs]
        after[labels] = {**about, "detections": judged} if "detections" in about else judged[0]
    if verdict.proposals is not None:
        by_id = {str(one["_id"]): one for one in held}
        proposals += [_to_proposal(one, by_id.get(one["_id"])) for one in verdict.proposals]
        after[fields.MISTAKE_PROPOSALS] = {"_cls": "Detections", "detections": proposals}
    after[fields.MISTAKENNESS] = compute_mistakenness(after, names, kept)
    return after


def find_changes(document: Document, after: Document, labels: str, verdict: Verdict) -> Values:
    """Return what is to be written of a merged sample, by its place in the database; nothing: it is there already."""
    if after == document:
        return {}
    names = [*verdict.sample, fields.MISTAKENNESS]
    names += [] if verdict.proposals is None else [fields.MISTAKE_PROPOSALS]
    changes = {name: after[name] for name in names if name not in document or document[name] != after[name]}
    is_list = "detections" in (document.get(labels) or {})
    for row, values in enumerate(verdict.labels):
        place = f"{labels}.detections.{row}" if is_list else labels
        changes |= {f"{place}.{name}": value for name, value in values.items()}
    return changes


def _find_highest(own: Values, labels: Iterable[Document], proposals: Iterable[Document]) -> Values:
    values = dict(own)
    for kind, name in FIELD_OF_KIND.items():
        if name in own:
            others = proposals if kind == MISSING else labels
            known = [one[name] for one in (own, *others) if one.get(name) is not None]
            values[name] = max(known, default=None)
    return values


def _to_proposal(proposal: Values, held: Document | None) -> dict[str, Any]:
    """Return a proposal as the database holds it; what a person added to it stays."""
    import fiftyone as fo
    from bson import ObjectId

    return {**(held or fo.Detection().to_dict()), **proposal, "_id": ObjectId(proposal["_id"])}
