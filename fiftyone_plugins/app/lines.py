"""Files of JSON lines that are only ever added to, by several processes, each of which may be killed."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


@contextmanager
def open_alone(file: Path) -> Iterator[BinaryIO]:
    """Open a file for adding, made where there is none; who else wants to add waits until it is closed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        stream.seek(0)
        yield stream


def add_lines(stream: BinaryIO, values: Iterable[Mapping[str, Any]]) -> None:
    """Add one line each; they are on the disk when this returns."""
    text = "".join(json.dumps(dict(one)) + "\n" for one in values).encode()
    if not text:
        return
    if stream.seek(0, os.SEEK_END) > 0:
        stream.seek(-1, os.SEEK_END)
        # A process that was killed may have left half a line: what follows it is not part of it.
        text = (b"" if stream.read(1) == b"\n" else b"\n") + text
    stream.write(text)
    stream.flush()
    os.fsync(stream.fileno())
