"""The work «cluster»: groups like images or crops, and names each group by what it shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
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
from fiftyone_plugins.embeddings.reading import read_vectors, tell_outdated
from fiftyone_plugins.embeddings.shown import read_classes
from fiftyone_plugins.embeddings.store import Embeddings, EmbeddingStore
from labels import fields
from labels.report import Report

JOB: Final = "cluster"


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
    from fiftyone_plugins.embeddings.writing import clear, declare_found, write_found

    found = read_vectors(samples, tools, vectors=vectors, patches=patches)
    dataset = samples._dataset
    declare_found(dataset, found.field, [fields.CLUSTER], by=JOB)
    tools.on_progress(None, f"grouping {len(found):,} vectors ({method})")
    groups = group_vectors(found.normalised(), method, count=count, seed=seed)
    tools.on_progress(0.7, "looking what each group shows")
    if words:
        suggested = _suggest_words(EmbeddingStore(tools.folder, dataset.name), found, groups, words)
    else:
        suggested = suggest_by_labels(groups, read_classes(dataset, found))
    names = name_groups(groups, suggested)
    tools.on_progress(0.9, "writing the groups")
    if found.field is None:
        # A group of the last time has nothing to do with one of the same number now.
        clear(dataset, fields.CLUSTER)
    write_found(dataset, found, {fields.CLUSTER: names})
    sizes = Counter(names)
    details = {"groups": len(set(groups.tolist()) - {NO_GROUP})}
    if NO_GROUP in groups:
        details["like no group"] = int((groups == NO_GROUP).sum())
    notes = (*(f"{name}: {size}" for name, size in _order(sizes)), *tell_outdated(found))
    return Report(JOB, moved=len(found), notes=notes, details=details)


def _suggest_words(store: EmbeddingStore, found: Embeddings, groups: Groups, words: Sequence[str]) -> dict[int, str]:
    from fiftyone_plugins.embeddings.searching import load_reader_of

    return suggest_by_words(groups, found.normalised(), words, load_reader_of(store, found).embed_texts(words))


def _order(sizes: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(sizes.items(), key=lambda one: (-one[1], one[0]))


CLUSTER = Work(read_params, cluster)
