"""Columns of any field, and saved views, of one FiftyOne dataset: what choosing needs to know and leaves behind.

Reads columns, not samples. ``FIFTYONE_DATABASE_URI`` must be set before this module is imported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import fiftyone as fo
from pymongo.errors import PyMongoError

from labels.errors import LabelingError, ServiceError

NUMBERS: Final = (fo.FloatField, fo.IntField, fo.BooleanField)
MAKER: Final = "labelloop"
"""Begins the description of every view that labelloop saved."""


@dataclass(frozen=True, slots=True)
class SavedView:
    """A saved view: its samples in their order, and what it says of itself."""

    name: str
    description: str
    sample_ids: tuple[str, ...]


class Views:
    """The views of one dataset.

    Raises:
        ServiceError: from every method, when MongoDB does not answer.
    """

    def __init__(self, dataset_name: str) -> None:
        with reporting_errors():
            self._dataset = fo.load_dataset(dataset_name)

    def numeric_fields(self) -> list[str]:
        """Return the names of the fields that hold one number a sample."""
        with reporting_errors():
            self._dataset.reload()
            schema: Mapping[str, Any] = self._dataset.get_field_schema()
        return sorted(name for name, field in schema.items() if isinstance(field, NUMBERS))

    def has_field(self, name: str) -> bool:
        """Return whether samples have this field."""
        with reporting_errors():
            return bool(self._dataset.has_sample_field(name))

    def read_columns(self, names: Sequence[str]) -> dict[str, tuple[Any, ...]]:
        """Return the values of fields by sample id, in the order of the dataset; a field that is not there is None."""
        present = [name for name in names if self.has_field(name)]
        with reporting_errors():
            ids, *columns = self._dataset.values(["id", *present])
        by_name = dict(zip(present, columns, strict=True))
        nothing = [None] * len(ids)
        rows = zip(*(by_name.get(name, nothing) for name in names), strict=True)
        return dict(zip(map(str, ids), rows, strict=True))

    def saved(self, name: str) -> SavedView | None:
        """Return the saved view of that name; None: there is none."""
        with reporting_errors():
            self._dataset.reload()
            if not self._dataset.has_saved_view(name):
                return None
            info = self._dataset.get_saved_view_info(name)
            ids = self._dataset.load_saved_view(name).values("id")
        return SavedView(name, str(info["description"] or ""), tuple(map(str, ids)))

    def write_view(self, view: SavedView) -> None:
        """Save a view, in place of one of that name that labelloop saved before.

        Raises:
            LabelingError: a person saved a view of that name.
        """
        present = self.saved(view.name)
        if present is not None and not present.description.startswith(MAKER):
            raise LabelingError(f"the view {view.name!r} is not labelloop's; choose another name")
        with reporting_errors():
            chosen = self._dataset.select(list(view.sample_ids), ordered=True)
            try:
                self._dataset.save_view(view.name, chosen, description=view.description, overwrite=True)
            except ValueError as error:
                raise LabelingError(f"view {view.name!r}: {error}") from error


@contextmanager
def reporting_errors() -> Iterator[None]:
    """Turn the database's errors into one a person can read."""
    try:
        yield
    except PyMongoError as error:
        raise ServiceError(f"MongoDB: {error}") from error
