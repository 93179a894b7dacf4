"""How labels lie in FiftyOne: both directions of every label type.

Boxes and masks are detections, polygons are polylines, key points are keypoints, choices are classifications, ratings
are regressions. Boxes that are turned keep their centre and carry ``rotation_deg``. Attributes that a curator added
to a label stay on it when the label is changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import fiftyone as fo
import numpy as np

from labels import fields
from labels.errors import ItemError
from labels.geometry import Box, ImageSize, Keypoint, Mask, Polygon
from labels.results import Label, is_same
from sync.catalogue.label_fields import REGION_ATTRIBUTE, LabelField
from sync.catalogue.samples import SampleLabels


def read_sample(
    label_fields: Sequence[LabelField], columns: Sequence[Any], size: ImageSize, *, item: str
) -> SampleLabels | None:
    """Return what people said of one sample, from the columns of all fields; None where nobody looked.

    Raises:
        ItemError: as ``read_labels``.
    """
    read = [(field, read_labels(field, part, size, item=item)) for field, part in split_columns(label_fields, columns)]
    if all(labels is None for _, labels in read):
        return None
    # What a person vouches for has no confidence: that is the model's word.
    said = (label for _, part in read for label in part or ())
    labels = tuple(label if label.confidence is None else replace(label, confidence=None) for label in said)
    silent = frozenset(control.name for field, part in read if part is None for control in field.controls)
    return SampleLabels(labels, any(part is not None for field, part in read if field.is_region), silent)


def split_columns(
    label_fields: Sequence[LabelField], columns: Sequence[Any]
) -> Iterator[tuple[LabelField, Sequence[Any]]]:
    """Yield each field with its part of the columns."""
    start = 0
    for field in label_fields:
        end = start + len(field.paths)
        yield field, columns[start:end]
        start = end


def to_columns(field: LabelField, document: Any) -> tuple[Any, ...]:
    """Return a document's values for each of ``field.paths``, as a query for these paths returns them."""
    if document is None:
        return (None,) * len(field.paths)
    names = ("id", *field.leaves)
    if not field.items:
        return tuple(_value_of(document, name) for name in names)
    return tuple([_value_of(item, name) for item in getattr(document, field.items)] for name in names)


def _value_of(item: Any, name: str) -> Any:
    return item[name] if item.has_field(name) else None


def read_labels(field: LabelField, columns: Sequence[Any], size: ImageSize, *, item: str) -> list[Label] | None:
    """Return the labels of one sample's field, or None when the field was never set.

    ``columns`` holds one value for each of ``field.paths``: lists for a field of several labels.

    Raises:
        ItemError: a label of a kind the config has no control for, without a class, or without a place.
    """
    if columns[0] is None:
        return None
    rows = list(zip(*columns, strict=True)) if field.items else [tuple(columns)]
    try:
        labels = [_to_label(field, dict(zip(("id", *field.leaves), row, strict=True)), size) for row in rows]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ItemError(item, f"field {field.name}: {error.args[0] if error.args else type(error).__name__}") from error
    return list(_joined_choices(labels, [row[-1] for row in rows])) if field.document is fo.Classifications else labels


def _to_label(field: LabelField, values: Mapping[str, Any], size: ImageSize) -> Label:
    label_id, confidence = str(values["id"]), values.get("confidence")
    if isinstance(confidence, list):  # FiftyOne has one for each point of a Keypoint, and ours have one point
        confidence = confidence[0] if confidence else None
    if field.document is fo.Regression:
        if values["value"] is None or values["value"] != round(values["value"]):
            raise KeyError(f"label {label_id} is {values['value']} (expected a whole number)")
        return Label(label_id, field.controls[0].name, rating=round(values["value"]), confidence=confidence)
    if not values["label"]:
        raise KeyError(f"label {label_id} has no class")
    classes = (values["label"],)
    if field.document in (fo.Classification, fo.Classifications):
        return Label(label_id, field.controls[0].name, classes, confidence=confidence)
    kind, geometry = _to_geometry(field, values, size)
    control = field.control_for(values.get(fields.CONTROL), kind)
    return Label(label_id, control, classes, geometry, confidence=confidence, votes=values.get(fields.VOTES))


def _to_geometry(field: LabelField, values: Mapping[str, Any], size: ImageSize) -> tuple[str, Any]:
    if field.document is fo.Polylines:
        shapes = values["points"]
        if len(shapes) != 1:
            raise KeyError(f"label {values['id']} has {len(shapes)} outlines (expected one)")
        return "PolygonLabels", Polygon.from_relative(shapes[0], size)
    if field.document is fo.Keypoints:
        points = values["points"]
        if len(points) != 1:
            raise KeyError(f"label {values['id']} has {len(points)} points (expected one)")
        return "KeyPointLabels", Keypoint(
            points[0][0] * size.width, points[0][1] * size.height, values["diameter"] or 0
        )
    mask, has_brush = values["mask"], any(control.kind == "BrushLabels" for control in field.controls)
    if mask is not None and has_brush:
        return "BrushLabels", _to_full_mask(mask, values["bounding_box"], size)
    turn = values[fields.ROTATION_DEG]
    return "RectangleLabels", Box.from_relative(values["bounding_box"], size, rotation_deg=turn or 0.0)


def _to_full_mask(mask: Any, bounding_box: Sequence[float], size: ImageSize) -> Mask:
    pixels = np.zeros((size.height, size.width), dtype=np.bool_)
    left, top = round(bounding_box[0] * size.width), round(bounding_box[1] * size.height)
    inside = pixels[top : top + mask.shape[0], left : left + mask.shape[1]]
    inside[:] = np.asarray(mask, dtype=np.bool_)[: inside.shape[0], : inside.shape[1]]
    return Mask(pixels)


def _joined_choices(labels: Sequence[Label], region_ids: Sequence[str | None]) -> Iterator[Label]:
    """Yield one label for all choices: ticked together, they are one region in Label Studio."""
    if labels:
        label_id = next((region_id for region_id in region_ids if region_id), labels[0].id)
        yield replace(labels[0], id=label_id, classes=tuple(label.class_name for label in labels))


def to_document(field: LabelField, labels: Sequence[Label], existing: Any, size: ImageSize, **attributes: Any) -> Any:
    """Return the FiftyOne document that holds the labels; those that say the same as before are kept as they are.

    ``existing`` is the sample's present document or None; ``attributes`` are set on every new label. A field of one
    label becomes None when there is none.
    """
    before = {str(item.id): item for item in _items_of(field, existing)}
    if field.document is fo.Classifications:
        labels, attributes_of = _split_choices(labels, before)
    else:
        attributes_of = {}
    documents = [
        _to_item(field, label, before.get(label.id), size, attributes | attributes_of.get(label.id, {}))
        for label in labels
    ]
    if field.items:
        return field.document(**{field.items: documents})
    if len(documents) > 1:
        raise ItemError(f"field {field.name}", f"{len(documents)} labels for one image (expected one)")
    return documents[0] if documents else None


def _items_of(field: LabelField, existing: Any) -> Iterable[Any]:
    if existing is None:
        return ()
    return getattr(existing, field.items) if field.items else (existing,)


def _split_choices(labels: Sequence[Label], before: Mapping[str, Any]) -> tuple[list[Label], dict[str, dict[str, Any]]]:
    """Return one label for each ticked choice, and by label id the region it belongs to."""
    known = {item.label: label_id for label_id, item in before.items()}
    parts: list[Label] = []
    regions: dict[str, dict[str, Any]] = {}
    for label in labels:
        for number, name in enumerate(label.classes):
            # One region, several classifications: the first takes the region's id, the others one made from it.
            part_id = known.get(name, f"{int(label.id, 16) ^ (number << 64):024x}")
            parts.append(replace(label, id=part_id, classes=(name,)))
            regions[part_id] = {REGION_ATTRIBUTE: label.id}
    return parts, regions


def _to_item(field: LabelField, label: Label, present: Any, size: ImageSize, attributes: Mapping[str, Any]) -> Any:
    values = _to_values(field, label, size)
    if present is None:
        return field.item(id=label.id, **values, **attributes)
    if not _says_the_same(field, present, label, size):
        for name, value in values.items():
            present[name] = value
    return present


def _says_the_same(field: LabelField, present: Any, label: Label, size: ImageSize) -> bool:
    columns = [_value_of(present, name) for name in field.leaves]
    values = dict(zip(("id", *field.leaves), (present.id, *columns), strict=True))
    try:
        return is_same(_to_label(field, values, size), label, tolerance_px=1e-6)
    except KeyError:
        return False


def _to_values(field: LabelField, label: Label, size: ImageSize) -> dict[str, Any]:
    if field.document is fo.Regression:
        return {"value": label.rating, "confidence": label.confidence}
    values: dict[str, Any] = {"label": label.class_name, "confidence": label.confidence}
    if not field.is_region:
        return values
    if fields.VOTES in field.leaves:
        values[fields.VOTES] = label.votes
    return values | {fields.CONTROL: label.control} | _to_shape_values(label, size)


def _to_shape_values(label: Label, size: ImageSize) -> dict[str, Any]:
    shape = label.geometry
    if isinstance(shape, Polygon):
        return {"points": [shape.to_relative(size)], "closed": True, "filled": True}
    if isinstance(shape, Keypoint):
        return {
            "points": [(shape.x / size.width, shape.y / size.height)],
            "diameter": shape.diameter,
            "confidence": None if label.confidence is None else [label.confidence],
        }
    if isinstance(shape, Mask):
        left, top, right, bottom = (int(side) for side in shape.to_xyxy())
        box = [left / size.width, top / size.height, (right - left) / size.width, (bottom - top) / size.height]
        return {"bounding_box": box, "mask": shape.pixels[top:bottom, left:right]}
    if isinstance(shape, Box):
        turn = shape.rotation_deg or None
        return {"bounding_box": list(shape.to_relative(size)), fields.ROTATION_DEG: turn}
    raise ItemError(f"label {label.id}", "has no shape")
