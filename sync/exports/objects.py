"""One label as plain values, for the formats that hold everything: CSV, Parquet, WebDataset, TFRecord. Pure.

``box`` is left, top, width and height of the upright box inside the image, in pixels. ``shape`` is JSON and exact, as
the label was drawn: ``{"box": [x, y, width, height, rotation_deg]}`` (turned clockwise round its own corner),
``{"polygon": [[x, y], ...]}``, ``{"keypoint": [x, y, diameter]}`` or ``{"mask": {"size": [height, width], "counts":
[...]}}``, COCO's uncompressed run lengths. None is not known.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from labels.geometry import Box, Geometry, Keypoint, Mask, Polygon
from labels.results import Label, to_record
from sync.exports.items import Item
from sync.exports.shapes import to_run_lengths
from sync.versions.version import VersionLabel

SHAPES: Final = {Box: "box", Polygon: "polygon", Keypoint: "keypoint", Mask: "mask"}


@dataclass(frozen=True, slots=True)
class Object:
    """A label as plain values. ``class_index`` counts from 0 in the order of the label config; None: an answer.

    ``kind`` is the shape, or ``choice`` or ``rating`` for what is said of the whole image; several choices are a JSON
    list in ``class_name``.
    """

    label_id: str
    control: str
    kind: str
    class_name: str | None
    class_index: int | None
    x: float | None
    y: float | None
    width: float | None
    height: float | None
    rating: int | None
    shape: str | None
    reviewer: str | None
    reviewed_at: str | None
    model_version: str | None
    verdict: str | None
    source: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return the values by name."""
        return {one.name: getattr(self, one.name) for one in fields(self)}


NAMES: Final = tuple(one.name for one in fields(Object))


def to_objects(item: Item) -> Iterator[Object]:
    """Yield what an image's labels say: the drawn ones, then the answers, each by label id."""
    for region in item.regions:
        label = region.label
        left, top, right, bottom = region.shape.xyxy
        assert label.geometry is not None
        yield _to_object(
            item,
            label,
            kind=SHAPES[type(label.geometry)],
            class_name=label.class_name,
            class_index=region.class_index,
            box=(left, top, right - left, bottom - top),
            shape=to_shape_text(label.geometry),
        )
    for label in sorted(item.image.labels, key=lambda label: label.id):
        if label.geometry is None:
            is_rating = label.rating is not None
            name = None if is_rating else _to_name(label.classes)
            yield _to_object(item, label, kind="rating" if is_rating else "choice", class_name=name)


def _to_name(choices: Sequence[str]) -> str:
    """Return one choice as it is, unless it would be read as a list, which is what several are."""
    return choices[0] if len(choices) == 1 and not choices[0].startswith("[") else _to_json([*choices])


def _to_object(
    item: Item,
    label: Label,
    *,
    kind: str,
    class_name: str | None,
    class_index: int | None = None,
    box: tuple[float, float, float, float] | None = None,
    shape: str | None = None,
) -> Object:
    origin = item.image.origins.get(label.id) or VersionLabel(label)
    x, y, width, height = box or (None, None, None, None)
    return Object(
        label.id,
        label.control,
        kind,
        class_name,
        class_index,
        x,
        y,
        width,
        height,
        label.rating,
        shape,
        origin.reviewer,
        origin.reviewed_at,
        origin.model_version,
        origin.verdict,
        origin.source,
    )


def to_shape_text(geometry: Geometry) -> str:
    """Return a shape as JSON.

    >>> to_shape_text(Box(1.0, 2.0, 3.0, 4.0))
    '{"box":[1.0,2.0,3.0,4.0,0.0]}'
    """
    if isinstance(geometry, Mask):
        size = [geometry.size.height, geometry.size.width]
        return _to_json({"mask": {"size": size, "counts": to_run_lengths(geometry.pixels)}})
    record = to_record(Label("", "", geometry=geometry))
    return _to_json({name: record[name] for name in ("box", "polygon", "keypoint") if name in record})


def _to_json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
