"""The commands that look at runs of jobs, cancel them and start them again."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import click

from labels.errors import LabelingError
from sync.cli.running import run_here
from sync.settings import Home

if TYPE_CHECKING:
    from sync.ledger import Ledger, Run


@click.command()
@click.option("--count", type=click.IntRange(1, 1000), default=20, help="How many of the last runs.")
@click.option("--run", "run_id", type=int, help="Show all that is known of this one.")
@click.pass_obj
def runs(home: Home, count: int, run_id: int | None) -> None:
    """List the last runs of jobs, newest first: who started them, how far they are, how they ended.

    Example: labelloop runs --count 5
    """
    with _open_ledger(home) as ledger:
        if run_id is not None:
            _show_run(_find(ledger, run_id))
            return
        found = ledger.runs(count)
    for run in found:
        click.echo(_to_line(run))
    if not found:
        click.echo("no job has run yet")


@click.command()
@click.argument("run", type=int)
@click.pass_obj
def cancel(home: Home, run: int) -> None:
    """End the run of that number: at once where it waits, at its next step where it works; what it did stays.

    Example: labelloop cancel 17
    """
    with _open_ledger(home) as ledger:
        before = _find(ledger, run)
        ledger.record_cancel(run)
        found = _find(ledger, run)
    # A run whose process was killed reads as interrupted, and is cancelled so that nothing starts it again.
    if before.is_over and found.state == before.state:
        click.echo(f"run {run} was over already ({found.state}); there was nothing to cancel")
    else:
        click.echo(f"run {run} ends at its next step" if not found.is_over else f"run {run}: {found.state}")


@click.command()
@click.argument("run", type=int)
@click.option("--failed", "only_failed", is_flag=True, help="Only for the samples that failed in it.")
@click.pass_obj
def retry(home: Home, run: int, only_failed: bool) -> None:
    """Start the job of a run again, with what it was started with.

    Example: labelloop retry 17 --failed
    """
    with _open_ledger(home) as ledger:
        job, params = ledger.retry_params(run, only_failed=only_failed)
    run_here(home, job, params, retry_of=run)


def _open_ledger(home: Home) -> Ledger:
    if not home.ledger.exists():
        raise LabelingError(f"{home.path}: no job has run yet, start with: labelloop up --images DIR")
    from sync.ledger import Ledger

    return Ledger.open(home.ledger)


def _find(ledger: Ledger, run_id: int) -> Run:
    found = ledger.run(run_id)
    if found is None:
        raise LabelingError(f"run {run_id} is not known; see: labelloop runs")
    return found


def _to_line(run: Run) -> str:
    """Return a run as one line: number, time, who, state, and what is known of it."""
    told = run.error or run.summary or run.message
    if run.state == "running" and run.progress is not None:
        told = f"{run.progress:.0%} {told}"
    told = told if told.startswith(run.job) else f"{run.job}: {told}"
    return f"{run.id:5}  {_to_local(run.created_at)}  {run.started_by or '-':8}  {run.state:11}  {told}".rstrip()


def _show_run(run: Run) -> None:
    click.echo(_to_line(run))
    for name, value in run.params.items():
        click.echo(f"  {name}: {value}")
    if run.attempt > 1:
        click.echo(f"  attempt {run.attempt}")
    if run.retry_of is not None:
        click.echo(f"  in place of run {run.retry_of}")
    for line in (run.report or {}).get("lines", ())[1:]:
        click.echo(line)
    if run.can_retry_failed:
        click.echo(f"  again for the failed samples: labelloop retry {run.id} --failed")


def _to_local(time: str) -> str:
    return f"{datetime.fromisoformat(time).astimezone():%Y-%m-%d %H:%M}"
