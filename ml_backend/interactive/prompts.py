"""Reads what an annotator just drew out of the regions Label Studio sends. Pure."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labels.config import LabelConfig
from labels.errors import ItemError, LabelingError
from labels.geometry import Box, ImageSize, Keypoint
from labels.results import Label, from_result

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is asked for: the object of a label at these points and not at those, or in this box; all in pixels."""

    region_id: str
    label: str
    box: Box | None = None
    points: tuple[Point, ...] = ()
    away: tuple[Point, ...] = ()


def read_prompt(
    result: Sequence[Mapping[str, Any]], config: LabelConfig, size: ImageSize, *, item: str
) -> Prompt | None:
    """Return the prompt: the newest region is the last one; None where it is neither a key point nor a box.

    A key point is asked together with those drawn before it on the same control and label, as long as they say
    whether the object is there (``is_positive``): a click that is meant to leave something out says no.

    Raises:
        ItemError: the newest region cannot be read; it and ``item`` are named.
    """
    if not result or not isinstance(result[-1], Mapping):
        raise ItemError(item, "the newest region is missing")
    newest = result[-1]
    if newest.get("type") not in ("keypointlabels", "rectanglelabels"):
        return None
    # Regions drawn on a canvas carry the image's size; one that does not is as large as the image.
    sized = {"original_width": size.width, "original_height": size.height, **newest}
    (label,) = from_result([sized], config, item=item)
    if isinstance(label.geometry, Box):
        return Prompt(str(newest.get("id", "")), label.class_name, box=label.geometry)
    clicks = [(_read_point(one, size), one.get("is_positive") is not False) for one in _find_clicks(result)]
    return Prompt(
        str(newest.get("id", "")),
        label.class_name,
        points=tuple(place for place, is_there in clicks if place is not None and is_there),
        away=tuple(place for place, is_there in clicks if place is not None and not is_there),
    )


def read_boxes(result: Sequence[Mapping[str, Any]], size: ImageSize) -> list[Box]:
    """Return the upright box round each box drawn so far, in pixels; what cannot be read is nothing to look out for."""
    boxes = []
    for region in result:
        value = region.get("value") if isinstance(region, Mapping) else None
        if not isinstance(value, Mapping) or region.get("type") != "rectanglelabels":
            continue
        try:
            x, y, width, height = (float(value[key]) for key in ("x", "y", "width", "height"))
            box = Box.from_percent(x, y, width, height, size, rotation_deg=float(value.get("rotation") or 0))
            boxes.append(Box.from_xyxy(*box.to_xyxy()))
        except (ArithmeticError, LookupError, TypeError, ValueError):
            continue
    return boxes


def read_drawn(result: Sequence[Mapping[str, Any]], config: LabelConfig, size: ImageSize, *, item: str) -> list[Label]:
    """Return every shape there was before the newest region; what cannot be read is nothing to look out for."""
    drawn: list[Label] = []
    for region in result[:-1]:
        if isinstance(region, Mapping):
            sized = {"original_width": size.width, "original_height": size.height, **region}
            with contextlib.suppress(LabelingError):
                drawn += from_result([sized], config, item=item)
    return [label for label in drawn if label.geometry is not None and not isinstance(label.geometry, Keypoint)]


def _find_clicks(result: Sequence[Any]) -> list[Mapping[str, Any]]:
    """Return the newest region and the clicks before it that ask for the same."""
    newest = result[-1]

    def is_like(region: Any) -> bool:
        if not isinstance(region, Mapping) or "is_positive" not in region:
            return False
        same = all(region.get(key) == newest.get(key) for key in ("type", "from_name"))
        return same and _labels_of(region) == _labels_of(newest)

    return [*filter(is_like, result[:-1]), newest]


def _labels_of(region: Mapping[str, Any]) -> Any:
    value = region.get("value")
    return value.get("keypointlabels") if isinstance(value, Mapping) else None


def _read_point(region: Mapping[str, Any], size: ImageSize) -> Point | None:
    """Return a click's place in pixels; None for one that cannot be read, which then asks for nothing."""
    value: Any = region.get("value")
    try:
        point = Keypoint.from_percent(float(value["x"]), float(value["y"]), 0.0, size)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return None
    return point.x, point.y
