"""What the ML backend is told by its environment, read once at start; a bad value is an error that names it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from labels.errors import LabelingError

DEFAULT_HOME: Final = ".labelloop"
DEVICE_PATTERN: Final = re.compile(r"auto|cpu|cuda(:\d+)?")
HOST_PATTERN: Final = re.compile(r"[a-z0-9._-]+(:\d{1,5})?")
TRUE_WORDS: Final = frozenset({"1", "true", "yes", "on"})
FALSE_WORDS: Final = frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True)
class Settings:
    """Where to listen, which model to serve, and where images may come from.

    ``allowed_hosts`` are hosts beside Label Studio's own: ``name`` stands for its ports 80 and 443, ``name:port`` for
    that port. The last four fields are limits that have no environment variable.
    """

    models_dir: Path
    media_root: Path
    host: str = "127.0.0.1"
    port: int = 9090
    model: str = "yolo11n"
    label_studio_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    api_key_file: Path | None = None
    allowed_hosts: frozenset[str] = frozenset()
    score_threshold: float = 0.2
    batch_size: int = 8
    device: str = "auto"
    is_offline: bool = False
    max_tasks: int = 10_000
    max_requests: int = 32
    max_body_bytes: int = 128 * 1024 * 1024
    max_image_bytes: int = 64 * 1024 * 1024

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Return the settings of an environment; an empty value counts as not set.

        Raises:
            LabelingError: a value that cannot be used; key, value and what was expected are named.

        >>> Settings.from_environment({"LABELLOOP_PORT": "9999"}).port
        9999
        """
        read = _Reader(environment)
        home = Path(read.text("LABELLOOP_HOME", DEFAULT_HOME)).expanduser()
        key_file = read.text("LABEL_STUDIO_API_KEY_FILE", "")
        return cls(
            models_dir=Path(read.text("LABELLOOP_MODELS_DIR", str(home / "models"))).expanduser(),
            media_root=Path(read.text("LABELLOOP_MEDIA_ROOT", str(home / "media"))).expanduser().absolute(),
            host=read.text("LABELLOOP_HOST", cls.host),
            port=read.integer("LABELLOOP_PORT", cls.port, lowest=1, highest=65_535),
            model=read.text("LABELLOOP_MODEL", cls.model),
            label_studio_url=read.url("LABEL_STUDIO_URL"),
            api_key=read.text("LABEL_STUDIO_API_KEY", "") or None,
            api_key_file=Path(key_file).expanduser() if key_file else None,
            allowed_hosts=read.hosts("LABELLOOP_ALLOWED_HOSTS"),
            score_threshold=read.fraction("LABELLOOP_SCORE_THRESHOLD", cls.score_threshold),
            batch_size=read.integer("LABELLOOP_BATCH_SIZE", cls.batch_size, lowest=1, highest=512),
            device=read.device("LABELLOOP_DEVICE", cls.device),
            is_offline=read.flag("LABELLOOP_OFFLINE"),
        )


class _Reader:
    """Reads one environment, key by key."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def text(self, key: str, default: str) -> str:
        return self._environment.get(key, "").strip() or default

    def integer(self, key: str, default: int, *, lowest: int, highest: int) -> int:
        text = self.text(key, str(default))
        number = int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None
        if number is None or not lowest <= number <= highest:
            raise _bad_value(key, text, f"a whole number from {lowest} to {highest}")
        return number

    def fraction(self, key: str, default: float) -> float:
        text = self.text(key, str(default))
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if not 0 <= number <= 1:
            raise _bad_value(key, text, "a number from 0 to 1")
        return number

    def flag(self, key: str) -> bool:
        text = self.text(key, "0").lower()
        if text not in TRUE_WORDS | FALSE_WORDS:
            raise _bad_value(key, text, "1 or 0")
        return text in TRUE_WORDS

    def device(self, key: str, default: str) -> str:
        text = self.text(key, default)
        if not DEVICE_PATTERN.fullmatch(text):
            raise _bad_value(key, text, "auto, cpu, cuda or cuda:N")
        return text

    def url(self, key: str) -> str | None:
        text = self.text(key, "").rstrip("/")
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
        hosts = frozenset(part.strip().lower() for part in self.text(key, "").split(",") if part.strip())
        for host in sorted(hosts):
            if not HOST_PATTERN.fullmatch(host):
                raise _bad_value(key, host, "host names or host:port, separated by commas")
        return hosts


def _bad_value(key: str, value: str, expected: str) -> LabelingError:
    return LabelingError(f"{key}={value!r}: expected {expected}")
