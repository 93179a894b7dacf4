"""A stack of stub servers for each test."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sync.services.supervisord_files import find_socket_path
from sync.settings import Home
from tests.sync.services.stub_stack import StubStack


@pytest.fixture
def stub_stack(tmp_path: Path) -> Iterator[StubStack]:
    """A stack of stub servers, in a home whose path is as awkward as a person's folder may be."""
    stack = StubStack(Home(tmp_path / "my % home, 'really'"))
    yield stack
    stack.make().stop()
    socket = find_socket_path(stack.home)
    if socket.parent != stack.home.run:
        # A killed supervisord leaves its socket behind.
        shutil.rmtree(socket.parent)


@pytest.fixture
def events() -> list[str]:
    """The lines a stack says."""
    return []


@pytest.fixture
def say(events: list[str]) -> Callable[[str], None]:
    """Keep a line a stack says."""
    return events.append
