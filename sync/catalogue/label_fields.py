"""Which FiftyOne field holds the labels of which control of the label config."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import fiftyone as fo

from labels import fields
from labels.config import Control, LabelConfig

REGION_ATTRIBUTE: Final = "region_id"
"""On one of several choices: the id of the choice region they belong to."""


@dataclass(frozen=True, slots=True)
class LabelField:
    """One FiftyOne field and the controls whose labels it holds.

    ``items`` is the list inside the field's document, empty for a field that holds one label; ``leaves`` are the
    attributes that are read.
    """

    name: str
    document: type[Any]
    item: type[Any]
    items: str
    leaves: tuple[str, ...]
    controls: tuple[Control, ...]

    @property
    def is_region(self) -> bool:
        """Whether the field holds drawn shapes."""
        return self.controls[0].is_region

    @property
    def paths(self) -> tuple[str, ...]:
        """Paths of the attributes that are read, the id first."""
        prefix = f"{self.name}.{self.items}." if self.items else f"{self.name}."
        return tuple(prefix + leaf for leaf in ("id", *self.leaves))

    def control_for(self, name: str | None, kind: str) -> str:
        """Return the control of a label: the one it names, else the first of its kind.

        Raises:
            KeyError: the config has no control of that kind.
        """
        if any(control.name == name for control in self.controls):
            return str(name)
        for control in self.controls:
            if control.kind == kind:
                return control.name
        raise KeyError(f"label_config.xml has no {kind} for it")


def to_label_fields(config: LabelConfig, prefix: str) -> tuple[LabelField, ...]:
    """Return the fields that hold a config's labels, named from ``prefix`` (``ground_truth`` or ``predictions``)."""
    votes = (fields.VOTES,) if prefix == fields.PREDICTIONS else ()
    found = [
        LabelField(prefix, fo.Detections, fo.Detection, "detections",
                   ("label", "bounding_box", "mask", fields.ROTATION_DEG, "confidence", fields.CONTROL, *votes),
                   _controls(config, "RectangleLabels", "BrushLabels")),
        LabelField(prefix + fields.POLYGONS_SUFFIX, fo.Polylines, fo.Polyline, "polylines",
                   ("label", "points", "confidence", fields.CONTROL), _controls(config, "PolygonLabels")),
        LabelField(prefix + fields.KEYPOINTS_SUFFIX, fo.Keypoints, fo.Keypoint, "keypoints",
                   ("label", "points", "diameter", "confidence", fields.CONTROL), _controls(config, "KeyPointLabels")),
    ]  # fmt: skip
    for control in _controls(config, "Choices", "Rating"):
        name = control.name if prefix == fields.GROUND_TRUTH else f"{prefix}_{control.name}"
        found.append(_to_image_field(name, control))
    return tuple(field for field in found if field.controls)


def _controls(config: LabelConfig, *kinds: str) -> tuple[Control, ...]:
    return tuple(control for control in config.controls if control.kind in kinds)


def _to_image_field(name: str, control: Control) -> LabelField:
    if control.kind == "Rating":
        return LabelField(name, fo.Regression, fo.Regression, "", ("value", "confidence"), (control,))
    if control.is_multiple:
        leaves = ("label", "confidence", REGION_ATTRIBUTE)
        return LabelField(name, fo.Classifications, fo.Classification, "classifications", leaves, (control,))
    return LabelField(name, fo.Classification, fo.Classification, "", ("label", "confidence"), (control,))


def declare_fields(dataset: Any, label_fields: Iterable[LabelField]) -> None:
    """Give the dataset the fields and attributes that it lacks; a second time changes nothing."""
    attributes = {
        fields.ROTATION_DEG: fo.FloatField,
        fields.CONTROL: fo.StringField,
        fields.VOTES: fo.IntField,
        fields.MODEL_VERSION: fo.StringField,
        REGION_ATTRIBUTE: fo.StringField,
        "diameter": fo.FloatField,
    }
    for field in label_fields:
        dataset.add_sample_field(field.name, fo.EmbeddedDocumentField, embedded_doc_type=field.document)
        for name, kind in attributes.items():
            if field.items and (name in field.leaves or name == fields.MODEL_VERSION):
                dataset.add_sample_field(f"{field.name}.{field.items}.{name}", kind)
