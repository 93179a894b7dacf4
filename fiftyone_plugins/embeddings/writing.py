"""Writes what was found for images or crops into a field: one value an id. Values of others stay as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from more_itertools import chunked

from fiftyone_plugins.app.own_fields import declare_own
from fiftyone_plugins.app.writing import write_values
from fiftyone_plugins.embeddings.items import find_label_paths
from fiftyone_plugins.embeddings.store import Embeddings
from labels import fields

GROUP: Final = "embeddings"
"""The heading in the App's sidebar."""
SAMPLES_AT_ONCE: Final = 5_000


def declare_found(dataset: Any, field: str | None, names: Sequence[str], *, by: str) -> None:
    """Make the fields of samples, or of the labels in ``field``, that the work ``by`` writes.

    Raises:
        LabelingError: a field of that name is a person's.
    """
    import fiftyone as fo

    texts = (fields.CLUSTER, fields.MAIN_CLASS)
    root = "" if field is None else f"{find_label_paths(dataset, field).root}."
    kinds = {f"{root}{name}": fo.StringField if name in texts else fo.FloatField for name in names}
    declare_own(dataset, kinds, by=by, group=GROUP if field is None else None)


def write_found(dataset: Any, found: Embeddings, columns: Mapping[str, Sequence[Any]]) -> None:
    """Write columns (one value a vector) into declared fields of the samples; of crops, of their labels.

    What has only the vector of another picture than the one that is there now gets None: nothing is known of it.

    Raises:
        ServiceError: MongoDB does not answer.
    """
    ids = [*found.ids.tolist(), *found.outdated]
    columns = {name: [*values, *[None] * len(found.outdated)] for name, values in columns.items()}
    if found.field is not None:
        root = find_label_paths(dataset, found.field).root
        for name, values in columns.items():
            dataset.set_label_values(f"{root}.{name}", dict(zip(ids, values, strict=True)), progress=False)
        return
    rows = zip(*columns.values(), strict=True)
    named = zip(ids, (dict(zip(columns, row, strict=True)) for row in rows), strict=True)
    for part in chunked(named, SAMPLES_AT_ONCE):
        write_values(dataset, dict(part))


def clear(dataset: Any, name: str) -> None:
    """Take the values of a field of samples away, where there is one."""
    if dataset.has_sample_field(name):
        dataset._sample_collection.update_many({name: {"$ne": None}}, {"$set": {name: None}})
