"""Labels and the region JSON of Label Studio: both directions, and the canonical record the ledger keeps.

A region of a kind or class the config does not know is an error that names it, never a label that is left out.
A label's id is the region's id, when that is an id FiftyOne can hold; ``to_label_id`` says what becomes of the others.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from labels.brush_rle import decode_mask, encode_mask
from labels.config import Control, LabelConfig
from labels.errors import ItemError, LabelConfigError
from labels.geometry import Box, Geometry, ImageSize, Keypoint, Mask, Polygon

VALUE_KEYS: Final = {
    "RectangleLabels": "rectanglelabels",
    "PolygonLabels": "polygonlabels",
    "KeyPointLabels": "keypointlabels",
    "BrushLabels": "brushlabels",
    "Choices": "choices",
    "Rating": "rating",
}

OBJECT_ID: Final = re.compile(r"[0-9a-f]{24}")
MEND_CLASS: Final = (
    "give the label a class of the config in FiftyOne, or rename the class everywhere: labelloop relabel OLD NEW"
)
"""What a person can do about a label whose class the config does not have."""

ID_SHOWN: Final = 40
PROBLEM_SHOWN: Final = 400


def to_label_id(region_id: str) -> str:
    """Return the label id of a region: its own, or for a region drawn in the editor a stable one made from it.

    FiftyOne holds ids of 24 hexadecimal digits only, the editor names new regions with ten letters. The same region has
    the same label id at every reading.

    >>> to_label_id("5f43a0b1c2d3e4f5a6b7c8d9")
    '5f43a0b1c2d3e4f5a6b7c8d9'
    >>> to_label_id("kX9_b-Q2sA") == to_label_id("kX9_b-Q2sA")
    True
    """
    if OBJECT_ID.fullmatch(region_id):
        return region_id
    return hashlib.sha256(region_id.encode()).hexdigest()[:24]


@dataclass(frozen=True, slots=True)
class Label:
    """One thing said about an image: a drawn shape with its class, choices, or a rating.

    ``id`` is the FiftyOne label id and, through ``to_label_id``, the Label Studio region id; ``control`` names the
    control of the config. ``geometry`` is None for what speaks of the whole image; ``confidence`` is None for what a
    person drew; ``votes`` is how many members of an ensemble saw it, None where there was one model.
    """

    id: str
    control: str
    classes: tuple[str, ...] = ()
    geometry: Geometry | None = None
    rating: int | None = None
    confidence: float | None = None
    votes: int | None = None

    @property
    def class_name(self) -> str:
        """The class of a region.

        Raises:
            ItemError: there is none, or more than one.
        """
        if len(self.classes) != 1:
            raise ItemError(f"label {self.id}", f"has {len(self.classes)} classes (expected one)")
        return self.classes[0]


def to_result(labels: Iterable[Label], config: LabelConfig, size: ImageSize) -> list[dict[str, Any]]:
    """Return Label Studio's regions of an image of that size.

    Raises:
        LabelConfigError: a label's control or class is not in the config.
    """
    return [_to_region(label, config, size) for label in labels]


def check_known(labels: Iterable[Label], config: LabelConfig) -> None:
    """Return if the config has every label's control and classes.

    Raises:
        LabelConfigError: it has not; the first one is named.
    """
    for label in labels:
        _check_classes(label.classes, config.control(label.control))


def _to_region(label: Label, config: LabelConfig, size: ImageSize) -> dict[str, Any]:
    control = config.control(label.control)
    _check_classes(label.classes, control)
    region: dict[str, Any] = {
        "id": label.id,
        "type": VALUE_KEYS[control.kind],
        "from_name": control.name,
        "to_name": control.to_name,
        "value": _to_value(label, control, size),
    }
    if control.is_region:
        region |= {"original_width": size.width, "original_height": size.height, "image_rotation": 0}
    if label.confidence is not None:
        region["score"] = label.confidence
    if label.votes is not None:
        # The editor shows the text of a region's meta, and keeps what else is in it.
        region["meta"] = {"text": [f"{label.votes} votes"], "votes": label.votes}
    return region


def _check_classes(classes: Sequence[str], control: Control) -> None:
    for name in classes:
        if control.kind != "Rating" and name not in control.classes:
            known = ", ".join(control.classes[:12]) + (", …" if len(control.classes) > 12 else "")
            raise LabelConfigError(f"label {name!r} is not in label_config.xml (known to {control.name!r}: {known})")


def _to_value(label: Label, control: Control, size: ImageSize) -> dict[str, Any]:
    if control.kind == "Rating":
        return {"rating": label.rating}
    named: dict[str, Any] = {VALUE_KEYS[control.kind]: list(label.classes)}
    shape = label.geometry
    if shape is None:
        return named
    if isinstance(shape, Box):
        x, y, width, height = shape.to_percent(size)
        return {"x": x, "y": y, "width": width, "height": height, "rotation": shape.rotation_deg} | named
    if isinstance(shape, Polygon):
        return {"points": [list(point) for point in shape.to_percent(size)], "closed": True} | named
    if isinstance(shape, Keypoint):
        x, y, diameter = shape.to_percent(size)
        return {"x": x, "y": y, "width": diameter} | named
    return {"format": "rle", "rle": encode_mask(shape.pixels)} | named


def from_result(
    result: Iterable[Mapping[str, Any]], config: LabelConfig, *, item: str, size: ImageSize | None = None
) -> list[Label]:
    """Return the labels of Label Studio's regions, in their order.

    ``size`` is that of the image the labels are for. A region that was drawn on one of another size is refused: in
    pixels it would lie somewhere else. Without it, each region is taken at its own size.

    Raises:
        ItemError: a region cannot be carried (unknown control or class, a kind the config does not have, missing or
            impossible values, two regions under one id), or there is no list of regions; ``item`` and the region are
            named in one line. Nothing is left out silently.
    """
    if isinstance(result, str | bytes | Mapping) or not isinstance(result, Iterable):
        raise ItemError(item, f"its result is no list of regions ({type(result).__name__})")
    labels: list[Label] = []
    seen: set[str] = set()
    for region in result:
        shown = _in_one_line(region.get("id", "?"), ID_SHOWN) if isinstance(region, Mapping) else None
        name = item if shown is None else f"{item}, region {shown}"
        try:
            label = _from_region(region, config, size)
        except LabelConfigError as error:
            raise ItemError(name, _in_one_line(error)) from error
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise ItemError(name, _in_one_line(f"cannot be read ({type(error).__name__}: {error})")) from error
        if label.id in seen:
            raise ItemError(name, "there are two regions of this id")
        seen.add(label.id)
        labels.append(label)
    return labels


def _in_one_line(text: object, longest: int = PROBLEM_SHOWN) -> str:
    """Return a text that others wrote so that a report can hold it: one line, not endless, valid UTF-8."""
    try:
        line = " ".join(str(text).encode("utf-8", "backslashreplace").decode().split())
    except RecursionError:
        return "…"
    return line if len(line) <= longest else line[:longest] + "…"


def _from_region(region: Mapping[str, Any], config: LabelConfig, size: ImageSize | None) -> Label:
    kind = region["type"]
    if "from_name" not in region:
        raise LabelConfigError(f"a region of type {kind!r} is not supported")
    control = config.control(str(region["from_name"]))
    key = VALUE_KEYS[control.kind]
    if kind != key:
        raise LabelConfigError(f"a region of type {kind!r} is not supported by control {control.name!r}")
    if region.get("image_rotation"):
        raise LabelConfigError("the image was turned in the editor; turn it back, boxes would lie beside the objects")
    value, score = region["value"], region.get("score")
    confidence = None if score is None else float(score)
    if confidence is not None and not math.isfinite(confidence):
        raise ValueError(f"the score is {confidence}")
    label_id = to_label_id(str(region["id"]))
    if control.kind == "Rating":
        if value["rating"] != int(value["rating"]):
            raise LabelConfigError(f"the rating is {value['rating']!r} (expected a whole number)")
        if not 0 <= value["rating"] <= (control.max_rating or 0):
            raise LabelConfigError(f"the rating is {value['rating']!r} (expected at most {control.max_rating})")
        return Label(label_id, control.name, rating=int(value["rating"]), confidence=confidence)
    classes = tuple(str(name) for name in value.get(key) or ())
    if not classes or (len(classes) > 1 and not control.is_multiple):
        raise LabelConfigError(f"the region has {len(classes)} classes (expected one)")
    _check_classes(classes, control)
    geometry = _from_value[control.kind](value, _size_of(region, size)) if control.is_region else None
    votes = (region.get("meta") or {}).get("votes")
    return Label(
        label_id, control.name, classes, geometry, confidence=confidence, votes=None if votes is None else int(votes)
    )


def _size_of(region: Mapping[str, Any], expected: ImageSize | None) -> ImageSize:
    if expected is not None and region.get("original_width") is None and region.get("original_height") is None:
        # Other tools write percent alone, which are of the image they are shown on.
        return expected
    size = ImageSize(int(region["original_width"]), int(region["original_height"]))
    if expected not in (None, size):
        raise LabelConfigError(f"was drawn on an image of {size}, and the sample's is {expected}")
    return size


def _box_from(value: Mapping[str, Any], size: ImageSize) -> Geometry:
    x, y, width, height = (float(value[key]) for key in ("x", "y", "width", "height"))
    if width < 0 or height < 0:
        raise ValueError(f"a box of {width} x {height} percent")
    return Box.from_percent(x, y, width, height, size, rotation_deg=float(value.get("rotation") or 0.0))


def _polygon_from(value: Mapping[str, Any], size: ImageSize) -> Geometry:
    if len(value["points"]) < 3:
        raise ValueError(f"an outline of {len(value['points'])} points (expected at least three)")
    return Polygon.from_percent(value["points"], size)


def _keypoint_from(value: Mapping[str, Any], size: ImageSize) -> Geometry:
    return Keypoint.from_percent(float(value["x"]), float(value["y"]), float(value.get("width") or 0.0), size)


def _mask_from(value: Mapping[str, Any], size: ImageSize) -> Geometry:
    return Mask(decode_mask(value["rle"], height=size.height, width=size.width))


_from_value: Final[Mapping[str, Callable[[Mapping[str, Any], ImageSize], Geometry]]] = {
    "RectangleLabels": _box_from,
    "PolygonLabels": _polygon_from,
    "KeyPointLabels": _keypoint_from,
    "BrushLabels": _mask_from,
}


def to_record(label: Label) -> dict[str, Any]:
    """Return the label as plain JSON in pixels; what is None is left out. ``from_record`` is its inverse."""
    record: dict[str, Any] = {"id": label.id, "control": label.control}
    if label.classes:
        record["classes"] = list(label.classes)
    if label.rating is not None:
        record["rating"] = label.rating
    if label.confidence is not None:
        record["confidence"] = label.confidence
    if label.votes is not None:
        record["votes"] = label.votes
    shape = label.geometry
    if isinstance(shape, Box):
        record["box"] = [shape.x, shape.y, shape.width, shape.height, shape.rotation_deg]
    elif isinstance(shape, Polygon):
        record["polygon"] = [list(point) for point in shape.points]
    elif isinstance(shape, Keypoint):
        record["keypoint"] = [shape.x, shape.y, shape.diameter]
    elif isinstance(shape, Mask):
        record["mask"] = {"size": [shape.size.width, shape.size.height], "rle": encode_mask(shape.pixels)}
    return record


def from_record(record: Mapping[str, Any]) -> Label:
    """Return the label of a record made by ``to_record``.

    >>> label = Label("1", "label", ("car",), Box(1, 2, 3, 4))
    >>> from_record(to_record(label)) == label
    True
    """
    return Label(
        id=record["id"],
        control=record["control"],
        classes=tuple(record.get("classes", ())),
        geometry=_geometry_from_record(record),
        rating=record.get("rating"),
        confidence=record.get("confidence"),
        votes=record.get("votes"),
    )


def _geometry_from_record(record: Mapping[str, Any]) -> Geometry | None:
    if "box" in record:
        return Box(*record["box"])
    if "polygon" in record:
        return Polygon(tuple((x, y) for x, y in record["polygon"]))
    if "keypoint" in record:
        return Keypoint(*record["keypoint"])
    if "mask" in record:
        width, height = record["mask"]["size"]
        return Mask(decode_mask(record["mask"]["rle"], height=height, width=width))
    return None


def is_same(a: Label, b: Label, *, tolerance_px: float = 0.01) -> bool:
    """Return whether two labels say the same: control, classes, rating, and shape within the tolerance in pixels.

    Confidence and votes do not count: they are the model's word about the label, not what the label says.
    """
    if (a.control, a.rating, sorted(a.classes)) != (b.control, b.rating, sorted(b.classes)):
        return False
    if isinstance(a.geometry, Mask) or isinstance(b.geometry, Mask) or a.geometry is None or b.geometry is None:
        return a.geometry == b.geometry
    first, second = _numbers(a.geometry), _numbers(b.geometry)
    return (
        type(a.geometry) is type(b.geometry)
        and first.shape == second.shape
        and bool(np.all(np.abs(first - second) <= tolerance_px))
    )


def _numbers(shape: Box | Polygon | Keypoint) -> np.ndarray[Any, np.dtype[np.float64]]:
    if isinstance(shape, Polygon):
        return np.asarray(shape.points, dtype=np.float64)
    if isinstance(shape, Keypoint):
        return np.array([shape.x, shape.y, shape.diameter])
    # Corners, not angles: 359.999 and 0 degrees are the same box.
    return np.asarray(shape.corners(), dtype=np.float64)
