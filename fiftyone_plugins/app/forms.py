"""The parts of a form that operators share: the button, the choice of samples, what is to be known, what is wrong."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_plugins.app.console import Console
from fiftyone_plugins.app.targets import Target
from labels.errors import LabelingError, ServiceError

TARGET = "target"
# The form is asked for on every change: it may not wait long for a console that hangs.
FORM_TIMEOUT_S = 3.0


def place_button(config: foo.OperatorConfig, *, prompt: bool = True) -> types.Placement:
    """Return a place among the grid's actions."""
    button = types.Button(label=config.label, icon=config.icon, prompt=prompt)
    return types.Placement(types.Places.SAMPLES_GRID_SECONDARY_ACTIONS, button)


def add_problem(inputs: types.Object, problem: str | None) -> None:
    """Show a problem in a form, which then cannot be executed."""
    if problem is not None:
        told = to_sentence(problem)
        shown = inputs.view("problem", types.Error(label=told))
        shown.invalid = True
        shown.error_message = told


def to_sentence(text: str) -> str:
    """Return what an error says as a sentence; names at its beginning stay as they are written.

    >>> to_sentence("give at least one class"), to_sentence("labelloop's console does not answer")
    ('Give at least one class.', "labelloop's console does not answer.")
    """
    begun = text if text.startswith(("labelloop", "http")) else text[:1].upper() + text[1:]
    return begun if begun.endswith((".", "!", "?")) else f"{begun}."


def add_choice(
    inputs: types.Object, name: str, choices: Mapping[str, str], *, label: str, default: str | None = None
) -> None:
    """Ask for one of a few things, each with its label, as radio buttons; without a default it must be chosen."""
    group = types.RadioGroup(orientation="vertical")
    for value, text in choices.items():
        group.add_choice(value, label=text)
    inputs.enum(name, group.values(), default=default, required=default is None, label=label, view=group)


def add_targets(inputs: types.Object, targets: Mapping[Target, str], label: str) -> None:
    """Ask for the samples; the narrowest choice is the default."""
    choices: dict[str, str] = dict(targets.items())
    add_choice(inputs, TARGET, choices, label=label, default=next(iter(targets)))


def find_problem(dataset: Any | None) -> str | None:
    """Return why no job can be started in the console for a dataset, or None; None as dataset: none is open."""
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
