"""The console's password: the stack's own at first, changed by a command, kept as a hash that only its owner reads."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from labels.errors import LabelingError, ServiceError
from sync.cli import main
from sync.services.console_login import is_password, make_console_login, read_password_hash, write_password
from sync.settings import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.make()
    (home.secrets / "admin_password").write_text("first password\n")
    return home


def read_hash(home: Home) -> str:
    return read_password_hash(home.secrets / "console_password")


def test_the_first_password_is_the_stacks_own_and_is_kept_as_a_salted_hash(home: Home) -> None:
    make_console_login(home.secrets)

    assert is_password(read_hash(home), "first password")
    assert not is_password(read_hash(home), "First password")
    assert read_hash(home).startswith("scrypt:32768:8:1$")
    assert {stat.S_IMODE(path.stat().st_mode) for path in home.secrets.glob("console_*")} == {0o600}


def test_a_second_start_changes_neither_password_nor_key(home: Home) -> None:
    make_console_login(home.secrets)
    write_password(home.secrets, "another password")
    key = (home.secrets / "console_session_key").read_text()
    make_console_login(home.secrets)

    assert is_password(read_hash(home), "another password")
    assert (home.secrets / "console_session_key").read_text() == key


def test_a_text_that_nobody_types_is_no_password_and_costs_nothing(home: Home) -> None:
    make_console_login(home.secrets)

    assert not is_password(read_hash(home), "x" * 10_000_000)
    assert not is_password(read_hash(home), "")


@pytest.mark.parametrize("password", ["", "short12", "x" * 1025])
def test_a_password_that_is_too_short_or_too_long_is_refused(home: Home, password: str) -> None:
    with pytest.raises(LabelingError, match="expected 8 to 1024"):
        write_password(home.secrets, password)


def test_a_missing_password_is_named(home: Home) -> None:
    with pytest.raises(ServiceError, match="console_password: is missing"):
        read_hash(home)


@pytest.mark.parametrize(
    ("arguments", "typed"),
    [(["password"], "violet umbrella\nviolet umbrella\n"), (["password", "--stdin"], "violet umbrella\n")],
)
def test_the_command_changes_the_password_and_shows_it_nowhere(home: Home, arguments: list[str], typed: str) -> None:
    make_console_login(home.secrets)
    done = CliRunner().invoke(main, ["--home", str(home.path), *arguments], input=typed)

    assert done.exit_code == 0, done.output
    assert is_password(read_hash(home), "violet umbrella")
    assert "violet" not in done.output


def test_two_different_passwords_change_nothing(home: Home) -> None:
    make_console_login(home.secrets)
    CliRunner().invoke(main, ["--home", str(home.path), "password"], input="new password\nother password\n")

    assert is_password(read_hash(home), "first password")


def test_a_folder_without_a_home_has_no_password(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["--home", str(tmp_path / "none"), "password", "--stdin"], input="new password\n")

    assert done.exit_code == 1
    assert "no home of labelloop" in done.output
