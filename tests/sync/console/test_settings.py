"""The console's settings: every bad value is named by its variable, no secret shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from labels.errors import LabelingError
from sync.console.settings import ConsoleSettings
from sync.runs.schedule import Schedule
from sync.settings import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.make()
    (home.secrets / "console_token").write_text("the-token\n")
    (home.secrets / "webhook_secret").write_text("the-secret\n")
    (home.secrets / "console_session_key").write_text("the-key\n")
    (home.secrets / "console_password").write_text("the-hash\n")
    return home


def test_a_home_folder_is_all_it_takes(home: Home) -> None:
    settings = ConsoleSettings.from_environ({"LABELLOOP_HOME": str(home.path)})

    assert settings == ConsoleSettings(
        home, "the-token", "the-secret", "the-key", home.secrets / "console_password", host="127.0.0.1", port=9091
    )


def test_every_value_can_be_told(home: Home, tmp_path: Path) -> None:
    for name in ("token", "key", "hash"):
        (tmp_path / name).write_text(f"other {name}")
    settings = ConsoleSettings.from_environ(
        {
            "LABELLOOP_HOME": str(home.path),
            "LABELLOOP_HOST": "0.0.0.0",
            "LABELLOOP_PORT": "80",
            "LABELLOOP_CONSOLE_TOKEN_FILE": str(tmp_path / "token"),
            "LABELLOOP_CONSOLE_HOSTS": "console, review.example",
            "LABELLOOP_REDIS_URL": "redis://redis:6379/0",
            "LABELLOOP_CONSOLE_SESSION_KEY_FILE": str(tmp_path / "key"),
            "LABELLOOP_CONSOLE_PASSWORD_FILE": str(tmp_path / "hash"),
            "LABELLOOP_CONSOLE_TLS": "1",
            "LABELLOOP_PULL_EVERY_MIN": "30",
            "LABELLOOP_SWEEP_AT": "",
        }
    )

    assert settings == ConsoleSettings(
        home,
        "other token",
        "the-secret",
        "other key",
        tmp_path / "hash",
        host="0.0.0.0",
        port=80,
        hosts=("console", "review.example"),
        redis_url="redis://redis:6379/0",
        is_behind_tls=True,
        schedule=Schedule(30, None),
    )


@pytest.mark.parametrize("port", ["http", "-1", "65536", "9091.0"])
def test_a_bad_port_is_named(home: Home, port: str) -> None:
    with pytest.raises(LabelingError, match=f"LABELLOOP_PORT: '{port}' is no port"):
        ConsoleSettings.from_environ({"LABELLOOP_HOME": str(home.path), "LABELLOOP_PORT": port})


@pytest.mark.parametrize("flag", ["yes", "2", "true"])
def test_a_bad_flag_is_named(home: Home, flag: str) -> None:
    with pytest.raises(LabelingError, match=f"LABELLOOP_CONSOLE_TLS: '{flag}' is not known"):
        ConsoleSettings.from_environ({"LABELLOOP_HOME": str(home.path), "LABELLOOP_CONSOLE_TLS": flag})


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("console_token", "LABELLOOP_CONSOLE_TOKEN_FILE"),
        ("webhook_secret", "LABELLOOP_WEBHOOK_SECRET_FILE"),
        ("console_session_key", "LABELLOOP_CONSOLE_SESSION_KEY_FILE"),
        ("console_password", "LABELLOOP_CONSOLE_PASSWORD_FILE"),
    ],
)
def test_a_missing_or_empty_secret_is_named_and_lets_nobody_in(home: Home, name: str, key: str) -> None:
    (home.secrets / name).write_text("\n")
    with pytest.raises(LabelingError, match=f"{key}: .* is empty"):
        ConsoleSettings.from_environ({"LABELLOOP_HOME": str(home.path)})

    (home.secrets / name).unlink()
    with pytest.raises(LabelingError, match=f"{key}: .* cannot be read"):
        ConsoleSettings.from_environ({"LABELLOOP_HOME": str(home.path)})


def test_no_secret_shows_in_the_settings_text(home: Home) -> None:
    text = repr(
        ConsoleSettings(
            home, "the-token", "the-secret", "the-key", home.secrets / "x", redis_url="redis://:the-password@redis"
        )
    )

    assert "the-" not in text
