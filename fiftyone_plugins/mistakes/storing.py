"""Reads samples' labels from the database whole, and writes what is suspected of them: attributes, and only over the
labels that were judged. What people drew is in no write of this file. The only file here that asks MongoDB.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from fiftyone_plugins.app.writing import CHANGED_AT
from fiftyone_plugins.mistakes.datalab import KINDS as DATALAB_KINDS
from fiftyone_plugins.mistakes.ranking import BOX_KINDS, CLASS, FIELD_OF_KIND
from fiftyone_plugins.mistakes.verdicts import LABEL_ATTRIBUTES, Verdict
from labels import fields
from labels.errors import LabelingError, ServiceError

SAMPLES_PER_READ: Final = 1000
INFO: Final = "mistakes_judged"
"""Key of the dataset's info: the fields that were judged."""

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


def declare(dataset: Any, labels: str, kind: str) -> None:
    """Give the dataset the fields that it lacks; a second time asks for nothing."""
    import fiftyone as fo

    wanted: dict[str, tuple[Any, dict[str, Any]]] = {name: (fo.FloatField, {}) for name in OF_A_SAMPLE}
    if kind == "boxes":
        wanted[fields.MISTAKE_PROPOSALS] = (fo.EmbeddedDocumentField, {"embedded_doc_type": fo.Detections})
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
    if fields.MISTAKENNESS not in dataset.get_index_information():
        dataset.create_index(fields.MISTAKENNESS)
    judged = read_judged(dataset)
    if labels not in judged:
        dataset.info[INFO] = [*judged, labels]
        dataset.save()


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


def read_documents(dataset: Any, sample_ids: Sequence[str], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Return what the database holds of these samples, in their order, without masks; who is gone is left out."""
    from bson import ObjectId

    wanted = {"_id": {"$in": [ObjectId(sample_id) for sample_id in sample_ids]}}
    with reporting_errors():
        found = {str(one["_id"]): one for one in dataset._sample_collection.find(wanted, _to_projection(labels))}
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
    names = ["filepath", "tags", "metadata.width", "metadata.height", fields.DISAGREEMENT, fields.ANNOTATORS]
    names += [*OF_A_SAMPLE, fields.MISTAKE_DATALAB, fields.MISTAKE_PROPOSALS, fields.TASK_ID]
    for field in labels:
        names += [f"{field}.detections.{name}" for name in of_boxes] + [f"{field}.{name}" for name in of_classes]
    return names


def write_verdicts(
    dataset: Any, labels: str, verdicts: Sequence[tuple[Document, Verdict]], mistakenness: Mapping[str, float | None]
) -> list[str]:
    """Write verdicts on samples, each of which is written whole or not at all; return the ids of those that are not.

    A sample is written only while its labels are those in its document, so no judgement lands on another label.
    """
    from pymongo import UpdateOne

    updates = [
        UpdateOne(*_to_update(labels, document, verdict, mistakenness[str(document["_id"])]))
        for document, verdict in verdicts
    ]
    if not updates:
        return []
    with reporting_errors():
        matched = dataset._sample_collection.bulk_write(updates, ordered=False).matched_count
        if matched == len(updates):
            return []
        conditions = [_to_condition(labels, document) for document, _ in verdicts]
        left = {str(one["_id"]) for one in dataset._sample_collection.find({"$or": conditions}, ["_id"])}
    return [str(document["_id"]) for document, _ in verdicts if str(document["_id"]) not in left]


def _to_update(
    labels: str, document: Document, verdict: Verdict, mistakenness: float | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    values: dict[str, Any] = {**verdict.sample, fields.MISTAKENNESS: mistakenness}
    has_boxes = "detections" in (document[labels] or {})
    for row, attributes in enumerate(verdict.labels):
        place = f"{labels}.detections.{row}" if has_boxes else labels
        values |= {f"{place}.{name}": value for name, value in attributes.items()}
    if verdict.proposals is not None:
        values[fields.MISTAKE_PROPOSALS] = to_proposals(verdict.proposals)
    return _to_condition(labels, document), {"$set": values, "$currentDate": {CHANGED_AT: True}}


def to_proposals(proposals: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the field of proposals as the database holds it."""
    import fiftyone as fo
    from bson import ObjectId

    empty = fo.Detection().to_dict()
    return {
        "_cls": "Detections",
        "detections": [{**empty, **proposal, "_id": ObjectId(proposal["_id"])} for proposal in proposals],
    }


def _to_condition(labels: str, document: Document) -> dict[str, Any]:
    """Return the condition that a sample's labels are those of the document, in its order."""
    about = document[labels]
    condition: dict[str, Any] = {"_id": document["_id"]}
    if "detections" not in about:
        return condition | {f"{labels}._id": about["_id"], f"{labels}.label": about.get("label")}
    condition[f"{labels}.detections"] = {"$size": len(about["detections"])}
    for row, label in enumerate(about["detections"]):
        for name in ("_id", "label", "bounding_box"):
            condition[f"{labels}.detections.{row}.{name}"] = label.get(name)
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
