"""The words in which ``param_schemas`` and ``work_schemas`` say as JSON Schema what a job may be given. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

Schema = dict[str, Any]

SOME_TEXT: Final = r"[^\s\x1c-\x1f]"
"""Something besides blanks: what Python takes for one, and other readers of such patterns may not."""


def to_object(properties: Mapping[str, Schema], *required: str) -> Schema:
    """Return the schema of an object with these properties and no others."""
    schema: Schema = {"type": "object", "properties": dict(properties), "additionalProperties": False}
    return schema | ({"required": list(required)} if required else {})


def a_text(description: str, *, default: str | None = None, pattern: str = SOME_TEXT) -> Schema:
    """Return the schema of a text that is not blank."""
    return _with_default({"type": "string", "pattern": pattern, "description": description}, default)


def a_flag(description: str) -> Schema:
    """Return the schema of true or false."""
    return {"type": "boolean", "default": False, "description": description}


def a_choice(words: Iterable[str], description: str, *, default: str | None = None) -> Schema:
    """Return the schema of one of these words."""
    return _with_default({"enum": list(words), "description": description}, default)


def a_count(description: str, *, least: int = 1, most: int | None = None, default: int | None = None) -> Schema:
    """Return the schema of a whole number."""
    schema: Schema = {"type": "integer", "minimum": least, "description": description}
    return _with_default(schema if most is None else schema | {"maximum": most}, default)


def a_number(description: str, *, least: float = 0, most: float = 1, default: float | None = None) -> Schema:
    """Return the schema of a number, 0 to 1 if nothing else is said."""
    return _with_default({"type": "number", "minimum": least, "maximum": most, "description": description}, default)


def some_texts(description: str, *, least: int = 0, pattern: str = SOME_TEXT) -> Schema:
    """Return the schema of a list of texts that are not blank."""
    items = {"type": "string", "pattern": pattern}
    return {"type": "array", "items": items, "description": description} | ({"minItems": least} if least else {})


def texts_by_name(description: str) -> Schema:
    """Return the schema of an object whose values are texts."""
    return {"type": "object", "additionalProperties": {"type": "string"}, "description": description}


def _with_default(schema: Schema, default: float | str | None) -> Schema:
    return schema if default is None else schema | {"default": default}


SAMPLE_IDS: Final[Schema] = {
    "type": "array",
    "items": {"type": "string"},
    "description": "Only these samples: ids, or paths or names of their files; without, all",
}
