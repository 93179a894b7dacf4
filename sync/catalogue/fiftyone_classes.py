"""Which samples use a class, and its new name, in one FiftyOne dataset.

Each write is one update of MongoDB that changes the class where it stands: an edit a curator makes meanwhile stays, and
a second write finds nothing. ``FIFTYONE_DATABASE_URI`` must be set before this module is imported.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import fiftyone as fo

from labels import fields
from labels.config import LabelConfig
from sync.catalogue.fiftyone_views import reporting_errors
from sync.catalogue.label_fields import LabelField, to_label_fields
from sync.catalogue.named_classes import name_classes
from sync.review.relabelling import Renaming

Filter = dict[str, Any]
# Another time than before, so that the App refuses to save what it read before; and not now, since a new name is
# nobody's change: where the side that changed last wins, it would make every sample the newer one.
TOUCHED: Final = [{"$set": {"last_modified_at": {"$add": ["$last_modified_at", 1]}}}]


class DatasetClasses:
    """The classes in the label fields of one dataset.

    Raises:
        ServiceError: from every method, when MongoDB does not answer.
    """

    @staticmethod
    def exists(dataset_name: str) -> bool:
        """Return whether there is such a dataset."""
        with reporting_errors():
            return bool(fo.dataset_exists(dataset_name))

    def __init__(self, dataset_name: str, config: LabelConfig) -> None:
        with reporting_errors():
            self._dataset = fo.load_dataset(dataset_name)
            self._samples = self._dataset._sample_collection
        self._config = config

    def reviewed_samples(self, control: str, name: str | None) -> dict[str, str]:
        """Return the samples on which people use a class of a control: file path by sample id.

        ``name`` None is for a control without classes: a rating.
        """
        return self._find(fields.GROUND_TRUTH, control, name)

    def predicted_samples(self, control: str, name: str) -> dict[str, str]:
        """Return the samples on which the detector drew a class of a control: file path by sample id."""
        return self._find(fields.PREDICTIONS, control, name)

    def write_class(self, renaming: Renaming) -> None:
        """Give the labels of a class their new name, people's and predicted ones."""
        for prefix in (fields.GROUND_TRUTH, fields.PREDICTIONS):
            for field in self._fields_of(prefix, renaming.control):
                with reporting_errors():
                    for query, update, filters in _to_updates(field, renaming):
                        self._samples.update_many(query, TOUCHED)
                        self._samples.update_many(query, update, array_filters=filters or None)
        with reporting_errors():
            self._dataset.reload()

    def write_names(self, config: LabelConfig) -> None:
        """Make the classes of this config those that FiftyOne knows and offers."""
        with reporting_errors():
            name_classes(self._dataset, config)

    def _find(self, prefix: str, control: str, name: str | None) -> dict[str, str]:
        found: dict[str, str] = {}
        for field in self._fields_of(prefix, control):
            with reporting_errors():
                samples = self._samples.find(_to_query(field, control, name), {"filepath": 1}).sort("_id")
                found |= {str(one["_id"]): str(one["filepath"]) for one in samples}
        return found

    def _fields_of(self, prefix: str, control: str) -> Iterator[LabelField]:
        for field in to_label_fields(self._config, prefix):
            if any(one.name == control for one in field.controls):
                yield field


def _to_query(field: LabelField, control: str, name: str | None) -> Filter:
    """Return what finds the samples with the class."""
    if name is None:
        return {f"{field.name}.value": {"$ne": None}}
    if not field.items:
        return {f"{field.name}.label": name}
    return {f"{field.name}.{field.items}": {"$elemMatch": _to_condition(field, control, name, "")}}


def _to_condition(field: LabelField, control: str, name: str, prefix: str) -> Filter:
    """Return what a label of the class says.

    As ``LabelField.control_for`` reads it: one that names no control belongs to the first one of its kind.
    """
    if not field.is_region:
        return {f"{prefix}label": name}
    kind = next(one.kind for one in field.controls if one.name == control)
    is_first = next(one.name for one in field.controls if one.kind == kind) == control
    if not is_first:
        return {f"{prefix}label": name, f"{prefix}{fields.CONTROL}": control}
    unnamed: Filter = {f"{prefix}{fields.CONTROL}": {"$nin": [one.name for one in field.controls]}}
    if any(one.kind == "BrushLabels" for one in field.controls):
        unnamed[f"{prefix}mask"] = {"$ne": None} if kind == "BrushLabels" else None
    return {f"{prefix}label": name, "$or": [{f"{prefix}{fields.CONTROL}": control}, unnamed]}


def _to_updates(field: LabelField, renaming: Renaming) -> Iterator[tuple[Filter, Filter, Sequence[Filter]]]:
    """Yield updates: which samples, what to set, and which items of their lists."""
    old, new = renaming.old, renaming.new
    query = _to_query(field, renaming.control, old)
    if not field.items:
        yield query, {"$set": {f"{field.name}.label": new}}, []
        return
    path = f"{field.name}.{field.items}"
    if not field.is_region:
        # Ticked both: the one of the old name goes, since an answer has every choice once.
        yield {f"{path}.label": {"$all": [old, new]}}, {"$pull": {path: {"label": old}}}, []
    condition = _to_condition(field, renaming.control, old, "one.")
    yield query, {"$set": {f"{path}.$[one].label": new}}, [condition]
