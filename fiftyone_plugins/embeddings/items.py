"""What there is to look at in a FiftyOne dataset or view: files, or crops of a field's labels, and what names each one.

Reads columns, not samples.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fiftyone_plugins.embeddings.decoding import Relative
from labels import fields
from labels.errors import LabelingError

BOX_KINDS: Final = {"Detections": "detections", "Detection": None, "Polylines": "polylines", "Polyline": None}
"""Kinds of labels that have a place in the image, and the name of the list in them; None: it is one label."""


@dataclass(frozen=True, slots=True)
class Item:
    """One file, and what is looked at in it: ``ids`` of vectors, what each is made from (``stamps``), ``boxes``.

    ``boxes`` None: the whole image, whose id is the sample's.
    """

    sample_id: str
    path: str
    ids: tuple[str, ...]
    stamps: tuple[str, ...]
    boxes: tuple[Relative, ...] | None = None

    def without(self, known: dict[str, str]) -> Item | None:
        """Return what of it has no vector yet, or one of something else; None: nothing."""
        rows = [row for row, one in enumerate(self.ids) if known.get(one) != self.stamps[row]]
        if len(rows) == len(self.ids):
            return self if rows else None
        if not rows:
            return None
        boxes = None if self.boxes is None else tuple(self.boxes[row] for row in rows)
        return Item(
            self.sample_id,
            self.path,
            tuple(self.ids[row] for row in rows),
            tuple(self.stamps[row] for row in rows),
            boxes,
        )


def read_items(samples: Any, field: str | None) -> Iterator[Item]:
    """Yield every image, or the crops of each image's labels in a field; an image without labels has none.

    Raises:
        LabelingError: the samples are no images, or the field holds nothing with a place in the image.
    """
    if samples.media_type not in (None, "image"):
        raise LabelingError(f"{samples.media_type}: embeddings are computed of images")
    has_sum = samples.has_field(fields.IMAGE_SHA256)
    names = ["id", "filepath", *([fields.IMAGE_SHA256] if has_sum else [])]
    if field is None:
        for sample_id, path, *sums in zip(*samples.values(names), strict=True):
            yield Item(sample_id, path, (sample_id,), (_stamp(path, sums),))
        return
    paths = find_label_paths(samples, field)
    size_paths = ["metadata.width", "metadata.height"]
    columns = samples.values([*names, *size_paths, paths.id, paths.place, *([paths.turn] if paths.turn else [])])
    count = len(names)
    for row in zip(*columns, strict=True):
        sample_id, path, *sums = row[:count]
        width, height, ids, places, *turns = row[count:]
        if ids is None:
            continue
        listed = [ids, places, *turns] if paths.is_list else [[one] for one in (ids, places, *turns)]
        stamp = _stamp(path, sums)
        aspect = width / height if width and height else 1.0
        boxes = [_to_box(*one, aspect=aspect) for one in zip(*listed[1:], strict=True)]
        stamps = tuple(hashlib.sha256(f"{stamp} {box}".encode()).hexdigest()[:24] for box in boxes)
        yield Item(sample_id, path, tuple(map(str, listed[0])), stamps, tuple(boxes))


def read_ids(samples: Any, field: str | None) -> list[str]:
    """Return the ids of the images, or of the labels in a field."""
    if field is None:
        return [str(one) for one in samples.values("id")]
    paths = find_label_paths(samples, field)
    return [str(one) for one in samples.values(paths.id, unwind=paths.is_list) if one is not None]


@dataclass(frozen=True, slots=True)
class LabelPaths:
    """Where a field keeps its labels' ids, places and turns; ``root`` is the path of a label."""

    root: str
    id: str
    place: str
    turn: str | None
    is_list: bool


def find_label_paths(samples: Any, field: str) -> LabelPaths:
    """Return where a field keeps its labels.

    Raises:
        LabelingError: there is no such field, or it holds nothing with a place in the image.
    """
    known = list_box_fields(samples)
    if field not in known:
        others = ", ".join(known) or "none"
        raise LabelingError(f"field {field!r}: has no boxes or outlines to cut crops from (those that have: {others})")
    kind = samples.get_field(field).document_type.__name__
    inner = BOX_KINDS[kind]
    root = field if inner is None else f"{field}.{inner}"
    turn = f"{root}.{fields.ROTATION_DEG}"
    place = "bounding_box" if kind.startswith("Detection") else "points"
    return LabelPaths(
        root, f"{root}.id", f"{root}.{place}", turn if samples.has_field(turn) else None, inner is not None
    )


def list_box_fields(samples: Any) -> list[str]:
    """Return the fields with labels that have a place in the image."""
    schema = samples.get_field_schema()
    return [name for name, field in schema.items() if _name_kind(field) in BOX_KINDS]


def list_offered_fields(samples: Any) -> list[str]:
    """Return the fields with labels whose crops a form offers: not those in which plugins keep what they found."""
    return [name for name in list_box_fields(samples) if name not in (fields.MISTAKE_PROPOSALS, fields.CLEAN_SEEN)]


def _name_kind(field: Any) -> str:
    return str(getattr(getattr(field, "document_type", None), "__name__", ""))


def _stamp(path: str, sums: Sequence[str | None]) -> str:
    """Return what names a file's content: size and time of the last change, with the sum it had at its ingest."""
    try:
        facts = Path(path).stat()
    except OSError:
        return "missing"
    return "-".join([*filter(None, sums), str(facts.st_size), str(facts.st_mtime_ns)])


def _to_box(place: Any, turn_deg: float | None = None, *, aspect: float) -> Relative:
    """Return the upright box round a label's place: a bounding box that may be turned, or outlines."""
    if place and isinstance(place[0], (int, float)):
        left, top, width, height = place
        if not turn_deg:
            return left, top, width, height
        # In units of the height: in parts of width and height the turn would be skewed.
        sine, cosine = abs(math.sin(math.radians(turn_deg))), abs(math.cos(math.radians(turn_deg)))
        wide, high = width * aspect, height
        hull = ((wide * cosine + high * sine) / aspect, wide * sine + high * cosine)
        return left + (width - hull[0]) / 2, top + (height - hull[1]) / 2, hull[0], hull[1]
    points = [point for outline in place or () for point in outline]
    if not points:
        return 0.0, 0.0, 0.0, 0.0
    xs, ys = [point[0] for point in points], [point[1] for point in points]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)
