"""What the console is told from outside, read once at its start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from labels.errors import LabelingError
from sync.runs.schedule import Schedule
from sync.services.console_login import PASSWORD_NAME, SESSION_KEY_NAME
from sync.settings import Home

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 9091
LOOPBACK_NAMES = ("127.0.0.1", "localhost")
PASSWORD_FILE_KEY = "LABELLOOP_CONSOLE_PASSWORD_FILE"  # noqa: S105  the name of a variable


@dataclass(frozen=True)
class ConsoleSettings:
    """Where the console listens, for whom, and what it lets in.

    hosts are the names it answers to besides the loopback ones; the secrets stay out of its repr. The password's hash
    is read from its file at each use, so that a change needs no restart. is_behind_tls: browsers reach it by https,
    and the session's cookie is sent over nothing else.
    """

    home: Home
    token: str = field(repr=False)
    webhook_secret: str = field(repr=False)
    session_key: str = field(repr=False)
    password_file: Path
    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    hosts: tuple[str, ...] = ()
    redis_url: str | None = field(default=None, repr=False)
    is_behind_tls: bool = False
    schedule: Schedule = field(default_factory=Schedule)

    @property
    def trusted_hosts(self) -> list[str]:
        """Every name a request may call the console by."""
        return [*LOOPBACK_NAMES, *self.hosts]

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> ConsoleSettings:
        """Return the settings of an environment.

        LABELLOOP_HOME, LABELLOOP_HOST, LABELLOOP_PORT, LABELLOOP_REDIS_URL; LABELLOOP_CONSOLE_TOKEN_FILE,
        LABELLOOP_WEBHOOK_SECRET_FILE, LABELLOOP_CONSOLE_SESSION_KEY_FILE and LABELLOOP_CONSOLE_PASSWORD_FILE (all in
        the home's secrets/ unless told otherwise); LABELLOOP_CONSOLE_HOSTS, names separated by commas;
        LABELLOOP_CONSOLE_TLS, 1 where a proxy in front speaks https.

        Raises:
            LabelingError: a value is missing or cannot be used; the message names its variable.
        """
        home = Home.from_environment(environ)
        hosts = environ.get("LABELLOOP_CONSOLE_HOSTS", "")
        # It may change while the console runs and is read each time; that there is none is better said at the start.
        _read_secret(environ, PASSWORD_FILE_KEY, home.secrets / PASSWORD_NAME)
        return cls(
            home=home,
            token=_read_secret(environ, "LABELLOOP_CONSOLE_TOKEN_FILE", home.secrets / "console_token"),
            webhook_secret=_read_secret(environ, "LABELLOOP_WEBHOOK_SECRET_FILE", home.secrets / "webhook_secret"),
            session_key=_read_secret(environ, "LABELLOOP_CONSOLE_SESSION_KEY_FILE", home.secrets / SESSION_KEY_NAME),
            password_file=Path(environ.get(PASSWORD_FILE_KEY) or home.secrets / PASSWORD_NAME),
            host=environ.get("LABELLOOP_HOST") or DEFAULT_HOST,
            port=_read_port(environ),
            hosts=tuple(name.strip() for name in hosts.split(",") if name.strip()),
            redis_url=environ.get("LABELLOOP_REDIS_URL") or None,
            is_behind_tls=_read_flag(environ, "LABELLOOP_CONSOLE_TLS"),
            schedule=Schedule.from_environ(environ),
        )


def _read_secret(environ: Mapping[str, str], key: str, default: Path) -> str:
    path = Path(environ.get(key) or default)
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise LabelingError(f"{key}: {path} cannot be read ({error}); 'labelloop up' writes it") from error
    if not secret:
        raise LabelingError(f"{key}: {path} is empty; an empty secret would let everybody in")
    return secret


def _read_flag(environ: Mapping[str, str], key: str) -> bool:
    text = environ.get(key) or "0"
    if text not in ("0", "1"):
        raise LabelingError(f"{key}: '{text}' is not known (expected 0 or 1)")
    return text == "1"


def _read_port(environ: Mapping[str, str]) -> int:
    text = environ.get("LABELLOOP_PORT") or str(DEFAULT_PORT)
    if not text.isdecimal() or not 0 <= int(text) <= 65535:
        raise LabelingError(f"LABELLOOP_PORT: '{text}' is no port (0 to 65535)")
    return int(text)
