"""Ingest with labels: a folder's images, and what another tool said of them, as labels of people in the catalogue.

Labels that are there are never written over: an image that has others is named and left as it is. An image of which a
label cannot be read, or does not fit, is left out with all its labels: without that one they would teach that its
object is background. What is imported
counts as reviewed once push has sent it, as every label that is made in FiftyOne does.
Order of writes: the images inside the label files, if that is asked for, then the images of the folder, then the
labels, image by image; a second time changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from labels.errors import ItemError, LabelingError
from labels.report import Failure, OnProgress, Report, ignore_progress
from labels.results import Label, is_same
from sync.catalogue.samples import SampleImage, SampleLabels
from sync.images import ImageFacts, find_images
from sync.imports.fitting import (
    Classes,
    Fitted,
    check_size,
    count_unknown,
    find_controls,
    find_controls_for,
    fit_labels,
)
from sync.imports.formats import read_labels
from sync.imports.geometries import FitError
from sync.imports.matching import FileIndex, shorten
from sync.imports.records import ImportedSet
from sync.jobs.context import Context
from sync.jobs.datasets.ingest import check_folder, foresee, ingest
from sync.jobs.datasets.owners import find_owners, to_index
from sync.jobs.datasets.unpacking import Unpacked, to_unpacked_folder, unpack

FAILURES_LISTED: Final = 500
CLASSES_LISTED: Final = 40
LEFT_OUT: Final = "; nothing was imported for this image"
HAS_LABELS: Final = "has labels already that say something else; they stay as they are, and nothing was imported for it"


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for: where images and labels lie, in which format, and what of ours each of their classes is.

    A class that is mapped to an empty text is left out. ``labels`` None: images alone. ``unpacks``: the images that lie
    inside the label files are written to the folder; ``folder`` None: to one of the home's own. ``restores``: images
    whose samples were deleted are added again.
    """

    folder: Path | None
    labels: Path | None = None
    format: str | None = None
    classes: Mapping[str, str] = field(default_factory=dict)
    control: str | None = None
    is_dry_run: bool = False
    unpacks: bool = False
    restores: bool = False


@dataclass(slots=True)
class _Tally:
    failed: list[Failure] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    unchanged: int = 0


@dataclass(frozen=True, slots=True)
class _Fit:
    """The labels that are to be written on one image."""

    image: SampleImage
    labels: tuple[Label, ...]
    has_regions: bool


def ingest_labels(context: Context, wish: Wish, on_progress: OnProgress = ignore_progress) -> Report:
    """Add the images of a folder, and what the label files say of them.

    Raises:
        LabelingError: no such folder or file, a format that cannot be told or read, or classes that the label config
            does not have; nothing was changed then.
    """
    assert wish.labels is not None
    on_progress(None, "reading labels")
    found = read_labels(wish.labels, context.config, name=wish.format, control=wish.control)
    classes = Classes(context.config, wish.classes)
    _check_classes(wish, found, classes)
    tally = _Tally(failed=[Failure(problem.item, problem.text) for problem in found.problems])
    folder = wish.folder or to_unpacked_folder(context.home, wish.labels)
    unpacked = _unpack(context, wish, found, folder, on_progress) if wish.unpacks else Unpacked()
    added, new = _add_images(context, wish, folder, unpacked, on_progress)
    tally.failed += [*unpacked.failed.values(), *added.failed]
    if wish.unpacks:
        unpacking = "images that would be unpacked" if wish.is_dry_run else "images unpacked"
        tally.counts.update({unpacking: len(unpacked.new), "images inside that were there": unpacked.known})
    images = _find_samples(context, folder, {*unpacked.files.values()}) | new
    on_progress(None, "fitting labels")
    fits = list(_fit_all(found, to_index(folder, wish.labels, images), images, classes, unpacked, tally))
    written = _write(context, fits, wish, tally)
    return _to_report(wish, found, classes, tally, added, written)


def _unpack(context: Context, wish: Wish, found: ImportedSet, folder: Path, on_progress: OnProgress) -> Unpacked:
    """Write the images inside the label files to the folder; what the catalogue has is not written again."""
    if all(image.read_content is None for image in found.images):
        raise LabelingError(
            f"{wish.labels}: has no images inside (expected WebDataset, TFRecord or Parquet, written with images)"
        )
    check_folder(context.home, folder.resolve())
    catalogued = {image.source_path or image.path: image.sha256 for image in context.dataset.images().values()}
    return unpack(found.images, folder.resolve(), catalogued, is_dry_run=wish.is_dry_run, on_progress=on_progress)


def _add_images(
    context: Context, wish: Wish, folder: Path, unpacked: Unpacked, on_progress: OnProgress
) -> tuple[Report, dict[Path, SampleImage]]:
    """Take the folder's images into the catalogue; of a dry run return those that are not in it."""
    if wish.unpacks and (not folder.is_dir() or next(find_images(folder), None) is None):
        # All were there under other names, or none could be written, or it is a dry run.
        added, facts = Report("ingest"), dict[Path, ImageFacts]()
    elif wish.is_dry_run:
        added, facts = foresee(context, folder, on_progress, restore=wish.restores)
    else:
        added, facts = ingest(context, folder, on_progress, restore=wish.restores), {}
    if not wish.is_dry_run:
        return added, {}
    facts |= unpacked.new
    new = {path: SampleImage("", path, one.size, one.sha256, None) for path, one in facts.items()}
    return replace(added, moved=len(new)), new


def _check_classes(wish: Wish, found: ImportedSet, classes: Classes) -> None:
    known = {name for control in classes.config.controls for name in control.classes}
    wrong = sorted(set(wish.classes.values()) - known - {""})
    if wrong:
        mapped = {name for name, new in wish.classes.items() if new == wrong[0]}
        # Those that the labels could have; of a class that the file does not have, all.
        controls = find_controls_for(found, mapped, classes.config) or classes.config.controls
        names = dict.fromkeys(name for control in controls for name in control.classes)
        raise LabelingError(f"map: class {wrong[0]!r} is not in label_config.xml (known: {', '.join(names)})")
    unknown = count_unknown(found, classes)
    if unknown:
        listed = ", ".join(f"{shorten(name)!r} ({count})" for name, count in [*unknown.items()][:CLASSES_LISTED])
        more = f" and {len(unknown) - CLASSES_LISTED} more" if len(unknown) > CLASSES_LISTED else ""
        first = shorten(next(iter(unknown)))
        raise LabelingError(
            f"{wish.labels}: nothing was imported: classes that label_config.xml does not have for such shapes, with "
            f"their labels: {listed}{more}; say what they are with --map '{first}=CLASS', or leave them out with "
            f"--map '{first}='"
        )


def _find_samples(context: Context, folder: Path, others: Collection[Path]) -> dict[Path, SampleImage]:
    """Return the samples whose own file lies in the folder, or is one of the others, by that file."""
    root = folder.resolve()
    images = ((image.source_path or image.path, image) for image in context.dataset.images().values())
    return {path: image for path, image in images if path.is_relative_to(root) or path in others}


def _fit_all(
    found: ImportedSet,
    index: FileIndex,
    images: Mapping[Path, SampleImage],
    classes: Classes,
    unpacked: Unpacked,
    tally: _Tally,
) -> Iterator[_Fit]:
    owners, faults = find_owners(found, index, images, unpacked, tally.failed)
    tally.counts["images that no label file names"] = len(images) - len(owners)
    taken: set[str] = set()
    for path, one in sorted(owners.items()):
        image = images[path]
        try:
            check_size(one, image.size)
        except FitError as error:
            tally.failed.append(Failure(path.name, str(error), image.sample_id or None))
            continue
        fitted = fit_labels(one, image.size, classes, image_sha256=image.sha256, taken=taken)
        is_whole = fitted.is_whole and path not in faults
        reasons = [*faults.get(path, ()), *fitted.problems]
        end = "" if is_whole else LEFT_OUT
        tally.failed += [Failure(path.name, f"{reason}{end}", image.sample_id or None) for reason in reasons]
        if not is_whole:
            tally.counts["images left out for a label"] += 1
            continue
        _count(fitted, tally)
        yield _Fit(image, tuple(fitted.labels), one.has_regions)


def _count(fitted: Fitted, tally: _Tally) -> None:
    tally.counts["labels cut at the edge of their image"] += fitted.clipped
    tally.counts["labels taken as a simpler shape"] += fitted.simpler
    tally.counts["labels that were there twice"] += fitted.doubled


def _write(context: Context, fits: Sequence[_Fit], wish: Wish, tally: _Tally) -> list[_Fit]:
    """Write the labels of images that have none, and return these; a dry run writes nothing."""
    source = "" if wish.labels is None else wish.labels.name
    present = context.dataset.labels([fit.image.sample_id for fit in fits if fit.image.sample_id])
    written: list[_Fit] = []
    for looked in (True, False):
        some = [fit for fit in fits if fit.has_regions is looked]
        controls = find_controls((fit.labels for fit in some), context.config, has_regions=looked)
        fresh = dict(_choose_fresh(some, present, controls, tally))
        if wish.is_dry_run:
            written += [fit for fit, _ in fresh.values()]
            continue
        said = {key: known for key, known in present.items() if isinstance(known, SampleLabels)}
        changed = context.dataset.write_labels(
            {key: labels for key, (_, labels) in fresh.items()}, instead_of=said, controls=controls, source=source
        )
        for key in changed:
            tally.failed.append(Failure(_name(fresh[key][0].image), "was changed meanwhile; run it again", key))
        written += [fit for key, (fit, _) in fresh.items() if key not in changed]
    return written


def _choose_fresh(
    fits: Sequence[_Fit],
    present: Mapping[str, SampleLabels | ItemError],
    controls: set[str],
    tally: _Tally,
) -> Iterator[tuple[str, tuple[_Fit, tuple[Label, ...]]]]:
    """Yield the images of which nothing is said yet with these controls, with all that is to be said of them."""
    for fit in fits:
        key = fit.image.sample_id or str(fit.image.path)
        said = present.get(key)
        if isinstance(said, ItemError):
            tally.failed.append(Failure(_name(fit.image), said.problem, key))
            continue
        known = () if said is None else said.labels
        has_said = said is not None and (said.has_regions if fit.has_regions else any(
            label.control in controls for label in known
        ))  # fmt: skip
        answers = {label.control: label for label in known if label.geometry is None}
        news = [label for label in fit.labels if label.control not in answers]
        contradicts = any(not is_same(answers[one.control], one) for one in fit.labels if one.control in answers)
        if not has_said and not contradicts:
            yield key, (fit, (*known, *news))
        elif _says_all(known, fit.labels):
            tally.unchanged += 1
        else:
            tally.failed.append(Failure(_name(fit.image), HAS_LABELS, key))


def _name(image: SampleImage) -> str:
    return (image.source_path or image.path).name


def _says_all(known: Sequence[Label], imported: Sequence[Label]) -> bool:
    by_id = {label.id: label for label in known}
    return all(label.id in by_id and is_same(by_id[label.id], label) for label in imported)


def _to_report(
    wish: Wish,
    found: ImportedSet,
    classes: Classes,
    tally: _Tally,
    added: Report,
    written: Sequence[_Fit],
) -> Report:
    failed = tally.failed
    images, labels = "labelled images", "labels"
    if wish.is_dry_run:
        images, labels = "images that would be labelled", "labels that would be added"
    details = {
        images: len(written),
        labels: sum(len(fit.labels) for fit in written),
        "images without objects": sum(fit.has_regions and not any(label.geometry for label in fit.labels)
                                      for fit in written),
        "images labelled as before": tally.unchanged,
    }  # fmt: skip
    details |= {name: count for name, count in tally.counts.items() if count}
    notes = [*found.notes(), *_describe(classes)]
    if written and not wish.is_dry_run:
        notes.append("they count as reviewed once push has sent them: labelloop push")
    if len(failed) > FAILURES_LISTED:
        notes.append(f"{len(failed) - FAILURES_LISTED} more did not fit")
    return Report(
        "ingest",
        moved=added.moved,
        unchanged=added.unchanged,
        failed=tuple(failed[:FAILURES_LISTED]),
        notes=tuple(notes),
        details=details,
        is_dry_run=wish.is_dry_run,
    )


def _describe(classes: Classes) -> Iterator[str]:
    for (name, new), count in sorted(classes.by_alias.items()):
        yield f"{count} labels {shorten(name)!r} were taken as {new!r}"
    for name, count in sorted(classes.dropped.items()):
        yield f"{count} labels {shorten(name)!r} were left out, as you said"
