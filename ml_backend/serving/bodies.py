"""Reads what requests carry, and writes long answers, without keeping the other threads waiting.

A retrieve of ten thousand tasks is many megabytes of JSON. Python's own reader takes all of it in one go, as does each
copy of it, and nobody else, not even a check of health, is answered meanwhile.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Protocol

from werkzeug.exceptions import BadRequest

PIECE_BYTES: Final = 512 * 1024
SPACES: Final = re.compile(r"[ \t\n\r]*")
NUMBER_CHARACTERS: Final = frozenset("0123456789+-.eE")


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


# Label Studio sends every old prediction and annotation of a task along: a hundred times what we need of it, and of ten
# thousand tasks so many objects that looking through them for garbage stops everybody.
KEPT: Final[Mapping[str, tuple[str, ...]]] = {"tasks": ("id", "data")}
DECODER: Final = json.JSONDecoder(parse_constant=_refuse)


class Body(Protocol):
    """Where a request's body is read from, as an open file."""

    def read(self, size: int, /) -> bytes:
        """Return at most so many bytes; none at the end."""


def read_object(body: Body) -> dict[str, Any]:
    """Return the JSON object of a body; lists that are its values are read item by item, and of tasks what we need.

    Raises:
        BadRequest: it is none, or nested too deeply.

    >>> import io
    >>> read_object(io.BytesIO(b'{"tasks": [{"id": 1, "meta": {}}, {"id": 2}], "project": null}'))
    {'tasks': [{'id': 1}, {'id': 2}], 'project': None}
    """
    try:
        return _Walk(body).read_object()
    except RecursionError as error:
        raise BadRequest("the body is nested too deeply") from error
    except ValueError as error:
        raise BadRequest("the body is not a JSON object") from error


class _Walk:
    """Goes through a body; only the value that is being read, and what came with it, is in memory as text."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._place = 0
        self._is_whole = False

    def read_object(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self._expect("{")
        if self._peek() != "}":
            while True:
                if self._peek() != '"':
                    raise ValueError("expected a key")
                key = self._read_value()
                self._expect(":")
                found[key] = self._read_list(KEPT.get(key)) if self._peek() == "[" else self._read_value()
                if self._peek() != ",":
                    break
                self._expect(",")
        self._expect("}")
        if self._peek():
            raise ValueError("more than one value")
        return found

    def _read_list(self, kept: tuple[str, ...] | None) -> list[Any]:
        items: list[Any] = []
        self._expect("[")
        if self._peek() != "]":
            items.append(_slim(self._read_value(), kept))
            while self._peek() == ",":
                self._expect(",")
                items.append(_slim(self._read_value(), kept))
        self._expect("]")
        return items

    def _read_value(self) -> Any:
        """Return the value that comes next, reading on as long as it may be cut off."""
        self._peek()
        while True:
            try:
                value, end = DECODER.raw_decode(self._text, self._place)
            except json.JSONDecodeError:
                if self._is_whole:
                    raise
            else:
                # Of 12 and of 1.5 the first digit is a number too.
                if self._is_whole or self._text[end : end + 1] not in NUMBER_CHARACTERS | {""}:
                    self._place = end
                    return value
            self._read_on()

    def _peek(self) -> str:
        """Return the next character that is no space, or nothing at the end."""
        while True:
            match = SPACES.match(self._text, self._place)
            self._place = match.end() if match is not None else self._place
            if self._place < len(self._text) or self._is_whole:
                return self._text[self._place : self._place + 1]
            self._read_on()

    def _expect(self, character: str) -> None:
        if self._peek() != character:
            raise ValueError(f"expected {character}")
        self._place += 1

    def _read_on(self) -> None:
        rest = self._text[self._place :]
        # As much again as there is: a long value is tried few times.
        piece = self._body.read(max(PIECE_BYTES, len(rest)))
        self._is_whole = not piece
        self._text = rest + self._decoder.decode(piece, final=self._is_whole)
        self._place = 0


def _slim(item: Any, kept: tuple[str, ...] | None) -> Any:
    return {key: item[key] for key in kept if key in item} if kept is not None and isinstance(item, dict) else item


def read_tasks(body: Mapping[str, Any], *, max_tasks: int) -> list[Any]:
    """Return the tasks of a request.

    Raises:
        BadRequest: no list, or too many.
    """
    tasks = body.get("tasks")
    if not isinstance(tasks, list):
        raise BadRequest("tasks is not a list")
    if len(tasks) > max_tasks:
        raise BadRequest(f"{len(tasks)} tasks in one request (expected at most {max_tasks})")
    return tasks


def read_text(body: Mapping[str, Any], key: str) -> str:
    """Return a text that has to be there.

    Raises:
        BadRequest: it is not.
    """
    text = body.get(key)
    if text is None:
        raise BadRequest(f"{key} is missing")
    if not isinstance(text, str):
        raise BadRequest(f"{key} is {json.dumps(text)[:40]} (expected a text)")
    return text


def read_context(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the regions an annotator has drawn so far, the newest last; none when nobody draws."""
    params = body.get("params")
    context = params.get("context") if isinstance(params, Mapping) else None
    regions = context.get("result") if isinstance(context, Mapping) else None
    return [region for region in regions if isinstance(region, Mapping)] if isinstance(regions, list) else []


def read_label_counts(body: Mapping[str, Any]) -> dict[str, int] | None:
    """Return how many reviewed regions each label has, as sync tells it; None where nobody did."""
    params = body.get("params")
    counts = params.get("label_counts") if isinstance(params, Mapping) else None
    if not isinstance(counts, Mapping):
        return None
    return {
        str(label): count
        for label, count in counts.items()
        if isinstance(count, int) and not isinstance(count, bool) and count >= 0
    }


def read_score_threshold(body: Mapping[str, Any]) -> float | None:
    """Return the threshold that stands in for all others; None where the request has none.

    Raises:
        BadRequest: it is no number in 0..1.
    """
    params = body.get("params")
    threshold = params.get("score_threshold") if isinstance(params, Mapping) else None
    if threshold is None:
        return None
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
        raise BadRequest(f"params.score_threshold is {json.dumps(threshold)[:40]} (expected a number in 0..1)")
    return float(threshold)


def write_answer(results: Iterable[str], errors: Iterable[Mapping[str, Any]]) -> list[bytes]:
    """Return the answer to a predict in pieces; each result is JSON already.

    >>> write_answer(['{"score": 1.0}', "[]"], [])
    [b'{"results": [{"score": 1.0}, []], "errors": []}']
    """
    return list(_gather(_list_texts(results, errors)))


def _list_texts(results: Iterable[str], errors: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    yield '{"results": ['
    yield from _separate(results)
    yield '], "errors": ['
    yield from _separate(json.dumps(error) for error in errors)
    yield "]}"


def _separate(texts: Iterable[str]) -> Iterator[str]:
    for index, text in enumerate(texts):
        yield f", {text}" if index else text


def _gather(texts: Iterable[str]) -> Iterator[bytes]:
    """Yield texts together, as many as make a piece: the server sends each for itself."""
    waiting: list[str] = []
    length = 0
    for text in texts:
        waiting.append(text)
        length += len(text)
        if length >= PIECE_BYTES:
            yield "".join(waiting).encode()
            waiting, length = [], 0
    if waiting:
        yield "".join(waiting).encode()
