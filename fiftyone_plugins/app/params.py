"""Reads single parameters of a work out of JSON; what cannot be used is refused with its name and what was expected."""

from __future__ import annotations

from pathlib import Path

from fiftyone_plugins.app.work import Params
from labels.errors import LabelingError


def refuse_others(params: Params, *known: str) -> None:
    """Refuse parameters that are not known.

    Raises:
        LabelingError: there is one.
    """
    unknown = sorted(set(params) - set(known))
    if unknown:
        raise LabelingError(f"parameter {unknown[0]!r} is not known (known: {', '.join(known) or 'none'})")


def read_flag(params: Params, name: str) -> bool:
    """Return true or false; absent is false.

    >>> read_flag({"dry_run": True}, "dry_run"), read_flag({}, "dry_run")
    (True, False)
    """
    value = params.get(name)
    if not isinstance(value, bool | None):
        raise LabelingError(f"parameter {name!r}: expected true or false")
    return value is True


def read_text(params: Params, name: str) -> str | None:
    """Return a text that is not empty; None where it is absent.

    >>> read_text({"model": "yolo11n"}, "model")
    'yolo11n'
    """
    value = params.get(name)
    if value is not None and not (isinstance(value, str) and value.strip()):
        raise LabelingError(f"parameter {name!r}: expected a text")
    return value


def read_choice(params: Params, name: str, known: tuple[str, ...]) -> str:
    """Return one of the known words; the first one where it is absent."""
    value = read_text(params, name) or known[0]
    if value not in known:
        raise LabelingError(f"{name} {value!r} is not known (known: {', '.join(known)})")
    return value


def read_path(params: Params, name: str) -> Path | None:
    """Return an absolute path; None where it is absent."""
    text = read_text(params, name)
    try:
        return None if text is None else Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise LabelingError(f"parameter {name!r}: {text} is the home of nobody known here") from error


def read_number(params: Params, name: str, low: float, high: float) -> float | None:
    """Return a number within bounds, both of them included; None where it is absent.

    >>> read_number({"threshold": 0.5}, "threshold", 0, 1)
    0.5
    """
    value = params.get(name)
    return None if value is None else to_number(name, value, low, high)


def to_number(name: str, value: object, low: float, high: float) -> float:
    """Return a value as a number within bounds, both of them included.

    Raises:
        LabelingError: it is none, or lies outside.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        raise LabelingError(f"{name} {value!r}: expected a number from {low:g} to {high:g}")
    return float(value)


def read_texts(params: Params, name: str) -> tuple[str, ...]:
    """Return a list of texts that are not empty; none where it is absent."""
    values = params.get(name)
    if values is None:
        return ()
    if not isinstance(values, list) or not all(isinstance(one, str) and one.strip() for one in values):
        raise LabelingError(f"parameter {name!r}: expected a list of texts")
    return tuple(values)


def read_count(params: Params, name: str, least: int = 1) -> int | None:
    """Return a whole number of at least so many; None where it is absent.

    >>> read_count({"neighbours": 10}, "neighbours")
    10
    """
    value = params.get(name)
    # In JSON 3.0 is a whole number too.
    value = int(value) if isinstance(value, float) and value.is_integer() else value
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
        raise LabelingError(f"parameter {name!r}: expected a whole number of {least} or more")
    return value
