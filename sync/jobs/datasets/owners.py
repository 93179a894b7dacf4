"""Whose labels they are: which image of the catalogue an entry of the label files speaks of, and what it may lack.

A file is the one that is meant by its content, where the label file says what that is, else by its name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from labels.report import Failure
from sync.catalogue.samples import SampleImage
from sync.imports.matching import FileIndex, NoMatchError, shorten
from sync.imports.reading import UnreadableError
from sync.imports.records import ImportedImage, ImportedSet
from sync.jobs.datasets.unpacking import Unpacked

UNPACK: Final = "it lies inside the label file, and is taken from there with --unpack"
OTHER_CONTENT: Final = (
    "is not the image that the labels are of: its content has another sum than they say; nothing was imported for it"
)


def to_index(folder: Path, labels: Path, images: Mapping[Path, SampleImage]) -> FileIndex:
    """Return the images of a folder, to be found as the label files there name them."""
    root, start = folder.resolve(), labels.resolve()
    inside = {path: image.sha256 for path, image in images.items() if path.is_relative_to(root)}
    return FileIndex(root, inside, inside, labels=start if start.is_dir() else start.parent)


def find_owners(
    found: ImportedSet,
    index: FileIndex,
    images: Mapping[Path, SampleImage],
    unpacked: Unpacked,
    failed: list[Failure],
) -> tuple[dict[Path, ImportedImage], dict[Path, list[str]]]:
    """Return what is said of each file, and why that may not be all of it; ``failed`` gets what is said of none."""
    owners: dict[Path, ImportedImage] = {}
    faults: dict[Path, list[str]] = {}
    for number, one in enumerate(found.images):
        place = unpacked.files.get(number)
        if number in unpacked.failed or (place is not None and place not in images):
            # That its image could not be written, or not be taken, has been said.
            continue
        try:
            path = place or index.find(one.name, one.sha256)
        except NoMatchError as error:
            hint = "" if one.read_content is None else f"; {UNPACK}"
            failed.append(Failure(shorten(one.name), f"{error}{hint}"))
            continue
        if place is None and not _is_meant(one, images[path].sha256, found):
            failed.append(Failure(shorten(one.name), OTHER_CONTENT, images[path].sample_id or None))
            continue
        fault = found.find_fault(one)
        if fault is not None:
            faults.setdefault(path, []).append(fault)
        if path in owners and not _says_the_same(one, owners[path]):
            names = f"{shorten(owners[path].name)} and {shorten(one.name)}"
            faults.setdefault(path, []).append(f"is named twice with other labels ({names})")
        owners.setdefault(path, one)
    return owners, faults


def _is_meant(one: ImportedImage, sha256: str, found: ImportedSet) -> bool:
    """Return whether a file found by its name is the image that labels are of, where they say what that holds.

    An export writes an image that lies on its side upright, so that its file is another one than was labelled.
    """
    if one.sha256 in (None, sha256) or found.written.get(one.name) == sha256:
        return True
    try:
        return one.read_content is not None and hashlib.sha256(one.read_content()).hexdigest() == sha256
    except (UnreadableError, OSError):
        return False


def _says_the_same(one: ImportedImage, other: ImportedImage) -> bool:
    labels, others = ([replace(label, label_id=None) for label in each.labels] for each in (one, other))
    return labels == others and one.has_regions == other.has_regions
