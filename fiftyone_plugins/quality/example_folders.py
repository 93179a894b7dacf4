"""Folders of examples as trainers of classifiers read them, and what of them is ours. Knows no FiftyOne.

FOLDER/{train,val}/{keep,trash}/SAMPLE_ID.jpg    links or copies
       examples.jsonl                             one line for each of these files: what is not in it is not ours
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fiftyone_plugins.quality.proposals import Word
from labels.errors import LabelingError
from labels.report import Failure, OnProgress

MANIFEST: Final = "examples.jsonl"
UNFINISHED: Final = ".labelloop-unfinished"
PARTS: Final = ("train", "val")
VALIDATION_OF: Final = 5


@dataclass(frozen=True, slots=True)
class Example:
    """One image with its word, why, and what keeps pictures of one group on one side of the split."""

    sample_id: str
    path: Path
    word: Word
    reason: str
    group: str


def to_part(example: Example) -> str:
    """Return the side of the split, the same for all of a group and in every run."""
    digits = int(hashlib.sha256(example.group.encode()).hexdigest()[:8], 16)
    return "val" if digits % VALIDATION_OF == 0 else "train"


def write_folders(examples: Sequence[Example], target: Path, on_progress: OnProgress, *, copy: bool) -> list[Failure]:
    """Write the examples in the place of those of the last time; return the images that cannot be read.

    They are written aside first, so what ends the run there leaves the old ones. A process that is killed while files
    change their place leaves some of both, all of them in the manifest: the next run ends what it began.

    Raises:
        LabelingError: the folder holds no examples of ours, or a file of somebody else where one is to be.
    """
    known = _read_manifest(target)
    aside = target / UNFINISHED
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        failed, lines = _write_aside(examples, aside, on_progress, copy=copy)
        _put(aside, target, lines, known)
    finally:
        shutil.rmtree(aside)
    return failed


def _write_aside(
    examples: Sequence[Example], aside: Path, on_progress: OnProgress, *, copy: bool
) -> tuple[list[Failure], dict[str, str]]:
    """Return what cannot be read, and the line of each file that was written, by its place."""
    failed: list[Failure] = []
    lines: dict[str, str] = {}
    for done, one in enumerate(sorted(examples, key=lambda example: example.sample_id)):
        on_progress(done / len(examples), f"writing examples, {done}/{len(examples)}")
        place = Path(to_part(one), one.word, f"{one.sample_id}{one.path.suffix.lower()}")
        (aside / place).parent.mkdir(parents=True, exist_ok=True)
        try:
            if copy:
                shutil.copyfile(one.path, aside / place)
            else:
                (aside / place).symlink_to(one.path.resolve(strict=True))
        except OSError as error:
            failed.append(Failure(str(one.path), f"cannot be read ({error.strerror})", one.sample_id))
            continue
        about = {"file": place.as_posix(), "sample_id": one.sample_id, "word": one.word, "reason": one.reason}
        lines[place.as_posix()] = json.dumps(about | {"source": str(one.path)})
    return failed, lines


def _put(aside: Path, target: Path, lines: dict[str, str], known: dict[str, str]) -> None:
    """Move files into their place and remove those of the last time; what the manifest does not name stays."""
    foreign = next((place for place in lines if place not in known and os.path.lexists(target / place)), None)
    if foreign is not None:
        raise LabelingError(f"{target / foreign}: is no file of labelloop; move it away, or choose another folder")
    _write_manifest(aside, target, known | lines)
    for place in lines:
        (target / place).parent.mkdir(parents=True, exist_ok=True)
        os.replace(aside / place, target / place)
    for place in known.keys() - lines.keys():
        (target / place).unlink(missing_ok=True)
    _write_manifest(aside, target, lines)
    for folder in {(target / place).parent for place in known}:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _write_manifest(aside: Path, target: Path, lines: dict[str, str]) -> None:
    (aside / MANIFEST).write_text("".join(f"{line}\n" for line in lines.values()), encoding="utf-8")
    os.replace(aside / MANIFEST, target / MANIFEST)


def _read_manifest(target: Path) -> dict[str, str]:
    """Return the lines of an earlier run by the place they name; nothing outside of its folders is believed.

    Raises:
        LabelingError: there is something in the folder, and no manifest that can be read.
    """
    try:
        lines = (target / MANIFEST).read_text(encoding="utf-8").splitlines()
        known = {str(json.loads(line)["file"]): line for line in lines if line}
    except FileNotFoundError:
        if target.exists() and any(file.name != UNFINISHED for file in target.iterdir()):
            problem = "is there already and holds no examples of labelloop; choose another folder"
            raise LabelingError(f"{target}: {problem}") from None
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"cannot be read ({error}), so nothing in it is known to be labelloop's; choose another folder"
        raise LabelingError(f"{target / MANIFEST}: {problem}") from error
    return {place: line for place, line in known.items() if _is_ours(place)}


def _is_ours(place: str) -> bool:
    parts = place.split("/")
    return len(parts) == 3 and parts[0] in PARTS and ".." not in parts
