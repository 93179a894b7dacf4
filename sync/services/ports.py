"""Which loopback ports the stack uses, and who listens on them."""

from __future__ import annotations

import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import psutil

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class PortPlan:
    """A port for each program, and a line for each one that could not have its usual port."""

    ports: Mapping[str, int]
    notes: tuple[str, ...]


def is_free(port: int) -> bool:
    """Return whether a server could listen on this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the servers do it: without this a port is refused for a minute after its last connection.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def find_free_port(*, avoid: Collection[int] = ()) -> int:
    """Return a loopback port nobody listens on, picked by the system."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind((LOOPBACK, 0))
            port = int(probe.getsockname()[1])
        if port not in avoid:
            return port


def plan_ports(preferred: Mapping[str, int | None], *, last: Mapping[str, int], fixed: Mapping[str, int]) -> PortPlan:
    """Choose a port for each program.

    `fixed` ports belong to programs that run already. The others get the port of their last run, else the preferred one
    (None = any), else a free one; a note says so when a program had to leave both.
    """
    chosen: dict[str, int] = dict(fixed)
    notes: list[str] = []
    for name, wanted in preferred.items():
        if name in fixed:
            continue
        candidates = [port for port in (last.get(name), wanted) if port is not None]
        usable = [port for port in candidates if port not in chosen.values() and is_free(port)]
        chosen[name] = usable[0] if usable else find_free_port(avoid=chosen.values())
        if candidates and not usable and wanted is not None:
            notes.append(f"port {candidates[0]} is taken by another program, {name} uses {chosen[name]}")
    return PortPlan(ports=chosen, notes=tuple(notes))


def is_listening(pid: int, port: int) -> bool:
    """Return whether this process, or one it started, listens on the port."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return False
    return any(port in _listening_ports(member) for member in family)


def _listening_ports(process: psutil.Process) -> set[int]:
    try:
        connections = process.net_connections(kind="tcp")
    except psutil.Error:
        return set()
    return {entry.laddr.port for entry in connections if entry.status == psutil.CONN_LISTEN and entry.laddr}
