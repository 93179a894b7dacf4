"""Moves and copies people's files: never over another file, never losing one. Knows no FiftyOne."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path

from labels.errors import ItemError


def place_beside(source: Path, ending: str) -> Path:
    """Return the folder next to a file's own whose name has an ending more.

    >>> place_beside(Path("/photos/people/a.jpg"), "without person").as_posix()
    '/photos/people-without-person'
    """
    parent = source.parent
    return parent.with_name(f"{parent.name}-{to_name(ending)}") if parent.name else parent / to_name(ending)


def to_name(text: str) -> str:
    """Return a text as the name of a folder.

    >>> to_name("without person/rider")
    'without-person-rider'
    """
    return re.sub(r"[^\w.]+", "-", text).strip("-.") or "others"


def find_free(folder: Path, source: Path, *, for_copy: bool) -> Path:
    """Return a name in a folder that no file has: the file's own, or with a number behind it.

    A second name of the source counts as free (a move that was killed), for a copy a file with all its bytes too: it
    is what is wanted.
    """
    number = 1
    while True:
        target = folder / (source.name if number == 1 else f"{source.stem}-{number}{source.suffix}")
        if not os.path.lexists(target) or is_one(source, target) or (for_copy and is_same(source, target)):
            return target
        number += 1


def is_one(one: Path, other: Path) -> bool:
    """Return whether two names are of one file, and neither is a link."""
    is_plain = one.is_file() and other.is_file() and not other.is_symlink()
    return is_plain and one.samefile(other)


def is_same(one: Path, other: Path) -> bool:
    """Return whether two files are one, or have the same bytes."""
    if not (one.is_file() and other.is_file()) or other.is_symlink():
        return False
    if one.samefile(other):
        return True
    return one.stat().st_size == other.stat().st_size and read_sha256(one) == read_sha256(other)


def read_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_movable(path: Path) -> None:
    """Refuse what is no plain file of its own.

    Raises:
        ItemError: it is not there, or a link: to move it would break what it points to, or leave that where it is.
    """
    if path.is_symlink():
        raise ItemError(str(path), "is a link, which is not moved; retag it, or copy it")
    if not path.is_file():
        raise ItemError(str(path), "is no file any more")


def move_file(source: Path, target: Path) -> None:
    """Move a file to a free name; killed at any moment, it is at one place or at both, never at none.

    Raises:
        ItemError: there is another file, or the folder cannot be written to.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not is_one(source, target):
            _link(source, target)
        source.unlink()
    except OSError as error:
        raise ItemError(str(source), f"cannot be moved to {target} ({error.strerror or error})") from error


def copy_file(source: Path, target: Path) -> None:
    """Copy a file to a free name, whole or not at all; a target with the same bytes is left as it is.

    Raises:
        ItemError: there is another file, or the folder cannot be written to.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not is_same(source, target):
            _copy_exclusively(source, target)
    except OSError as error:
        raise ItemError(str(source), f"cannot be copied to {target} ({error.strerror or error})") from error


def _link(source: Path, target: Path) -> None:
    """Give a file a second name, which must be free: unlike a renaming, this never writes over anything."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):
            raise
        # Another disk, or one whose files have one name each.
        _copy_exclusively(source, target)
        if read_sha256(source) != read_sha256(target):
            target.unlink()
            raise OSError(errno.EIO, "the copy differs from the file") from error


def _copy_exclusively(source: Path, target: Path) -> None:
    descriptor, name = tempfile.mkstemp(prefix=".labelloop-", suffix=".part", dir=target.parent)
    part = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream, source.open("rb") as content:
            shutil.copyfileobj(content, stream)
            stream.flush()
            os.fsync(stream.fileno())
        shutil.copystat(source, part)
        try:
            os.link(part, target)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP):
                raise
            # Without second names: the target is made empty, which fails where there is one, and then replaced.
            target.touch(exist_ok=False)
            part.replace(target)
    finally:
        part.unlink(missing_ok=True)
