"""The local stack as a whole: start it, stop it, see how it is. What each program is stands in `programs`."""

from __future__ import annotations

import contextlib
import fcntl
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from labels.errors import ServiceError
from sync.services import programs as local
from sync.services.console_login import make_console_login
from sync.services.phases import Event, States, bring_down, bring_up, end_orphans
from sync.services.ports import plan_ports
from sync.services.programs import Program, StackSettings
from sync.services.secrets import read_or_make_secret
from sync.services.stack_record import Addresses, ProcessRecord, StackRecord
from sync.services.supervisor import Supervisor
from sync.services.supervisord_files import (
    find_socket_path,
    get_log_path,
    remove_extra_programs,
    write_extra_program,
    write_files,
)
from sync.settings import Home

WATCH_S = 1.0
SECRETS = ("admin_password", "console_token", "webhook_secret", "ml_backend_password")

Plan = Callable[[Home, StackSettings, Mapping[str, int]], list[Program]]


@dataclass(frozen=True)
class ProcessStatus:
    """One program of the stack now; `pid` and `uptime_s` None: it does not run."""

    name: str
    state: str
    pid: int | None
    port: int
    uptime_s: float | None
    log: Path


def _ignore(_line: str) -> None:
    """Take no notice of an event."""


class Stack:
    """The programs of one home, kept alive by a supervisord of its own."""

    def __init__(self, home: Home, settings: StackSettings, *, plan: Plan = local.plan_programs) -> None:
        self._home = home
        self._settings = settings
        self._plan = plan
        self._started_here = False

    @property
    def started_here(self) -> bool:
        """Whether this object started the stack, and so should stop it; False when `start` found it running."""
        return self._started_here

    def start(self, on_event: Event = _ignore) -> Addresses:
        """Start what does not run yet, wait until all of it answers, and return the addresses.

        The second time nothing changes. When a program does not come up, or this process is told to end meanwhile,
        what this call started is stopped again.

        Raises:
            ServiceError: a program did not come up, with the last lines of its log; or MongoDB is not installed.
        """
        self._home.make()
        with self._locked(), ending_signals():
            for name in SECRETS:
                read_or_make_secret(self._home.secrets / name)
            make_console_login(self._home.secrets)
            supervisor = self._supervisor()
            if supervisor.is_running():
                programs = self._prepare(supervisor.fetch_states(), on_event)
                supervisor.load_programs()
                self._bring_up(supervisor, programs, on_event)
                return self._record_addresses(programs)
            self._forget_last_start(supervisor, on_event)
            programs = self._prepare({}, on_event)
            self._started_here = True
            try:
                supervisor.spawn()
                self._bring_up(supervisor, programs, on_event)
                return self._record_addresses(programs)
            except BaseException:
                if supervisor.is_running():
                    supervisor.shutdown()
                self._forget_last_start(supervisor, on_event)
                self._started_here = False
                raise

    @contextlib.contextmanager
    def running(self, on_event: Event = _ignore, *, stays_up: bool = False) -> Iterator[Addresses]:
        """Hold the stack up for as long as the block lasts, and stop it then, if it was started here.

        ``stays_up``: leave it up after a block that ends well. A block that fails stops it always; Ctrl-C and SIGTERM
        arrive in the block as KeyboardInterrupt.
        """
        is_done = False
        with ending_signals():
            try:
                yield self.start(on_event)
                is_done = True
            finally:
                if self._started_here and not (stays_up and is_done):
                    self.stop(on_event)

    def stop(self, on_event: Event = _ignore) -> bool:
        """Stop everything, mongod last; return whether anything ran. The second time nothing happens."""
        if not self._home.run.is_dir():
            return False
        with self._locked():
            supervisor = self._supervisor()
            self._started_here = False
            if not supervisor.is_running():
                return self._forget_last_start(supervisor, on_event)
            bring_down(supervisor, list(supervisor.fetch_states()), on_event=on_event)
            supervisor.shutdown()
            self._forget_last_start(supervisor, on_event)
            return True

    def status(self) -> list[ProcessStatus]:
        """Return every program of the running stack in the order of its names; empty when the stack does not run."""
        if not self._is_running():
            return []
        ports = StackRecord.read(self._home).ports
        return [
            ProcessStatus(
                name=name,
                state=state.state.lower(),
                pid=state.pid,
                port=ports[name],
                uptime_s=state.uptime_s,
                log=get_log_path(self._home, name),
            )
            for name, state in sorted(self._supervisor().fetch_states().items())
            if name in ports
        ]

    def is_running(self) -> bool:
        """Return whether the stack runs, also one that is not yet up."""
        return self._is_running()

    def addresses(self) -> Addresses | None:
        """Return where the running stack is, None when it does not run."""
        return StackRecord.read(self._home).addresses if self._is_running() else None

    def start_app(self, curator: str, on_event: Event = _ignore) -> str:
        """Start one more App server on the same database, for one more person; return its address, the same each time.

        It ends with the stack, and is not started again with the next one.

        Raises:
            ServiceError: the stack does not run, or the server did not come up.
        """
        name = local.to_app_name(curator)
        if not self._is_running():
            raise ServiceError("the stack does not run, start it first: labelloop up")
        with self._locked(), ending_signals():
            supervisor = self._supervisor()
            record = StackRecord.read(self._home)
            if record.addresses is None:
                raise ServiceError("the stack is not up, start it again: labelloop up")
            states = supervisor.fetch_states()
            if name in states and states[name].is_live:
                return record.addresses.curators[name]
            fixed = {known: port for known, port in record.ports.items() if known in states and known != name}
            ports = plan_ports({name: None}, last=record.ports, fixed=fixed).ports
            settings = replace(self._settings, database_uri=record.addresses.database_uri)
            app = local.plan_app(self._home, settings, ports, name=name)
            write_extra_program(self._home, app)
            supervisor.load_programs()
            self._bring_up(supervisor, [app], on_event)
            curators = {**record.addresses.curators, name: app.url}
            record = replace(StackRecord.read(self._home), addresses=replace(record.addresses, curators=curators))
            record.write(self._home)
            return app.url

    def wait(self, on_event: Event = _ignore) -> None:
        """Return when the stack was stopped from elsewhere, or when this process is told to end.

        That is Ctrl-C, SIGTERM or SIGHUP. A program that ended for good is told once.
        """
        supervisor = self._supervisor()
        told: set[str] = set()
        with contextlib.suppress(KeyboardInterrupt), ending_signals():
            while supervisor.is_running():
                with contextlib.suppress(ServiceError):
                    dead = {name for name, state in supervisor.fetch_states().items() if state.state == "FATAL"}
                    for name in sorted(dead - told):
                        on_event(
                            f"{name} ended and cannot be started again, the log is {get_log_path(self._home, name)}"
                        )
                    told |= dead
                time.sleep(WATCH_S)

    def _is_running(self) -> bool:
        return self._home.run.is_dir() and self._supervisor().is_running()

    def _prepare(self, states: States, on_event: Event) -> list[Program]:
        """Choose ports and write supervisord's files; what runs keeps its port and its settings."""
        record = StackRecord.read(self._home)
        live = {name for name, state in states.items() if state.is_live}
        preferred = {name: self._settings.ports[name] for name in local.list_program_names(self._settings)}
        fixed = {name: port for name, port in record.ports.items() if name in live}
        # The port of the last run is a choice of the last run: one that is asked for now comes before it.
        last = {name: port for name, port in record.ports.items() if record.wanted.get(name) == preferred.get(name)}
        planned = plan_ports(preferred, last=last, fixed=fixed)
        for note in planned.notes:
            on_event(note)
        programs = self._plan(self._home, self._settings, planned.ports)
        changed = write_files(self._home, programs, socket=find_socket_path(self._home), keep=live)
        if changed:
            names = ", ".join(changed)
            on_event(f"{names}: runs with other settings, to apply the new ones: labelloop down, then labelloop up")
        ports = {**record.ports, **{program.name: program.port for program in programs}}
        replace(record, ports=ports, wanted=preferred).write(self._home)
        return programs

    def _bring_up(self, supervisor: Supervisor, programs: Sequence[Program], on_event: Event) -> None:
        ports = {program.name: program.port for program in programs}
        manager = ProcessRecord.of(supervisor.fetch_pid())

        def keep_record(states: States) -> None:
            before = StackRecord.read(self._home)
            entries = {name: ProcessRecord.of(state.pid) for name, state in states.items() if state.pid is not None}
            processes = {name: entry for name, entry in entries.items() if entry is not None}
            after = replace(before, ports={**before.ports, **ports}, supervisor=manager, processes=processes)
            if after != before:
                after.write(self._home)

        bring_up(supervisor, programs, home=self._home, on_event=on_event, on_states=keep_record)

    def _record_addresses(self, programs: Sequence[Program]) -> Addresses:
        record = StackRecord.read(self._home)
        urls = {program.name: program.url for program in programs}
        addresses = Addresses(
            label_studio=urls[local.LABEL_STUDIO],
            ml_backend=urls[local.ML_BACKEND],
            console=urls[local.CONSOLE],
            app=urls[local.APP],
            database_uri=local.get_database_uri(self._settings, record.ports),
            curators={} if record.addresses is None else record.addresses.curators,
        )
        if addresses != record.addresses:
            replace(record, addresses=addresses).write(self._home)
        return addresses

    def _forget_last_start(self, supervisor: Supervisor, on_event: Event) -> bool:
        """Leave nothing of a stack that does not run but its ports; return whether processes had to be ended."""
        record = StackRecord.read(self._home)
        had_orphans = end_orphans(supervisor, record, on_event=on_event)
        remove_extra_programs(self._home)
        StackRecord(ports=record.ports, wanted=record.wanted).write(self._home)
        return had_orphans

    def _supervisor(self) -> Supervisor:
        return Supervisor(
            find_socket_path(self._home),
            folder=self._home.path,
            configuration=self._home.run / "supervisord.conf",
            messages=self._home.logs / "supervisord-start.log",
        )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Let one start or stop work at a time; the lock goes with the process that holds it."""
        with (self._home.run / "stack.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


@contextlib.contextmanager
def ending_signals() -> Iterator[None]:
    """Turn the signals that ask a program to end into KeyboardInterrupt, so that what it started is stopped in order.

    A signal that somebody has set aside, as nohup does, stays so. Outside the main thread nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    ours = [number for number, handler in before.items() if handler is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])
