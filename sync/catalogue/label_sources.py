"""Where labels of people came from that were not drawn here: an attribute on each that was imported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import fiftyone as fo

from labels import fields
from sync.catalogue.label_fields import LabelField
from sync.catalogue.stored_labels import reporting_errors


def declare_source(dataset: Any, label_fields: Sequence[LabelField]) -> None:
    """Give the labels' fields the attribute; a second time changes nothing."""
    with reporting_errors():
        for path in _paths(label_fields):
            dataset.add_sample_field(f"{path}.{fields.IMPORTED_FROM}", fo.StringField)


def read_sources(dataset: Any, label_fields: Sequence[LabelField]) -> dict[str, str]:
    """Return by label id which file a label was imported from."""
    found: dict[str, str] = {}
    with reporting_errors():
        for path in _paths(label_fields):
            if not dataset.has_sample_field(f"{path}.{fields.IMPORTED_FROM}"):
                continue
            ids, sources = dataset.values([f"{path}.id", f"{path}.{fields.IMPORTED_FROM}"], unwind=True)
            named = zip(_flat(ids), _flat(sources), strict=True)
            found |= {str(label_id): source for label_id, source in named if source is not None}
    return found


def _paths(label_fields: Sequence[LabelField]) -> Iterator[str]:
    for field in label_fields:
        yield f"{field.name}.{field.items}" if field.items else field.name


def _flat(values: Sequence[Any]) -> list[Any]:
    """Return the values of all samples in one list, whether a sample has one or several."""
    return list(chain.from_iterable(one if isinstance(one, list) else [one] for one in values))
