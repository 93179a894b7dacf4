"""Whether a started program is up: its port answers, the port is its own, its process is the one that was started."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

import requests

from labels.errors import ServiceError
from sync.services.ports import LOOPBACK, is_listening
from sync.services.programs import Program
from sync.services.supervisor import ProgramState

ANSWER_TIMEOUT_S = 2.0
TAIL_LINES = 12
TAIL_BYTES = 20_000


def is_answering(program: Program) -> bool:
    """Return whether a server answers on the program's port: over HTTP with a status below 500, or by a connection."""
    if program.health_path is None:
        return _is_connectable(program.port)
    with requests.Session() as session:
        # A proxy of this shell must not answer for a server of this machine.
        session.trust_env = False
        try:
            answer = session.get(program.url + program.health_path, timeout=ANSWER_TIMEOUT_S, allow_redirects=False)
        except requests.RequestException:
            return False
    return answer.status_code < 500


def _is_connectable(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(ANSWER_TIMEOUT_S)
        return probe.connect_ex((LOOPBACK, port)) == 0


@dataclass
class Watch:
    """Follows one program from its start until it is up."""

    program: Program
    log: Path
    log_start: int
    deadline: float
    pid: int | None = None

    @classmethod
    def begin(cls, program: Program, log: Path) -> Watch:
        """Return a watch on a program that is started now."""
        size = log.stat().st_size if log.exists() else 0
        return cls(program=program, log=log, log_start=size, deadline=time.monotonic() + program.start_timeout_s)

    def is_up(self, state: ProgramState) -> bool:
        """Return whether the program is up; False: not yet.

        Raises:
            ServiceError: it ended, took too long, or somebody else answers on its port. The message names the log file
                and holds its last lines.
        """
        if self.pid is None:
            self.pid = state.pid
        if not state.is_live or state.state == "BACKOFF" or state.pid != self.pid:
            raise ServiceError(self._describe("ended while it started"))
        if self.pid is not None and is_answering(self.program):
            if is_listening(self.pid, self.program.port):
                return True
            taken = f"came too late for port {self.program.port}, another program answers there"
            raise ServiceError(self._describe(f"{taken}; run the same command again, it finds another port"))
        if time.monotonic() > self.deadline:
            raise ServiceError(self._describe(f"is not up after {self.program.start_timeout_s:.0f} s"))
        return False

    def _describe(self, problem: str) -> str:
        tail = read_tail(self.log, start=self.log_start)
        lines = "".join(f"\n  | {line}" for line in tail) or " (which is empty)"
        return f"{self.program.name} {problem}; the log is {self.log}{lines}"


def read_tail(log: Path, *, start: int = 0) -> list[str]:
    """Return a log's last lines from byte `start` on, of all of it if it was rotated; empty where there is none."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            begin = start if start <= size else 0
            file.seek(max(begin, size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()][-TAIL_LINES:]
