"""What was said of images or crops: reads it from the fields of a dataset, and writes what a CLIP says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bson import ObjectId
from more_itertools import chunked

from fiftyone_plugins.app.own_fields import declare_own
from fiftyone_plugins.app.writing import write_values
from fiftyone_plugins.embeddings.items import find_label_paths, list_offered_fields
from fiftyone_plugins.embeddings.store import Embeddings
from fiftyone_plugins.embeddings.writing import SAMPLES_AT_ONCE
from fiftyone_plugins.zeroshot.agreement import Agreement, compare
from labels import fields

CONFIDENCE: Final = "zero_shot_confidence"
"""Attribute of a label: how sure the class is that a CLIP gives its crop, 0..1."""
GROUP: Final = "zero-shot"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the CLIP's answers are compared with: ``other`` of the images; of crops, the labels of ``field`` itself."""

    field: str | None
    other: str


def list_class_fields(samples: Any) -> list[str]:
    """Return the fields with one class for each image, without the one this plugin writes."""
    schema = samples.get_field_schema()
    names = [name for name, field in schema.items() if _kind(field) == "Classification"]
    return [name for name in names if name != fields.ZERO_SHOT]


def list_comparisons(dataset: Any) -> dict[str, Comparison]:
    """Return what the answers can be compared with, by its name: fields with a class of the image, labels of crops."""
    found: dict[str, Comparison] = {}
    if _kind(dataset.get_field(fields.ZERO_SHOT)) == "Classification":
        found |= {name: Comparison(None, name) for name in list_class_fields(dataset)}
    for name in list_offered_fields(dataset):
        if dataset.get_field(f"{find_label_paths(dataset, name).root}.{fields.ZERO_SHOT}") is not None:
            found[f"crops of {name}"] = Comparison(name, name)
    return found


def write_answers(
    dataset: Any, found: Embeddings, names: Sequence[str], confidences: Sequence[float], model_version: str
) -> None:
    """Write a Classification on each sample; of crops, class and confidence as attributes of their labels.

    Raises:
        LabelingError: the field is a person's.
        ServiceError: MongoDB does not answer.
    """
    import fiftyone as fo

    if found.field is not None:
        root = find_label_paths(dataset, found.field).root
        columns = ((fields.ZERO_SHOT, fo.StringField, names), (CONFIDENCE, fo.FloatField, confidences))
        declare_own(dataset, {f"{root}.{name}": kind for name, kind, _ in columns}, by="zeroshot")
        for name, _, values in columns:
            dataset.set_label_values(
                f"{root}.{name}", dict(zip(found.ids.tolist(), values, strict=True)), progress=False
            )
        return
    kinds = {fields.ZERO_SHOT: fo.Classification, f"{fields.ZERO_SHOT}.{fields.MODEL_VERSION}": fo.StringField}
    declare_own(dataset, kinds, by="zeroshot", group=GROUP)
    for part in chunked(zip(found.ids.tolist(), names, confidences, strict=True), SAMPLES_AT_ONCE):
        write_values(
            dataset, {one: {fields.ZERO_SHOT: _document(name, sure, model_version)} for one, name, sure in part}
        )


def read_pairs(samples: Any, field: str | None, other: str) -> list[tuple[str | None, str | None]]:
    """Return for each image what the CLIP and another field say; of crops, the CLIP and their labels."""
    if field is None:
        paths = [f"{fields.ZERO_SHOT}.label", f"{other}.label"]
        return list(zip(*samples.values(paths), strict=True))
    labels = find_label_paths(samples, field)
    columns = samples.values([f"{labels.root}.{fields.ZERO_SHOT}", f"{labels.root}.label"], unwind=labels.is_list)
    return list(zip(*columns, strict=True))


def compare_fields(samples: Any, field: str | None, other: str) -> Agreement:
    """Return how the CLIP and another field agree on the samples; of crops, the CLIP and their labels."""
    return compare(read_pairs(samples, field, other))


def _document(name: str, confidence: float, model_version: str) -> Mapping[str, Any]:
    return {
        "_id": ObjectId(),
        "_cls": "Classification",
        "tags": [],
        "label": name,
        "confidence": confidence,
        fields.MODEL_VERSION: model_version,
    }


def _kind(field: Any) -> str:
    return str(getattr(getattr(field, "document_type", None), "__name__", ""))
