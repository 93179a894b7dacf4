"""Images that lie inside label files (WebDataset, TFRecord, Parquet), written as files of their own to be ingested.

Names in such files are anybody's: none leads out of the folder, and nothing is written over. An image is written under
a hidden name, decoded to its last pixel, and then renamed, so that a job that is killed leaves no half one; one whose
content the catalogue has is not written again.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Final

from labels.errors import ItemError, LabelingError
from labels.limits import MAX_IMAGE_BYTES
from labels.report import Failure, OnProgress
from sync.images import COPIES_FOLDER, SUFFIXES, ImageFacts, read_facts
from sync.imports.matching import shorten
from sync.imports.reading import UnreadableError
from sync.imports.records import ImportedImage
from sync.media import to_link_name
from sync.settings import Home

PART_NAME: Final = ".unpacking.part"
LONGEST_NAME_BYTES: Final = 200
IMAGES_PER_STEP: Final = 50
UNPACKED_FOLDER: Final = "unpacked"
NAME_TAKEN: Final = (FileExistsError, IsADirectoryError, NotADirectoryError)


@dataclass(slots=True)
class Unpacked:
    """What became of the images inside label files.

    ``files`` are the images' files by their place in the list, ``new`` those that were written, or would be; ``known``
    counts those whose content was there already.
    """

    files: dict[int, Path] = field(default_factory=dict)
    new: dict[Path, ImageFacts] = field(default_factory=dict)
    known: int = 0
    failed: dict[int, Failure] = field(default_factory=dict)


def to_unpacked_folder(home: Home, labels: Path) -> Path:
    """Return the folder of the home for the images inside these label files."""
    return home.images / UNPACKED_FOLDER / to_link_name(labels.resolve())


def unpack(
    images: Sequence[ImportedImage],
    folder: Path,
    catalogued: Mapping[Path, str],
    *,
    is_dry_run: bool,
    on_progress: OnProgress,
) -> Unpacked:
    """Write the images that lie inside label files below a folder; of a dry run nothing is left there.

    ``catalogued`` are the catalogue's files with their SHA-256. A second time nothing is written.

    Raises:
        LabelingError: the folder cannot be written to.
    """
    unpacked = Unpacked()
    by_sum: dict[str, list[Path]] = defaultdict(list)
    for path, sha256 in catalogued.items():
        if sha256:
            by_sum[sha256].append(path)
    with _open_part(folder, is_dry_run=is_dry_run) as part:
        for number, image in enumerate(images):
            if number % IMAGES_PER_STEP == 0:
                on_progress(number / len(images), f"unpacking images, {number}/{len(images)}")
            if image.read_content is None:
                continue
            try:
                content = _read(image)
                known = _find_known(image, content, folder, by_sum)
                path = known or _to_path(folder, image.name)
                is_new = known is None and _write(content, path, part, unpacked.new, is_dry_run=is_dry_run)
            except UnreadableError as error:
                unpacked.failed[number] = Failure(shorten(image.name), str(error))
            else:
                unpacked.files[number] = path
                unpacked.known += not is_new
    return unpacked


@contextmanager
def _open_part(folder: Path, *, is_dry_run: bool) -> Iterator[Path]:
    """Give the hidden file that each image is first written to."""
    try:
        if is_dry_run:
            with tempfile.TemporaryDirectory() as elsewhere:
                yield Path(elsewhere, PART_NAME)
            return
        part = folder / PART_NAME
        try:
            yield part
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise LabelingError(f"{folder}: images cannot be unpacked there ({error.strerror or error})") from error


def _read(image: ImportedImage) -> bytes:
    assert image.read_content is not None
    try:
        content = image.read_content()
    except OSError as error:
        raise UnreadableError(f"cannot be read ({error.strerror or error})") from error
    if len(content) > MAX_IMAGE_BYTES:
        raise UnreadableError(f"has {len(content)} bytes (expected at most {MAX_IMAGE_BYTES})")
    return content


def _find_known(
    image: ImportedImage, content: bytes, folder: Path, by_sum: Mapping[str, Sequence[Path]]
) -> Path | None:
    """Return the catalogue's file of that content, or of the content that the labels are said to be of."""
    for sha256 in (hashlib.sha256(content).hexdigest(), image.sha256 or ""):
        found = by_sum.get(sha256, ())
        if len(found) > 1:
            own = folder / image.name
            if own not in found:
                raise UnreadableError(f"{len(found)} images have this content ({found[0]}, {found[1]}, ...)")
            return own
        if found:
            return found[0]
    return None


def _to_path(folder: Path, name: str) -> Path:
    """Return where an image of that name goes.

    Raises:
        UnreadableError: it would lead out of the folder, or nothing would look for an image there.
    """
    pure = PureWindowsPath(name) if "\\" in name else PurePosixPath(name)
    if pure.anchor or ".." in pure.parts:
        raise UnreadableError("its name leads out of the folder; nothing was written")
    is_odd = any(part.startswith(".") or part == COPIES_FOLDER or not part.isprintable() for part in pure.parts)
    if is_odd or len(os.fsencode(name)) > LONGEST_NAME_BYTES or pure.suffix.lower() not in SUFFIXES:
        raise UnreadableError("its name is none for an image's file")
    path = folder.joinpath(*pure.parts)
    if not path.parent.resolve().is_relative_to(folder):
        raise UnreadableError("its name leads out of the folder by a link; nothing was written")
    return path


def _write(content: bytes, path: Path, part: Path, new: dict[Path, ImageFacts], *, is_dry_run: bool) -> bool:
    """Write an image and return True; False where it is there already."""
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        there = new[path].sha256 if path in new else _read_sum(path)
        if there is not None and there != sha256:
            raise UnreadableError("another image of this name is in the folder; nothing was written over")
        if there is not None:
            return False
        part.parent.mkdir(parents=True, exist_ok=True)
        # The folder is anybody's: a link of that name would have the image written over what it leads to.
        part.unlink(missing_ok=True)
        with part.open("xb") as file:
            file.write(content)
        new[path] = read_facts(part)
        if not is_dry_run:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.replace(path)
    except ItemError as error:
        raise UnreadableError(error.problem) from error
    except NAME_TAKEN as error:
        raise UnreadableError(f"its place in the folder is taken ({error.strerror})") from error
    return True


def _read_sum(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None
