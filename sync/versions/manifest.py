"""The file that keeps a version: ``versions/ID/manifest.json`` of the state folder.

It holds one image a line, sorted by sample id. The same state gives the same bytes; no clock is asked. A version is
never changed: it is written beside its place and then moved there.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from labels.errors import LabelingError
from labels.geometry import ImageSize
from labels.results import from_record, to_record
from sync.exports.poses import list_points, order_points
from sync.settings import Home
from sync.versions.version import ID, SPLITS, LeakPair, Leaks, Version, VersionImage, VersionLabel, to_number

MANIFEST_NAME: Final = "manifest.json"
MANIFEST_VERSION: Final = 1
LATEST: Final = "latest"
SHA_DIGITS: Final = 8
HEAD_LINES: Final = 12
ENCODER: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def list_versions(home: Home) -> list[str]:
    """Return the ids of the versions of a state folder, the oldest first."""
    if not home.versions.is_dir():
        return []
    found = [path.parent.name for path in home.versions.glob(f"*/{MANIFEST_NAME}") if ID.fullmatch(path.parent.name)]
    return sorted(found, key=lambda name: (to_number(name), name))


def find_version(home: Home, name: str) -> str:
    """Return the id that is meant: a whole id, its beginning (``v3``), or ``latest``.

    Raises:
        LabelingError: there is none, or several are meant.
    """
    known = list_versions(home)
    if not known:
        raise LabelingError("there is no version yet; labelloop export makes one")
    if name == LATEST:
        return known[-1]
    found = [one for one in known if name in (one, one.partition("-")[0])] or [
        one for one in known if name and one.startswith(name)
    ]
    if len(found) != 1:
        what = "is meant by several" if found else "is not known"
        raise LabelingError(f"version {name!r} {what} (known: {', '.join(found or known)})")
    return found[0]


def read_version(home: Home, name: str = LATEST) -> Version:
    """Return a version by its id, the beginning of it, or ``latest``.

    Raises:
        LabelingError: there is none of that name, or its file is damaged.
    """
    return read_manifest(home.versions / find_version(home, name) / MANIFEST_NAME)


def read_manifest(path: Path) -> Version:
    """Return the version of a manifest.

    Raises:
        LabelingError: the file cannot be read, or is not what was written.
    """
    try:
        version = _from_json(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise LabelingError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise LabelingError(f"{path}: is damaged ({type(error).__name__}: {error})") from error
    if version.content_sha256 not in (compute_content_sha256(version), compute_content_sha256(version, form=1)):
        raise LabelingError(f"{path}: is damaged (what it says is not what was frozen)")
    return version


def read_content_sha256(home: Home, version_id: str) -> str | None:
    """Return the sum a version was frozen with, from the first lines of its file; None: it says none."""
    try:
        with (home.versions / version_id / MANIFEST_NAME).open(encoding="utf-8") as file:
            head = "".join(line for _, line in zip(range(HEAD_LINES), file, strict=False))
    except (OSError, UnicodeDecodeError):
        return None
    found = re.search(r'^"content_sha256": "([0-9a-f]{64})"', head, re.MULTILINE)
    return None if found is None else found[1]


def write_version(home: Home, version: Version) -> Path:
    """Write a version and return its manifest; one that is there already stays as it is."""
    target = home.versions / version.id
    manifest = target / MANIFEST_NAME
    if manifest.exists():
        return manifest
    stage = home.versions / f".{version.id}.partial-{os.getpid()}"
    try:
        shutil.rmtree(stage, ignore_errors=True)
        stage.mkdir(parents=True)
        (stage / MANIFEST_NAME).write_text(to_text(version), encoding="utf-8")
        stage.rename(target)
    except OSError as error:
        raise LabelingError(f"{target}: cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return manifest


def to_text(version: Version) -> str:
    """Return the text of a version's manifest: a line an image, so that two can be compared line by line."""
    head = {
        "manifest_version": MANIFEST_VERSION,
        "id": version.id,
        "content_sha256": version.content_sha256,
        "dataset": version.dataset,
        "classes": list(version.classes),
        "label_config": version.label_config,
        "ratios": list(version.ratios),
        "group_by": version.group_by,
        "tool_versions": dict(version.tool_versions),
        "leaks": _leaks_to_record(version.leaks),
    }
    lines = ",\n".join(f"{json.dumps(name)}: {_to_json(value)}" for name, value in head.items())
    return f'{{{lines},\n"images": [\n' + ",\n".join(_image_lines(version)) + "\n]}\n"


def compute_content_sha256(version: Version, *, form: int = 2) -> str:
    """Return the sum over what a version holds: classes, controls, images, labels, splits; not who wrote it when.

    In its first form, which versions of old have, the order of key points by ``model_index`` was not in it. Where they
    have no order of their own both are the same.
    """
    config = version.config
    said: dict[str, Any] = {
        "dataset": version.dataset,
        "classes": list(version.classes),
        "controls": [[one.name, one.kind, list(one.classes), one.is_multiple] for one in config.controls],
        "group_by": version.group_by,
    }
    points = order_points(config)
    if form > 1 and points != list_points(config):
        said["key_points"] = [*points]
    digest = hashlib.sha256(_to_json(said).encode())
    for line in _image_lines(version):
        digest.update(b"\n" + line.encode())
    return digest.hexdigest()


def _image_lines(version: Version) -> Iterator[str]:
    for image in sorted(version.images, key=lambda image: image.sample_id):
        yield _to_json(_image_to_record(image))


def _image_to_record(image: VersionImage) -> dict[str, Any]:
    record = {
        "sample_id": image.sample_id,
        "path": str(image.path),
        "sha256": image.sha256,
        "size": [image.size.width, image.size.height],
        "split": image.split,
        "group": image.group,
        "has_regions": image.has_regions,
        "labels": [_label_to_record(one) for one in sorted(image.labels, key=lambda one: one.label.id)],
    }
    return record


def _label_to_record(one: VersionLabel) -> dict[str, Any]:
    said = {name: getattr(one, name) for name in ("reviewer", "reviewed_at", "model_version", "verdict", "source")}
    return to_record(one.label) | {name: value for name, value in said.items() if value is not None}


def _leaks_to_record(leaks: Leaks) -> dict[str, Any]:
    return {
        "same_file": leaks.same_file,
        "same_group": leaks.same_group,
        "near": leaks.near,
        "threshold_bits": leaks.threshold_bits,
        "unhashed": leaks.unhashed,
        "pairs": [[pair.first, pair.second, pair.reason] for pair in leaks.pairs],
    }


def _from_json(values: Mapping[str, Any]) -> Version:
    if values["manifest_version"] != MANIFEST_VERSION:
        raise ValueError(f"its form is {values['manifest_version']}, this labelloop reads {MANIFEST_VERSION}")
    leaks = dict(values["leaks"])
    pairs = tuple(LeakPair(*pair) for pair in leaks.pop("pairs"))
    train, val, test = values["ratios"]
    return Version(
        id=values["id"],
        content_sha256=values["content_sha256"],
        dataset=values["dataset"],
        classes=tuple(values["classes"]),
        label_config=values["label_config"],
        images=tuple(_image_from_record(record) for record in values["images"]),
        ratios=(train, val, test),
        group_by=values["group_by"],
        tool_versions=dict(values["tool_versions"]),
        leaks=Leaks(**leaks, pairs=pairs),
    )


def _image_from_record(record: Mapping[str, Any]) -> VersionImage:
    width, height = record["size"]
    if record["split"] not in SPLITS:
        raise ValueError(f"split {record['split']!r}")
    return VersionImage(
        sample_id=record["sample_id"],
        path=Path(record["path"]),
        sha256=record["sha256"],
        size=ImageSize(width, height),
        split=record["split"],
        group=record["group"],
        has_regions=record["has_regions"],
        labels=tuple(
            VersionLabel(
                from_record(one),
                *(one.get(name) for name in ("reviewer", "reviewed_at", "model_version", "verdict", "source")),
            )
            for one in record["labels"]
        ),
    )


def _to_json(value: object) -> str:
    return ENCODER.encode(value)
