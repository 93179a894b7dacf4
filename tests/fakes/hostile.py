"""Annotations as no editor would write them: good ones with a few things replaced, dropped, doubled or nested."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Iterator
from typing import Any, Final

from labels.config import LabelConfig
from labels.geometry import Box, ImageSize, Keypoint, Mask, Polygon
from labels.results import Label, to_result

SIZE: Final = ImageSize(12, 8)
CONFIG: Final = LabelConfig.from_xml(
    """<View><Image name="image" value="$image"/>
    <RectangleLabels name="label" toName="image"><Label value="car"/><Label value="Straße 🚗"/></RectangleLabels>
    <PolygonLabels name="outline" toName="image"><Label value="lake"/></PolygonLabels>
    <KeyPointLabels name="point" toName="image"><Label value="nose"/></KeyPointLabels>
    <BrushLabels name="brush" toName="image"><Label value="road"/></BrushLabels>
    <Choices name="quality" toName="image"><Choice value="keep"/><Choice value="trash"/></Choices>
    <Choices name="scene" toName="image" choice="multiple"><Choice value="day"/><Choice value="rain"/></Choices>
    <Rating name="stars" toName="image" maxRating="5"/></View>"""
)


def good_regions() -> list[dict[str, Any]]:
    """Return one region of every kind."""
    import numpy as np

    pixels = np.zeros((SIZE.height, SIZE.width), dtype=np.bool_)
    pixels[2:5, 3:9] = True
    return to_result(
        [
            Label("1" * 24, "label", ("car",), Box(1, 2, 3, 4, 10.0), confidence=0.5),
            Label("2" * 24, "outline", ("lake",), Polygon(((1, 1), (9, 1), (5, 7)))),
            Label("3" * 24, "point", ("nose",), Keypoint(5, 5, 1)),
            Label("4" * 24, "brush", ("road",), Mask(pixels)),
            Label("5" * 24, "quality", ("keep",)),
            Label("6" * 24, "scene", ("day", "rain")),
            Label("7" * 24, "stars", rating=3),
        ],
        CONFIG,
        SIZE,
    )


def make_payloads(number: int, seed: int, *, deepest: int = 2000) -> Iterator[Any]:
    """Yield as many annotation results; the same ones for the same seed."""
    rng = random.Random(seed)
    regions = good_regions()
    for _ in range(number):
        result: Any = copy.deepcopy(rng.sample(regions, rng.randint(1, 4)))
        for _ in range(rng.randint(1, 3)):
            result = _spoiled(rng, result)
        if rng.random() < 0.05:
            _nest(rng, result, rng.choice((1, 2, 50, deepest)))
        yield result


def _spoiled(rng: random.Random, payload: Any) -> Any:
    """Return the payload with one thing about it wrong."""
    places = list(_walk(payload))
    if not places or rng.random() < 0.01:
        return _hostile_value(rng)
    holder, key = rng.choice(places)
    action = rng.random()
    if action < 0.15:
        del holder[key]
    elif action < 0.25 and isinstance(holder, list):
        holder.append(copy.deepcopy(holder[key]))
    elif action < 0.3 and isinstance(holder, dict):
        holder[_hostile_key(rng)] = holder.pop(key)
    else:
        holder[key] = _hostile_value(rng)
    return payload


def _walk(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every place in a payload; of a long list of numbers only the first ones."""
    items: Any = value.items() if isinstance(value, dict) else enumerate(value[:4]) if isinstance(value, list) else ()
    for key, held in list(items):
        yield value, key
        yield from _walk(held)


def _nest(rng: random.Random, payload: Any, depth: int) -> None:
    """Put one value of the payload into as many lists and objects."""
    places = list(_walk(payload))
    if places:
        holder, key = rng.choice(places)
        for _ in range(depth):
            holder[key] = [holder[key]] if rng.random() < 0.5 else {"value": holder[key]}


def _hostile_key(rng: random.Random) -> str:
    return rng.choice(("", "x" * 10_000, "\ud800", "__class__", "result", "größe", "id\n", "value"))


def _hostile_value(rng: random.Random) -> Any:
    values: tuple[Any, ...] = (
        None, True, False, "", " ", "car\n", "Forklift", "\ud800", "\x00", "‮car", "🚗" * 1000, "1e5", "nan", "12",
        0, -1, -0.0, -5.5, 1e-320, 1e150, 1e308, -1e308, 2**63, 10**400, math.nan, math.inf, -math.inf, 0.1 + 0.2,
        [], {}, [[]], [None], [{}], ["car", "car"], ["car", "Straße 🚗"], [math.nan] * 3, list(range(20_000)),
        {"x": 1}, {"car": True}, [["car"]], [[1, 2], [3]], [[1, 2, 3]] * 3, "rectanglelabels", "label", "brush",
        "stars",
        "choices", "rating", "1" * 24, [255] * 40, [0] * 9,
    )  # fmt: skip
    return copy.deepcopy(rng.choice(values))
