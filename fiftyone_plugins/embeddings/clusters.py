"""The work «cluster»: groups like images or crops, and names each group by what it shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from fiftyone_plugins.app.params import read_choice, read_count, read_text, read_texts, refuse_others
from fiftyone_plugins.app.work import Params, Tools, Work
from fiftyone_plugins.embeddings.grouping import (
    METHODS,
    NO_GROUP,
    Groups,
    Method,
    group_vectors,
    name_groups,
    suggest_by_labels,
    suggest_by_words,
)
from fiftyone_plugins.embeddings.reading import read_vectors
from fiftyone_plugins.embeddings.store import Embeddings, EmbeddingStore
from labels import fields
from labels.report import Report

JOB: Final = "cluster"
LABEL_LISTS: Final = {"Detections": "detections", "Classifications": "classifications", "Polylines": "polylines"}
"""Kinds of labels whose classes say what an image shows; the list in them."""
SINGLE: Final = ("Classification", "Detection", "Polyline")
NOT_SHOWN: Final = (fields.ZERO_SHOT,)


def read_params(params: Params) -> Mapping[str, Any]:
    """Return the arguments of ``cluster``.

    Raises:
        LabelingError: a parameter cannot be used.
    """
    refuse_others(params, "method", "count", "vectors", "patches", "words", "seed")
    return {
        "method": read_choice(params, "method", tuple(METHODS)),
        "count": read_count(params, "count", least=2),
        "vectors": read_text(params, "vectors"),
        "patches": read_text(params, "patches"),
        "words": read_texts(params, "words"),
        "seed": read_count(params, "seed", least=0) or 0,
    }


def cluster(
    samples: Any,
    tools: Tools,
    *,
    method: Method,
    count: int | None = None,
    vectors: str | None = None,
    patches: str | None = None,
    words: Sequence[str] = (),
    seed: int = 0,
) -> Report:
    """Write the group of each image (or crop) that has a vector, in the place of those of the last time.

    Groups are numbered by size and named by the classes that mark them out; with ``words``, by the words that a CLIP,
    if the vectors are one's, finds nearest.

    Raises:
        LabelingError: there are no vectors or too few, or words are given and the model reads no text.
    """
    found = read_vectors(samples, tools, vectors=vectors, patches=patches)
    tools.on_progress(None, f"grouping {len(found):,} vectors ({method})")
    groups = group_vectors(found.normalised(), method, count=count, seed=seed)
    tools.on_progress(0.7, "looking what each group shows")
    dataset = samples._dataset
    if words:
        suggested = _suggest_words(EmbeddingStore(tools.folder, dataset.name), found, groups, words)
    else:
        suggested = suggest_by_labels(groups, read_classes(dataset, found))
    names = name_groups(groups, suggested)
    tools.on_progress(0.9, "writing the groups")
    from fiftyone_plugins.embeddings.writing import clear, write_found

    if found.field is None:
        # A group of the last time has nothing to do with one of the same number now.
        clear(dataset, fields.CLUSTER)
    write_found(dataset, found, {fields.CLUSTER: names})
    sizes = Counter(names)
    details = {"groups": len(set(groups.tolist()) - {NO_GROUP})}
    if NO_GROUP in groups:
        details["like no group"] = int((groups == NO_GROUP).sum())
    return Report(
        JOB, moved=len(found), notes=tuple(f"{name}: {size}" for name, size in _order(sizes)), details=details
    )


def read_classes(dataset: Any, found: Embeddings) -> list[Collection[str] | None]:
    """Return the classes of each vector's image, or crop; None where nobody said any.

    Of an image, what people said counts before what a model drew.
    """
    if found.field is not None:
        return [None if one is None else (one,) for one in _read_label_classes(dataset, found)]
    shown: dict[str, Collection[str]] = {}
    paths = _list_class_paths(dataset)
    if paths:
        ids, *columns = dataset.values(["id", *(path for path, _ in paths)])
        for sample_id, *row in zip(ids, *columns, strict=True):
            said = next((one for one in row if one), None)
            if said is not None:
                shown[str(sample_id)] = (said,) if isinstance(said, str) else {one for one in said if one}
    return [shown.get(one) for one in found.ids.tolist()]


def _read_label_classes(dataset: Any, found: Embeddings) -> list[str | None]:
    from fiftyone_plugins.embeddings.items import find_label_paths

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


def _suggest_words(store: EmbeddingStore, found: Embeddings, groups: Groups, words: Sequence[str]) -> dict[int, str]:
    from fiftyone_plugins.embeddings.searching import load_reader_of

    return suggest_by_words(groups, found.normalised(), words, load_reader_of(store, found).embed_texts(words))


def _order(sizes: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(sizes.items(), key=lambda one: (-one[1], one[0]))


CLUSTER = Work(read_params, cluster)
