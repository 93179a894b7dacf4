"""Secrets as files: made once, readable by their owner alone, never logged.

Nothing here knows what a secret is for; the paths come from the caller.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from labels.errors import ServiceError

SECRET_BYTES = 32


def read_secret(path: Path) -> str | None:
    """Return the secret in a file, or None where there is no such file.

    Raises:
        ServiceError: the file is there and empty, or cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ServiceError(
            f"{path}: cannot be read ({error.strerror}), it should belong to you with mode 600"
        ) from error
    if text == "":
        raise ServiceError(f"{path}: is empty, put the secret there or remove the file to have a new one made")
    return text


def write_secret(path: Path, value: str) -> None:
    """Write a secret with mode 600 in place of what was there; a reader sees the old one or the new one, never half."""
    draft = _write_draft(path, value)
    draft.replace(path)


def read_or_make_secret(path: Path) -> str:
    """Return the secret in a file, making it when there is none; two callers at once get the same one."""
    existing = read_secret(path)
    if existing is not None:
        return existing
    draft = _write_draft(path, secrets.token_urlsafe(SECRET_BYTES))
    try:
        # A link fails where the name is taken, which a rename would overwrite: the first one to come stays.
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
    made = read_secret(path)
    if made is None:
        raise ServiceError(f"{path}: vanished while it was being made")
    return made


def _write_draft(path: Path, value: str) -> Path:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    # The mode is given at creation: a chmod afterwards would leave a moment in which others can read it.
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(value + "\n")
        file.flush()
        os.fsync(file.fileno())
    return draft
