"""What of the labels of a file fits the label config and the images: classes, controls, places. Pure.

A shape that reaches over the image's edge is cut there, and counted. What has no area is left out, and named; a label
that does not fit otherwise takes its image with it, since the rest would say that its object is background.

Of the ways to draw a label the first is taken for which the config has a control with its class.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from labels.config import Control, LabelConfig
from labels.geometry import Box, Geometry, ImageSize, Keypoint, Mask, Polygon
from labels.polygons import compute_area
from labels.results import Label
from sync.exports.shapes import OUTSIDE, SMALLEST_SIDE_PX, NoAreaError, ShapeError, clip_outline, to_shape
from sync.imports.geometries import FitError, to_geometry
from sync.imports.reading import in_one_line
from sync.imports.records import ImportedImage, ImportedLabel, ImportedSet, RawShape

CONTROL_KINDS: Final = {
    "box": "RectangleLabels",
    "turned box": "RectangleLabels",
    "polygon": "PolygonLabels",
    "keypoint": "KeyPointLabels",
    "run lengths": "BrushLabels",
    "painted outlines": "BrushLabels",
    "outlines": "PolygonLabels",
}
SIZE_TOLERANCE_PX: Final = 1


@dataclass(slots=True)
class Classes:
    """The classes of a file in those of the config: what a person mapped, else the same, else the config's aliases.

    A class that is mapped to nothing is left out on purpose.
    """

    config: LabelConfig
    mapped: Mapping[str, str] = field(default_factory=dict)
    by_alias: Counter[tuple[str, str]] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)

    def find(self, name: str, controls: Iterable[Control]) -> tuple[Control, str] | None:
        """Return the first of these controls that has the class, and the class as it writes it."""
        name = self.mapped.get(name, name)
        known = list(controls)
        for control in known:
            if name in control.classes:
                return control, name
        for control in known:
            alias = control.class_for(name)
            if alias is not None:
                return control, alias
        return None


def count_unknown(found: ImportedSet, classes: Classes) -> dict[str, int]:
    """Return the classes that the config does not have, with how many labels each has, the most frequent first."""
    unknown = Counter[str]()
    for image in found.images:
        for label in image.labels:
            controls = list(_controls_for(label, classes.config))
            for name in label.classes:
                if classes.mapped.get(name) != "" and classes.find(name, controls) is None:
                    unknown[name] += 1
    return dict(sorted(unknown.items(), key=lambda entry: (-entry[1], entry[0])))


def find_controls_for(found: ImportedSet, names: Collection[str], config: LabelConfig) -> list[Control]:
    """Return the controls that could hold labels of these classes of the file, in the order of the config."""
    possible = {
        control.name
        for image in found.images
        for label in image.labels
        if not set(names).isdisjoint(label.classes)
        for control in _controls_for(label, config)
    }
    return [control for control in config.controls if control.name in possible]


def _controls_for(label: ImportedLabel, config: LabelConfig) -> Iterator[Control]:
    """Yield the controls that could hold a label: the one it names first, then those of its shapes' kinds."""
    if not label.shapes:
        kind = "Rating" if label.rating is not None else "Choices"
        yield from (
            control for control in config.controls if control.kind == kind and label.control in (None, control.name)
        )
        return
    for shape in label.shapes:
        kind = _kind_of(shape)
        of_kind = [control for control in config.controls if control.kind == kind]
        yield from sorted(of_kind, key=lambda control: control.name != label.control)


def _kind_of(shape: RawShape | Geometry) -> str:
    if isinstance(shape, RawShape):
        return CONTROL_KINDS[shape.kind]
    kinds = {Box: "RectangleLabels", Polygon: "PolygonLabels", Keypoint: "KeyPointLabels", Mask: "BrushLabels"}
    return kinds[type(shape)]


@dataclass(slots=True)
class Fitted:
    """The labels of one image as they will be written, and what did not fit.

    ``misses`` is how many labels did not fit that have an area, ``simpler`` how many were taken as a box.
    """

    labels: list[Label] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    misses: int = 0
    clipped: int = 0
    simpler: int = 0
    doubled: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether the labels tell all that is on the image: an empty shape is no object, unless nothing else is."""
        return not self.misses and (bool(self.labels) or not self.problems)


def check_size(image: ImportedImage, size: ImageSize) -> None:
    """Check that labels were drawn on an image of this size.

    Raises:
        FitError: the file says another size.
    """
    said = image.size
    if said is None:
        return
    if abs(said.width - size.width) <= SIZE_TOLERANCE_PX and abs(said.height - size.height) <= SIZE_TOLERANCE_PX:
        return
    turned = " (they were drawn before it was turned as its EXIF tag says)" if _is_turned(said, size) else ""
    raise FitError(
        f"its labels were drawn on {said.width}x{said.height}, the image is {size.width}x{size.height}{turned}"
    )


def _is_turned(said: ImageSize, size: ImageSize) -> bool:
    return (said.height, said.width) == (size.width, size.height)


def fit_labels(
    image: ImportedImage, size: ImageSize, classes: Classes, *, image_sha256: str, taken: set[str]
) -> Fitted:
    """Return the labels of an image; ``taken`` holds the label ids that are given, and gets these."""
    fitted = Fitted()
    said: set[tuple[object, ...]] = set()
    for number, label in enumerate(image.labels, start=1):
        if label.classes and all(classes.mapped.get(name) == "" for name in label.classes):
            classes.dropped.update(label.classes)
            continue
        try:
            made = _fit_label(label, size, classes, fitted)
        except ValueError as error:
            fitted.misses += not isinstance(error, NoAreaError)
            name = in_one_line(", ".join(label.classes), longest=60) or "rating"
            fitted.problems.append(f"label {number} ({name}): {error}")
            continue
        key = (made.control, made.classes, made.geometry, made.rating)
        if key in said:
            fitted.doubled += 1
            continue
        said.add(key)
        label_id = label.label_id
        if label_id is None or label_id in taken:
            label_id = _make_id(image_sha256, made, taken)
        taken.add(label_id)
        fitted.labels.append(Label(label_id, made.control, made.classes, made.geometry, made.rating))
    return fitted


def _make_id(image_sha256: str, label: Label, taken: set[str]) -> str:
    """Return an id made from what the label says, the same at every reading."""
    number = 0
    while True:
        text = f"{image_sha256} {label.control} {label.classes} {label.geometry!r} {label.rating} {number}"
        if isinstance(label.geometry, Mask):
            text += hashlib.sha256(label.geometry.pixels.tobytes()).hexdigest()
        label_id = hashlib.sha256(text.encode()).hexdigest()[:24]
        if label_id not in taken:
            return label_id
        number += 1


def _fit_label(label: ImportedLabel, size: ImageSize, classes: Classes, fitted: Fitted) -> Label:
    controls = list(_controls_for(label, classes.config))
    if label.rating is not None:
        if not controls or not 0 <= label.rating <= (controls[0].max_rating or 0):
            raise FitError(f"the rating {label.rating} has no place in the label config")
        return Label("", controls[0].name, rating=label.rating)
    found = [classes.find(name, controls) for name in label.classes]
    if not found or any(one is None for one in found):
        raise FitError("its class is not in the label config for such a shape")
    control = next(one[0] for one in found if one is not None)
    names = tuple(one[1] for one in found if one is not None)
    for name, new in zip(label.classes, names, strict=True):
        if new != classes.mapped.get(name, name):
            classes.by_alias[name, new] += 1
    if not label.shapes:
        if len(names) > 1 and not control.is_multiple:
            raise FitError(f"{len(names)} answers of {control.name!r} (expected one)")
        return Label("", control.name, names)
    at, shape = next((at, one) for at, one in enumerate(label.shapes) if _kind_of(one) == control.kind)
    fitted.simpler += at > 0
    geometry = to_geometry(shape, size) if isinstance(shape, RawShape) else shape
    geometry, is_clipped = _fit_inside(geometry, size)
    fitted.clipped += is_clipped
    return Label("", control.name, names, geometry)


def _fit_inside(geometry: Geometry, size: ImageSize) -> tuple[Geometry, bool]:
    """Return what of a shape lies inside the image, and whether it was cut.

    Raises:
        ShapeError: it has no area, or lies outside.
    """
    shape = to_shape(geometry, size)
    if not shape.is_clipped:
        return _rounded(geometry, size), False
    if isinstance(geometry, Box):
        # A turned box that is cut is no box any more: it stays whole, as people may draw it too.
        return (geometry, True) if geometry.rotation_deg else (Box.from_xyxy(*shape.xyxy), True)
    if isinstance(geometry, Polygon):
        outline = clip_outline(geometry.points, size)
        if compute_area(outline) < SMALLEST_SIDE_PX**2:
            raise ShapeError(OUTSIDE)
        return Polygon(tuple(outline)), True
    return geometry, True


def _rounded(geometry: Geometry, size: ImageSize) -> Geometry:
    """Return a box that ends at the edge where it reached over it by less than can be seen."""
    if isinstance(geometry, Box) and geometry.rotation_deg == 0:
        left, top, right, bottom = geometry.to_xyxy()
        inside = (max(left, 0.0), max(top, 0.0), min(right, float(size.width)), min(bottom, float(size.height)))
        return geometry if inside == (left, top, right, bottom) else Box.from_xyxy(*inside)
    return geometry


def find_controls(labels: Iterable[Sequence[Label]], config: LabelConfig, *, has_regions: bool) -> set[str]:
    """Return the controls that a set of labels speaks with.

    Where somebody looked for objects and none was found on any image, that was with the control that draws boxes.
    """
    used = {label.control for some in labels for label in some}
    if has_regions and not used & {control.name for control in config.controls if control.is_region}:
        first = config.box_control or next((one for one in config.controls if one.is_region), None)
        used |= set() if first is None else {first.name}
    return used
