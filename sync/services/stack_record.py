"""run/stack.json: what the stack looked like when it was last started; for the next start, `down` and `status`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import psutil

from labels.errors import ServiceError
from sync.services.supervisord_files import write_private
from sync.settings import Home


@dataclass(frozen=True)
class ProcessRecord:
    """A process id with its time of creation, since ids are given away again."""

    pid: int
    created_s: float

    @classmethod
    def of(cls, pid: int) -> ProcessRecord | None:
        """Return the record of a process, None when it has ended."""
        try:
            return cls(pid=pid, created_s=psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            return None


@dataclass(frozen=True)
class Addresses:
    """Where the programs of the running stack are; `curators` maps the name of an extra App server to its address."""

    label_studio: str
    ml_backend: str
    console: str
    app: str
    database_uri: str
    curators: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StackRecord:
    """One start of the stack. `ports`, and the `wanted` ones, outlive it; `supervisor` None: stopped in order."""

    ports: Mapping[str, int] = field(default_factory=dict)
    wanted: Mapping[str, int | None] = field(default_factory=dict)
    supervisor: ProcessRecord | None = None
    processes: Mapping[str, ProcessRecord] = field(default_factory=dict)
    addresses: Addresses | None = None

    def write(self, home: Home) -> None:
        """Replace the record in the home; it names no secret, but the database's address may hold one."""
        write_private(home.run / "stack.json", json.dumps(asdict(self), indent=1, sort_keys=True) + "\n")

    @classmethod
    def read(cls, home: Home) -> StackRecord:
        """Return the record in the home, an empty one where there is none.

        Raises:
            ServiceError: the file is damaged.
        """
        path = home.run / "stack.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                ports=found["ports"],
                wanted=found.get("wanted", {}),
                supervisor=None if found["supervisor"] is None else ProcessRecord(**found["supervisor"]),
                processes={name: ProcessRecord(**entry) for name, entry in found["processes"].items()},
                addresses=None if found["addresses"] is None else Addresses(**found["addresses"]),
            )
        except FileNotFoundError:
            return cls()
        except (ValueError, KeyError, TypeError) as error:
            raise ServiceError(f"{path}: is damaged ({error}), remove it and start again") from error
