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
from sync.imports.fitting import Classes, check_size, fit_labels
from sync.imports.formats import READERS, guess_format
from sync.imports.geometries import FitError
from sync.imports.matching import FileIndex, NoMatchError
from sync.imports.records import ImportedImage, ImportedSet
from sync.models.training_sets import Choice, find_controls, to_box, to_item
from sync.versions.version import Version

HASH_STEPS: Final = 10_000
MISSING_A_LABEL: Final = "images of which a label cannot be read, or does not fit"


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """Images with all their boxes. ``left_out`` says in words what could not be used.

    ``groups`` names for each image what keeps it together with others; None: it stands alone. Empty: all do.
    """

    name: str
    classes: tuple[str, ...]
    items: tuple[TrainingItem, ...]
    left_out: tuple[str, ...] = ()
    groups: tuple[str | None, ...] = ()

    def count_boxes(self, places: Iterable[int]) -> int:
        """Return how many boxes the images at these places have."""
        return sum(len(self.items[place].boxes) for place in places)

    def compute_sha256(self) -> str:
        """Return the sum over all that results hang on: classes, images by their content, and boxes."""
        digest = hashlib.sha256(repr((self.classes, self.groups)).encode())
        for item in self.items:
            digest.update(repr((_to_sha256(item), item.boxes)).encode())
        return digest.hexdigest()

    def split(self, test_share: float) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the places of the pool and of the test images; by the content of the files, so always the same.

        Images of one group come into one of the two.

        Raises:
            LabelingError: one of them would be empty.
        """
        groups = self.groups or (None,) * len(self.items)
        is_test = [_to_share(item, group) < test_share for item, group in zip(self.items, groups, strict=True)]
        pool = tuple(place for place, is_one in enumerate(is_test) if not is_one)
        test = tuple(place for place, is_one in enumerate(is_test) if is_one)
        if not test or not pool:
            kept = f"{100 * test_share:.0f} % for the test"
            raise LabelingError(f"{self.name}: {len(self.items)} images are too few to keep {kept}")
        return pool, test


def _to_share(item: TrainingItem, group: str | None) -> float:
    digest = _to_sha256(item) if group is None else hashlib.sha256(group.encode()).hexdigest()
    return int(digest[:8], 16) % HASH_STEPS / HASH_STEPS


def _to_sha256(item: TrainingItem) -> str:
    return item.sha256 or hashlib.sha256(item.image.read_bytes()).hexdigest()


def read_folder(folder: Path, labels: Path | None = None) -> LabelledSet:
    """Return the images of a folder with the boxes that ``labels`` (a file or folder; None: the same) gives them.

    An image of which the labels say nothing is left out: nobody knows whether it is empty; so is one of which a label
    cannot be read or does not fit, since the rest would say that its object is background. A polygon counts as the box
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
    items = [item for image in found.images if (item := reader.read(image, found)) is not None]
    return LabelledSet(folder.name, tuple(names), tuple(items), _describe(left_out))


@dataclass(frozen=True, slots=True)
class _Reader:
    index: FileIndex
    config: LabelConfig
    names: tuple[str, ...]
    left_out: Counter[str]

    def read(self, image: ImportedImage, found: ImportedSet) -> TrainingItem | None:
        """Return an image with its labels; None where there is no such image, or not all of them can be had."""
        if found.find_fault(image) is not None:
            self.left_out[MISSING_A_LABEL] += 1
            return None
        try:
            path = self.index.find(image.name, image.sha256)
            facts = read_facts(path)
            check_size(image, facts.size)
        except (NoMatchError, ItemError, FitError) as error:
            self.left_out[f"images: {type(error).__name__.removesuffix('Error').lower()}"] += 1
            return None
        fitted = fit_labels(image, facts.size, Classes(self.config), image_sha256=facts.sha256, taken=set())
        self.left_out["labels that do not fit their image"] += len(fitted.problems)
        if not fitted.is_whole:
            self.left_out[MISSING_A_LABEL] += 1
            return None
        boxes = (to_box(label, self.names, self.left_out) for label in fitted.labels)
        kept = tuple(box for box in boxes if box is not None)
        return TrainingItem(path, facts.size, kept, sha256=facts.sha256)


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
    read = [(image.group, to_item(image, names, classes, choice, left_out)) for image in version.images]
    kept = [(group, item) for group, item in read if item is not None]
    items, groups = tuple(item for _, item in kept), tuple(group for group, _ in kept)
    return LabelledSet(version.id, classes, items, _describe(left_out), groups)


def _describe(left_out: Counter[str]) -> tuple[str, ...]:
    return tuple(f"{count} {reason}" for reason, count in sorted(left_out.items()) if count)
