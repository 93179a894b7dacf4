"""Pascal VOC: an XML file an image, read as XML of others has to be: no entities, no outside files.

A size of 0 x 0 is not known, and the image's own counts. ``<path>`` is not read where there is a ``<filename>``.
"""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Final

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from labels.errors import LabelingError
from sync.imports.reading import LARGEST_TEXT_BYTES, find_files, in_one_line, to_number
from sync.imports.records import ImportedImage, ImportedLabel, ImportedSet, RawShape

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element  # nosec: for its type alone; reading goes through defusedxml

SIDES: Final = ("xmin", "ymin", "xmax", "ymax")
BROKEN: Final = (ElementTree.ParseError, DefusedXmlException, ValueError, LookupError, OSError, RecursionError)


def read_voc(path: Path) -> ImportedSet:
    """Return what the XML files of a folder hold, or one file.

    Raises:
        LabelingError: there are none.
    """
    root = path if path.is_dir() else path.parent
    files = list(find_files(path, ".xml")) if path.is_dir() else [path]
    if not files:
        raise LabelingError(f"{path}: no label files (expected .xml files)")
    found = ImportedSet()
    for file in files:
        name = str(file.relative_to(root))
        try:
            found.images.append(_read_file(file, name, found))
        except BROKEN as error:
            found.refuse(name, f"is no VOC file, or broken off ({in_one_line(_in_words(error))})")
    return found


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: it is refused" if isinstance(error, DefusedXmlException) else str(error)


def _read_file(file: Path, name: str, found: ImportedSet) -> ImportedImage:
    if file.stat().st_size > LARGEST_TEXT_BYTES:
        raise ValueError(f"has more than {LARGEST_TEXT_BYTES} bytes")
    # Bytes: the file itself says what it is encoded in.
    tree = ElementTree.fromstring(file.read_bytes(), forbid_dtd=True)
    if tree.tag != "annotation":
        raise ValueError(f"it holds <{in_one_line(tree.tag)}> (expected <annotation>)")
    labels = []
    said = (tree.findtext("filename") or "").strip() or file.with_suffix("").name
    # A name begins where its file lies, unless it says where.
    file_name = said if PurePath(said).is_absolute() else str(Path(name).parent / said)
    for number, element in enumerate(tree.iter("object"), start=1):
        try:
            labels.append(_to_label(element))
        except (ValueError, OverflowError) as error:
            found.refuse(f"{name}, object {number}", in_one_line(error), image=file_name)
    size = tree.find("size")
    sides = ("0", "0") if size is None else (size.findtext("width"), size.findtext("height"))
    return ImportedImage(file_name, tuple(labels), found.read_size(name, *sides))


def _to_label(element: Element) -> ImportedLabel:
    name, box = (element.findtext("name") or "").strip(), element.find("bndbox")
    if not name or box is None:
        raise ValueError("has no name" if not name else f"{in_one_line(name)!r} has no bndbox")
    left, top, right, bottom = (to_number((box.findtext(side) or "").strip()) for side in SIDES)
    return ImportedLabel((name,), (RawShape("box", (left, top, right, bottom)),))
