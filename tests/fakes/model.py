"""The simple model that the jobs are measured against: who said what, and what must have become of it.

Written without any code of the jobs. A thing said of an image is a key (a region, or the control that was answered)
and a value (class and place, or the rating). Of each key the model knows what FiftyOne holds and what both sides last
agreed on: a set of possible values, since a killed job may or may not have got that far.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from labels.geometry import Box, Polygon
from labels.results import Label

Key = tuple[str, str]
Value = tuple[Any, ...] | None
Said = dict[Key, Value]
Prefer = Literal["reviewed", "curated", "newest"] | None

WIDTH, HEIGHT = 120, 80
CONTROLS = ("label", "outline", "quality", "stars")
CLASSES = {"label": ("car", "dog", "bus"), "outline": ("lake",), "quality": ("keep", "trash")}


class UnreadableError(Exception):
    """A region says something the label config has no word for."""


def said_by_regions(regions: Iterable[Mapping[str, Any]]) -> Said:
    """Return what an annotation says, read from Label Studio's JSON alone."""
    said: Said = {}
    for region in regions:
        control, value = region["from_name"], region["value"]
        if control == "stars":
            said["control", control] = (value["rating"],)
            continue
        (name,) = value["choices"] if control == "quality" else value[region["type"]]
        if name not in CLASSES[control]:
            raise UnreadableError(name)
        if control == "quality":
            said["control", control] = (name,)
        else:
            said["label", to_key(region["id"])] = (control, name, *_places(value))
    return said


def _places(value: Mapping[str, Any]) -> tuple[float, ...]:
    if "points" in value:
        return tuple(_round(part) for x, y in value["points"] for part in (x * WIDTH / 100, y * HEIGHT / 100))
    x, y, width, height = (value[name] for name in ("x", "y", "width", "height"))
    places = (x * WIDTH / 100, y * HEIGHT / 100, width * WIDTH / 100, height * HEIGHT / 100)
    return tuple(map(_round, places))


def to_key(region_id: str) -> str:
    """Return the label id of a region: FiftyOne holds 24 hexadecimal digits only."""
    return region_id if re.fullmatch("[0-9a-f]{24}", region_id) else hashlib.sha256(region_id.encode()).hexdigest()[:24]


def said_by_labels(labels: Iterable[Label]) -> Said:
    """Return what labels say."""
    said: Said = {}
    for label in labels:
        shape = label.geometry
        if shape is None:
            said["control", label.control] = (label.rating,) if label.rating is not None else label.classes
        elif isinstance(shape, Box):
            places = map(_round, (shape.x, shape.y, shape.width, shape.height))
            said["label", label.id] = (label.control, *label.classes, *places)
        else:
            assert isinstance(shape, Polygon)
            said["label", label.id] = (label.control, *label.classes, *(_round(n) for xy in shape.points for n in xy))
    return said


def _round(number: float) -> float:
    # Adding zero turns -0.0 into 0.0.
    return round(number, 3) + 0.0


def control_of(key: Key, *values: Value) -> str:
    """Return the control of a key that has, or had, these values."""
    return key[1] if key[0] == "control" else next((value[0] for value in values if value), "label")


@dataclass(frozen=True)
class Outcome:
    """What becomes of one key: what FiftyOne holds, what is agreed, and whether a person has to decide."""

    held: Value
    agreed: Value
    is_conflict: bool = False


def merge_one(agreed: Value, ours: Value, theirs: Value, prefer: Prefer) -> set[Outcome]:
    """Return what may become of a key when both sides are brought together."""
    if theirs == agreed:
        return {Outcome(ours, agreed)}
    if ours in (agreed, theirs):
        return {Outcome(theirs, theirs)}
    reviewed, curated = Outcome(theirs, theirs), Outcome(ours, theirs)
    decided: dict[Prefer, set[Outcome]] = {
        "reviewed": {reviewed},
        "curated": {curated},
        "newest": {reviewed, curated},
        None: {Outcome(ours, agreed, is_conflict=True)},
    }
    return decided[prefer]


@dataclass
class SampleModel:
    """What is known of one sample. ``held`` None: nobody ever said anything of it.

    ``spoken`` are the controls whose field is set, if only to an empty list, ``cleared`` those whose field was, once.
    ``merged`` is the annotation that was merged last (more than one after a killed job), ``read`` what each annotation
    said when it was read, ``family`` the annotations that corrections were made from and the corrections themselves,
    ``related`` those that were surely merged when that was known.
    """

    held: Said | None = None
    agreed: dict[Key, set[Value]] = field(default_factory=dict)
    spoken: set[str] = field(default_factory=set)
    cleared: set[str] = field(default_factory=set)
    conflicts: set[Key] = field(default_factory=set)
    merged: set[int] = field(default_factory=set)
    read: dict[int, list[Said]] = field(default_factory=dict)
    family: set[int] = field(default_factory=set)
    related: set[int] = field(default_factory=set)

    def agreed_on(self, key: Key) -> set[Value]:
        """Return what may have been agreed on for a key."""
        return self.agreed.get(key, {None})

    def keys(self, *others: Mapping[Key, Any] | None) -> set[Key]:
        """Return every key somebody ever said something of."""
        return {key for one in (self.held, self.agreed, *others) for key in one or {}}

    def add_agreement(self, said: Said, *, surely: bool) -> None:
        """Agree on what is said: surely, or perhaps, where a job may have been killed before it noted that."""
        for key in self.keys(said):
            value = said.get(key)
            self.agreed[key] = {value} if surely else self.agreed_on(key) | {value}
