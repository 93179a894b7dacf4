"""Export: the reviewed images as a training set, in the class order of the label config."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from labels.errors import ItemError, LabelingError
from sync.catalogue.samples import SampleImage, SampleLabels
from sync.exports.coco import write_coco
from sync.exports.records import ExportImage, ExportResult, ImagesMode
from sync.exports.yolo import write_yolo
from sync.jobs.context import Context
from sync.ledger import Export
from sync.report import Failure, OnProgress, Report, ignore_progress

QUALITY_CONTROL: Final = "quality"
TRASH: Final = "trash"
WRITERS: Final = {"coco": write_coco, "yolo": write_yolo}
IMAGES_MODES: Final = ("copy", "link", "none")


def export(
    context: Context,
    *,
    export_format: str,
    out_dir: Path | None = None,
    images_mode: ImagesMode = "copy",
    on_progress: OnProgress = ignore_progress,
) -> Report:
    """Write every reviewed image to a folder (``exports/FORMAT`` of the home unless told otherwise).

    Images nobody reviewed, and those a person marked as trash, are left out and counted; samples in conflict go with
    FiftyOne's side and are named. The same labels give the same bytes.

    Raises:
        LabelingError: an unknown format, nothing reviewed yet, or a folder that no export wrote.
    """
    if export_format not in WRITERS:
        raise LabelingError(f"format {export_format!r} is not known (known: {', '.join(WRITERS)})")
    on_progress(None, "reading reviewed labels")
    images = context.dataset.images()
    labels = context.dataset.labels()
    failed = [Failure(error.item, error.problem) for error in labels.values() if isinstance(error, ItemError)]
    trashed = {sample_id for sample_id, said in labels.items() if _is_trash(said)}
    records = [_to_record(image, labels.get(image.sample_id)) for key, image in images.items() if key not in trashed]
    if all(record.labels is None for record in records):
        raise LabelingError(
            "no image is reviewed yet, there is nothing to export; submit some in Label Studio and pull"
        )
    target = out_dir or context.home.exports / export_format
    on_progress(None, f"writing {target}")
    result = WRITERS[export_format](records, context.config, target, images_mode=images_mode)
    context.ledger.record_export(
        Export(str(target), export_format, result.content_sha256, result.images, result.labels)
    )
    return Report(
        "export",
        moved=result.images,
        failed=(*failed, *result.left_out),
        conflicts=tuple(sorted(_name_conflicts(context, images))),
        notes=(f"written to {target}", *result.notes),
        details=_count(result) | ({"images marked as trash": len(trashed)} if trashed else {}),
    )


def _to_record(image: SampleImage, said: SampleLabels | ItemError | None) -> ExportImage:
    # Somebody who only said «keep» did not look for objects: that image is no negative example.
    known = said.labels if isinstance(said, SampleLabels) and said.has_regions else None
    # The catalogue knows the sum of the person's own file, an export holds the copy that browsers show.
    sha256 = image.sha256 if image.source_path is None else hashlib.sha256(image.path.read_bytes()).hexdigest()
    return ExportImage(image.sample_id, image.path, image.size, sha256, known)


def _is_trash(said: SampleLabels | ItemError) -> bool:
    return isinstance(said, SampleLabels) and any(
        label.control == QUALITY_CONTROL and TRASH in label.classes for label in said.labels
    )


def _name_conflicts(context: Context, images: Mapping[str, SampleImage]) -> list[str]:
    return [
        f"{images[sample_id].path.name}: exported with FiftyOne's labels (sample {sample_id})"
        for sample_id in context.ledger.conflicts()
        if sample_id in images
    ]


def _count(result: ExportResult) -> dict[str, int]:
    return {
        "labels": result.labels,
        "images without objects": result.negatives,
        "images not reviewed": result.not_reviewed,
    }
