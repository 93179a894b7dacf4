"""What the command line shows: progress, reports and addresses, for a person on a terminal or for a log."""

from __future__ import annotations

import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Final

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from labels.report import OnProgress, Report
from sync.settings import Home

if TYPE_CHECKING:
    from sync.startup import Started

NUMBERS: Final = re.compile(r"\d+")
LINE_INTERVAL_S: Final = 10.0


@contextmanager
def watch_progress() -> Iterator[OnProgress]:
    """Give the block a listener: a live bar on a terminal, otherwise a plain line for each step and every 10 s.

    Who was asked to stop is stopped by the listener at its next step, if by nothing before.
    """
    with _heed_signals() as heed, _draw_progress() as draw:

        def on_progress(done: float | None, message: str) -> None:
            heed()
            draw(done, message)

        yield on_progress


@contextmanager
def _heed_signals() -> Iterator[Callable[[], None]]:
    """Give the block what raises KeyboardInterrupt again: Python drops one that comes while it runs a finalizer."""
    was_asked = threading.Event()

    def interrupt(signum: int, frame: FrameType | None) -> None:
        was_asked.set()
        signal.default_int_handler(signum, frame)

    def heed() -> None:
        if was_asked.is_set():
            raise KeyboardInterrupt

    is_main = threading.current_thread() is threading.main_thread()
    asking = [one for one in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(one) is signal.default_int_handler]
    for one in asking if is_main else ():
        signal.signal(one, interrupt)
    try:
        yield heed
    finally:
        for one in asking if is_main else ():
            signal.signal(one, signal.default_int_handler)


@contextmanager
def _draw_progress() -> Iterator[OnProgress]:
    if not sys.stderr.isatty():
        yield _LineWriter()
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        line = bar.add_task("starting", total=1)

        def on_progress(done: float | None, message: str) -> None:
            if done is None:
                bar.update(line, description=message)
            else:
                bar.update(line, description=message, completed=done)

        yield on_progress


class _LineWriter:
    """Writes a line when something else is being done, and now and then how far that is."""

    def __init__(self) -> None:
        self._last = ""
        self._next_s = 0.0

    def __call__(self, _done: float | None, message: str) -> None:
        doing = NUMBERS.sub("", message)
        if doing != self._last or time.monotonic() >= self._next_s:
            click.echo(message, err=True)
            self._last = doing
            self._next_s = time.monotonic() + LINE_INTERVAL_S


def show_event(line: str) -> None:
    """Show one step of a start or stop."""
    click.echo(line, err=True)


def show_report(report: Report) -> None:
    """Show what a job did."""
    for line in report.lines():
        click.echo(line)


def show_addresses(home: Home, started: Started) -> None:
    """Show where to click, and the login. The password is shown to a person, never written to a log."""
    password_file = home.secrets / "admin_password"
    password = password_file.read_text(encoding="utf-8").strip() if sys.stdout.isatty() else f"in {password_file}"
    click.echo("")
    click.echo(f"  Label Studio   {started.tasks_url}")
    click.echo(f"                 login {started.admin_email}, password {password}")
    click.echo(f"  FiftyOne App   {started.addresses.app}/datasets/{started.project.name}")
    click.echo(f"  Console        {started.addresses.console}")
    click.echo("                 the same password, or the one set with: labelloop password")
    click.echo(f"  Model          {started.weights.model_version}, from: {started.weights.source}")
    click.echo("")
