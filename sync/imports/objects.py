"""Labels as ``sync/exports/objects.py`` writes them into CSV, Parquet, WebDataset and TFRecord, read back. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from labels.geometry import Box, Geometry, Keypoint, Polygon
from labels.results import OBJECT_ID
from sync.imports.reading import in_one_line, to_number
from sync.imports.records import ImportedLabel, RawShape

IMAGE_KINDS: Final = ("choice", "rating")


def to_label(values: Mapping[str, Any]) -> ImportedLabel:
    """Return a label.

    Raises:
        ValueError: something is missing, or no number.
    """
    kind, name = values.get("kind") or "box", values.get("class_name")
    label_id = values.get("label_id")
    label_id = label_id if isinstance(label_id, str) and OBJECT_ID.fullmatch(label_id) else None
    control = values.get("control") or None
    if kind == "rating":
        return ImportedLabel((), rating=_to_rating(values.get("rating")), label_id=label_id, control=control)
    if not isinstance(name, str) or not name:
        raise ValueError("has no class")
    if kind == "choice":
        return ImportedLabel(tuple(_to_choices(name)), label_id=label_id, control=control)
    shapes = tuple(shape for shape in (_to_shape(values.get("shape")), _to_box(values)) if shape is not None)
    if not shapes:
        raise ValueError("has neither a shape nor a box")
    return ImportedLabel((name,), shapes, label_id=label_id, control=control)


def _to_rating(value: object) -> int:
    rating = to_number(value)
    if rating != int(rating):
        raise ValueError(f"rating {rating} is no whole number")
    return int(rating)


def _to_choices(text: str) -> list[str]:
    """Return several choices of a JSON list, or the one that the text is."""
    if text.startswith("["):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return [text]
        if isinstance(found, list) and found and all(isinstance(one, str) for one in found):
            return found
    return [text]


def _to_box(values: Mapping[str, Any]) -> RawShape | None:
    sides = [values.get(name) for name in ("x", "y", "width", "height")]
    if any(side is None or side == "" for side in sides):
        return None
    x, y, width, height = (to_number(side) for side in sides)
    return RawShape("box", (x, y, x + width, y + height))


def _to_shape(text: object) -> RawShape | Geometry | None:
    if text is None or text == "":
        return None
    try:
        said = json.loads(text if isinstance(text, str) else "")
        ((kind, value),) = said.items()
        if kind == "mask":
            height, width = (int(side) for side in value["size"])
            return RawShape("run lengths", tuple(to_number(count) for count in value["counts"]), size=(height, width))
        if kind not in ("box", "keypoint", "polygon"):
            raise ValueError(kind)
        if kind == "polygon":
            return Polygon(tuple((to_number(x), to_number(y)) for x, y in value))
        numbers = [to_number(number) for number in value]
        return Box(*numbers) if kind == "box" else Keypoint(*numbers)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(f"shape {in_one_line(text, longest=60)} cannot be read") from error
