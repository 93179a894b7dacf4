"""What every command that runs a job does round it: find the tools, show the progress, then the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from sync.settings import Home
from sync.terminal import show_report, watch_progress


def run_here(
    home: Home, name: str, params: Mapping[str, Any], *, retry_of: int | None = None, go_on: bool = False
) -> None:
    """Run a job in this process and show its report; leave with 1 where an item failed, unless another job follows.

    Raises:
        LabelingError: the job cannot be done.
    """
    from sync import startup
    from sync.runs.live_run import JobCancelledError

    services = startup.find_services(home)
    try:
        with watch_progress() as on_progress:
            report = startup.perform_job(home, services, name, params, on_progress, retry_of=retry_of)
    except JobCancelledError:
        raise click.ClickException(f"{name} was cancelled; start it again, it goes on from there") from None
    except KeyboardInterrupt:
        click.echo(f"\n{name} was stopped; start it again, it goes on from there", err=True)
        raise
    show_report(report)
    if report.failed and not go_on:
        raise click.exceptions.Exit(1)
