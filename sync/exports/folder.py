"""The folder of an export: written beside its place and then moved there, so that it is there whole or not at all.

A manifest lists the files, and marks the folder as ours: only such a folder is ever replaced, and only while it holds
nothing else. A process that is killed leaves at most a hidden folder, which the next export to that place removes; if
it was the old export that was just making room, it is put back.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psutil

from labels.errors import LabelingError

MANIFEST_NAME: Final = "labelloop.json"
MANIFEST_VERSION: Final = 1
NO_FACTS: Final = ("manifest_version", "facts_sha256", "content_sha256", "files")
CACHE_SUFFIX: Final = ".cache"
"""Trainers leave such files beside the labels they have read; they are made anew when they are missing."""


class Stage:
    """An export that is being written; what is not written through it is not in the manifest."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files: dict[str, str] = {}

    def write(self, name: str, content: bytes) -> None:
        """Write a file, given by its path inside the export."""
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        self.add(name, hashlib.sha256(content).hexdigest())

    def add(self, name: str, sha256: str) -> None:
        """Take up a file that lies in the folder already."""
        self._files[name] = sha256

    def add_written(self, name: str) -> None:
        """Take up a file that a library wrote into the folder."""
        with (self.path / name).open("rb") as file:
            self.add(name, hashlib.file_digest(file, "sha256").hexdigest())

    def write_manifest(self, facts: Mapping[str, Any]) -> str:
        """Write the manifest with those facts in it, and return the SHA-256 over names and content of all files."""
        listing = "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(self._files.items()))
        content_sha256 = hashlib.sha256(listing.encode()).hexdigest()
        lines = {name: _to_lines(value) for name, value in facts.items()}
        lines |= {
            "manifest_version": _to_json(MANIFEST_VERSION),
            "facts_sha256": _to_json(_sum_up(lines)),
            "content_sha256": _to_json(content_sha256),
            "files": _to_lines(self._files),
        }
        text = ",\n".join(f"{_to_json(name)}: {lines[name]}" for name in sorted(lines))
        (self.path / MANIFEST_NAME).write_text(f"{{\n{text}\n}}\n", encoding="utf-8")
        return content_sha256


def compute_facts_sha256(manifest: Mapping[str, Any]) -> str:
    """Return the sum over what a manifest says beside the sums of its files: format, version, classes, images.

    It is ``facts_sha256`` there; an export of an earlier labelloop has none.
    """
    return _sum_up({name: _to_lines(value) for name, value in manifest.items() if name not in NO_FACTS})


def _sum_up(lines: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    for name in sorted(lines):
        digest.update(f"{name}\n{lines[name]}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _to_lines(value: Any) -> str:
    """Return JSON with a line for each entry, which can be compared and is written many times as fast as indented."""
    if isinstance(value, Mapping) and value:
        return "{\n" + ",\n".join(f"{_to_json(key)}: {_to_json(value[key])}" for key in sorted(value)) + "\n}"
    if isinstance(value, list | tuple) and value:
        return "[\n" + ",\n".join(map(_to_json, value)) + "\n]"
    return _to_json(value)


def _to_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


@contextmanager
def open_stage(out_dir: Path) -> Iterator[Stage]:
    """Give a folder to write an export into, and move it to its place at the end; an error leaves the old one.

    Raises:
        LabelingError: the place is taken by something that no export wrote, or cannot be written to.
    """
    target = out_dir.resolve()
    check_replaceable(target)
    stage = target.with_name(f".{target.name}.partial-{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target)
        stage.mkdir()
        yield Stage(stage)
        _swap(stage, target)
    except OSError as error:
        raise LabelingError(f"export {out_dir}: {error}") from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def check_replaceable(target: Path) -> None:
    """Check that nothing is at that place, or an export and nothing else.

    Raises:
        LabelingError: there is something that no export wrote.
    """
    if not target.exists():
        return
    if not target.is_dir():
        raise LabelingError(f"export {target}: there is a file of that name (expected a folder)")
    if not any(target.iterdir()):
        return
    # First of all: a folder that is none of ours may be as large as a disk.
    known = _read_known_files(target)
    found = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_symlink() or path.is_file()}
    foreign = sorted(name for name in found - known if not name.endswith(CACHE_SUFFIX))
    if foreign:
        raise LabelingError(
            f"export {target}: holds {foreign[0]!r}, which no export wrote (choose another folder, or move it away)"
        )


def _read_known_files(target: Path) -> set[str]:
    try:
        manifest = json.loads((target / MANIFEST_NAME).read_text(encoding="utf-8"))
        return {MANIFEST_NAME, *manifest["files"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LabelingError(f"export {target}: is no export of labelloop (choose a new or empty folder)") from error


def _swap(stage: Path, target: Path) -> None:
    replaced = target.with_name(f".{target.name}.replaced-{os.getpid()}")
    if target.exists():
        target.rename(replaced)
    stage.rename(target)
    shutil.rmtree(replaced, ignore_errors=True)


def _remove_leftovers(target: Path) -> None:
    """Remove what killed exports left; the old export of one that was killed in between is put back."""
    for kind in ("replaced", "partial"):
        left = list(_find_leftovers(target, f".{target.name}.{kind}-"))
        if kind == "replaced" and left and not target.exists():
            newest = max(left, key=lambda path: path.stat().st_mtime_ns)
            newest.rename(target)
            left.remove(newest)
        for path in left:
            shutil.rmtree(path)


def _find_leftovers(target: Path, prefix: str) -> Iterator[Path]:
    for path in target.parent.iterdir():
        pid = path.name.removeprefix(prefix)
        if path.name.startswith(prefix) and pid.isdigit() and not _is_alive(int(pid)):
            yield path


def _is_alive(pid: int) -> bool:
    # Our own number on a leftover: it was given out again, since this process has not begun to write.
    return pid != os.getpid() and psutil.pid_exists(pid)
