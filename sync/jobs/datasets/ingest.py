"""Ingest: a folder of images into the catalogue. Images that are there stay as they are; none is copied or changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from more_itertools import chunked

from labels.errors import ItemError, LabelingError
from labels.report import Failure, OnProgress, Report, ignore_progress
from sync.catalogue.samples import NewImage
from sync.images import ImageFacts, find_images, read_facts, to_text, write_copy
from sync.media import link_folder, to_copy_path
from sync.settings import DEMO_FOLDER, Home, Project

if TYPE_CHECKING:
    from sync.catalogue.dataset import Dataset

IMAGES_PER_WRITE: Final = 500
# Decoding releases the interpreter's lock; more threads than this only hold more pictures in memory.
DECODING_THREADS: Final = 4


def ingest(home: Home, dataset: Dataset, folder: Path, on_progress: OnProgress = ignore_progress) -> Report:
    """Add the images of a folder and its subfolders that the catalogue does not have.

    A file that cannot be read is reported by name and the others go on. A file whose content changed since it was
    added is reported and left as it is: its labels belong to the picture that was there.

    Raises:
        LabelingError: no such folder, or no image in it.
    """
    folder = folder.resolve()
    failed, own = list[Failure](), list[Path]()
    paths = _find_paths(home, folder, failed, own)
    _remember_folder(home, folder, link_folder(home, folder))
    known = dataset.known_files()
    contents = Counter(known.values())
    added, unchanged = 0, 0
    for done, chunk in enumerate(chunked(paths, IMAGES_PER_WRITE)):
        on_progress(done * IMAGES_PER_WRITE / len(paths), f"reading images, {done * IMAGES_PER_WRITE}/{len(paths)}")
        images = []
        for path, outcome in zip(chunk, _read_all(chunk), strict=True):
            found = _to_new_image(home, path, outcome, known)
            if isinstance(found, ItemError):
                failed.append(Failure(found.item, found.problem))
            elif found is None:
                unchanged += 1
            else:
                images.append(found)
        dataset.write_images(images)
        contents.update(image.sha256 for image in images)
        added += len(images)
    notes = _explain(own, contents - Counter(known.values()), known)
    return Report("ingest", moved=added, unchanged=unchanged, failed=tuple(failed), notes=notes)


def foresee(
    home: Home, dataset: Dataset, folder: Path, on_progress: OnProgress = ignore_progress
) -> tuple[Report, dict[Path, ImageFacts]]:
    """Return what ``ingest`` would report, and the images it would add; nothing is changed.

    Raises:
        LabelingError: as of ``ingest``.
    """
    failed, own = list[Failure](), list[Path]()
    paths = _find_paths(home, folder.resolve(), failed, own)
    known = dataset.known_files()
    added: dict[Path, ImageFacts] = {}
    unchanged = 0
    for done, chunk in enumerate(chunked(paths, IMAGES_PER_WRITE)):
        on_progress(done * IMAGES_PER_WRITE / len(paths), f"reading images, {done * IMAGES_PER_WRITE}/{len(paths)}")
        for path, outcome in zip(chunk, _read_all(chunk), strict=True):
            found = _check_known(path, outcome, known)
            if isinstance(found, ItemError):
                failed.append(Failure(found.item, found.problem))
            elif found is None:
                unchanged += 1
            else:
                added[path] = found
    notes = _explain(own, Counter(facts.sha256 for facts in added.values()), known)
    report = Report("ingest", moved=len(added), unchanged=unchanged, failed=tuple(failed), notes=notes, is_dry_run=True)
    return report, added


def _explain(own: Sequence[Path], new: Mapping[str, int], known: Mapping[str, str]) -> tuple[str, ...]:
    """Return what a person may wonder at: folders left out, and files with the same bytes as others."""
    before = set(known.values())
    twins = sum(count - (content not in before) for content, count in new.items())
    notes = []
    if own:
        notes.append(f"left out, since labelloop wrote them itself: {', '.join(map(to_text, own))}")
    if twins:
        notes.append(f"new images with the same bytes as another one: {twins}; labelloop duplicates finds them")
    return tuple(notes)


def _find_paths(home: Home, folder: Path, failed: list[Failure], own: list[Path]) -> list[Path]:
    check_folder(home, folder)
    paths = list(find_images(folder, lambda error: failed.append(_to_failure(error)), on_own=own.append))
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


def _check_known(path: Path, facts: ImageFacts | ItemError, known: Mapping[str, str]) -> ImageFacts | ItemError | None:
    """Return the facts of an image that is new, None of one that is there already."""
    if isinstance(facts, ItemError) or str(path) not in known:
        return facts
    is_same = known[str(path)] == facts.sha256
    return None if is_same else ItemError(str(path), "has changed since it was added; add it under a new name")


def _to_new_image(
    home: Home, path: Path, outcome: ImageFacts | ItemError, known: Mapping[str, str]
) -> NewImage | ItemError | None:
    facts = _check_known(path, outcome, known)
    if facts is None or isinstance(facts, ItemError):
        return facts
    if not facts.needs_copy:
        return NewImage(path, facts.size, facts.sha256, facts.byte_count, facts.mime_type)
    copy = to_copy_path(home, facts.sha256)
    try:
        write_copy(path, copy)
    except ItemError as error:
        return error
    return NewImage(copy, facts.size, facts.sha256, facts.byte_count, "image/png", source_path=path)


def _remember_folder(home: Home, folder: Path, link_name: str) -> None:
    project = Project.read(home)
    if project is not None and (project.images or {}).get(link_name) != str(folder):
        replace(project, images={**(project.images or {}), link_name: str(folder)}).write(home)
