"""What changed from one version to another: images and labels added, removed, changed, in all and per class. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from labels.results import Label, is_same
from sync.versions.version import Version, VersionImage

Change = Literal["added", "removed", "changed"]
CHANGES: Final[tuple[Change, ...]] = ("added", "removed", "changed")


@dataclass(frozen=True, slots=True)
class LabelChange:
    """One label that differs; ``class_before`` None: it was not there, ``class_after`` None: it is gone."""

    label_id: str
    change: Change
    class_before: str | None
    class_after: str | None

    @property
    def counted_as(self) -> str:
        """The class it counts for: the one it has now, or had."""
        return self.class_after or self.class_before or ""


@dataclass(frozen=True, slots=True)
class ImageChange:
    """One image that differs. ``split_before`` and ``split_after`` differ where it was put elsewhere."""

    sample_id: str
    name: str
    change: Change
    labels: tuple[LabelChange, ...]
    split_before: str | None
    split_after: str | None


@dataclass(frozen=True, slots=True)
class VersionDiff:
    """The difference between two versions, by sample id."""

    before: str
    after: str
    images: tuple[ImageChange, ...]
    unchanged: int
    classes_added: tuple[str, ...] = ()
    classes_removed: tuple[str, ...] = ()

    def count_images(self) -> dict[Change, int]:
        """Return how many images were added, removed and changed."""
        counts = Counter(image.change for image in self.images)
        return {change: counts[change] for change in CHANGES}

    def count_labels(self) -> dict[Change, int]:
        """Return how many labels were added, removed and changed."""
        counts = Counter(label.change for image in self.images for label in image.labels)
        return {change: counts[change] for change in CHANGES}

    def count_by_class(self) -> dict[str, dict[Change, int]]:
        """Return the same for each class that is touched, by name; a changed label counts for its new class."""
        counts = Counter((label.counted_as, label.change) for image in self.images for label in image.labels)
        names = sorted({name for name, _ in counts})
        return {name: {change: counts[name, change] for change in CHANGES} for name in names}

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "before": self.before,
            "after": self.after,
            "images": self.count_images() | {"unchanged": self.unchanged},
            "labels": self.count_labels(),
            "classes": self.count_by_class(),
            "classes_added": list(self.classes_added),
            "classes_removed": list(self.classes_removed),
            "changes": [
                {
                    "sample_id": image.sample_id,
                    "name": image.name,
                    "change": image.change,
                    "split_before": image.split_before,
                    "split_after": image.split_after,
                    "labels": [
                        {
                            "id": one.label_id,
                            "change": one.change,
                            "class_before": one.class_before,
                            "class_after": one.class_after,
                        }
                        for one in image.labels
                    ],
                }
                for image in self.images
            ],
        }


def compare_versions(before: Version, after: Version) -> VersionDiff:
    """Return what changed; an image counts as changed when its file, its split or a label did.

    Labels are paired by id, and are the same within 0.01 px; who reviewed them does not count.
    """
    old = {image.sample_id: image for image in before.images}
    new = {image.sample_id: image for image in after.images}
    changes = [
        change
        for sample_id in sorted(old.keys() | new.keys())
        if (change := _compare(old.get(sample_id), new.get(sample_id))) is not None
    ]
    return VersionDiff(
        before.id,
        after.id,
        tuple(changes),
        unchanged=len(old.keys() | new.keys()) - len(changes),
        classes_added=tuple(name for name in after.classes if name not in before.classes),
        classes_removed=tuple(name for name in before.classes if name not in after.classes),
    )


def _compare(old: VersionImage | None, new: VersionImage | None) -> ImageChange | None:
    some = new or old
    assert some is not None
    labels = tuple(_compare_labels(_labels_of(old), _labels_of(new)))
    is_other = old is None or new is None or (old.sha256, old.split, old.has_regions) != (
        new.sha256,
        new.split,
        new.has_regions,
    )  # fmt: skip
    if not is_other and not labels:
        return None
    change: Change = "added" if old is None else "removed" if new is None else "changed"
    return ImageChange(
        some.sample_id,
        some.path.name,
        change,
        labels,
        None if old is None else old.split,
        None if new is None else new.split,
    )


def _labels_of(image: VersionImage | None) -> dict[str, Label]:
    return {} if image is None else {one.label.id: one.label for one in image.labels}


def _compare_labels(old: Mapping[str, Label], new: Mapping[str, Label]) -> Iterator[LabelChange]:
    for label_id in sorted(old.keys() | new.keys()):
        before, after = old.get(label_id), new.get(label_id)
        if before is not None and after is not None and is_same(before, after):
            continue
        change: Change = "added" if before is None else "removed" if after is None else "changed"
        yield LabelChange(label_id, change, _class_of(before), _class_of(after))


def _class_of(label: Label | None) -> str | None:
    if label is None:
        return None
    return f"{label.control} {label.rating}" if label.rating is not None else ", ".join(label.classes)
