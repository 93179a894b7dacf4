"""Bringing programs up and down in order, over a supervisord that runs; and ending what a killed one left behind."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence

import psutil

from sync.services.health import Watch
from sync.services.programs import MONGOD, Program
from sync.services.stack_record import StackRecord
from sync.services.supervisor import ProgramState, Supervisor, end_processes, find_orphans
from sync.services.supervisord_files import get_log_path
from sync.settings import Home

POLL_S = 0.1
ORPHAN_TIMEOUT_S = 10.0
MANAGER_TIMEOUT_S = 60.0

Event = Callable[[str], None]
States = Mapping[str, ProgramState]


def bring_up(
    supervisor: Supervisor,
    programs: Sequence[Program],
    *,
    home: Home,
    on_event: Event,
    on_states: Callable[[States], None],
) -> None:
    """Start the programs that do not run, each one as soon as those it needs are up, and wait until all of them answer.

    `on_states` hears what runs after every look. What this call started is stopped again when one of it fails.

    Raises:
        ServiceError: a program did not come up.
    """
    states = supervisor.fetch_states()
    waiting = [program for program in programs if not states[program.name].is_live]
    watches = [_watch(program, home) for program in programs if program not in waiting]
    begun: list[str] = []
    up: set[str] = set()
    begun_s = time.monotonic()
    try:
        while waiting or watches:
            for program in [item for item in waiting if up.issuperset(item.needs)]:
                waiting.remove(program)
                watches.append(_watch(program, home))
                begun.append(program.name)
                supervisor.start_program(program.name)
            states = supervisor.fetch_states()
            on_states(states)
            for watch in [item for item in watches if item.is_up(states[item.program.name])]:
                watches.remove(watch)
                up.add(watch.program.name)
                if watch.program.name in begun:
                    on_event(f"{watch.program.name} is up ({time.monotonic() - begun_s:.1f} s)")
            time.sleep(POLL_S)
    except BaseException:
        bring_down(supervisor, begun, on_event=on_event)
        raise


def _watch(program: Program, home: Home) -> Watch:
    return Watch.begin(program, get_log_path(home, program.name))


def bring_down(supervisor: Supervisor, names: Sequence[str], *, on_event: Event) -> None:
    """Stop the servers among these side by side, and mongod when they are gone."""
    for group in ([name for name in names if name != MONGOD], [name for name in names if name == MONGOD]):
        states = supervisor.fetch_states()
        live = [name for name in sorted(group) if states[name].is_live]
        for name in live:
            supervisor.stop_program(name)
        while any(state.is_live for name, state in supervisor.fetch_states().items() if name in live):
            time.sleep(POLL_S)
        for name in live:
            on_event(f"{name} is stopped")


def end_orphans(supervisor: Supervisor, record: StackRecord, *, on_event: Event) -> bool:
    """End what a killed supervisord left behind, or one that lost its socket; return whether there was anything."""
    known = [*record.processes.values(), *([record.supervisor] if record.supervisor is not None else [])]
    orphans = find_orphans(supervisor.server_url, [(entry.pid, entry.created_s) for entry in known])
    if not orphans:
        return False
    on_event(f"ending {len(orphans)} processes of a stack that was not stopped in order")
    # supervisord first, if it is there: it would start again what is ended here. It ends its own programs in order.
    manager = [process for process in orphans if record.supervisor is not None and process.pid == record.supervisor.pid]
    end_processes(manager, timeout_s=MANAGER_TIMEOUT_S)
    database = [process for process in orphans if _is_mongod(process)]
    end_processes([process for process in orphans if process not in (*manager, *database)], timeout_s=ORPHAN_TIMEOUT_S)
    end_processes(database, timeout_s=MANAGER_TIMEOUT_S)
    return True


def _is_mongod(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.environ().get("SUPERVISOR_PROCESS_NAME") == MONGOD
    return False
