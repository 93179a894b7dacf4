"""Reads samples' labels from the database, and writes what is suspected of them: attributes, and only over the sample
that was read. What people drew is in no write of this file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from more_itertools import chunked

from fiftyone_plugins.app.own_fields import declare_own
from fiftyone_plugins.app.writing import CHANGED_AT, group_in_sidebar
from fiftyone_plugins.mistakes.datalab import KINDS as DATALAB_KINDS
from fiftyone_plugins.mistakes.merging import Threshold
from fiftyone_plugins.mistakes.ranking import BOX_KINDS, CLASS, FIELD_OF_KIND
from fiftyone_plugins.mistakes.verdicts import LABEL_ATTRIBUTES
from fiftyone_plugins.mistakes.work import THRESHOLD
from labels import fields
from labels.errors import LabelingError, ServiceError

SAMPLES_PER_READ: Final = 1000
INFO: Final = "mistakes_judged"
"""Key of the dataset's info: the fields that were judged."""

INFO_THRESHOLD: Final = "mistakes_threshold"
"""Key of the dataset's info: from which mistakenness on samples are tagged, now and at the lowest so far."""

OF_A_SAMPLE: Final = (*FIELD_OF_KIND.values(), fields.MISTAKE_OBJECTLAB, fields.MISTAKENNESS)
OF_A_LABEL: Final = {
    "boxes": (*(FIELD_OF_KIND[kind] for kind in BOX_KINDS), *LABEL_ATTRIBUTES),
    "images": (FIELD_OF_KIND[CLASS], *LABEL_ATTRIBUTES),
}
Document = Mapping[str, Any]


def find_kind(dataset: Any, labels: str) -> str:
    """Return whether a field holds boxes or classes of whole images: ``boxes``, ``images``.

    Raises:
        LabelingError: there is no such field, or it holds something else.
    """
    known = list_judgeable(dataset)
    if labels not in known:
        raise LabelingError(f"field {labels!r} holds no boxes and no class (known: {', '.join(known) or 'none'})")
    return known[labels]


def declare(dataset: Any, labels: str, kind: str, threshold: float) -> None:
    """Give the dataset the fields that it lacks, and say what was judged and what is tagged; again: nothing changes.

    Raises:
        LabelingError: a field of that name is a person's own.
    """
    import fiftyone as fo

    own = dict.fromkeys(OF_A_SAMPLE, fo.FloatField) | (
        {fields.MISTAKE_PROPOSALS: fo.Detections} if kind == "boxes" else {}
    )
    declare_own(dataset, own, by="mistakes", group="mistakes", known=bool(read_judged(dataset)))
    wanted: dict[str, tuple[Any, dict[str, Any]]] = {}
    if kind == "boxes":
        path = f"{fields.MISTAKE_PROPOSALS}.detections"
        wanted[f"{path}.{fields.MISTAKE_MISSING}"] = (fo.FloatField, {})
        wanted |= {f"{path}.{name}": (fo.StringField, {}) for name in (fields.MISTAKE_REASON, fields.MISTAKE_FIELD)}
    else:
        wanted |= _of_datalab()
    path = f"{labels}.detections" if kind == "boxes" else labels
    texts = (fields.MISTAKE_KIND, fields.MISTAKE_REASON, fields.MISTAKE_SUGGESTION)
    for name in OF_A_LABEL[kind]:
        wanted[f"{path}.{name}"] = (fo.StringField if name in texts else fo.FloatField, {})
    wanted[f"{path}.{fields.MISTAKE_BOX}"] = (fo.ListField, {"subfield": fo.FloatField})
    present = dataset.get_field_schema(flat=True)
    for name, (field, about) in wanted.items():
        if name not in present:
            dataset.add_sample_field(name, field, **about)
    if kind == "images":
        group_in_sidebar(dataset, "mistakes", [fields.MISTAKE_DATALAB])
    if fields.MISTAKENNESS not in dataset.get_index_information():
        dataset.create_index(fields.MISTAKENNESS)
    about = {
        INFO: list(dict.fromkeys([*read_judged(dataset), labels])),
        INFO_THRESHOLD: {"now": threshold, "lowest": min(threshold, read_threshold(dataset).lowest)},
    }
    if any(dataset.info.get(name) != value for name, value in about.items()):
        dataset.info.update(about)
        dataset.save()


def read_threshold(dataset: Any) -> Threshold:
    """Return from which mistakenness on samples are tagged."""
    about = dataset.info.get(INFO_THRESHOLD) or {}
    return Threshold(about.get("now", THRESHOLD), about.get("lowest", THRESHOLD))


def _of_datalab() -> dict[str, tuple[Any, dict[str, Any]]]:
    import fiftyone as fo

    name = fields.MISTAKE_DATALAB
    whole = {name: (fo.EmbeddedDocumentField, {"embedded_doc_type": fo.DynamicEmbeddedDocument})}
    texts = {f"{name}.{part}": (fo.StringField, dict[str, Any]()) for part in ("kind", "reason")}
    numbers = {f"{name}.{part}": (fo.FloatField, dict[str, Any]()) for part in ("score", *DATALAB_KINDS)}
    return {**whole, **numbers, **texts}


def read_judged(dataset: Any) -> list[str]:
    """Return the label fields that were judged, in the order in which they were first."""
    return [name for name in dataset.info.get(INFO, ()) if dataset.has_sample_field(name)]


def find_labelled(dataset: Any, sample_ids: Sequence[str], labels: str) -> list[str]:
    """Return the samples that have labels in a field, an empty list of boxes among them, in their order."""
    said = {"$or": [{f"{labels}.detections": {"$exists": True}}, {f"{labels}.label": {"$ne": None}}]}
    return _find_ids(dataset, sample_ids, said)


def find_stale(dataset: Any, sample_ids: Sequence[str], labels: str) -> list[str]:
    """Return those of samples without labels in a field of which something is still suspected, in their order."""
    return (
        _find_ids(dataset, sample_ids, {fields.MISTAKENNESS: {"$ne": None}}) if labels in read_judged(dataset) else []
    )


def _find_ids(dataset: Any, sample_ids: Sequence[str], condition: Document) -> list[str]:
    from bson import ObjectId

    found = set[str]()
    for chunk in chunked(sample_ids, SAMPLES_PER_READ):
        wanted = {"_id": {"$in": [ObjectId(one) for one in chunk]}, **condition}
        with reporting_errors():
            found |= {str(one["_id"]) for one in dataset._sample_collection.find(wanted, ["_id"])}
    return [one for one in sample_ids if one in found]


def read_labels(dataset: Any, sample_ids: Sequence[str], labels: str) -> Iterator[Document]:
    """Yield samples with what people said in one field and nothing else; who has no labels by now is left out."""
    names = ["filepath", "metadata.width", "metadata.height", f"{labels}._id", f"{labels}.label"]
    names += [f"{labels}.detections.{name}" for name in ("_id", "label", "bounding_box", fields.ROTATION_DEG)]
    for chunk in chunked(sample_ids, SAMPLES_PER_READ):
        for document in _read(dataset, chunk, names):
            about = document.get(labels)
            if about and ("detections" in about or about.get("label") is not None):
                yield document


def read_documents(dataset: Any, sample_ids: Sequence[str], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Return what the database holds of these samples, in their order, without masks; who is gone is left out."""
    return _read(dataset, sample_ids, _to_projection(labels))


def _read(dataset: Any, sample_ids: Sequence[str], projection: Sequence[str]) -> list[dict[str, Any]]:
    from bson import ObjectId

    wanted = {"_id": {"$in": [ObjectId(sample_id) for sample_id in sample_ids]}}
    with reporting_errors():
        found = {str(one["_id"]): one for one in dataset._sample_collection.find(wanted, projection)}
    return [found[sample_id] for sample_id in sample_ids if sample_id in found]


def read_highest(dataset: Any, name: str, count: int, labels: Sequence[str], among: Any = None) -> list[dict[str, Any]]:
    """Return the samples with the highest values of a field, the highest first; ``among``: only these sample ids."""
    from bson import ObjectId

    wanted: dict[str, Any] = {name: {"$gt": 0}}
    if among is not None:
        wanted["_id"] = {"$in": [ObjectId(sample_id) for sample_id in among]}
    with reporting_errors():
        found = dataset._sample_collection.find(wanted, _to_projection(labels)).sort(name, -1).limit(count)
        return list(found)


def _to_projection(labels: Sequence[str]) -> list[str]:
    of_boxes = ("_id", "label", "bounding_box", fields.ROTATION_DEG, *OF_A_LABEL["boxes"])
    of_classes = ("_id", "label", *OF_A_LABEL["images"])
    names = [
        "filepath",
        "tags",
        CHANGED_AT,
        "metadata.width",
        "metadata.height",
        fields.DISAGREEMENT,
        fields.ANNOTATORS,
    ]
    names += [*OF_A_SAMPLE, fields.MISTAKE_DATALAB, fields.MISTAKE_PROPOSALS, fields.TASK_ID]
    for field in labels:
        names += [f"{field}.detections.{name}" for name in of_boxes] + [f"{field}.{name}" for name in of_classes]
    return names


@dataclass(frozen=True, slots=True)
class Change:
    """What is written on one sample: values by their place, and whether it is to have the tag.

    ``document`` is the sample as it was read, ``labels`` the fields of which it must still say the same.
    """

    document: Document
    labels: Sequence[str]
    values: Mapping[str, Any]
    has_tag: bool

    @property
    def is_stored(self) -> bool:
        """Whether the database says all of it already."""
        return not self.values and self.has_tag == (fields.MISTAKE_TAG in (self.document.get("tags") or ()))


def write_changes(dataset: Any, changes: Sequence[Change]) -> int:
    """Write on samples, on each all or nothing, and only while it is as it was read; return on how many."""
    from pymongo import UpdateOne

    if not changes:
        return 0
    updates = [UpdateOne(_to_condition(one), _to_update(one)) for one in changes]
    with reporting_errors():
        return int(dataset._sample_collection.bulk_write(updates, ordered=False).matched_count)


def _to_update(change: Change) -> dict[str, Any]:
    tag = {"$addToSet" if change.has_tag else "$pull": {"tags": fields.MISTAKE_TAG}}
    values = {"$set": dict(change.values)} if change.values else {}
    return {**values, **tag, "$currentDate": {CHANGED_AT: True}}


def _to_condition(change: Change) -> dict[str, Any]:
    """Return the condition that a sample is as it was read, its labels in their order in any case.

    Who writes past FiftyOne need not stamp a sample: no judgement lands on another label for that.
    """
    document = change.document
    condition: dict[str, Any] = {"_id": document["_id"], CHANGED_AT: document.get(CHANGED_AT)}
    for name in change.labels:
        about = document.get(name)
        if not about:
            condition[name] = None
        elif "detections" not in about:
            condition |= {f"{name}._id": about["_id"], f"{name}.label": about.get("label")}
        else:
            condition[f"{name}.detections"] = {"$size": len(about["detections"])}
            for row, label in enumerate(about["detections"]):
                for part in ("_id", "label", "bounding_box"):
                    condition[f"{name}.detections.{row}.{part}"] = label.get(part)
    return condition


@contextmanager
def reporting_errors() -> Iterator[None]:
    """Turn what MongoDB says into a ServiceError."""
    from pymongo.errors import PyMongoError

    try:
        yield
    except PyMongoError as error:
        raise ServiceError(f"MongoDB: {error}") from error


def list_judgeable(dataset: Any) -> dict[str, str]:
    """Return the fields whose labels can be judged, with their kind: ``boxes`` or ``images``."""
    import fiftyone as fo

    kinds = {fo.Detections: "boxes", fo.Classification: "images"}
    found = {name: getattr(field, "document_type", None) for name, field in dataset.get_field_schema().items()}
    return {name: kinds[of] for name, of in found.items() if of in kinds and name != fields.MISTAKE_PROPOSALS}
