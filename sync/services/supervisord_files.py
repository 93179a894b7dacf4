"""The files supervisord and our programs start from: supervisord.conf and programs.json. Writes them, runs nothing."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import stat
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labels.errors import ServiceError
from sync.services.programs import Program
from sync.settings import Home

# A socket's path may have about 104 bytes; supervisord appends its process id while it makes it.
LONGEST_SOCKET_PATH = 90
LOG_BYTES = 10_000_000
LOG_BACKUPS = 3
EXTRA_PROGRAMS = "extra"
PROGRAMS = "programs.json"
# Names of folders in the home.
RUN = "run"
LOGS = "logs"


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, in one step."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)


def find_socket_path(home: Home) -> Path:
    """Return where supervisord listens: in the home, or in a private temporary folder when the home's path is too long.

    Raises:
        ServiceError: the temporary folder belongs to somebody else.
    """
    usual = home.run / "supervisor.sock"
    if len(os.fsencode(usual)) <= LONGEST_SOCKET_PATH:
        return usual
    digest = hashlib.sha256(os.fsencode(home.path)).hexdigest()[:16]
    places = [Path(tempfile.gettempdir()), Path("/tmp")]  # noqa: S108  the folder made below is private
    names = [place / f"labelloop-{os.getuid()}-{digest}" / "supervisor.sock" for place in places]
    path = next((name for name in names if len(os.fsencode(name)) <= LONGEST_SOCKET_PATH), names[-1])
    _make_private_folder(path.parent)
    return path


def _make_private_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    # Whoever owns the folder could put a socket of their own there and be sent our commands.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) != 0o700:
        raise ServiceError(
            f"{folder}: should be a folder of yours with mode 700, remove it or use a shorter LABELLOOP_HOME"
        )


def render_configuration(programs: Sequence[Program], *, socket: Path) -> str:
    """Return the text of supervisord.conf, for a supervisord that works in the home.

    The paths are relative to it: the format has no way to write every path, and expands some values twice.
    """
    head = _render_section(
        "supervisord",
        logfile=f"{LOGS}/supervisord.log",
        logfile_maxbytes=LOG_BYTES,
        logfile_backups=LOG_BACKUPS,
        pidfile=f"{RUN}/supervisord.pid",
        childlogdir=LOGS,
        umask="077",
    )
    file = f"{RUN}/{socket.name}" if socket.parent.name == RUN else _escape(str(socket))
    control = _render_section("unix_http_server", file=file, chmod="0700")
    interface = _render_section(
        "rpcinterface:supervisor",
        **{"supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"},
    )
    extra = _render_section("include", files=f"{EXTRA_PROGRAMS}/*.conf")
    return "\n".join([head, control, interface, extra, *(_render_program(program) for program in programs)])


def _render_program(program: Program) -> str:
    launch = [os.path.abspath(sys.executable), "-P", "-m", "sync.services.launch", f"{RUN}/{PROGRAMS}", program.name]
    return _render_section(
        f"program:{program.name}",
        command=_escape(shlex.join(launch)),
        priority=program.priority,
        autostart="false",
        # A server that ends by itself, even with exit code 0, has not done its work.
        autorestart="true",
        startsecs=3,
        startretries=3,
        stopwaitsecs=program.stop_timeout_s,
        stopasgroup="true",
        killasgroup="true",
        redirect_stderr="true",
        stdout_logfile=f"{LOGS}/{program.name}.log",
        stdout_logfile_maxbytes=LOG_BYTES,
        stdout_logfile_backups=LOG_BACKUPS,
    )


def _render_section(title: str, **values: object) -> str:
    return "\n".join([f"[{title}]", *(f"{key}={value}" for key, value in values.items()), ""])


def _escape(text: str) -> str:
    return text.replace("%", "%%")


def get_log_path(home: Home, name: str) -> Path:
    """Return where a program's output goes."""
    return home.logs / f"{name}.log"


def get_programs_path(home: Home) -> Path:
    """Return the file the programs start from."""
    return home.run / PROGRAMS


def to_entry(program: Program) -> dict[str, Any]:
    """Return what `launch` needs to know of a program, as JSON."""
    return {
        "argv": list(program.argv),
        "environment": dict(program.environment),
        "secret_environment": dict(program.secret_environment),
    }


def read_entries(home: Home) -> dict[str, dict[str, Any]]:
    """Return the entries of the last start, empty when there was none."""
    try:
        entries: dict[str, dict[str, Any]] = json.loads(get_programs_path(home).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return entries


def write_files(home: Home, programs: Sequence[Program], *, socket: Path, keep: set[str]) -> tuple[str, ...]:
    """Write both files; return the names in `keep` whose entry would have changed.

    The programs in `keep` run: their entries stay, or a restart after a crash would bring up something else than ran.
    """
    old = read_entries(home)
    new = {program.name: to_entry(program) for program in programs}
    kept = {name: entry for name, entry in old.items() if name in keep}
    _write_entries(home, {**new, **kept})
    write_private(home.run / "supervisord.conf", render_configuration(programs, socket=socket))
    return tuple(name for name, entry in new.items() if name in kept and kept[name] != entry)


def write_extra_program(home: Home, program: Program) -> None:
    """Add one program to a running stack's files, beside the ones it was started with."""
    folder = home.run / EXTRA_PROGRAMS
    folder.mkdir(mode=0o700, exist_ok=True)
    _write_entries(home, {**read_entries(home), program.name: to_entry(program)})
    write_private(folder / f"{program.name}.conf", _render_program(program))


def remove_extra_programs(home: Home) -> None:
    """Forget the programs that were added to the last stack."""
    for file in (home.run / EXTRA_PROGRAMS).glob("*.conf"):
        file.unlink()


def _write_entries(home: Home, entries: dict[str, dict[str, Any]]) -> None:
    write_private(get_programs_path(home), json.dumps(entries, indent=1, sort_keys=True) + "\n")
