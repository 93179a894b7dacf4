"""Class-per-folder: the folder of an image is what is said of the whole of it."""

from __future__ import annotations

from pathlib import Path

from labels.errors import LabelingError
from sync.exports.class_folders import from_folder
from sync.images import SUFFIXES
from sync.imports.reading import find_files
from sync.imports.records import ImportedImage, ImportedLabel, ImportedSet


def read_folders(path: Path, *, control: str) -> ImportedSet:
    """Return each image of a folder's subfolders with its folder's name as the answer to a control.

    Raises:
        LabelingError: there are no subfolders with images.
    """
    if not path.is_dir():
        raise LabelingError(f"{path}: no such folder")
    found = ImportedSet()
    for file in find_files(path, *SUFFIXES):
        name = file.relative_to(path)
        if len(name.parts) > 1:
            label = ImportedLabel((from_folder(name.parent.name),), control=control)
            found.images.append(ImportedImage(str(name), (label,), has_regions=False))
    if not found.images:
        raise LabelingError(f"{path}: no images in subfolders (expected a folder a class)")
    return found
