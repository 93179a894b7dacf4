"""What a reader found in label files, before anybody knows whether it fits the images and the label config. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from labels.errors import LabelingError
from labels.geometry import Geometry, ImageSize
from sync.imports.reading import UnreadableError, in_one_line

ShapeKind = Literal["box", "turned box", "polygon", "keypoint", "run lengths", "painted outlines", "outlines"]
Unit = Literal["px", "relative"]


@dataclass(frozen=True, slots=True)
class RawShape:
    """A shape as a file has it, in pixels or in 0..1 of the image.

    ``numbers`` are left, top, right, bottom of a box; the four corners of a turned box; the points of a polygon; x and
    y of a keypoint, and its diameter in pixels if there is a third. ``size`` is height and width that run lengths are
    of. An object of several outlines has the numbers of all, and in ``lengths`` how many each has: ``painted outlines``
    are what they cover, ``outlines`` one that joins them.
    """

    kind: ShapeKind
    numbers: tuple[float, ...]
    unit: Unit = "px"
    size: tuple[int, int] | None = None
    lengths: tuple[int, ...] = ()


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

    ``size`` None: the file does not say it, or says 0 x 0. ``read_content`` gives the bytes of an image that lies in
    the label file itself, and raises UnreadableError or OSError; None: there are none.
    """

    name: str
    labels: tuple[ImportedLabel, ...]
    size: ImageSize | None = None
    sha256: str | None = None
    has_regions: bool = True
    read_content: Callable[[], bytes] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Problem:
    """One item that could not be taken, and why."""

    item: str
    text: str


@dataclass(slots=True)
class ImportedSet:
    """All that was read: images in their order, and what could not be read.

    ``broken`` are images by their name that miss a label for such a reason: to take the rest of their labels would say
    that the missing objects are background. ``stray`` is the first label of which nobody knows whose it is. ``crowds``
    counts labels that stand for several objects. ``written`` are the sums of the files that an export wrote, by name.
    """

    images: list[ImportedImage] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    stray: str | None = None
    odd_sizes: list[str] = field(default_factory=list)
    crowds: int = 0
    written: Mapping[str, object] = field(default_factory=dict)

    def refuse(self, item: str, text: str, *, image: str | None = None) -> None:
        """Note that an item could not be read; ``image``: the name of the image that misses it now."""
        self.problems.append(Problem(item, text))
        if image is not None:
            self.broken.setdefault(image, f"{item}: {text}")

    def lose(self, item: str, text: str) -> None:
        """Note that an item could not be read, and that any image may miss it."""
        self.refuse(item, text)
        self.stray = self.stray or f"{item}: {text}"

    def find_fault(self, image: ImportedImage) -> str | None:
        """Return why an image may miss labels; None where all that the file says of it was read."""
        if image.name in self.broken:
            return f"a label of it cannot be read ({self.broken[image.name]})"
        if self.stray is not None and image.has_regions and not image.labels:
            return f"it has no labels, and there are some of which nobody knows whose they are ({self.stray})"
        return None

    def read_size(self, item: str, width: object, height: object) -> ImageSize | None:
        """Return the size that a file claims, None where it is none; what is neither a size nor 0 x 0 is noted."""
        size = to_size(width, height)
        if size is None and any(str(side or "").strip().strip("0.") for side in (width, height)):
            self.odd_sizes.append(f"{item}: {in_one_line(width, longest=20)}x{in_one_line(height, longest=20)}")
        return size

    def notes(self) -> list[str]:
        """Return what is worth knowing of all of it."""
        notes = []
        if self.odd_sizes:
            first = self.odd_sizes[0]
            notes.append(f"{len(self.odd_sizes)} sizes are none and count as not known (the first: {first})")
        if self.crowds:
            notes.append(f"{self.crowds} labels are crowds (iscrowd), each of several objects, and were read as one")
        return notes

    def extend(self, images: Iterable[ImportedImage]) -> None:
        """Take these images up."""
        self.images.extend(images)


def read_each(files: Iterable[Path], read: Callable[[Path, ImportedSet], None]) -> ImportedSet:
    """Return what files hold of which each says all of its images; of one that is broken off, what is whole.

    Raises:
        LabelingError: none of it can be read.
    """
    found = ImportedSet()
    errors: list[str] = []
    for file in files:
        try:
            read(file, found)
        except UnreadableError as error:
            found.refuse(file.name, f"{error}; what comes after it is not imported")
            errors.append(f"{file}: {error}")
    if errors and not found.images:
        raise LabelingError(errors[0])
    return found


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
