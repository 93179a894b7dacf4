"""The label config's classes in FiftyOne's own two places: what a field's classes are, and what *Annotate* offers.

A class that no label has yet is known only from there. ``FIFTYONE_DATABASE_URI`` must be set before this module is
imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import fiftyone as fo

from labels import fields
from labels.config import LabelConfig
from sync.catalogue.label_fields import LabelField, to_label_fields

ANNOTATED: Final = (fo.Detections, fo.Classification, fo.Classifications)
"""What the App can annotate on images."""
RADIO_CLASSES: Final = 5
"""So many classes and fewer are shown side by side, as FiftyOne does by itself."""
WITH_CLASSES: Final = ("dropdown", "radio")

Schema = Mapping[str, Any]


def name_classes(dataset: Any, config: LabelConfig) -> None:
    """Tell FiftyOne which classes each label field of a config can have; a second time writes nothing.

    Of an annotation schema that somebody made, the classes alone are changed: its attributes stay, and so does one that
    takes any class or an ontology, or was taken out of use.
    """
    wanted = _find_classes(dataset, config)
    if any(_is_stale(dataset, field, classes) for field, classes in wanted):
        # A process has one object of a dataset for good: what others wrote meanwhile must not be written over.
        dataset.reload()
    if any(dataset.classes.get(field.name) != classes for field, classes in wanted):
        dataset.classes = {**dataset.classes, **{field.name: classes for field, classes in wanted}}
    for field, classes in wanted:
        if _can_annotate(dataset, field):
            _write_schema(dataset, field, classes)


def _find_classes(dataset: Any, config: LabelConfig) -> list[tuple[LabelField, list[str]]]:
    found = [
        (field, list(dict.fromkeys(name for control in field.controls for name in control.classes)))
        for prefix in (fields.GROUND_TRUTH, fields.PREDICTIONS)
        for field in to_label_fields(config, prefix)
        if dataset.has_sample_field(field.name)
    ]
    return [(field, classes) for field, classes in found if classes]


def _is_stale(dataset: Any, field: LabelField, classes: Sequence[str]) -> bool:
    if dataset.classes.get(field.name) != classes:
        return True
    present = dataset.label_schemas.get(field.name)
    return _can_annotate(dataset, field) and _to_schema(present, field, classes) != present


def _can_annotate(dataset: Any, field: LabelField) -> bool:
    is_peoples = not field.name.startswith(fields.PREDICTIONS)
    return is_peoples and field.document in ANNOTATED and dataset.media_type == "image"


def _write_schema(dataset: Any, field: LabelField, classes: Sequence[str]) -> None:
    present = dataset.label_schemas.get(field.name)
    schema = _to_schema(present, field, classes)
    if schema == present:
        return
    # One of somebody's attributes that is gone by now is no reason to refuse a class.
    dataset.update_label_schema(field.name, schema, allow_new_attrs=True)
    if present is None:
        dataset.activate_label_schemas([field.name])


def _to_schema(present: Schema | None, field: LabelField, classes: Sequence[str]) -> Schema:
    if present is None:
        component = "radio" if len(classes) <= RADIO_CLASSES else "dropdown"
        kind = field.document.__name__.lower()
        return {"type": kind, "component": component, "classes": list(classes), "attributes": []}
    if present.get("component") not in WITH_CLASSES or "applied_ontology" in present:
        return present
    kept = {key: value for key, value in present.items() if key != "default" or value in classes}
    return {**kept, "classes": list(classes)}
