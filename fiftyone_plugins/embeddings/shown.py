"""Which classes an image or a crop shows, as its labels say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from fiftyone_plugins.embeddings.items import find_label_paths
from fiftyone_plugins.embeddings.store import Embeddings
from labels import fields

LABEL_LISTS: Final = {"Detections": "detections", "Classifications": "classifications", "Polylines": "polylines"}
"""Kinds of labels whose classes say what an image shows; the list in them."""
SINGLE: Final = ("Classification", "Detection", "Polyline")
NOT_SHOWN: Final = (fields.ZERO_SHOT,)
"""A machine's guess by class names says nothing about what a group shows."""


def read_classes(dataset: Any, found: Embeddings) -> list[Sequence[str] | None]:
    """Return the classes of each vector's image, or crop; None where nobody said any.

    Of an image, what people said counts before what a model drew.
    """
    if found.field is not None:
        return [None if one is None else (one,) for one in _read_label_classes(dataset, found)]
    shown: dict[str, Sequence[str]] = {}
    paths = _list_class_paths(dataset)
    if paths:
        ids, *columns = dataset.values(["id", *(path for path, _ in paths)])
        for sample_id, *row in zip(ids, *columns, strict=True):
            said = next((one for one in row if one), None)
            if said is not None:
                shown[str(sample_id)] = (said,) if isinstance(said, str) else [one for one in said if one]
    return [shown.get(one) for one in found.ids.tolist()]


def _read_label_classes(dataset: Any, found: Embeddings) -> list[str | None]:
    assert found.field is not None
    paths = find_label_paths(dataset, found.field)
    ids, names = dataset.values([paths.id, f"{paths.root}.label"], unwind=paths.is_list)
    by_id = dict(zip(map(str, ids), names, strict=True))
    return [by_id.get(one) for one in found.ids.tolist()]


def _list_class_paths(dataset: Any) -> list[tuple[str, str]]:
    """Return where images' classes lie, what people said first, then other labels, last what a detector drew."""
    found = []
    for name, field in dataset.get_field_schema().items():
        kind = getattr(getattr(field, "document_type", None), "__name__", "")
        if name in NOT_SHOWN or (kind not in LABEL_LISTS and kind not in SINGLE):
            continue
        inner = f".{LABEL_LISTS[kind]}" if kind in LABEL_LISTS else ""
        found.append((f"{name}{inner}.label", name))
    return sorted(found, key=lambda one: (one[1] == fields.PREDICTIONS, one[1] != fields.GROUND_TRUTH, one[1]))


def find_main_class(names: Sequence[str] | None) -> str | None:
    """Return the class that is there most often, of equal ones the first by name; None: there is none.

    >>> find_main_class(["car", "bus", "car"]), find_main_class([]), find_main_class(None)
    ('car', None, None)
    """
    counts = Counter(names or ())
    return min(counts, key=lambda name: (-counts[name], name), default=None)
