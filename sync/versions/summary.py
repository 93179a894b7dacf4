"""What is in a version, in numbers: per split and class. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sync.versions.version import SPLITS, Leaks, Split, Version


@dataclass(frozen=True, slots=True)
class VersionSummary:
    """Numbers of a version. ``classes`` counts labels by class and split; an answer is ``control: name``.

    ``negatives`` are images on which people looked for objects and found none.
    """

    id: str
    images: int
    labels: int
    negatives: int
    split_images: Mapping[Split, int]
    classes: Mapping[str, Mapping[Split, int]]
    leaks: Leaks
    group_by: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self) | {"leaks": asdict(self.leaks)}


def summarize(version: Version) -> VersionSummary:
    """Return the numbers of a version; classes of the label config that no label has are there with 0."""
    counts = Counter[tuple[str, Split]]()
    for image in version.images:
        for label in image.regions:
            counts.update((name, image.split) for name in label.classes)
        for label in image.answers:
            said = [str(label.rating)] if label.rating is not None else label.classes
            counts.update((f"{label.control}: {name}", image.split) for name in said)
    answers = sorted({name for name, _ in counts} - set(version.classes))
    return VersionSummary(
        version.id,
        len(version.images),
        sum(len(image.labels) for image in version.images),
        sum(image.has_regions and not image.regions for image in version.images),
        version.split_counts(),
        {name: {split: counts[name, split] for split in SPLITS} for name in (*version.classes, *answers)},
        version.leaks,
        version.group_by,
    )
