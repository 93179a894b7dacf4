"""An export while it is written: what every writer is given, what it gives back, and what is then said of it.

A writer takes the images and a draft, places images and writes files through it, and returns what is in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from labels.config import LabelConfig
from sync.exports.folder import Stage
from sync.exports.images import place_image
from sync.exports.items import Item, Place, Tally, place_nowhere, prepare_items
from sync.exports.records import ExportImage, ExportResult, ImagesMode, Order


@dataclass(frozen=True, slots=True)
class Draft:
    """What a writer needs. ``holds_answers``: the format has a place for what is said of whole images."""

    order: Order
    config: LabelConfig
    stage: Stage
    holds_answers: bool = False
    tally: Tally = field(default_factory=Tally)

    def place_in(self, folder_of: Callable[[ExportImage], str]) -> Place:
        """Return what puts images as files into folders of the export."""
        return lambda image, stem: place_image(self.stage, folder_of(image), stem, image, self.order.images_mode)

    def prepare(
        self, images: Iterable[ExportImage], folder_of: Callable[[ExportImage], str] | None = None
    ) -> list[Item]:
        """Return the images by name, each placed in its folder; None: they are no files of the export.

        Without room for answers those on which nobody looked for objects are left out. Raises as ``prepare_items``.
        """
        place = place_nowhere if folder_of is None else self.place_in(folder_of)
        return prepare_items(images, self.config, place=place, tally=self.tally, looked_only=not self.holds_answers)


@dataclass(frozen=True, slots=True)
class Written:
    """What a writer wrote: the items that are in the export, and how many labels it could hold.

    ``classes`` None: those of the label config's shapes.
    """

    items: Sequence[Item]
    labels: int
    notes: Iterable[str] = ()
    classes: Sequence[str] | None = None


def finish(draft: Draft, written: Written) -> ExportResult:
    """Write the manifest and say what was exported."""
    order, tally = draft.order, draft.tally
    listed = [
        {
            "file_name": item.file_name,
            "sample_id": item.image.sample_id,
            "source": str(item.image.path),
            "sha256": item.image.sha256,
            "labels": sorted(region.label.id for region in item.regions),
            **({} if item.image.split is None else {"split": item.image.split}),
        }
        for item in written.items
    ]
    facts = {
        "format": order.format,
        "images_mode": order.images_mode,
        "classes": list(draft.config.region_classes if written.classes is None else written.classes),
        "images": listed,
    }
    content_sha256 = draft.stage.write_manifest(facts | ({} if order.version is None else {"version": order.version}))
    return ExportResult(
        format=order.format,
        path=order.out_dir,
        images=len(written.items),
        labels=written.labels,
        negatives=sum(_is_negative(item.image) for item in written.items),
        clipped=tally.clipped,
        left_out=tuple(tally.left_out),
        notes=(*_to_notes(tally, order.images_mode, holds_answers=draft.holds_answers), *written.notes),
        content_sha256=content_sha256,
    )


def _is_negative(image: ExportImage) -> bool:
    return image.has_regions and all(label.geometry is None for label in image.labels)


def _to_notes(tally: Tally, images_mode: ImagesMode, *, holds_answers: bool) -> Iterator[str]:
    if tally.clipped:
        yield f"{tally.clipped} labels reached beyond their image and were cut at its edge"
    if tally.turned:
        yield f"{tally.turned} images were written upright, as their EXIF tag says"
    if images_mode == "none":
        yield "the images were not looked at: labels are of each as its EXIF tag turns it"
    if images_mode == "link" and tally.copied:
        yield f"{tally.copied} images were copied: they lie on another file system"
    for control, count in () if holds_answers else sorted(tally.answers.items()):
        yield f"{count} answers of {control!r} are not in it: the format holds drawn labels only"
