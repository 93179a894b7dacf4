"""A dataset version: every reviewed image and label as they were when they were frozen. Values alone, no file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, get_args

from labels.config import LabelConfig
from labels.errors import LabelingError
from labels.geometry import ImageSize
from labels.results import Label

ID: Final = re.compile(r"v(\d+)-[0-9a-f]{8}")

Split = Literal["train", "val", "test"]
SPLITS: Final[tuple[Split, ...]] = get_args(Split)


@dataclass(frozen=True, slots=True)
class VersionLabel:
    """A label, and where it comes from; None is not known.

    ``reviewer`` and ``reviewed_at`` (ISO 8601, UTC) are those of the annotation that counts, ``model_version`` is the
    one whose prediction that person saw, ``verdict`` what the review did to it: confirmed, moved, relabelled or added.
    ``source`` names the file a label was imported from.
    """

    label: Label
    reviewer: str | None = None
    reviewed_at: str | None = None
    model_version: str | None = None
    verdict: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class VersionImage:
    """An image of a version. ``size`` is that of the upright image, ``sha256`` is of the bytes of ``path``.

    ``group`` names images that stay together in one split; None: the image stands alone. ``has_regions`` is False where
    somebody gave an answer (a choice, a rating) and nobody looked for objects: no negative example.
    """

    sample_id: str
    path: Path
    sha256: str
    size: ImageSize
    split: Split
    group: str | None = None
    has_regions: bool = True
    labels: tuple[VersionLabel, ...] = ()

    @property
    def regions(self) -> tuple[Label, ...]:
        """The drawn labels."""
        return tuple(one.label for one in self.labels if one.label.geometry is not None)

    @property
    def answers(self) -> tuple[Label, ...]:
        """What is said of the whole image."""
        return tuple(one.label for one in self.labels if one.label.geometry is None)


@dataclass(frozen=True, slots=True)
class LeakPair:
    """Two images, by sample id, that should not be in two splits, and why: same file, same group, or look alike."""

    first: str
    second: str
    reason: Literal["file", "group", "look"]


@dataclass(frozen=True, slots=True)
class Leaks:
    """How many images of val and test have a twin in another split they could be learned from, and some of the pairs.

    ``near`` counts those that only look alike: their perceptual hashes differ in at most ``threshold_bits`` bits. None:
    not computed. ``unhashed`` images could not be looked at.
    """

    same_file: int = 0
    same_group: int = 0
    near: int | None = None
    threshold_bits: int | None = None
    unhashed: int = 0
    pairs: tuple[LeakPair, ...] = ()

    @property
    def total(self) -> int:
        """All of them."""
        return self.same_file + self.same_group + (self.near or 0)


@dataclass(frozen=True, slots=True)
class Version:
    """A frozen dataset: ``classes`` are those of the drawing controls in the order of the label config.

    ``id`` is its number in this state folder and eight digits of ``content_sha256``, the sum over classes, images,
    labels and splits. ``ratios`` are the shares of train, val and test in percent that were asked for, ``group_by``
    the field whose values were kept together. ``tool_versions`` and ``leaks`` are said besides and are not summed.
    """

    id: str
    content_sha256: str
    dataset: str
    classes: tuple[str, ...]
    label_config: str
    images: tuple[VersionImage, ...]
    ratios: tuple[int, int, int] = (80, 10, 10)
    group_by: str | None = None
    tool_versions: Mapping[str, str] = field(default_factory=dict)
    leaks: Leaks = Leaks()

    @property
    def number(self) -> int:
        """Its number: later versions have greater ones."""
        return to_number(self.id)

    @property
    def config(self) -> LabelConfig:
        """The label config as it was."""
        return LabelConfig.from_xml(self.label_config)

    def in_split(self, split: Split) -> tuple[VersionImage, ...]:
        """Return the images of a split."""
        return tuple(image for image in self.images if image.split == split)

    def split_counts(self) -> dict[Split, int]:
        """Return how many images each split has."""
        return {split: len(self.in_split(split)) for split in SPLITS}


def to_number(version_id: str) -> int:
    """Return the number in a version's id.

    >>> to_number("v12-1a2b3c4d")
    12
    """
    found = ID.fullmatch(version_id)
    if found is None:
        raise LabelingError(f"version {version_id!r}: is no id (expected such as v3-1a2b3c4d)")
    return int(found[1])
