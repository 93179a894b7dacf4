"""What a reader found in label files, before anybody knows whether it fits the images and the label config. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from labels.geometry import Geometry, ImageSize

ShapeKind = Literal["box", "turned box", "polygon", "keypoint", "run lengths"]
Unit = Literal["px", "relative"]


@dataclass(frozen=True, slots=True)
class RawShape:
    """A shape as a file has it, in pixels or in 0..1 of the image.

    ``numbers`` are left, top, right, bottom of a box; the four corners of a turned box; the points of a polygon; x and
    y of a keypoint, and its diameter in pixels if there is a third. ``size`` is height and width that run lengths are
    of.
    """

    kind: ShapeKind
    numbers: tuple[float, ...]
    unit: Unit = "px"
    size: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class ImportedLabel:
    """One label of a file. ``shapes`` are ways to draw it, the best first; none: it speaks of the whole image.

    ``classes`` are as the file names them. ``label_id``, ``control``: None where the format has none.
    """

    classes: tuple[str, ...]
    shapes: tuple[RawShape | Geometry, ...] = ()
    rating: int | None = None
    label_id: str | None = None
    control: str | None = None


@dataclass(frozen=True, slots=True)
class ImportedImage:
    """An image that a file speaks of, by its name as written there, and by the SHA-256 of its content if it is said.

    ``size`` None: the file does not say it, or says 0 x 0.
    """

    name: str
    labels: tuple[ImportedLabel, ...]
    size: ImageSize | None = None
    sha256: str | None = None
    has_regions: bool = True


@dataclass(frozen=True, slots=True)
class Problem:
    """One item that could not be taken, and why."""

    item: str
    text: str


@dataclass(slots=True)
class ImportedSet:
    """All that was read: images in their order, and what could not be read."""

    images: list[ImportedImage] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def refuse(self, item: str, text: str) -> None:
        """Note that an item could not be read."""
        self.problems.append(Problem(item, text))

    def extend(self, images: Iterable[ImportedImage]) -> None:
        """Take these images up."""
        self.images.extend(images)


def to_size(width: object, height: object) -> ImageSize | None:
    """Return a size that a file claims; None where it is no size, as 0 x 0 is.

    >>> to_size("640", 480), to_size(0, 0), to_size(None, 5)
    (ImageSize(width=640, height=480), None, None)
    """
    try:
        sides = [int(float(str(side))) for side in (width, height)]
        return ImageSize(*sides)
    except (ValueError, OverflowError):
        return None
