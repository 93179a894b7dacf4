"""What every operator here does round its job: its button, its form's problems, its progress and its report."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_plugins.review.app_text import report_to_markdown
from fiftyone_plugins.review.console import Console, Job
from labels.errors import LabelingError, ServiceError

# The form is asked for on every change: it may not wait long for a console that hangs.
FORM_TIMEOUT_S = 3.0


def place_button(config: foo.OperatorConfig, *, prompt: bool = True) -> types.Placement:
    """Return a place among the grid's actions."""
    button = types.Button(label=config.label, icon=config.icon, prompt=prompt)
    return types.Placement(types.Places.SAMPLES_GRID_SECONDARY_ACTIONS, button)


def find_problem(dataset: Any | None) -> str | None:
    """Return why no job can be started for a dataset, or None; no dataset is open where it is None."""
    if dataset is None:
        return "No dataset is open: open one first."
    try:
        check_dataset(Console.from_environ(os.environ).fetch_status(FORM_TIMEOUT_S), dataset.name)
    except LabelingError as error:
        return str(error)
    return None


def check_dataset(status: Mapping[str, Any], dataset: str) -> None:
    """Refuse a dataset that the console does not serve.

    Raises:
        ServiceError: it serves another one.
    """
    served = status.get("dataset")
    if served is not None and served != dataset:
        raise ServiceError(f"labelloop's console serves the dataset '{served}', not '{dataset}': open that one")


def add_problem(inputs: types.Object, problem: str | None) -> None:
    """Show a problem in a form, which then cannot be executed."""
    if problem is not None:
        shown = inputs.view("problem", types.Error(label=problem))
        shown.invalid = True
        shown.error_message = problem


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
                yield from _show_end(ctx, current)
            else:
                yield ctx.ops.set_progress(label=current.message or current.state, progress=current.progress or 0.0)
    except LabelingError as error:
        yield _show_lines(ctx, types.Error, [str(error)])
        yield ctx.ops.notify(str(error), variant="error")


def _show_end(ctx: Any, job: Job) -> Iterator[Any]:
    view = types.Error if job.has_failed else types.Success if job.is_clean else types.Warning
    yield _show_lines(ctx, view, job.lines)
    yield ctx.ops.notify(job.lines[0], variant=view.__name__.lower())
    yield ctx.ops.reload_dataset()


def _show_lines(ctx: Any, view: type[types.View], lines: Sequence[str]) -> Any:
    """Show a report: its first line in a box that says how it went, the others as a list."""
    outputs = types.Object()
    outputs.view("summary", view(label=lines[0]))
    if len(lines) > 1:
        outputs.md(report_to_markdown(lines[1:]), name="details")
    return ctx.ops.show_output(types.Property(outputs).to_json(), {})
