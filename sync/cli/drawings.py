"""Which images ``labelloop predict`` looks at, and where their drawings go: never over somebody else's file."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from labels.errors import LabelingError

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
# Written into every drawing, so that it is known again.
MARK: Final = "drawn by labelloop predict"
JPEG_QUALITY: Final = 90


def find_images(paths: Iterable[Path], out: Path) -> list[Path]:
    """Return the images of files and folders, each once, in order; of a folder those that ``ingest`` takes, and GIFs.

    Drawings of an earlier run that lie in ``out`` are no images to look at.
    """
    from sync.images import find_images as walk

    drawings = out.absolute()
    found: dict[Path, None] = {}
    for path in paths:
        if not path.is_dir():
            found[path.absolute()] = None
            continue
        for one in walk(path.absolute(), suffixes=SUFFIXES):
            if not (one.is_relative_to(drawings) and is_drawing(one)):
                found[one] = None
    return list(found)


def choose_targets(images: Iterable[Path], out: Path, *, is_replacing: bool) -> dict[Path, Path]:
    """Return where the drawing of each image goes, after a look at what lies there; nothing is written yet.

    Raises:
        LabelingError: a target is one of the images, or a file that may not be written over. See ``check_target``.
    """
    images = list(images)
    taken: set[str] = set()
    targets = {image: out / _name_drawing(image, taken) for image in images}
    given = {_identify(image) for image in images if image.exists()}
    for target in targets.values():
        if target.exists() and _identify(target) in given:
            raise LabelingError(f"{target}: is one of the images to look at, and is never written over; choose --out")
        check_target(target, is_replacing=is_replacing)
    return targets


def check_target(target: Path, *, is_replacing: bool) -> None:
    """Refuse a target that is there already, unless it is a drawing of ours and may be replaced.

    Raises:
        LabelingError: it may not be written over.
    """
    if not os.path.lexists(target):
        return
    if target.is_symlink() or not is_drawing(target):
        raise LabelingError(f"{target}: is there already and no drawing of labelloop predict; choose another --out")
    if not is_replacing:
        raise LabelingError(f"{target}: is drawn already (--overwrite replaces drawings, or choose another --out)")


def is_drawing(path: Path) -> bool:
    """Return whether a file was written by ``save_drawing``."""
    from PIL import Image

    try:
        with Image.open(path, formats=("JPEG", "PNG")) as image:
            said = image.info.get("comment", image.info.get("Comment"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False
    return said in (MARK, MARK.encode())


def make_folder(folder: Path) -> None:
    """Make the folder for drawings, unless it is there.

    Raises:
        LabelingError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LabelingError(f"{folder}: cannot be made ({error.strerror})") from error


def save_drawing(drawing: Image.Image, target: Path, *, is_replacing: bool) -> None:
    """Write a drawing with our mark, whole or not at all.

    Raises:
        LabelingError: something that may not be written over is there by now, or the folder cannot be written.
    """
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Comment", MARK)
    is_png = target.suffix == ".png"
    options = {"pnginfo": info} if is_png else {"comment": MARK.encode(), "quality": JPEG_QUALITY}
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
        part = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                drawing.save(file, "PNG" if is_png else "JPEG", **options)
            part.chmod(0o644)
            check_target(target, is_replacing=is_replacing)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise LabelingError(f"{target}: cannot be written ({error.strerror or error})") from error


def check_lines_file(target: Path, images: Iterable[Path]) -> None:
    """Refuse to write JSON lines into one of the images.

    Raises:
        LabelingError: the file is one of them.
    """
    if target.exists() and _identify(target) in {_identify(image) for image in images if image.exists()}:
        raise LabelingError(f"{target}: is one of the images to look at, and is never written over")


def _identify(path: Path) -> tuple[int, int]:
    """Return what tells a file from all others, whatever it is called and linked to."""
    facts = path.stat()
    return facts.st_dev, facts.st_ino


def _name_drawing(source: Path, taken: set[str]) -> str:
    """Return the file name of a drawing: its image's; of equal names in one run the second gets a number.

    >>> taken: set[str] = set()
    >>> [_name_drawing(Path(name), taken) for name in ("a/x.jpg", "b/X.webp", "x.png")]
    ['x.jpg', 'X-2.jpg', 'x.png']
    """
    suffix = ".png" if source.suffix.lower() == ".png" else ".jpg"
    numbers = itertools.count(2)
    name = source.stem + suffix
    # Some file systems take both cases for one name.
    while name.lower() in taken:
        name = f"{source.stem}-{next(numbers)}{suffix}"
    taken.add(name.lower())
    return name
