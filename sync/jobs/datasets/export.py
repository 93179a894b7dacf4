"""Export: the reviewed images, frozen as a version, as a training set in the class order of the label config."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labels.errors import LabelingError
from labels.report import OnProgress, Report, ignore_progress
from sync.exports.folder import check_replaceable
from sync.exports.formats import FORMATS, Format, write_export
from sync.exports.records import ExportResult, ImagesMode, Order
from sync.jobs.context import Context
from sync.jobs.datasets.freezing import Frozen, freeze
from sync.jobs.datasets.reviewed import ONLY_ANSWERED, Choice, choose_reviewed, describe, explain_nothing
from sync.ledger import Export
from sync.versions.exporting import to_export_images
from sync.versions.manifest import read_version
from sync.versions.splits import Ratios
from sync.versions.version import Version


def export(
    context: Context,
    *,
    export_format: str,
    out_dir: Path | None = None,
    images_mode: ImagesMode = "copy",
    version: str | None = None,
    ratios: Ratios | None = None,
    group_by: str | None = None,
    control: str | None = None,
    on_progress: OnProgress = ignore_progress,
) -> Report:
    """Freeze the reviewed images as a version and write it to a folder (``exports/FORMAT`` of the home by default).

    With ``version`` that one is written as it was frozen. Images that are not reviewed are left out and counted, those
    marked as trash too; samples in conflict go with FiftyOne's side and are named. The same labels give the same
    bytes, and the same version.

    Raises:
        LabelingError: an unknown format, nothing reviewed yet, an unknown version, or a folder that no export wrote.
        LabelConfigError: labels with a class that the config does not have.
    """
    if export_format not in FORMATS:
        raise LabelingError(f"format {export_format!r} is not known (known: {', '.join(FORMATS)})")
    chosen = FORMATS[export_format]
    if version is not None and (ratios is not None or group_by is not None):
        raise LabelingError("a version has its splits: leave out --splits and --group-by, or --version")
    target = out_dir or context.home.exports / export_format
    # Before anything is frozen for it.
    check_replaceable(target.resolve())
    choice = Choice()
    with _collecting_no_garbage():
        if version is None:
            on_progress(None, "reading reviewed labels")
            choice = choose_reviewed(context)
            _check_something(choice, export_format)
            frozen = freeze(context, choice, ratios=ratios, group_by=group_by, on_progress=on_progress)
        else:
            frozen = Frozen(read_version(context.home, version), is_new=False)
            _check_objects(frozen.version, export_format)
        on_progress(None, f"writing {target}")
        order = Order(export_format, target, images_mode, frozen.version.id, control)
        result = write_export(to_export_images(frozen.version), frozen.version.config, order)
    context.ledger.record_export(
        Export(
            str(target),
            export_format,
            result.content_sha256,
            result.images,
            result.labels,
            {"version": frozen.version.id, "images_mode": images_mode},
        )
    )
    return _to_report(choice, chosen, frozen, target, result)


@contextmanager
def _collecting_no_garbage() -> Iterator[None]:
    """Keep Python from looking for garbage among labels that all live to the end: that took half of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _check_something(choice: Choice, export_format: str) -> None:
    """Refuse to freeze nothing.

    Raises:
        LabelingError: no image is reviewed that the format could hold.
    """
    if not choice.chosen:
        raise LabelingError(explain_nothing(choice))
    if not any(one.said.has_regions or FORMATS[export_format].holds_answers for one in choice.chosen):
        answered = f"{len(choice.chosen)} reviewed images {_explain_answers_only(export_format)}"
        raise LabelingError(explain_nothing(choice, advice=answered))


def _check_objects(version: Version, export_format: str) -> None:
    """Refuse to write nothing of a version.

    Raises:
        LabelingError: nobody looked for objects on its images, and the format holds nothing else.
    """
    if not any(image.has_regions or FORMATS[export_format].holds_answers for image in version.images):
        raise LabelingError(
            f"version {version.id}: {len(version.images)} images {_explain_answers_only(export_format)}"
        )


def _explain_answers_only(export_format: str) -> str:
    others = ", ".join(name for name, one in FORMATS.items() if one.holds_answers)
    return f"say nothing about objects, which {export_format} needs; formats that hold answers about images: {others}"


def _to_report(choice: Choice, chosen: Format, frozen: Frozen, target: Path, result: ExportResult) -> Report:
    left_out = {**choice.left_out}
    if chosen.holds_answers:
        left_out.pop(ONLY_ANSWERED, None)
    # Where people only gave answers there is nothing without objects.
    is_looked_at = any(image.has_regions for image in frozen.version.images)
    negatives = {"images without objects": result.negatives} if is_looked_at else {}
    return Report(
        "export",
        moved=result.images,
        failed=(*choice.failed, *result.left_out),
        conflicts=tuple(sorted(choice.conflicts)),
        notes=(f"written to {target}", *describe_version(frozen), *describe(choice), *result.notes),
        details={"labels": result.labels, **negatives, **left_out},
    )


def describe_version(frozen: Frozen) -> Iterator[str]:
    """Yield what a version is made of, and whether its val and test can be learned by heart."""
    version = frozen.version
    counts = ", ".join(f"{count} {split}" for split, count in version.split_counts().items())
    yield f"version {version.id}{'' if frozen.is_new else ' (as it was frozen)'}: {counts}"
    leaks = version.leaks
    if leaks.total:
        yield (
            f"{leaks.total} images of val and test have a twin in another split: {leaks.same_file} the same file, "
            f"{leaks.same_group} of one group, {leaks.near or 0} look alike; they were put there before this was "
            f"known, and stay (labelloop versions {version.id} names them)"
        )
    if leaks.unhashed:
        yield f"{leaks.unhashed} images could not be read, so nobody knows whether they look like others"
