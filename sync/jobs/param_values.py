"""Reads single parameters of a job out of JSON; what cannot be used is refused by name, with what was expected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labels.errors import LabelingError

Params = Mapping[str, Any]
Arguments = dict[str, Any]


def refuse_others(params: Params, *known: str) -> None:
    """Refuse parameters that are not known."""
    unknown = sorted(set(params) - set(known))
    if unknown:
        raise LabelingError(f"parameter {unknown[0]!r} is not known (known: {', '.join(known) or 'none'})")


def refuse_unknown(name: str, value: str, known: Any) -> None:
    """Refuse a word that is none of the known ones."""
    if value not in known:
        raise LabelingError(f"{name} {value!r} is not known (known: {', '.join(known)})")


def read_text(params: Params, name: str) -> str:
    """Return a text that is not blank."""
    value = params.get(name)
    if not isinstance(value, str) or not value.strip():
        raise LabelingError(f"parameter {name!r}: expected a text")
    return value


def read_optional_text(params: Params, name: str) -> str | None:
    """Return a text that is not blank; None: it is not given."""
    return None if params.get(name) is None else read_text(params, name)


def read_number(params: Params, name: str, *, default: int | None = None) -> int:
    """Return a whole number; without a default it must be given."""
    value = params.get(name, default)
    # In JSON 3.0 is a whole number too.
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise LabelingError(f"parameter {name!r}: expected a whole number")
    return value


def read_positive(params: Params, name: str) -> float | None:
    """Return a number above 0; None: it is not given."""
    value = params.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < float("inf"):
        raise LabelingError(f"parameter {name!r}: expected a number above 0")
    return float(value)


def read_flag(params: Params, name: str) -> bool:
    """Return true or false; not given is false."""
    value = params.get(name)
    if value is not None and not isinstance(value, bool):
        raise LabelingError(f"parameter {name!r}: expected true or false")
    return value is True


def read_ids(params: Params) -> list[str] | None:
    """Return the ids of samples; None: none are given, which is not an empty list."""
    ids = params.get("sample_ids")
    if ids is None:
        return None
    if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
        raise LabelingError("parameter 'sample_ids': expected a list of sample ids")
    return ids


def read_part(params: Params, name: str) -> float | None:
    """Return a number from 0 to 1; None: it is not given."""
    value = params.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise LabelingError(f"parameter {name!r}: expected a number from 0 to 1")
    return float(value)
