"""One list of what is likely wrong, the likeliest first, each with its reason in words. Reads documents as dicts.

A label's finding is the likeliest of its kinds; a box that is missing and people who disagree are findings too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from labels import fields

Box = tuple[float, float, float, float]
"""A box as FiftyOne holds it: left, top, width, height as parts of the image."""

SWAPPED: Final = "swapped"
LOCATION: Final = "location"
SPURIOUS: Final = "spurious"
MISSING: Final = "missing"
RULE: Final = "rule"
CLASS: Final = "class"
DISAGREEMENT: Final = "disagreement"
DATALAB: Final = "datalab"
KINDS: Final[Mapping[str, str]] = {
    SWAPPED: "Another class",
    LOCATION: "Box in the wrong place",
    SPURIOUS: "No such object",
    MISSING: "Object without a box",
    RULE: "Odd box",
    CLASS: "Another class (image)",
    DISAGREEMENT: "People disagree",
    DATALAB: "Odd image (Datalab)",
}
FIELD_OF_KIND: Final[Mapping[str, str]] = {
    SWAPPED: fields.MISTAKE_SWAPPED,
    LOCATION: fields.MISTAKE_LOCATION,
    SPURIOUS: fields.MISTAKE_SPURIOUS,
    RULE: fields.MISTAKE_RULE,
    MISSING: fields.MISTAKE_MISSING,
    CLASS: fields.MISTAKE_CLASS,
}
BOX_KINDS: Final = (SWAPPED, LOCATION, SPURIOUS, RULE)
"""Kinds that a box of a person can be; MISSING is of the image."""

SAME_OBJECT_IOU: Final = 0.5
REMOVE: Final = ""
"""The suggested class of a box that should not be there."""

PLACES: Final = 6
"""Digits to which boxes count as equal: a database gives back what it got, a person's tool need not."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is likely wrong.

    ``field`` holds the label, or is to hold it; ``label_id`` and ``box`` are of the label, of a proposal where it is
    missing; None: it is about the whole image. ``remedy`` says what accepting does: ``relabel`` to ``suggestion``,
    ``move`` to ``new_box``, ``add``, ``remove``; None: only a person can mend it.
    """

    sample_id: str
    filepath: str
    field: str | None
    kind: str
    score: float
    reason: str
    label_id: str | None = None
    label: str | None = None
    box: Box | None = None
    suggestion: str | None = None
    new_box: Box | None = None
    remedy: str | None = None

    @property
    def key(self) -> str:
        """What names it in the panel: the label, or the sample with what is missing from it."""
        return f"{self.sample_id}:{self.label_id or self.kind}"


@dataclass(frozen=True, slots=True)
class Kept:
    """What a person decided to leave as it is: a label as it was, or a box of a class that is not to be added."""

    sample_id: str
    field: str | None
    label_id: str | None
    label: str | None
    box: Box | None

    def covers(self, finding: Finding) -> bool:
        """Return whether this decision is about the finding, and the label still says the same."""
        about = (self.sample_id, self.field, self.label)
        if about != (finding.sample_id, finding.field, finding.label):
            return False
        if finding.kind == MISSING:
            return self.box is not None and compute_iou(self.box, finding.box) >= SAME_OBJECT_IOU
        if self.box is None and finding.box is None:
            # The class of a whole image: said again in another annotation, it has another id and is the same.
            return True
        return self.label_id == finding.label_id and round_box(self.box) == round_box(finding.box)


KeptBySample = Mapping[str, Sequence[Kept]]


def round_box(box: Sequence[float] | None) -> tuple[float, ...] | None:
    """Return a box to the digits that count; None stays None."""
    return None if box is None else tuple(round(float(side), PLACES) for side in box)


def compute_iou(one: Sequence[float] | None, other: Sequence[float] | None) -> float:
    """Return the overlap of two boxes of one image; 0 where there is none.

    >>> compute_iou((0, 0, 0.5, 0.5), (0, 0, 0.5, 0.25))
    0.5
    """
    if one is None or other is None:
        return 0.0
    wide = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    high = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    if wide <= 0 or high <= 0:
        return 0.0
    shared = wide * high
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def list_findings(
    documents: Iterable[Mapping[str, Any]],
    labels: Sequence[str],
    kept: KeptBySample,
    *,
    kinds: Sequence[str] | None = None,
) -> list[Finding]:
    """Return what is likely wrong in samples, the likeliest first, without what a person has kept.

    ``documents`` are samples as the database holds them, ``labels`` the fields that were judged.
    """
    found = [one for document in documents for one in read_findings(document, labels)]
    left = [one for one in found if not any(kept_one.covers(one) for kept_one in kept.get(one.sample_id, ()))]
    wanted = left if kinds is None else [one for one in left if one.kind in kinds]
    return sorted(wanted, key=lambda one: (-one.score, one.key))


def compute_mistakenness(document: Mapping[str, Any], labels: Sequence[str], kept: Sequence[Kept]) -> float | None:
    """Return the score of the likeliest mistake that no person has kept; None: the sample was never judged.

    How much people disagree, and what Datalab says of the image, are fields of their own, and no part of it.
    """
    found = read_findings(document, labels, every=True)
    findings = [one for one in found if one.kind not in (DISAGREEMENT, DATALAB)]
    left = [one.score for one in findings if not any(kept_one.covers(one) for kept_one in kept)]
    if left:
        return max(left)
    is_judged = any(document.get(name) is not None for name in FIELD_OF_KIND.values())
    return 0.0 if is_judged else None


def read_findings(document: Mapping[str, Any], labels: Sequence[str], *, every: bool = False) -> list[Finding]:
    """Return what one sample's attributes say; ``every``: also what is too unlikely to have a reason."""
    findings: list[Finding] = []
    for name in labels:
        read = (_read_label(document, name, label, every=every) for label in list_labels(document.get(name)))
        findings += [one for one in read if one is not None]
    for proposal in (document.get(fields.MISTAKE_PROPOSALS) or {}).get("detections", ()):
        findings.append(_read_proposal(document, proposal))
    datalab = document.get(fields.MISTAKE_DATALAB) or {}
    if datalab.get("kind") is not None:
        findings.append(_read_datalab(document, datalab))
    disagreement = document.get(fields.DISAGREEMENT)
    if disagreement:
        people = document.get(fields.ANNOTATORS)
        told = f"{people} people" if people else "people"
        reason = f"{told} gave answers that differ by {disagreement:.0%}"
        sample_id, filepath = str(document["_id"]), document["filepath"]
        findings.append(Finding(sample_id, filepath, None, DISAGREEMENT, float(disagreement), reason))
    return findings


def list_labels(about: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """Return the labels of a field as the database holds it: its boxes, or its class; none where it says nothing."""
    if not about:
        return []
    return list(about.get("detections", [about] if about.get("label") is not None else []))


def _read_label(document: Mapping[str, Any], field: str, label: Mapping[str, Any], *, every: bool) -> Finding | None:
    scores = {kind: label.get(FIELD_OF_KIND[kind]) for kind in (*BOX_KINDS, CLASS)}
    known = {kind: float(score) for kind, score in scores.items() if score is not None}
    kind = label.get(fields.MISTAKE_KIND)
    if not known or (kind is None and not every):
        return None
    kind = kind if kind in known else max(known, key=lambda one: known[one])
    suggestion, new_box = label.get(fields.MISTAKE_SUGGESTION), _to_box(label.get(fields.MISTAKE_BOX))
    return Finding(
        str(document["_id"]),
        document["filepath"],
        field,
        kind,
        known[kind],
        label.get(fields.MISTAKE_REASON) or "",
        str(label["_id"]),
        label.get("label"),
        _to_box(label.get("bounding_box")),
        suggestion,
        new_box,
        _find_remedy(kind, suggestion, new_box),
    )


def _find_remedy(kind: str, suggestion: str | None, new_box: Box | None) -> str | None:
    if kind in (SWAPPED, CLASS):
        return None if suggestion is None else "relabel"
    if new_box is not None:
        return "move"
    return "remove" if kind == SPURIOUS or (kind == RULE and suggestion == REMOVE) else None


def _read_proposal(document: Mapping[str, Any], proposal: Mapping[str, Any]) -> Finding:
    return Finding(
        str(document["_id"]),
        document["filepath"],
        proposal.get(fields.MISTAKE_FIELD),
        MISSING,
        float(proposal.get(fields.MISTAKE_MISSING) or 0.0),
        proposal.get(fields.MISTAKE_REASON) or "",
        str(proposal["_id"]),
        proposal.get("label"),
        _to_box(proposal.get("bounding_box")),
        proposal.get("label"),
        _to_box(proposal.get("bounding_box")),
        "add",
    )


def _read_datalab(document: Mapping[str, Any], said: Mapping[str, Any]) -> Finding:
    # Named by its kind: a person who keeps one issue has not decided about another one.
    return Finding(
        str(document["_id"]),
        document["filepath"],
        None,
        DATALAB,
        float(said.get("score") or 0.0),
        said.get("reason") or "",
        label=said["kind"],
    )


def _to_box(value: Any) -> Box | None:
    if value is None or len(value) != 4:
        return None
    left, top, width, height = (float(side) for side in value)
    return left, top, width, height
