"""What follows when a person decides about a finding.

Accepting changes a person's label, as a curator does by hand: the sync carries it to Label Studio. It is written down
before, with the label as it was, so that it can be undone; and it is written only over the label that was shown. Forth
and back, only what the decision is about is written: what people say of the label besides stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from fiftyone_plugins.app.writing import CHANGED_AT
from fiftyone_plugins.mistakes.decisions import Decisions
from fiftyone_plugins.mistakes.ranking import MISSING, Finding, list_labels
from fiftyone_plugins.mistakes.recording import refresh
from fiftyone_plugins.mistakes.storing import OF_A_LABEL, reporting_errors
from labels import fields
from labels.errors import LabelingError

STALE: Final = "was changed meanwhile: look at the list again"
IN_WORDS: Final[Mapping[str, str]] = {
    "relabel": "Change the class",
    "move": "Move the box",
    "add": "Add the box",
    "remove": "Remove the box",
}
SAID: Final = ("_id", "label", "bounding_box")
"""What a decision is about: a label that says something else here is another one."""

Document = dict[str, Any]


def keep(dataset: Any, folder: Path, finding: Finding) -> None:
    """Remember that a person finds it right as it is; it is not shown again while the label stays the same."""
    decisions = Decisions(folder, dataset.name)
    decisions.keep(finding)
    refresh(dataset, decisions, finding.sample_id)


def accept(dataset: Any, folder: Path, finding: Finding) -> None:
    """Do what the finding suggests with the label.

    Raises:
        LabelingError: it suggests nothing, or the label is no longer the one that was shown.
    """
    if finding.remedy is None or finding.field is None:
        raise LabelingError("there is nothing to accept: a person has to look at it in Label Studio")
    sample = _read_sample(dataset, finding.sample_id, finding.field) or {}
    before = _find(sample.get(finding.field), finding.label_id)
    proposal = None
    if finding.kind == MISSING:
        if before is not None:
            raise LabelingError(f"the box {STALE}")
        proposal = _find(sample.get(fields.MISTAKE_PROPOSALS), finding.label_id)
        after: Document | None = _to_new_label(finding)
    else:
        if before is None or not _is_shown(before, finding):
            raise LabelingError(f"the label {STALE}")
        after = _mend(before, finding)
    decisions = Decisions(folder, dataset.name)
    number = decisions.record(finding, _to_json(before), _to_json(after), _to_json(proposal))
    if not _swap(dataset, finding.sample_id, finding.field, before, after, taken=proposal):
        decisions.undo(number)
        raise LabelingError(f"the label {STALE}")
    refresh(dataset, decisions, finding.sample_id)


def undo(dataset: Any, folder: Path) -> str:
    """Take the last decision back and return the sample it was about; labels become what they were.

    One that cannot be taken back is passed over from then on, so that those before it can be.

    Raises:
        LabelingError: nobody has decided anything, or the label was changed since.
    """
    decisions = Decisions(folder, dataset.name)
    counting = decisions.read()
    if not counting:
        raise LabelingError("there is nothing to undo")
    number = max(counting)
    last = counting[number]
    problem = _take_back(dataset, last) if last["do"] == "accept" else None
    decisions.undo(number)
    sample_id = str(last["sample_id"])
    refresh(dataset, decisions, sample_id)
    if problem is not None:
        raise LabelingError(f"{problem}. Undo again takes back the decision before this one")
    return sample_id


def _take_back(dataset: Any, last: Document) -> str | None:
    """Make a label what it was before a suggestion was accepted; return why not, None where it is."""
    sample_id, field = str(last["sample_id"]), last["field"]
    before, after, proposal = (_from_json(last.get(name)) for name in ("before", "after", "proposal"))
    sample = _read_sample(dataset, sample_id, field)
    if sample is None:
        return "the image was deleted since"
    now = _find(sample.get(field), last["label_id"])
    if _say(now, SAID) == _say(before, SAID):
        # Killed before it was done, or somebody was quicker.
        return "the label is what it was before already"
    # What goes whole must be what came whole: people may have worked on it.
    is_as_left = before is not None or _strip(now) == _strip(after)
    if not is_as_left or not _swap(dataset, sample_id, field, now if before is None else after, before, given=proposal):
        return "the label was changed since: it stays as it is now"
    return None


def _read_sample(dataset: Any, sample_id: str, field: str) -> Document | None:
    """Return a sample's labels as the database holds them, all of them; None: it is gone."""
    from bson import ObjectId

    with reporting_errors():
        found = dataset._sample_collection.find_one({"_id": ObjectId(sample_id)}, [field, fields.MISTAKE_PROPOSALS])
    return None if found is None else dict(found)


def _find(about: Document | None, label_id: str | None) -> Document | None:
    return next((dict(one) for one in list_labels(about) if str(one["_id"]) == label_id), None)


def _say(label: Document | None, names: Sequence[str]) -> Document | None:
    return None if label is None else {name: label.get(name) for name in names}


def _strip(label: Document | None) -> Document:
    """Return what people say of a label: without what is suspected of it, and what is not said."""
    ours = {*OF_A_LABEL["boxes"], *OF_A_LABEL["images"], fields.CONTROL}
    return {name: value for name, value in (label or {}).items() if value is not None and name not in ours}


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


def _swap(
    dataset: Any,
    sample_id: str,
    field: str,
    before: Document | None,
    after: Document | None,
    *,
    taken: Document | None = None,
    given: Document | None = None,
) -> bool:
    """Put one label in the place of another, if it is still what it was; return whether it was. None: no label.

    Only what differs between the two is written. ``taken`` and ``given`` are a proposal that goes or comes with it.
    """
    from bson import ObjectId

    place = f"{field}.detections"
    condition: dict[str, Any] = {"_id": ObjectId(sample_id)}
    change: dict[str, Any]
    if before is None:
        assert after is not None
        # Into a list that is there: where nobody ever looked, one box would say that there is nothing else.
        condition |= {place: {"$type": "array"}, f"{place}._id": {"$ne": after["_id"]}}
        change = {"$push": {place: after}}
    elif after is None:
        # All of it goes, so all of it must be what was read.
        condition[place] = before
        change = {"$pull": {place: {"_id": before["_id"]}}}
    else:
        values = {name: value for name, value in after.items() if before.get(name) != value}
        if "bounding_box" in before:
            condition[place] = {"$elemMatch": _say(before, SAID)}
            change = {"$set": {f"{place}.$.{name}": value for name, value in values.items()}}
        else:
            condition |= {f"{field}._id": before["_id"], f"{field}.label": before["label"]}
            change = {"$set": {f"{field}.{name}": value for name, value in values.items()}}
    proposals = f"{fields.MISTAKE_PROPOSALS}.detections"
    if taken is not None:
        change.setdefault("$pull", {})[proposals] = {"_id": taken["_id"]}
    if given is not None:
        change.setdefault("$push", {})[proposals] = given
    with reporting_errors():
        update = {**change, "$currentDate": {CHANGED_AT: True}}
        return bool(dataset._sample_collection.update_one(condition, update).matched_count)


def _to_json(label: Document | None) -> Any:
    import json

    from bson import json_util

    return None if label is None else json.loads(json_util.dumps(label))


def _from_json(label: Any) -> Document | None:
    import json

    from bson import json_util

    return None if label is None else json_util.loads(json.dumps(label))
