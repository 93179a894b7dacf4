"""The options by which a command of curation names its samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

Command = Callable[..., Any]


def sample_options(command: Command) -> Command:
    """Add ``--view`` and ``--sample``; without them a command is for the whole dataset."""
    for option in (
        click.option(
            "--sample",
            "sample_ids",
            multiple=True,
            help="Id of a sample, or the name of its file; may be given several times.",
        ),
        click.option("--view", help="Name of a saved view.  [default: the whole dataset]"),
    ):
        command = option(command)
    return command


def to_params(view: str | None, sample_ids: Sequence[str], **options: Any) -> dict[str, Any]:
    """Return a job's parameters; what was not given is left out.

    >>> to_params("night", [], model="resnet18", limit=None)
    {'view': 'night', 'model': 'resnet18'}
    """
    named = {"view": view, "sample_ids": list(sample_ids) or None}
    return {name: value for name, value in (named | options).items() if value is not None}
