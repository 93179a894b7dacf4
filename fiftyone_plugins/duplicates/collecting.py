"""Reads what the plugin needs of a FiftyOne dataset or view: fingerprints, vectors, and what decides on the keeper."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from more_itertools import chunked
from numpy.typing import NDArray

from fiftyone_plugins.app.work import Tools
from fiftyone_plugins.duplicates.fingerprint_store import ROWS_PER_CHUNK, FingerprintStore, to_folder
from fiftyone_plugins.duplicates.fingerprints import Fingerprint, read_fingerprint
from fiftyone_plugins.duplicates.grouping import Member
from fiftyone_plugins.embeddings.items import read_items
from fiftyone_plugins.embeddings.store import EmbeddingStore
from labels import fields
from labels.errors import ItemError, LabelingError
from labels.report import Failure

SPLIT_TAGS: Final = {"train": "train", "val": "val", "validation": "val", "valid": "val", "test": "test"}
"""Tags that say which split a sample is in."""

OF_MACHINES: Final = (fields.PREDICTIONS, fields.ZERO_SHOT)
LISTS: Final = {"Detections": "detections", "Classifications": "classifications", "Polylines": "polylines"}
PART_FOR_IMAGES: Final = 0.4
"""So much of the work's progress is the reading of images; the vectors take as much again."""

THREADS: Final = 4


@dataclass(frozen=True, slots=True)
class Collected:
    """The images that can be read: what they are, in the order of the samples, and why the others cannot."""

    members: tuple[Member, ...]
    prints: tuple[Fingerprint, ...]
    failed: tuple[Failure, ...]


def collect_prints(samples: Any, tools: Tools, *, splits: str | None) -> Collected:
    """Return the fingerprints of the images, those that are new or changed read from their files.

    Raises:
        LabelingError: the samples are no images, or ``splits`` names no field of texts.
    """
    items = list(read_items(samples, None))
    store = FingerprintStore(to_folder(tools.folder, samples._dataset.name))
    known = store.read()
    prints: dict[str, Fingerprint] = {
        item.sample_id: found[1]
        for item in items
        if (found := known.get(item.sample_id)) is not None and found[0] == item.stamps[0]
    }
    left = [(item.sample_id, item.stamps[0], Path(item.path)) for item in items if item.sample_id not in prints]
    failed = []
    for chunk in chunked(left, ROWS_PER_CHUNK):
        rows = []
        for (sample_id, stamp, path), read in zip(chunk, _read_all([one[2] for one in chunk]), strict=True):
            if isinstance(read, ItemError):
                failed.append(Failure(path.name, read.problem, sample_id))
            else:
                prints[sample_id] = read
                rows.append((sample_id, stamp, read))
            done = len(prints) + len(failed)
            tools.on_progress(PART_FOR_IMAGES * done / len(items), f"looked at {done:,} of {len(items):,} images")
        store.append(rows)
    members = tuple(_read_members(samples, prints, splits))
    return Collected(members, tuple(prints[member.sample_id] for member in members), tuple(failed))


def collect_vectors(
    samples: Any, tools: Tools, members: Sequence[Member], *, key: str | None
) -> tuple[dict[int, NDArray[np.float32]], str]:
    """Return the images' vectors by number, and their key: what has none of that model yet is computed.

    Raises:
        LabelingError: no vectors have that key, or the model cannot be loaded.
    """
    store = EmbeddingStore(tools.folder, samples._dataset.name)
    wanted = key or store.latest()
    if wanted is None:
        wanted = _compute_vectors(samples, tools, {})
    elif (source := store.read_source(wanted)) is not None:
        _compute_vectors(samples, tools, source)
    found = store.read(wanted)
    rows = {member.sample_id: row for row, member in enumerate(members)}
    return {
        rows[one]: vector for one, vector in zip(found.ids.tolist(), found.vectors, strict=True) if one in rows
    }, wanted


def _compute_vectors(samples: Any, tools: Tools, source: dict[str, str | None] | dict[str, str]) -> str:
    """Compute what has no vector yet, and return the key; an image that cannot be read was told of before."""
    from fiftyone_plugins.embeddings.embedders import DEFAULT_MODEL, parse_model
    from fiftyone_plugins.embeddings.store import Key
    from fiftyone_plugins.embeddings.work import embed

    def tell(done: float | None, message: str) -> None:
        tools.on_progress(None if done is None else PART_FOR_IMAGES * (1 + done), message)

    model, weights = source.get("model") or DEFAULT_MODEL, source.get("weights")
    embed(samples, Tools(tools.folder, tell), model=model, weights=weights)
    return Key(parse_model(model, weights).name).name


def _read_all(paths: Sequence[Path]) -> Iterator[Fingerprint | ItemError]:
    with ThreadPoolExecutor(THREADS, thread_name_prefix="fingerprints") as pool:
        yield from pool.map(_read_one, paths)


def _read_one(path: Path) -> Fingerprint | ItemError:
    try:
        return read_fingerprint(path)
    except ItemError as error:
        return error


def _read_members(samples: Any, prints: dict[str, Fingerprint], splits: str | None) -> Iterator[Member]:
    label_fields = find_label_fields(samples)
    names = ["id", "tags", *_existing(samples, fields.REVIEW_STATE, fields.DUPLICATE_GROUP)]
    if splits is not None and (not samples.has_sample_field(splits) or splits in label_fields):
        raise LabelingError(f"splits {splits!r}: the samples have no such field")
    columns = dict(zip(names, samples.values(names), strict=True))
    labels = [samples.values(path) for path in label_fields.values()]
    named = [() if one is None else (str(one),) for one in samples.values(splits)] if splits is not None else None
    chosen = [find_splits(tags) for tags in columns["tags"]] if named is None else named
    states = columns.get(fields.REVIEW_STATE) or [None] * len(chosen)
    groups = columns.get(fields.DUPLICATE_GROUP) or [None] * len(chosen)
    for row, sample_id in enumerate(columns["id"]):
        if (one := prints.get(sample_id)) is None:
            continue
        said = [_to_said(column[row]) for column in labels]
        yield Member(
            sample_id=sample_id,
            content=one.sha256,
            pixels=one.width * one.height,
            sharpness=one.sharpness,
            bytes=one.bytes,
            is_reviewed=states[row] == fields.REVIEWED,
            labels=sum(len(one) for one in said if one is not None),
            old_group=groups[row],
            splits=chosen[row],
            said=tuple(said),
        )


def find_label_fields(samples: Any) -> dict[str, str]:
    """Return the fields of labels that people gave, each with the path of the class names."""
    found = {}
    for name, field in samples.get_field_schema().items():
        kind = str(getattr(getattr(field, "document_type", None), "__name__", ""))
        is_of_people = not name.startswith(OF_MACHINES) and (
            name.startswith(fields.GROUND_TRUTH) or kind.startswith("Classification")
        )
        if is_of_people and kind in (*LISTS, "Classification"):
            found[name] = f"{name}.{LISTS[kind]}.label" if kind in LISTS else f"{name}.label"
    return found


def _to_said(value: Any) -> tuple[Hashable, ...] | None:
    """Return class names in order; None: nothing is said, empty: that nothing is there."""
    if value is None:
        return None
    return (value,) if isinstance(value, str) else tuple(sorted(str(one) for one in value))


def find_splits(tags: Sequence[str] | None) -> tuple[str, ...]:
    """Return the splits that tags name, whatever their case.

    >>> find_splits(["Test", "sunny", "train"])
    ('test', 'train')
    """
    return tuple(sorted({SPLIT_TAGS[tag.casefold()] for tag in tags or () if tag.casefold() in SPLIT_TAGS}))


def _existing(samples: Any, *names: str) -> list[str]:
    return [name for name in names if samples.has_sample_field(name)]
