"""Class-per-folder, for answers about whole images: ``SPLIT/CLASS/NAME``, as torchvision's ImageFolder reads it.

The classes are the choices of one Choices control: the one that is named, else the first that is not ``quality``, else
that. A class that is no name of a folder is written with ``%2F`` and the like; readers see that name. They number the
folders that they find, by name: what splits do not have alike is said.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from typing import Final
from urllib.parse import quote, unquote

from labels.config import Control, LabelConfig
from labels.errors import ItemError, LabelingError
from labels.report import Failure
from labels.results import Label
from sync.exports.drafts import Draft, Written
from sync.exports.images import PlacedImage
from sync.exports.items import Item, Tally
from sync.exports.layout import export_stems
from sync.exports.records import ExportImage
from sync.versions.version import SPLITS, Split

QUALITY: Final = "quality"
LACKING_SHOWN: Final = 5
LONGEST_FOLDER_BYTES: Final = 255
# Whatever a person may call a class, but for what leads out of the folder or hides it.
HARMLESS: Final = " !#$&'()+,;=@[]{}~"


def write_folders(images: Iterable[ExportImage], draft: Draft) -> Written:
    """Write the images that have one answer, each in the folder of its class.

    Raises:
        LabelingError: the label config has no such Choices, or the images would not be in it.
    """
    if draft.order.images_mode == "none":
        raise LabelingError("format folders: the folder of an image is its class, so images is copy or link (not none)")
    chosen = find_choices(draft.config, draft.order.control)
    known, tally = {one.sample_id: one for one in images}, draft.tally
    classes = dict(_find_classes(known.values(), chosen, tally))
    place = draft.place_in(lambda image: f"{image.part}/{to_folder(classes[image.sample_id].class_name)}")
    stems = export_stems(image.path for image in known.values())
    items = []
    for image in sorted(known.values(), key=lambda image: stems[image.path]):
        if image.sample_id in classes:
            try:
                placed: PlacedImage = place(image, stems[image.path])
            except ItemError as error:
                tally.left_out.append(Failure(error.item, error.problem))
                continue
            tally.turned += placed.is_turned
            tally.copied += placed.is_copied
            items.append(Item(replace(image, labels=()), stems[image.path], placed.file_name, ()))
    used = ((item.image.part, classes[item.image.sample_id].class_name) for item in items)
    notes = [
        f"the classes are the answers of {chosen.name!r}",
        *_to_notes(len(known) - len(classes)),
        *_compare_splits(set(used)),
    ]
    return Written(items, len(items), notes, chosen.classes)


def find_choices(config: LabelConfig, name: str | None = None) -> Control:
    """Return the control whose answers are the classes.

    Raises:
        LabelingError: there is none.
    """
    found = [control for control in config.controls if control.kind == "Choices"]
    if name is not None:
        found = [control for control in found if control.name == name]
    if not found:
        known = ", ".join(control.name for control in config.controls if control.kind == "Choices") or "none"
        raise LabelingError(f"format folders needs a Choices control in the label config (there: {known})")
    return next((control for control in found if control.name != QUALITY), found[0])


def to_folder(class_name: str) -> str:
    """Return the folder of a class. ``from_folder`` is its inverse.

    >>> to_folder("../etc"), to_folder("déjà vu"), from_folder(to_folder("a/b%"))
    ('%2E.%2Fetc', 'déjà vu', 'a/b%')
    """
    safe = "".join(one if one.isalnum() else quote(one, safe=HARMLESS) for one in class_name)
    return "%2E" + safe[1:] if safe.startswith(".") else safe


def from_folder(name: str) -> str:
    """Return the class of a folder."""
    return unquote(name)


def _find_classes(images: Iterable[ExportImage], control: Control, tally: Tally) -> Iterator[tuple[str, Label]]:
    for image in images:
        answers = [label for label in image.labels if label.control == control.name]
        if len(answers) == 1 and len(answers[0].classes) == 1:
            problem = _find_problem(answers[0].class_name, control)
            if problem is None:
                yield image.sample_id, answers[0]
            else:
                tally.left_out.append(Failure(f"sample {image.sample_id}", problem))
        elif answers:
            count = sum(len(label.classes) for label in answers)
            problem = f"has {count} answers of {control.name!r} (a folder is one class)"
            tally.left_out.append(Failure(f"sample {image.sample_id}", problem))


def _find_problem(class_name: str, control: Control) -> str | None:
    """Return why a class can have no folder, None where it can."""
    if class_name not in control.classes:
        return f"its answer {class_name!r} is no choice of {control.name!r}"
    if len(to_folder(class_name).encode()) > LONGEST_FOLDER_BYTES:
        return f"its answer {class_name!r} is too long for the name of a folder"
    return None


def _compare_splits(used: Collection[tuple[Split, str]]) -> Iterator[str]:
    """Yield which classes a split lacks that another one has: its folders then have other numbers."""
    for split in SPLITS:
        own = {name for part, name in used if part == split}
        lacking = sorted({name for _, name in used} - own)
        if own and lacking:
            shown = ", ".join(lacking[:LACKING_SHOWN]) + (" ..." if len(lacking) > LACKING_SHOWN else "")
            yield (
                f"{split} has no image of {len(lacking)} classes that others have ({shown}): what numbers the folders "
                "it finds, as ImageFolder does, counts otherwise there"
            )


def _to_notes(missing: int) -> Iterator[str]:
    if missing:
        yield f"{missing} images are not in it: they have no single answer"
