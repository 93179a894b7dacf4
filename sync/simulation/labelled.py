"""A fully labelled set: from a folder that another tool wrote, or from a frozen version; boxes alone."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.sax.saxutils import quoteattr

from labels.config import LabelConfig
from labels.errors import ItemError, LabelingError
from ml_backend.training import TrainingItem
from sync.images import find_images, read_facts
from sync.imports.fitting import Classes, FitError, check_size, fit_labels
from sync.imports.formats import READERS, guess_format
from sync.imports.matching import FileIndex, NoMatchError
from sync.imports.records import ImportedImage
from sync.models.training_sets import Choice, find_controls, to_box, to_item
from sync.versions.version import Version

HASH_STEPS: Final = 10_000


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """Images with all their boxes. ``left_out`` says in words what could not be used."""

    name: str
    classes: tuple[str, ...]
    items: tuple[TrainingItem, ...]
    left_out: tuple[str, ...] = ()

    def count_boxes(self, places: Iterable[int]) -> int:
        """Return how many boxes the images at these places have."""
        return sum(len(self.items[place].boxes) for place in places)

    def split(self, test_share: float) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the places of the pool and of the test images; by the content of the files, so always the same.

        Raises:
            LabelingError: one of them would be empty.
        """
        is_test = [_to_share(item.image) < test_share for item in self.items]
        pool = tuple(place for place, is_one in enumerate(is_test) if not is_one)
        test = tuple(place for place, is_one in enumerate(is_test) if is_one)
        if not test or not pool:
            kept = f"{100 * test_share:.0f} % for the test"
            raise LabelingError(f"{self.name}: {len(self.items)} images are too few to keep {kept}")
        return pool, test


def _to_share(path: Path) -> float:
    return int(hashlib.sha256(path.read_bytes()).hexdigest()[:8], 16) % HASH_STEPS / HASH_STEPS


def read_folder(folder: Path, labels: Path | None = None) -> LabelledSet:
    """Return the images of a folder with the boxes that ``labels`` (a file or folder; None: the same) gives them.

    An image of which the labels say nothing is left out: nobody knows whether it is empty. A polygon counts as the box
    round it.

    Raises:
        LabelingError: the labels cannot be read, or are none of boxes.
    """
    source = labels or folder
    kind = guess_format(source)
    if kind not in READERS:
        raise LabelingError(f"{source}: holds labels of whole images ({kind}); a simulation needs boxes")
    found = READERS[kind](source)
    names = sorted({name for image in found.images for label in image.labels if label.shapes for name in label.classes})
    if not names:
        raise LabelingError(f"{source}: has no boxes")
    left_out = Counter({"labels of files that cannot be read": len(found.problems)})
    reader = _Reader(FileIndex(folder, find_images(folder)), _to_config(names), tuple(names), left_out)
    items = [item for image in found.images if (item := reader.read(image)) is not None]
    return LabelledSet(folder.name, tuple(names), tuple(items), _describe(left_out))


@dataclass(frozen=True, slots=True)
class _Reader:
    index: FileIndex
    config: LabelConfig
    names: tuple[str, ...]
    left_out: Counter[str]

    def read(self, image: ImportedImage) -> TrainingItem | None:
        """Return an image with what of its labels fits on it; None where there is no such image."""
        try:
            path = self.index.find(image.name, image.sha256)
            facts = read_facts(path)
            check_size(image, facts.size)
        except (NoMatchError, ItemError, FitError) as error:
            self.left_out[f"images: {type(error).__name__.removesuffix('Error').lower()}"] += 1
            return None
        fitted = fit_labels(image, facts.size, Classes(self.config), image_sha256=facts.sha256, taken=set())
        self.left_out["labels that do not fit their image"] += len(fitted.problems)
        boxes = (to_box(label, self.names, self.left_out) for label in fitted.labels)
        return TrainingItem(path, facts.size, tuple(box for box in boxes if box is not None))


def _to_config(names: Sequence[str]) -> LabelConfig:
    """Return a label config with these classes for boxes and for outlines."""
    classes = "".join(f"<Label value={quoteattr(name)}/>" for name in names)
    controls = "".join(
        f'<{kind} name="{kind}" toName="image">{classes}</{kind}>' for kind in ("RectangleLabels", "PolygonLabels")
    )
    return LabelConfig.from_xml(f'<View><Image name="image" value="$image"/>{controls}</View>')


def from_version(version: Version) -> LabelledSet:
    """Return the reviewed images of a frozen version, whatever split they are in.

    Raises:
        LabelingError: its label config has nothing to draw with.
    """
    choice = Choice()
    controls = find_controls(version.config, choice)
    classes = tuple(dict.fromkeys(name for control in controls for name in control.classes))
    left_out: Counter[str] = Counter()
    names = {control.name for control in controls}
    items = [to_item(image, names, classes, choice, left_out) for image in version.images]
    return LabelledSet(version.id, classes, tuple(item for item in items if item is not None), _describe(left_out))


def _describe(left_out: Counter[str]) -> tuple[str, ...]:
    return tuple(f"{count} {reason}" for reason, count in sorted(left_out.items()) if count)
