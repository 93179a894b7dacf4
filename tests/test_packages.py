"""What is installed: packages of a registry alone, each pinned to what was looked at."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

LOCKED: list[dict[str, Any]] = tomllib.loads((Path(__file__).parents[1] / "uv.lock").read_text(encoding="utf-8"))[
    "package"
]


def test_every_package_comes_from_a_registry_and_none_from_a_repository_or_an_address() -> None:
    assert {tuple(package["source"]) for package in LOCKED if package["name"] != "labelloop"} == {("registry",)}


def test_every_file_that_may_be_installed_is_known_by_its_hash() -> None:
    for package in LOCKED:
        files = [*package.get("wheels", ()), *([package["sdist"]] if "sdist" in package else ())]
        assert files or package["name"] == "labelloop", package["name"]
        assert all(file["hash"].startswith("sha256:") for file in files), package["name"]
