"""People's labels as the database holds them: read whole, and written only over what was read.

FiftyOne's own writes replace a field whatever it says by then; an edit made between reading and writing would be lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from bson import ObjectId
from pymongo.errors import PyMongoError

from labels.errors import ItemError, ServiceError
from labels.geometry import ImageSize
from sync.catalogue.fiftyone_labels import read_sample, to_columns
from sync.catalogue.label_fields import LabelField
from sync.catalogue.samples import SampleLabels

Stored = tuple[Any, ...]
"""What the database holds of one sample, a value for each label field, None where the field was never set."""


class StoredLabels:
    """The label fields of one dataset's samples."""

    def __init__(self, dataset: Any, label_fields: Sequence[LabelField]) -> None:
        self._dataset = dataset
        self._fields = label_fields

    def fetch(self, sample_ids: Sequence[str]) -> dict[str, Stored]:
        """Return what is stored of these samples; ids that are gone are left out."""
        chosen = {"_id": {"$in": [ObjectId(sample_id) for sample_id in sample_ids]}}
        names = [field.name for field in self._fields]
        with reporting_errors():
            found = list(self._dataset._sample_collection.find(chosen, names))
        return {str(one["_id"]): tuple(one.get(name) for name in names) for one in found}

    def decode(self, stored: Stored) -> list[Any]:
        """Return the stored values as FiftyOne's documents."""
        return [
            None if value is None else field.document.from_dict(value)
            for field, value in zip(self._fields, stored, strict=True)
        ]

    def read(self, stored: Stored, size: ImageSize) -> SampleLabels | ItemError | None:
        """Return what the stored values say, as ``Dataset.labels`` does."""
        documents = zip(self._fields, self.decode(stored), strict=True)
        columns = [column for field, document in documents for column in to_columns(field, document)]
        try:
            return read_sample(self._fields, columns, size, item="sample")
        except ItemError as error:
            return error

    def swap(self, sample_id: str, before: Stored, after: Sequence[Any]) -> bool:
        """Write the documents of all fields at once if these are still what they were; return whether they were."""
        names = [field.name for field in self._fields]
        values = [None if document is None else document.to_dict() for document in after]
        update = {"$set": dict(zip(names, values, strict=True)), "$currentDate": {"last_modified_at": True}}
        unchanged = {"_id": ObjectId(sample_id), **dict(zip(names, before, strict=True))}
        with reporting_errors():
            return bool(self._dataset._sample_collection.update_one(unchanged, update).matched_count)


@contextmanager
def reporting_errors() -> Iterator[None]:
    """Turn what MongoDB says into a ServiceError."""
    try:
        yield
    except PyMongoError as error:
        raise ServiceError(f"MongoDB: {error}") from error
