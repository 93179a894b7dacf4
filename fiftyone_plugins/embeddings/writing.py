"""Writes what was found for images or crops into a field: one value an id. Values of others stay as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from more_itertools import chunked

from fiftyone_plugins.app.writing import group_in_sidebar, write_values
from fiftyone_plugins.embeddings.items import find_label_paths
from fiftyone_plugins.embeddings.store import Embeddings

GROUP: Final = "embeddings"
"""The heading in the App's sidebar."""
SAMPLES_AT_ONCE: Final = 5_000


def write_found(dataset: Any, found: Embeddings, columns: Mapping[str, Sequence[Any]]) -> None:
    """Write columns (one value a vector) into fields of the samples; of crops, into attributes of their labels.

    Raises:
        ServiceError: MongoDB does not answer.
    """
    ids = found.ids.tolist()
    if found.field is not None:
        root = find_label_paths(dataset, found.field).root
        for name, values in columns.items():
            _declare(dataset, f"{root}.{name}", values)
            dataset.set_label_values(f"{root}.{name}", dict(zip(ids, values, strict=True)), progress=False)
        return
    for name, values in columns.items():
        _declare(dataset, name, values)
    group_in_sidebar(dataset, GROUP, list(columns))
    rows = zip(*columns.values(), strict=True)
    named = zip(ids, (dict(zip(columns, row, strict=True)) for row in rows), strict=True)
    for part in chunked(named, SAMPLES_AT_ONCE):
        write_values(dataset, dict(part))


def clear(dataset: Any, name: str) -> None:
    """Take the values of a field of samples away, where there is one."""
    if dataset.has_sample_field(name):
        dataset._sample_collection.update_many({name: {"$ne": None}}, {"$set": {name: None}})


def _declare(dataset: Any, path: str, values: Sequence[Any]) -> None:
    import fiftyone as fo

    if not dataset.has_field(path):
        dataset.add_sample_field(path, fo.StringField if any(isinstance(one, str) for one in values) else fo.FloatField)
