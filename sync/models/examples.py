"""What people drew on the images of a split, as the boxes a detector is judged by. Pure.

Of turned boxes, polygons and masks it is the upright box round them. Images on which nobody looked for objects are left
out: nothing drawn on them means nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from labels.config import LabelConfig
from labels.geometry import ImageSize
from labels.results import Label
from ml_backend.answers.label_plans import find_controls
from sync.models.evaluation import Boxes
from sync.versions.manifest import VersionImage


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


def read_examples(images: Iterable[VersionImage], config: LabelConfig, *, task: str) -> Examples:
    """Return the examples for a model of this task: of the classes it could draw by this label config."""
    classes = tuple(dict.fromkeys(name for control in find_controls(config, task) for name in control.classes))
    return make_examples([image for image in images if image.has_regions], classes)


def make_examples(images: Sequence[VersionImage], classes: tuple[str, ...]) -> Examples:
    """Return the examples of these classes; what else was drawn on the images does not count."""
    numbers = {name: number for number, name in enumerate(classes)}
    rows = [
        (place, numbers[label.class_name], _to_inside(label, image.size))
        for place, image in enumerate(images)
        for label in image.regions
        if label.class_name in numbers
    ]
    # A box without an area can be found by nobody.
    drawn = [row for row in rows if row[2][0] < row[2][2] and row[2][1] < row[2][3]]
    return Examples(tuple(images), classes, Boxes.from_rows(drawn))


def _to_inside(label: Label, size: ImageSize) -> tuple[float, float, float, float]:
    assert label.geometry is not None
    x1, y1, x2, y2 = label.geometry.to_xyxy()
    return max(x1, 0.0), max(y1, 0.0), min(x2, float(size.width)), min(y2, float(size.height))
