"""Whether an exported folder is what was written: every file, no other one, and what its version says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from labels.errors import LabelingError
from labels.report import VERIFY, Failure, Report
from sync.exports.folder import CACHE_SUFFIX, MANIFEST_NAME, compute_facts_sha256
from sync.settings import Home
from sync.versions.manifest import list_versions, read_version
from sync.versions.version import Version


def verify_export(home: Home, folder: Path) -> Report:
    """Return what agrees and what differs: files by their sums, images and labels by the version, if it is here.

    Raises:
        LabelingError: the folder is no export.
    """
    manifest = _read_manifest(folder)
    files: dict[str, str] = manifest["files"]
    failed = [*_check_files(folder, files), *_check_others(folder, files)]
    listing = "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(files.items()))
    if hashlib.sha256(listing.encode()).hexdigest() != manifest["content_sha256"]:
        failed.append(Failure(MANIFEST_NAME, "its sum over all files is not theirs: somebody changed it"))
    if manifest.get("facts_sha256", compute_facts_sha256(manifest)) != compute_facts_sha256(manifest):
        failed.append(Failure(MANIFEST_NAME, "what it says of images and classes is not what was written"))
    notes = []
    version = manifest.get("version")
    if isinstance(version, str) and version in list_versions(home):
        frozen = read_version(home, version)
        failed += _check_version(frozen, manifest["images"])
        failed += _check_classes(frozen, manifest.get("classes"))
        missing = len(frozen.images) - len(manifest["images"])
        notes.append(f"compared with version {version}" + (f", of which it lacks {missing} images" if missing else ""))
    elif version is not None:
        notes.append(f"version {version!r} is not in this state folder: only the files were compared")
    bad = {failure.item for failure in failed}
    return Report(VERIFY, unchanged=len(set(files) - bad), failed=tuple(failed), notes=tuple(notes))


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST_NAME
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        is_right = (
            isinstance(manifest["content_sha256"], str)
            and isinstance(manifest["images"], list)
            and all(isinstance(name, str) and isinstance(sha256, str) for name, sha256 in manifest["files"].items())
        )
    except FileNotFoundError as error:
        raise LabelingError(f"{folder}: is no export of labelloop (no {MANIFEST_NAME} in it)") from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise LabelingError(f"{path}: is damaged ({type(error).__name__}: {error})") from error
    if not is_right:
        raise LabelingError(f"{path}: is damaged (files and images are not listed as an export lists them)")
    return dict(manifest)


def _check_files(folder: Path, files: Mapping[str, str]) -> Iterator[Failure]:
    for name, sha256 in sorted(files.items()):
        inside = PurePosixPath(name)
        if inside.is_absolute() or ".." in inside.parts:
            yield Failure(name, "lies outside the folder (no export writes such a name)")
            continue
        try:
            with (folder / name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            yield Failure(name, f"cannot be read ({error.strerror})")
            continue
        if found != sha256:
            yield Failure(name, "has changed since it was written")


def _check_others(folder: Path, files: Mapping[str, str]) -> Iterator[Failure]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in files and name != MANIFEST_NAME and path.suffix != CACHE_SUFFIX:
            yield Failure(name, "is not of the export: somebody put it there")


def _check_classes(version: Version, listed: object) -> Iterator[Failure]:
    """Compare the classes with those of the drawn labels, and with the answers of each Choices."""
    config = version.config
    answers = (control.classes for control in config.controls if control.kind == "Choices")
    if not any(listed == [*classes] for classes in (config.region_classes, *answers)):
        yield Failure(MANIFEST_NAME, f"its classes are not those of version {version.id}")


def _check_version(version: Version, listed: list[Any]) -> Iterator[Failure]:
    known = {image.sample_id: image for image in version.images}
    for one in listed:
        sample_id = one.get("sample_id") if isinstance(one, Mapping) else None
        image = known.get(str(sample_id))
        if image is None:
            yield Failure(f"sample {sample_id}", f"is not in version {version.id}")
            continue
        ids = {label.label.id for label in image.labels}
        if one.get("sha256") != image.sha256 or one.get("split", image.split) != image.split:
            yield Failure(f"sample {sample_id}", f"is another file, or in another split, than in version {version.id}")
        elif not set(one.get("labels", ())) <= ids:
            yield Failure(f"sample {sample_id}", f"has labels that version {version.id} does not have")
