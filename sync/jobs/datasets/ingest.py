"""Ingest: a folder of images into the catalogue. Images that are there stay as they are; none is copied or changed.

What was deleted in FiftyOne stays deleted: the ledger knows which files ever became samples.
Order of writes: samples, then the ledger; what a killed ingest did not note, the next one does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from more_itertools import chunked

from labels.errors import ItemError, LabelingError
from labels.report import Failure, OnProgress, Report, ignore_progress
from sync.catalogue.samples import NewImage
from sync.images import ImageFacts, find_images, read_facts, to_text, write_copy
from sync.jobs.context import Context
from sync.media import link_folder, to_copy_path
from sync.settings import DEMO_FOLDER, Home, Project

if TYPE_CHECKING:
    from sync.catalogue.dataset import Dataset

IMAGES_PER_WRITE: Final = 500
# Decoding releases the interpreter's lock; more threads than this only hold more pictures in memory.
DECODING_THREADS: Final = 4


@dataclass(slots=True)
class _Tally:
    """What was found in a folder; ``known`` are files with the SHA-256 they had when they were added, None: not known.

    ``ingested`` are those that ever were; with ``restore`` the ones that are no more are added again.
    """

    known: Mapping[str, str | None]
    ingested: Mapping[str, str]
    restore: bool
    own: list[Path] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    new: Counter[str] = field(default_factory=Counter)
    unchanged: int = 0
    left_deleted: int = 0

    @classmethod
    def begin(cls, context: Context, *, restore: bool) -> _Tally:
        known = context.dataset.known_files()
        # Where nothing at all is left, it was the dataset that went: nobody decided on these images.
        return cls(known, context.ledger.ingested() if known else {}, restore)


def ingest(
    context: Context, folder: Path, on_progress: OnProgress = ignore_progress, *, restore: bool = False
) -> Report:
    """Add the images of a folder and its subfolders that the catalogue does not have.

    A file that cannot be read is reported by name and the others go on. A file whose content changed since it was
    added is reported and left as it is: its labels belong to the picture that was there. One whose sample was deleted
    is left out; with ``restore`` it is added again.

    Raises:
        LabelingError: no such folder, or no image in it.
    """
    folder = folder.resolve()
    tally = _Tally.begin(context, restore=restore)
    paths = _find_paths(context.home, folder, tally)
    _remember_folder(context.home, folder, link_folder(context.home, folder))
    if not tally.known:
        context.ledger.delete_ingested()
    known = {path: sha256 for path, sha256 in tally.known.items() if sha256 and tally.ingested.get(path) != sha256}
    context.ledger.record_ingested(known)
    for chunk in _read_new(paths, tally, on_progress):
        images = []
        for path, facts in chunk:
            try:
                images.append(_to_new_image(context.home, path, facts))
            except ItemError as error:
                tally.failed.append(Failure(error.item, error.problem))
        context.dataset.write_images(images)
        context.ledger.record_ingested({str(one.source_path or one.path): one.sha256 for one in images})
        tally.new.update(one.sha256 for one in images)
    return _to_report(tally)


def foresee(
    context: Context, folder: Path, on_progress: OnProgress = ignore_progress, *, restore: bool = False
) -> tuple[Report, dict[Path, ImageFacts]]:
    """Return what ``ingest`` would report, and the images it would add; nothing is changed.

    Raises:
        LabelingError: as of ``ingest``.
    """
    tally = _Tally.begin(context, restore=restore)
    paths = _find_paths(context.home, folder.resolve(), tally)
    added = dict(pair for chunk in _read_new(paths, tally, on_progress) for pair in chunk)
    tally.new.update(facts.sha256 for facts in added.values())
    return replace(_to_report(tally), is_dry_run=True), added


def _read_new(paths: Sequence[Path], tally: _Tally, on_progress: OnProgress) -> Iterator[list[tuple[Path, ImageFacts]]]:
    """Yield the images that are to be added, some at a time, and count the others."""
    for done, chunk in enumerate(chunked(paths, IMAGES_PER_WRITE)):
        on_progress(done * IMAGES_PER_WRITE / len(paths), f"reading images, {done * IMAGES_PER_WRITE}/{len(paths)}")
        new = []
        for path, facts in zip(chunk, _read_all(chunk), strict=True):
            if isinstance(facts, ItemError):
                tally.failed.append(Failure(facts.item, facts.problem))
            elif str(path) in tally.known and tally.known[str(path)] not in (None, facts.sha256):
                problem = "has changed since it was added; add it under a new name"
                tally.failed.append(Failure(str(path), problem))
            elif str(path) in tally.known:
                tally.unchanged += 1
            elif not tally.restore and tally.ingested.get(str(path)) == facts.sha256:
                tally.left_deleted += 1
            else:
                new.append((path, facts))
        yield new


def _to_report(tally: _Tally) -> Report:
    return Report(
        "ingest",
        moved=tally.new.total(),
        unchanged=tally.unchanged,
        failed=tuple(tally.failed),
        notes=tuple(_explain(tally)),
    )


def _explain(tally: _Tally) -> Iterator[str]:
    """Yield what a person may wonder at: what was left out, and files with the same bytes as others."""
    if tally.own:
        yield f"left out, since labelloop wrote them itself: {', '.join(map(to_text, tally.own))}"
    if tally.left_deleted:
        yield (
            f"left out, since they were deleted in FiftyOne: {tally.left_deleted}; "
            "ingest FOLDER --restore adds them as new ones"
        )
    before = set(tally.known.values())
    twins = sum(count - (content not in before) for content, count in tally.new.items())
    if twins:
        yield f"new images with the same bytes as another one: {twins}; labelloop duplicates finds them"


def _find_paths(home: Home, folder: Path, tally: _Tally) -> list[Path]:
    check_folder(home, folder)
    failed = tally.failed
    paths = list(find_images(folder, lambda error: failed.append(_to_failure(error)), on_own=tally.own.append))
    if not paths:
        unreadable = f"; {failed[0].item}: {failed[0].problem}" if failed else ""
        raise LabelingError(f"{folder}: no images (expected jpg, jpeg, png, webp, bmp or tif){unreadable}")
    return paths


def check_folder(home: Home, folder: Path) -> None:
    """Refuse a folder that must not be linked: Label Studio shows every file below it to everybody who can log in.

    Raises:
        LabelingError: the state folder, with its secrets, lies in it; or it lies in the state folder.
    """
    own = home.path.resolve()
    if own.is_relative_to(folder):
        raise LabelingError(f"{folder}: the state folder {own} lies in it; choose another one with --home")
    if folder.is_relative_to(own) and not folder.is_relative_to(home.images.resolve()) and folder != own / DEMO_FOLDER:
        raise LabelingError(f"{folder}: lies in the state folder; images belong to a folder of their own")


def _to_failure(error: OSError) -> Failure:
    return Failure(to_text(Path(error.filename or "?")), f"cannot be read ({error.strerror})")


def complete_images(
    dataset: Dataset, sample_ids: Sequence[str] | None = None, on_progress: OnProgress = ignore_progress
) -> list[Failure]:
    """Write size and content sum of samples that lack them, of these or of all, and return what is unreadable.

    Samples that came into the catalogue by another way than ``ingest`` lack them; without, they can neither be shown to
    the detector nor sent.
    """
    incomplete = dataset.incomplete_images(sample_ids)
    failed = list[Failure]()
    for done, chunk in enumerate(chunked(incomplete.items(), IMAGES_PER_WRITE)):
        on_progress(done * IMAGES_PER_WRITE / len(incomplete), f"reading the size of {len(incomplete)} images")
        facts: dict[str, ImageFacts] = {}
        for (sample_id, _), outcome in zip(chunk, _read_all([path for _, path in chunk]), strict=True):
            if isinstance(outcome, ItemError):
                failed.append(Failure(outcome.item, outcome.problem, sample_id))
            else:
                facts[sample_id] = outcome
        dataset.write_sizes({key: (one.size, one.sha256, one.byte_count) for key, one in facts.items()})
    return failed


def _read_all(paths: list[Path]) -> list[ImageFacts | ItemError]:
    with ThreadPoolExecutor(DECODING_THREADS) as pool:
        return list(pool.map(_read_one, paths))


def _read_one(path: Path) -> ImageFacts | ItemError:
    try:
        return read_facts(path)
    except ItemError as error:
        return error


def _to_new_image(home: Home, path: Path, facts: ImageFacts) -> NewImage:
    """Return what becomes a sample, with a copy where browsers need one.

    Raises:
        ItemError: the copy cannot be written.
    """
    if not facts.needs_copy:
        return NewImage(path, facts.size, facts.sha256, facts.byte_count, facts.mime_type)
    copy = to_copy_path(home, facts.sha256)
    write_copy(path, copy)
    return NewImage(copy, facts.size, facts.sha256, facts.byte_count, "image/png", source_path=path)


def _remember_folder(home: Home, folder: Path, link_name: str) -> None:
    project = Project.read(home)
    if project is not None and (project.images or {}).get(link_name) != str(folder):
        replace(project, images={**(project.images or {}), link_name: str(folder)}).write(home)
