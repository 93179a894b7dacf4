"""What follows when a person decides about a finding.

Accepting changes a person's label, as a curator does by hand: the sync carries it to Label Studio. It is written down
before, with the label as it was, so that it can be undone; and it is written only over the label that was shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from fiftyone_plugins.app.writing import CHANGED_AT
from fiftyone_plugins.mistakes.decisions import Decisions
from fiftyone_plugins.mistakes.ranking import MISSING, Finding, compute_mistakenness
from fiftyone_plugins.mistakes.storing import OF_A_LABEL, read_documents, read_judged, reporting_errors
from labels import fields
from labels.errors import LabelingError

STALE: Final = "was changed meanwhile: look at the list again"
IN_WORDS: Final[Mapping[str, str]] = {
    "relabel": "Change the class",
    "move": "Move the box",
    "add": "Add the box",
    "remove": "Remove the box",
}
Document = dict[str, Any]


def keep(dataset: Any, folder: Path, finding: Finding) -> None:
    """Remember that a person finds it right as it is; it is not shown again while the label stays the same."""
    Decisions(folder, dataset.name).keep(finding)
    _refresh(dataset, folder, finding.sample_id)


def accept(dataset: Any, folder: Path, finding: Finding) -> None:
    """Do what the finding suggests with the label.

    Raises:
        LabelingError: it suggests nothing, or the label is no longer the one that was shown.
    """
    if finding.remedy is None or finding.field is None:
        raise LabelingError("there is nothing to accept: a person has to look at it in Label Studio")
    before = _find_label(dataset, finding.sample_id, finding.field, finding.label_id)
    if finding.kind == MISSING:
        if before is not None:
            raise LabelingError(f"the box {STALE}")
        after: Document | None = _to_new_label(finding)
    else:
        if before is None or not _is_shown(before, finding):
            raise LabelingError(f"the label {STALE}")
        after = _mend(before, finding)
    decisions = Decisions(folder, dataset.name)
    decisions.record(finding, _to_json(before), _to_json(after))
    if not _swap(dataset, finding.sample_id, finding.field, before, after):
        decisions.undo(max(decisions.read()))
        raise LabelingError(f"the label {STALE}")
    if finding.kind == MISSING:
        _drop_proposal(dataset, finding)
    _refresh(dataset, folder, finding.sample_id)


def undo(dataset: Any, folder: Path) -> str:
    """Take the last decision back and return the sample it was about; labels become what they were.

    Raises:
        LabelingError: nobody has decided anything, or the label was changed since.
    """
    from bson import json_util

    decisions = Decisions(folder, dataset.name)
    counting = decisions.read()
    if not counting:
        raise LabelingError("there is nothing to undo")
    number = max(counting)
    last = counting[number]
    sample_id = str(last["sample_id"])
    if last["do"] == "accept":
        before, after = (
            None if last[name] is None else json_util.loads(json_util.dumps(last[name])) for name in ("before", "after")
        )
        if not _swap(dataset, sample_id, last["field"], after, before):
            raise LabelingError("the label was changed since: it stays as it is now")
    decisions.undo(number)
    _refresh(dataset, folder, sample_id)
    return sample_id


def _find_label(dataset: Any, sample_id: str, field: str, label_id: str | None) -> Document | None:
    """Return the label as the database holds it, all of it; None: there is none of that id."""
    from bson import ObjectId

    with reporting_errors():
        sample = dataset._sample_collection.find_one({"_id": ObjectId(sample_id)}, [field])
    about = (sample or {}).get(field) or {}
    held = about.get("detections", [about] if "label" in about else [])
    return next((one for one in held if str(one["_id"]) == label_id), None)


def _is_shown(label: Document, finding: Finding) -> bool:
    box = label.get("bounding_box")
    return label.get("label") == finding.label and (None if box is None else tuple(box)) == finding.box


def _mend(before: Document, finding: Finding) -> Document | None:
    """Return the label as it is to be; None: it goes."""
    if finding.remedy == "remove":
        return None
    after = {**before, **dict.fromkeys(name for name in OF_A_LABEL["boxes"] if name in before)}
    after |= dict.fromkeys(name for name in OF_A_LABEL["images"] if name in before)
    if finding.remedy == "relabel":
        return {**after, "label": finding.suggestion}
    if before.get("mask") is not None or before.get(fields.ROTATION_DEG):
        raise LabelingError("a mask or a turned box cannot be moved from here: draw it anew in Label Studio")
    assert finding.new_box is not None
    return {**after, "bounding_box": list(finding.new_box)}


def _to_new_label(finding: Finding) -> Document:
    import fiftyone as fo
    from bson import ObjectId

    assert finding.box is not None
    label = dict(fo.Detection(label=finding.label, bounding_box=list(finding.box)).to_dict())
    return {**label, "_id": ObjectId(finding.label_id)}


def _swap(dataset: Any, sample_id: str, field: str, before: Document | None, after: Document | None) -> bool:
    """Put one label in the place of another, if it is still what it was; return whether it was. None: no label."""
    from bson import ObjectId

    condition: dict[str, Any] = {"_id": ObjectId(sample_id)}
    change: dict[str, Any]
    if before is not None and "bounding_box" not in before:
        condition |= {f"{field}._id": before["_id"], f"{field}.label": before["label"]}
        change = {"$set": {field: after}}
    elif before is None:
        assert after is not None
        # Into a list that is there: where nobody ever looked, one box would say that there is nothing else.
        condition |= {f"{field}.detections": {"$type": "array"}, f"{field}.detections._id": {"$ne": after["_id"]}}
        change = {"$push": {f"{field}.detections": after}}
    else:
        same = {name: before[name] for name in ("_id", "label", "bounding_box")}
        condition[f"{field}.detections"] = {"$elemMatch": same}
        change = (
            {"$pull": {f"{field}.detections": {"_id": before["_id"]}}}
            if after is None
            else {"$set": {f"{field}.detections.$": after}}
        )
    with reporting_errors():
        update = {**change, "$currentDate": {CHANGED_AT: True}}
        return bool(dataset._sample_collection.update_one(condition, update).matched_count)


def _drop_proposal(dataset: Any, finding: Finding) -> None:
    from bson import ObjectId

    held = f"{fields.MISTAKE_PROPOSALS}.detections"
    with reporting_errors():
        dataset._sample_collection.update_one(
            {"_id": ObjectId(finding.sample_id)}, {"$pull": {held: {"_id": ObjectId(finding.label_id)}}}
        )


def _refresh(dataset: Any, folder: Path, sample_id: str) -> None:
    """Compute a sample's mistakenness anew, from what is left."""
    from bson import ObjectId

    names = read_judged(dataset)
    for document in read_documents(dataset, [sample_id], names):
        kept = Decisions(folder, dataset.name).kept().get(sample_id, ())
        value = compute_mistakenness(document, names, kept)
        with reporting_errors():
            dataset._sample_collection.update_one(
                {"_id": ObjectId(sample_id)},
                {"$set": {fields.MISTAKENNESS: value}, "$currentDate": {CHANGED_AT: True}},
            )


def _to_json(label: Document | None) -> Any:
    import json

    from bson import json_util

    return None if label is None else json.loads(json_util.dumps(label))
