"""From catalogue images to the items every format writes: named, sorted, placed, clipped, and nothing lost unsaid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from labels.config import LabelConfig
from labels.errors import ItemError, LabelConfigError
from labels.report import Failure
from labels.results import MEND_CLASS, Label
from sync.exports.images import PlacedImage
from sync.exports.layout import export_stems, export_suffix
from sync.exports.records import ExportImage
from sync.exports.shapes import Shape, ShapeError, to_shape

UNKNOWN_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class Region:
    """A label with its place in the class order and its shape inside the image."""

    label: Label
    class_index: int
    shape: Shape


@dataclass(frozen=True, slots=True)
class Item:
    """An image of the export with its regions, sorted by label id."""

    image: ExportImage
    stem: str
    file_name: str
    regions: tuple[Region, ...]


@dataclass
class Tally:
    """What is counted while an export is written."""

    clipped: int = 0
    turned: int = 0
    copied: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    left_out: list[Failure] = field(default_factory=list)


Place = Callable[[ExportImage, str], PlacedImage]
"""Puts an image under a name without suffix into the export; raises ItemError where that cannot be done."""


def place_nowhere(image: ExportImage, stem: str) -> PlacedImage:
    """Name an image that is not a file of the export."""
    return PlacedImage(stem + export_suffix(image.path))


def prepare_items(
    images: Iterable[ExportImage],
    config: LabelConfig,
    *,
    place: Place,
    tally: Tally,
    looked_only: bool = True,
) -> list[Item]:
    """Place the reviewed images, and return them by name with what their labels show.

    ``looked_only``: without those on which nobody looked for objects, which are no negative examples.

    Raises:
        LabelConfigError: a label's class is not in the config; nothing is exported then, since an object without its
            label teaches a model that it is background.
        LabelingError: two samples have the same file.
    """
    reviewed = [image for image in images if image.has_regions or not looked_only]
    class_indexes = {name: index for index, name in enumerate(config.region_classes)}
    _check_classes(reviewed, class_indexes)
    stems = export_stems(image.path for image in reviewed)
    items = []
    for image in sorted(reviewed, key=lambda image: stems[image.path]):
        stem = stems[image.path]
        try:
            placed = place(image, stem)
        except ItemError as error:
            tally.left_out.append(Failure(error.item, error.problem))
            continue
        tally.turned += placed.is_turned
        tally.copied += placed.is_copied
        items.append(Item(image, stem, placed.file_name, tuple(_to_regions(image, class_indexes, tally))))
    return items


def _check_classes(images: Iterable[ExportImage], class_indexes: Mapping[str, int]) -> None:
    unknown = [
        f"{name!r} on {image.path.name} (sample {image.sample_id})"
        for image in images
        for label in image.labels
        for name in (label.classes if label.geometry is not None else ())
        if name not in class_indexes
    ]
    if unknown:
        shown = list(dict.fromkeys(sorted(unknown)))[:UNKNOWN_SHOWN]
        left = len(set(unknown)) - len(shown)
        raise LabelConfigError(
            f"nothing was exported: {len(unknown)} labels have a class that is not in label_config.xml: "
            f"{', '.join(shown)}{f' and {left} more' if left else ''}; {MEND_CLASS}"
        )


def _to_regions(image: ExportImage, class_indexes: Mapping[str, int], tally: Tally) -> Iterator[Region]:
    for label in sorted(image.labels, key=lambda label: label.id):
        if label.geometry is None:
            tally.answers[label.control] += 1
            continue
        try:
            shape = to_shape(label.geometry, image.size)
            region = Region(label, class_indexes[label.class_name], shape)
        except ShapeError as error:
            tally.left_out.append(Failure(f"sample {image.sample_id}", f"label {label.id}: {error}"))
        except ItemError as error:
            tally.left_out.append(Failure(f"sample {image.sample_id}", str(error)))
        else:
            tally.clipped += shape.is_clipped
            yield region
