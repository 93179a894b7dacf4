"""Reads the variables of one environment, key by key; a bad value is an error that names key, value and what fits."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

from labels.errors import LabelingError

DEVICE_PATTERN: Final = re.compile(r"auto|cpu|cuda(:\d+)?")
HOST_PATTERN: Final = re.compile(r"[a-z0-9._-]+(:\d{1,5})?")
TRUE_WORDS: Final = frozenset({"1", "true", "yes", "on"})
FALSE_WORDS: Final = frozenset({"0", "false", "no", "off"})

T = TypeVar("T")


class Environment:
    """An environment's values in the types we need; an empty value counts as not set.

    Raises:
        LabelingError: from every method, for a value that cannot be used.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def text(self, key: str, default: str = "") -> str:
        """Return a text without the spaces around it."""
        return self._values.get(key, "").strip() or default

    def path(self, key: str) -> Path | None:
        """Return a path, or None where none is set."""
        text = self.text(key)
        return Path(text).expanduser() if text else None

    def integer(self, key: str, default: int, *, lowest: int, highest: int) -> int:
        """Return a whole number between two ends."""
        text = self.text(key, str(default))
        number = int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None
        if number is None or not lowest <= number <= highest:
            raise _bad_value(key, text, f"a whole number from {lowest} to {highest}")
        return number

    def integer_or_none(self, key: str, *, lowest: int, highest: int) -> int | None:
        """Return a whole number between two ends, or None where none is set."""
        return self.integer(key, lowest, lowest=lowest, highest=highest) if self.text(key) else None

    def fraction(self, key: str, default: float) -> float:
        """Return a number in 0..1."""
        text = self.text(key, str(default))
        number = _to_number(text)
        if number is None or not 0 <= number <= 1:
            raise _bad_value(key, text, "a number from 0 to 1")
        return number

    def fraction_or_none(self, key: str) -> float | None:
        """Return a number in 0..1, or None where none is set."""
        return self.fraction(key, 0.0) if self.text(key) else None

    def numbers(self, key: str) -> tuple[float, ...]:
        """Return numbers above 0, separated by commas."""
        text = self.text(key)
        numbers = [_to_number(part) for part in text.split(",") if part.strip()]
        if any(number is None or not 0 < number < float("inf") for number in numbers):
            raise _bad_value(key, text, "numbers above 0, separated by commas")
        return tuple(number for number in numbers if number is not None)

    def flag(self, key: str) -> bool:
        """Return a switch that is off by default."""
        text = self.text(key, "0").lower()
        if text not in TRUE_WORDS | FALSE_WORDS:
            raise _bad_value(key, text, "1 or 0")
        return text in TRUE_WORDS

    def choice(self, key: str, default: str, choices: Collection[str]) -> str:
        """Return one of a few words."""
        text = self.text(key, default)
        if text not in choices:
            raise _bad_value(key, text, f"one of {', '.join(choices)}")
        return text

    def parsed(self, key: str, parse: Callable[[str], T]) -> T:
        """Return what a parser makes of the text; its ValueError says what is wrong."""
        text = self.text(key)
        try:
            return parse(text)
        except ValueError as error:
            raise LabelingError(f"{key}={text!r}: {error}") from error

    def device(self, key: str, default: str) -> str:
        """Return the name of a device."""
        text = self.text(key, default)
        if not DEVICE_PATTERN.fullmatch(text):
            raise _bad_value(key, text, "auto, cpu, cuda or cuda:N")
        return text

    def url(self, key: str) -> str | None:
        """Return an http address without its last slash, or None where none is set."""
        text = self.text(key).rstrip("/")
        if not text:
            return None
        try:
            parts = urlsplit(text)
            is_usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_usable = False
        if not is_usable:
            raise _bad_value(key, text, "an address such as http://127.0.0.1:8080")
        return text

    def hosts(self, key: str) -> frozenset[str]:
        """Return host names, each with a port or without, separated by commas."""
        hosts = frozenset(part.strip().lower() for part in self.text(key).split(",") if part.strip())
        for host in sorted(hosts):
            if not HOST_PATTERN.fullmatch(host):
                raise _bad_value(key, host, "host names or host:port, separated by commas")
        return hosts

    def secret(self, key: str) -> str | None:
        """Return a secret: the value of the variable, else the content of the file that KEY_FILE names, else None."""
        value, file = self.text(key), self.path(f"{key}_FILE")
        if value or file is None:
            return value or None
        try:
            secret = file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise LabelingError(f"{key}_FILE={str(file)!r}: cannot be read ({error.strerror})") from error
        if not secret:
            raise LabelingError(f"{key}_FILE={str(file)!r}: is empty")
        return secret


def _to_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _bad_value(key: str, value: str, expected: str) -> LabelingError:
    return LabelingError(f"{key}={value!r}: expected {expected}")
