"""Opening label files that anybody may have written: text in UTF-8, of a sane size, from inside the folder."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from labels.errors import LabelingError
from labels.limits import MAX_IMAGE_BYTES
from sync.exports.folder import MANIFEST_NAME

LARGEST_TEXT_BYTES: Final = 16 * 1024**2
"""One label file of one image, or a list of classes, is never this large."""
LARGEST_SET_BYTES: Final = 4 * 1024**3
"""One file for all images."""


class UnreadableError(ValueError):
    """One file cannot be used; its text says why, in one line."""


def read_text(path: Path, *, largest_bytes: int = LARGEST_TEXT_BYTES) -> str:
    """Return the text of a file, UTF-8 with or without a mark.

    Raises:
        UnreadableError: it is not there, too large, or no UTF-8.
    """
    try:
        if not path.is_file():
            raise UnreadableError("is no regular file")
        size = path.stat().st_size
        if size > largest_bytes:
            raise UnreadableError(f"has {size} bytes (expected at most {largest_bytes})")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableError(f"is no UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise UnreadableError(f"cannot be read ({error.strerror})") from error


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        LabelingError: it cannot be read, is broken off, or is no JSON.
    """
    try:
        return json.loads(read_text(path, largest_bytes=LARGEST_SET_BYTES))
    except UnreadableError as error:
        raise LabelingError(f"{path}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise LabelingError(f"{path}: is no JSON, or broken off ({in_one_line(error)})") from error


def read_span(path: Path, start: int, byte_count: int) -> bytes:
    """Return the bytes of an image that lies in a larger file.

    Raises:
        UnreadableError: it is too large for an image, or the file ends before it does.
        OSError: the file cannot be read.
    """
    if byte_count > MAX_IMAGE_BYTES:
        raise UnreadableError(f"has {byte_count} bytes (expected at most {MAX_IMAGE_BYTES})")
    with path.open("rb") as file:
        file.seek(start)
        content = file.read(byte_count)
    if len(content) != byte_count:
        raise UnreadableError(f"is broken off in {path.name}")
    return content


def read_manifest(path: Path) -> dict[str, Any]:
    """Return what an export of ours says of itself; of a folder or a file that is none, nothing."""
    file = find_inside(path if path.is_dir() else path.parent, MANIFEST_NAME)
    try:
        manifest = {} if file is None else json.loads(read_text(file, largest_bytes=LARGEST_SET_BYTES))
    except (ValueError, RecursionError):
        return {}
    return manifest if isinstance(manifest, dict) else {}


def find_files(folder: Path, *suffixes: str) -> Iterator[Path]:
    """Yield the files with these suffixes below a folder, sorted; a link that leads out of it is left out."""
    root = folder.resolve()
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in suffixes and path.is_file() and path.resolve().is_relative_to(root):
            yield path


def find_inside(folder: Path, name: str) -> Path | None:
    """Return the file of that name in a folder, if it is there and no link that leads out of it."""
    path = folder / name
    return path if path.is_file() and path.resolve().is_relative_to(folder.resolve()) else None


def to_number(value: object) -> float:
    """Return a number of a file.

    Raises:
        ValueError: it is none, or not finite.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{in_one_line(value)} is no number")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is no finite number")
    return number


def in_one_line(text: object, *, longest: int = 200) -> str:
    """Return a text of others so that a report can hold it."""
    if isinstance(text, RecursionError):
        text = "it is nested too deeply"
    line = " ".join(str(text).encode("utf-8", "backslashreplace").decode().split())
    return line if len(line) <= longest else line[:longest] + "…"
