"""Secrets as files."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from labels.errors import ServiceError
from sync.services.secrets import read_or_make_secret, read_secret, write_secret


def test_a_secret_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "token"
    before = os.umask(0)
    try:
        made = read_or_make_secret(path)
    finally:
        os.umask(before)
    assert len(made) >= 40
    assert read_or_make_secret(path) == made == read_secret(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["token"]


def test_callers_at_the_same_time_get_the_same_secret(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _n: read_or_make_secret(tmp_path / "token"), range(32)))
    assert len(set(made)) == 1


def test_a_missing_secret_is_none_and_an_empty_one_an_error(tmp_path: Path) -> None:
    assert read_secret(tmp_path / "token") is None
    (tmp_path / "token").write_text("\n", encoding="utf-8")
    with pytest.raises(ServiceError, match="token: is empty"):
        read_or_make_secret(tmp_path / "token")


def test_a_secret_can_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("old", encoding="utf-8")
    path.chmod(0o644)
    write_secret(path, "new")
    assert read_secret(path) == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
