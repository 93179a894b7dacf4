"""Runs a job for the App or for Python: in the console, or in this process where work may run without one."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from fiftyone.operators import types

from fiftyone_plugins.app.console import Console
from fiftyone_plugins.app.forms import FORM_TIMEOUT_S, check_dataset
from fiftyone_plugins.app.markdown import report_to_markdown
from fiftyone_plugins.app.work import Tools, find_work, select_samples
from labels.errors import LabelingError
from labels.report import OnProgress, Report

POLL_INTERVAL_S = 0.5


def run_for_python(dataset: str, job: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Run a job to its end, for Python, and return its report."""
    console = Console.from_environ(os.environ)
    check_dataset(console.fetch_status(), dataset)
    return dict(console.run_to_end(job, params).report or {})


def run_in_app(ctx: Any, job: str, params: Mapping[str, Any]) -> Iterator[Any]:
    """Run a job, yielding what the App is to show: progress, then the report, and the samples as they are now."""
    try:
        console = Console.from_environ(os.environ)
        check_dataset(console.fetch_status(), ctx.dataset.name)
        for current in console.run(job, params):
            if current.is_over:
                # That a person cancelled it is no failure.
                has_failed = current.has_failed and current.state != "cancelled"
                yield from _show_end(ctx, current.lines, has_failed=has_failed, is_clean=current.is_clean)
            else:
                yield ctx.ops.set_progress(label=current.message or current.state, progress=current.progress or 0.0)
    except LabelingError as error:
        yield from _show_error(ctx, error)


def has_console(dataset: str) -> bool:
    """Return whether a console that serves this dataset answers."""
    try:
        check_dataset(Console.from_environ(os.environ).fetch_status(FORM_TIMEOUT_S), dataset)
    except LabelingError:
        return False
    return True


def run_work_in_app(ctx: Any, job: str, params: Mapping[str, Any]) -> Iterator[Any]:
    """Run a plugin's work as the console's job; in this process where no console serves the dataset."""
    if has_console(ctx.dataset.name):
        yield from run_in_app(ctx, job, params)
        return
    try:
        report = yield from _watch(ctx, job, params)
    except LabelingError as error:
        yield from _show_error(ctx, error)
    else:
        yield from _show_end(ctx, list(report.lines()), has_failed=False, is_clean=report.is_clean)


def run_work_for_python(dataset: Any, job: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Run a plugin's work for Python and return its report: in the console, else in this process.

    Raises:
        LabelingError: the work cannot be done.
    """
    if has_console(dataset.name):
        report = run_for_python(dataset.name, job, params)
    else:
        report = _perform(dataset, job, params, lambda _done, _message: None).to_dict()
    dataset.reload()
    return report


def find_curation_folder(environ: Mapping[str, str]) -> Path:
    """Return where plugins keep their files: ``curation`` in the state folder."""
    return Path(environ.get("LABELLOOP_HOME") or ".labelloop").absolute() / "curation"


def _perform(dataset: Any, job: str, params: Mapping[str, Any], on_progress: OnProgress) -> Report:
    tools = Tools(find_curation_folder(os.environ), on_progress)
    # A command, in another process, may have added fields and views.
    dataset.reload()
    return find_work(job).perform(select_samples(dataset, params), params, tools)


def _watch(ctx: Any, job: str, params: Mapping[str, Any]) -> Generator[Any, None, Report]:
    """Run work in a thread, yielding its progress; returns its report."""
    told: SimpleQueue[tuple[float | None, str]] = SimpleQueue()
    with ThreadPoolExecutor(1, thread_name_prefix=job) as pool:
        running: Future[Report] = pool.submit(
            _perform, ctx.dataset, job, params, lambda done, message: told.put((done, message))
        )
        while not running.done():
            try:
                done, message = told.get(timeout=POLL_INTERVAL_S)
            except Empty:
                continue
            yield ctx.ops.set_progress(label=message, progress=done or 0.0)
        return running.result()


def _show_error(ctx: Any, error: LabelingError) -> Iterator[Any]:
    yield _show_lines(ctx, types.Error, [str(error)])
    yield ctx.ops.notify(str(error), variant="error")


def _show_end(ctx: Any, lines: Sequence[str], *, has_failed: bool, is_clean: bool) -> Iterator[Any]:
    view = types.Error if has_failed else types.Success if is_clean else types.Warning
    yield _show_lines(ctx, view, lines)
    yield ctx.ops.notify(lines[0], variant=view.__name__.lower())
    yield ctx.ops.reload_dataset()


def _show_lines(ctx: Any, view: type[types.View], lines: Sequence[str]) -> Any:
    """Show a report: its first line in a box that says how it went, the others as a list."""
    outputs = types.Object()
    outputs.view("summary", view(label=lines[0]))
    if len(lines) > 1:
        outputs.md(report_to_markdown(lines[1:]), name="details")
    return ctx.ops.show_output(types.Property(outputs).to_json(), {})
