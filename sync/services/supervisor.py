"""Talks to supervisord, starts it, and finds what a killed one left behind. Decides nothing about the programs."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import psutil
from supervisor.xmlrpc import SupervisorTransport

from labels.errors import ServiceError

START_TIMEOUT_S = 15.0
STEP_S = 0.05
# supervisord's own words; everything else counts as stopped.
LIVE_STATES = frozenset({"STARTING", "RUNNING", "BACKOFF", "STOPPING"})


@dataclass(frozen=True)
class ProgramState:
    """What supervisord knows of a program; `pid` None: not running."""

    name: str
    state: str
    pid: int | None
    uptime_s: float | None

    @property
    def is_live(self) -> bool:
        """Whether there is, or soon will be, a process."""
        return self.state in LIVE_STATES


class Supervisor:
    """supervisord behind its socket."""

    def __init__(self, socket: Path, *, folder: Path, configuration: Path, messages: Path) -> None:
        self._socket = socket
        self._folder = folder
        self._configuration = configuration
        self._messages = messages

    @property
    def server_url(self) -> str:
        """The address supervisord also writes into its programs' environment."""
        return f"unix://{self._socket}"

    def is_running(self) -> bool:
        """Return whether a supervisord answers on the socket."""
        try:
            self._call("getState")
        except ServiceError:
            return False
        return True

    def spawn(self) -> None:
        """Start supervisord in the background, in a session of its own: a Ctrl-C in our terminal reaches us alone.

        Raises:
            ServiceError: it ended at once, or does not answer.
        """
        self._socket.unlink(missing_ok=True)
        command = [sys.executable, "-P", "-m", "supervisor.supervisord", "-c", str(self._configuration)]
        with self._messages.open("wb") as messages:
            # It works in the home, to which the paths of its configuration are relative.
            ended = subprocess.run(
                command,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=messages,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if ended.returncode != 0:
            raise ServiceError(f"supervisord did not start, its messages are in {self._messages}")
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.is_running():
            if time.monotonic() > deadline:
                raise ServiceError(f"supervisord does not answer on {self._socket} after {START_TIMEOUT_S:.0f} s")
            time.sleep(STEP_S)

    def fetch_states(self) -> dict[str, ProgramState]:
        """Return the state of every program, by name."""
        found: list[dict[str, Any]] = self._call("getAllProcessInfo")
        return {
            item["name"]: ProgramState(
                name=item["name"],
                state=item["statename"],
                pid=item["pid"] or None,
                uptime_s=float(item["now"] - item["start"]) if item["pid"] else None,
            )
            for item in found
        }

    def fetch_pid(self) -> int:
        """Return supervisord's process id."""
        pid: int = self._call("getPID")
        return pid

    def load_programs(self) -> None:
        """Read the configuration again and take up the programs that are new in it; the others stay as they are."""
        ((added, _changed, _removed),) = self._call("reloadConfig")
        for name in added:
            self._call("addProcessGroup", name)

    def start_program(self, name: str) -> None:
        """Start a program and return at once."""
        self._call("startProcess", name, False)

    def stop_program(self, name: str) -> None:
        """Tell a program to stop and return at once; supervisord kills it when its time is over."""
        with contextlib.suppress(NotRunningError):
            self._call("stopProcess", name, False)

    def shutdown(self, *, timeout_s: float = 60.0) -> None:
        """End supervisord, and with it whatever still runs, mongod last."""
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.fetch_pid())
            self._call("shutdown")
            if wait_for_end([process], timeout_s=timeout_s):
                raise ServiceError(f"supervisord (process {process.pid}) does not end after {timeout_s:.0f} s")

    def _call(self, method: str, *arguments: object) -> Any:
        transport = SupervisorTransport(None, None, self.server_url)
        server = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
        try:
            return getattr(server.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            kind = NotRunningError if fault.faultCode == NOT_RUNNING else ServiceError
            raise kind(f"supervisord, {method} {' '.join(map(str, arguments))}: {fault.faultString}") from fault
        except (OSError, HTTPException, xmlrpc.client.Error) as error:
            raise ServiceError(f"supervisord does not answer on {self._socket} ({error})") from error
        finally:
            transport.close()


NOT_RUNNING = 70  # supervisor.xmlrpc.Faults.NOT_RUNNING


class NotRunningError(ServiceError):
    """A program was to be stopped that had ended already."""


def find_orphans(server_url: str, recorded: Iterable[tuple[int, float]]) -> list[psutil.Process]:
    """Return the processes of a stack whose supervisord is gone.

    They are the recorded ones (process id and time of creation, since ids are given away again), and those that carry
    this stack's supervisord in their environment: a program restarted since the record, or a process it started.
    """
    found = {process.pid: process for process in _recorded_processes(recorded)}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            is_ours = process.uids().real == os.getuid() and process.pid != os.getpid()
            if is_ours and process.environ().get("SUPERVISOR_SERVER_URL") == server_url:
                found[process.pid] = process
    return [found[pid] for pid in sorted(found) if _is_alive(found[pid])]


def _recorded_processes(recorded: Iterable[tuple[int, float]]) -> Iterator[psutil.Process]:
    for pid, created_s in recorded:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if abs(process.create_time() - created_s) < 1.0:
                yield process


def end_processes(processes: list[psutil.Process], *, timeout_s: float) -> None:
    """Ask processes to end, wait, and kill those that did not."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in wait_for_end(processes, timeout_s=timeout_s):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    wait_for_end(processes, timeout_s=timeout_s)


def wait_for_end(processes: list[psutil.Process], *, timeout_s: float) -> list[psutil.Process]:
    """Wait until processes have ended; return those that have not in time."""
    deadline = time.monotonic() + timeout_s
    alive = [process for process in processes if _is_alive(process)]
    while alive and time.monotonic() < deadline:
        time.sleep(STEP_S)
        alive = [process for process in alive if _is_alive(process)]
    return alive


def _is_alive(process: psutil.Process) -> bool:
    try:
        # A dead process keeps its id until its parent has asked for it, which not every container's first process does.
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
