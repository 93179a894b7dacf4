"""Export: the reviewed images as a training set, in the class order of the label config."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from labels import fields
from labels.errors import ItemError, LabelingError
from labels.report import Failure, OnProgress, Report, ignore_progress
from labels.results import Label
from sync.catalogue.samples import SampleImage, SampleLabels, find_cleared
from sync.exports.coco import write_coco
from sync.exports.records import ExportImage, ImagesMode
from sync.exports.yolo import write_yolo
from sync.jobs.context import Context
from sync.ledger import Export, Link

QUALITY_CONTROL: Final = "quality"
TRASH: Final = "trash"
WRITERS: Final = {"coco": write_coco, "yolo": write_yolo}
IMAGES_MODES: Final = ("copy", "link", "none")

TRASHED: Final = "images marked as trash"
SKIPPED: Final = "images skipped"
REOPENED: Final = "images reopened"
LABELLED: Final = "labelled in FiftyOne, not reviewed"
NOT_REVIEWED: Final = "images not reviewed"
ONLY_ANSWERED: Final = "images with an answer and no look for objects"
CLEARED: Final = (
    "was reviewed, and its labels were cleared in FiftyOne, which says nothing: left out. pull --all brings them back; "
    "to say that nothing is there, leave an empty list"
)
FAILED_SHOWN: Final = 5


def export(
    context: Context,
    *,
    export_format: str,
    out_dir: Path | None = None,
    images_mode: ImagesMode = "copy",
    on_progress: OnProgress = ignore_progress,
) -> Report:
    """Write every reviewed image to a folder (``exports/FORMAT`` of the home unless told otherwise).

    Whether an image was reviewed is the ledger's word; what is on it is FiftyOne's. All others are left out and
    counted, those marked as trash too; samples in conflict go with FiftyOne's side and are named. The same labels give
    the same bytes.

    Raises:
        LabelingError: an unknown format, nothing reviewed yet, or a folder that no export wrote.
        LabelConfigError: labels with a class that the config does not have.
    """
    if export_format not in WRITERS:
        raise LabelingError(f"format {export_format!r} is not known (known: {', '.join(WRITERS)})")
    on_progress(None, "reading reviewed labels")
    choice = _choose(context)
    if not choice.chosen:
        raise LabelingError(_explain_nothing(choice))
    target = out_dir or context.home.exports / export_format
    on_progress(None, f"writing {target}")
    result = WRITERS[export_format](choice.chosen, context.config, target, images_mode=images_mode)
    context.ledger.record_export(
        Export(str(target), export_format, result.content_sha256, result.images, result.labels)
    )
    return Report(
        "export",
        moved=result.images,
        failed=(*choice.failed, *result.left_out),
        conflicts=tuple(sorted(choice.conflicts)),
        notes=(f"written to {target}", *_describe(choice), *result.notes),
        details={"labels": result.labels, "images without objects": result.negatives, **choice.left_out},
    )


@dataclass(slots=True)
class _Choice:
    """The images that go into the export, and why the others do not."""

    chosen: list[ExportImage] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def _choose(context: Context) -> _Choice:
    choice = _Choice()
    images, labels, links = context.dataset.images(), context.dataset.labels(), context.ledger.links()
    unsure = [key for key in images if key in links and not _is_plain(links[key], labels.get(key))]
    bases = context.ledger.bases(unsure)
    for sample_id, image in images.items():
        said, link = labels.get(sample_id), links.get(sample_id)
        if _is_trash(said):
            choice.left_out[TRASHED] += 1
        elif link is None or link.state not in (fields.REVIEWED, fields.CONFLICT):
            choice.left_out[_name_reason(link, said, was_agreed=sample_id in bases)] += 1
        else:
            _add(choice, image, link, said, bases.get(sample_id, ()))
    return choice


def _is_plain(link: Link, said: SampleLabels | ItemError | None) -> bool:
    """Return whether nothing more needs to be known: it was reviewed, and every field of shapes says something."""
    is_reviewed = link.state in (fields.REVIEWED, fields.CONFLICT)
    return is_reviewed and isinstance(said, SampleLabels) and said.has_regions and not said.silent


def _name_reason(link: Link | None, said: SampleLabels | ItemError | None, *, was_agreed: bool) -> str:
    """Return why an image that is not reviewed is left out."""
    if link is not None and link.state == fields.SKIPPED:
        return SKIPPED
    if link is not None and was_agreed:
        return REOPENED
    is_labelled = isinstance(said, ItemError) or (said is not None and said.has_regions)
    return LABELLED if is_labelled else NOT_REVIEWED


def _add(
    choice: _Choice, image: SampleImage, link: Link, said: SampleLabels | ItemError | None, base: tuple[Label, ...]
) -> None:
    name = (image.source_path or image.path).name
    if isinstance(said, ItemError):
        choice.failed.append(Failure(f"{name} (sample {image.sample_id})", said.problem, image.sample_id))
    elif said is None or find_cleared(said, base):
        choice.failed.append(Failure(f"{name} (sample {image.sample_id})", CLEARED, image.sample_id))
    elif not said.has_regions:
        # Somebody who only said «keep» did not look for objects: that image is no negative example.
        choice.left_out[ONLY_ANSWERED] += 1
    else:
        # The catalogue knows the sum of the person's own file, an export holds the copy that browsers show.
        sha256 = image.sha256 if image.source_path is None else hashlib.sha256(image.path.read_bytes()).hexdigest()
        choice.chosen.append(ExportImage(image.sample_id, image.path, image.size, sha256, said.labels))
        if link.state == fields.CONFLICT:
            choice.conflicts.append(f"{image.path.name}: exported with FiftyOne's labels (sample {image.sample_id})")


def _describe(choice: _Choice) -> Iterator[str]:
    """Yield what can be done about images that are left out."""
    if choice.left_out[LABELLED]:
        yield (
            f"{choice.left_out[LABELLED]} images are not in it: they were labelled in FiftyOne and not reviewed. Those "
            "never sent count as reviewed once push has sent their labels, the others once their task is submitted"
        )
    if choice.left_out[REOPENED]:
        yield (
            f"{choice.left_out[REOPENED]} images are not in it: their annotation was deleted in Label Studio, and they "
            "wait for a new one"
        )
    if choice.left_out[NOT_REVIEWED]:
        yield f"{choice.left_out[NOT_REVIEWED]} images are not in it: nobody has reviewed them"


def _explain_nothing(choice: _Choice) -> str:
    found = "; ".join((*_describe(choice), *(f"{one.item}: {one.problem}" for one in choice.failed[:FAILED_SHOWN])))
    advice = "no image is reviewed yet, there is nothing to export; submit some in Label Studio and pull"
    return f"{advice} ({found})" if choice.left_out[LABELLED] or choice.left_out[REOPENED] or choice.failed else advice


def _is_trash(said: SampleLabels | ItemError | None) -> bool:
    return isinstance(said, SampleLabels) and any(
        label.control == QUALITY_CONTROL and TRASH in label.classes for label in said.labels
    )
