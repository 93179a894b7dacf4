"""What people drew or said on the images of a split, as what a model is judged by. Pure.

A detector is judged by what people drew: by masks where it makes masks and people drew polygons or masks, by turned
boxes where it turns them, else by the upright box round each. Images on which nobody looked for objects are left out:
nothing drawn on them means nothing. A classifier is judged by what people said of the whole image with one control.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from hotcoco import mask as rle

from labels.config import LabelConfig
from labels.geometry import Box, ImageSize, Mask, Polygon
from labels.results import Label
from ml_backend.answers.label_plans import find_controls
from sync.models.boxes import Boxes, Numbers, Overlap, Shape, encode_mask, from_turned_box
from sync.versions.version import VersionImage


@dataclass(frozen=True, slots=True)
class Examples:
    """Images with what people drew on them: ``truth`` counts the images and classes by their places here."""

    images: tuple[VersionImage, ...]
    classes: tuple[str, ...]
    truth: Boxes

    @property
    def sizes(self) -> list[ImageSize]:
        """The sizes of the upright images."""
        return [image.size for image in self.images]

    def without(self, sample_ids: Iterable[str]) -> Examples:
        """Return the examples without some images, as those that could not be looked at."""
        left_out = set(sample_ids)
        kept = tuple(image for image in self.images if image.sample_id not in left_out)
        return self if len(kept) == len(self.images) else make_examples(kept, self.classes)

    def by(self, overlap: Overlap) -> Examples:
        """Return the examples to be matched by their boxes, masks or turned boxes."""
        if overlap == "box":
            return self
        shapes = tuple(
            _to_mask(label, self.images[place].size) if overlap == "mask" else _to_turned(label)
            for place, _, label, _ in _list_labels(self.images, self.classes)
        )
        return replace(self, truth=replace(self.truth, overlap=overlap, shapes=shapes))

    def find_overlap(self, tasks: Collection[str]) -> Overlap:
        """Return by what models of these tasks can be judged: all must give it, and people must have drawn it.

        A box that is not turned is a turned box as well.
        """
        drawn = {type(label.geometry) for _, _, label, _ in _list_labels(self.images, self.classes)}
        if drawn and drawn <= {Polygon, Mask} and set(tasks) == {"segment"}:
            return "mask"
        return "turned" if drawn == {Box} and "obb" in tasks else "box"


def read_examples(images: Iterable[VersionImage], config: LabelConfig, *, tasks: Iterable[str]) -> Examples:
    """Return the examples for models of these tasks: of the classes that one of them could draw by this label config.

    What one could draw and another could not is an example too, so that nobody loses it unseen.
    """
    controls = [control for task in tasks for control in find_controls(config, task)]
    classes = tuple(dict.fromkeys(name for control in controls for name in control.classes))
    return make_examples([image for image in images if image.has_regions], classes)


def number_groups(images: Iterable[VersionImage]) -> Numbers:
    """Return the number of each image's group, from 0; an image that stands alone has one of its own."""
    numbers: dict[tuple[str, str], int] = {}
    keys = [("alone", image.sample_id) if image.group is None else ("group", image.group) for image in images]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


def make_examples(images: Sequence[VersionImage], classes: tuple[str, ...]) -> Examples:
    """Return the examples of these classes; what else was drawn on the images does not count."""
    rows = [(place, number, xyxy) for place, number, _, xyxy in _list_labels(images, classes)]
    return Examples(tuple(images), classes, Boxes.from_rows(rows))


def _list_labels(
    images: Sequence[VersionImage], classes: tuple[str, ...]
) -> list[tuple[int, int, Label, tuple[float, float, float, float]]]:
    numbers = {name: number for number, name in enumerate(classes)}
    rows = [
        (place, numbers[label.class_name], label, _to_inside(label, image.size))
        for place, image in enumerate(images)
        for label in image.regions
        if label.class_name in numbers
    ]
    # A box without an area can be found by nobody.
    return [row for row in rows if row[3][0] < row[3][2] and row[3][1] < row[3][3]]


def _to_inside(label: Label, size: ImageSize) -> tuple[float, float, float, float]:
    assert label.geometry is not None
    x1, y1, x2, y2 = label.geometry.to_xyxy()
    return max(x1, 0.0), max(y1, 0.0), min(x2, float(size.width)), min(y2, float(size.height))


def _to_mask(label: Label, size: ImageSize) -> Shape:
    if isinstance(label.geometry, Mask):
        return encode_mask(label.geometry.pixels)
    assert isinstance(label.geometry, Polygon)
    return rle.fr_poly([side for point in label.geometry.points for side in point], size.height, size.width)


def _to_turned(label: Label) -> Shape:
    assert isinstance(label.geometry, Box)
    return from_turned_box(label.geometry)


@dataclass(frozen=True, slots=True)
class AnswerExamples:
    """Images of which people said one class with a control: ``truth`` is the place of each image's class."""

    control: str
    images: tuple[VersionImage, ...]
    classes: tuple[str, ...]
    truth: Numbers

    def without(self, sample_ids: Iterable[str]) -> AnswerExamples:
        """Return the examples without some images, as those that could not be looked at."""
        left_out = set(sample_ids)
        kept = [place for place, image in enumerate(self.images) if image.sample_id not in left_out]
        return replace(self, images=tuple(self.images[place] for place in kept), truth=self.truth[kept])


def read_answer_examples(images: Iterable[VersionImage], config: LabelConfig, *, control: str) -> AnswerExamples:
    """Return the images that have an answer of a control which allows one, with a class the control still has."""
    classes = config.control(control).classes
    found: list[tuple[VersionImage, int]] = []
    for image in images:
        said = [label for label in image.answers if label.control == control]
        if len(said) == 1 and len(said[0].classes) == 1 and said[0].classes[0] in classes:
            found.append((image, classes.index(said[0].classes[0])))
    truth = np.array([number for _, number in found], np.int64)
    return AnswerExamples(control, tuple(image for image, _ in found), classes, truth)


def list_answerable(config: LabelConfig) -> tuple[str, ...]:
    """Return the names of the controls that a classifier can be judged by: a Choices of which one is ticked."""
    return tuple(one.name for one in config.controls if one.kind == "Choices" and not one.is_multiple)
