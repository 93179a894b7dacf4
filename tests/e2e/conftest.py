"""A real stack, started by the command line as a person does, and a real browser in front of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from sync.jobs.context import Context, open_context
from sync.services.ports import find_free_port
from sync.services.stack_record import Addresses, StackRecord
from sync.settings import DEFAULT_ADMIN_EMAIL, Home, Project
from sync.startup import to_services
from tests.conftest import RUNNING_HOME

START_TIMEOUT_S = 400
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass(frozen=True)
class RunningStack:
    """A stack that runs, filled with the demo's photos."""

    home: Home
    addresses: Addresses
    project: Project

    @property
    def project_url(self) -> str:
        """Label Studio's page with the most uncertain tasks first."""
        project = self.project
        return f"{self.addresses.label_studio}/projects/{project.label_studio_id}/data?tab={project.label_studio_view}"

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of labelloop on this stack."""
        return run_labelloop(self.home, *arguments)

    def open(self) -> AbstractContextManager[Context]:
        """Open what jobs work with."""
        return open_context(self.home, to_services(self.addresses))


def run_labelloop(home: Home, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sync.cli", "--home", str(home.path), *arguments]
    # A pull by the clock would come between two looks of a test.
    environment = {**os.environ, "LABELLOOP_PULL_EVERY_MIN": "0", "LABELLOOP_SWEEP_AT": ""}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=START_TIMEOUT_S, check=False
    )


@pytest.fixture(scope="session")
def stack(mongod_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Run ``labelloop demo`` on free ports, with the session's MongoDB in place of its own; stopped at the end.

    With LABELLOOP_TEST_HOME it is the stack that runs there, left as it is.
    """
    if RUNNING_HOME:
        yield read_running_stack(Home(Path(RUNNING_HOME)))
        return
    home = Home(tmp_path_factory.mktemp("loop") / "home")
    ports = [
        argument
        for name in ("label-studio", "ml-backend", "console", "app")
        for argument in (f"--{name}-port", str(find_free_port()))
    ]
    started = run_labelloop(home, "demo", "--detach", *ports)
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        running = read_running_stack(home)
        assert running.addresses.database_uri == mongod_uri
        yield running
    finally:
        stopped = run_labelloop(home, "down")
        keep_logs(home)
    assert stopped.returncode == 0, stopped.stderr


def read_running_stack(home: Home) -> RunningStack:
    addresses, project = StackRecord.read(home).addresses, Project.read(home)
    assert addresses is not None
    assert project is not None
    return RunningStack(home, addresses, project)


def keep_logs(home: Home) -> None:
    """Leave the logs where LABELLOOP_TEST_LOGS says, to be read after a failure."""
    target = os.environ.get("LABELLOOP_TEST_LOGS")
    if target:
        shutil.copytree(home.logs, target, dirs_exist_ok=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium of the system; closed with the module: it keeps an event loop."""
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("Chromium is not installed (on Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(BROWSER_FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def annotator(browser: Browser, stack: RunningStack) -> Iterator[Page]:
    """A page of somebody who has logged in to Label Studio."""
    window = open_window(browser)
    yield log_in(window, stack)
    window.close()


def open_window(browser: Browser) -> BrowserContext:
    """Return a browser window without memory of earlier tests."""
    return browser.new_context(viewport={"width": 1500, "height": 1000})


def log_in(window: BrowserContext, stack: RunningStack) -> Page:
    """Return a page that is logged in to Label Studio."""
    page = window.new_page()
    page.goto(f"{stack.addresses.label_studio}/user/login/")
    page.fill("input[name=email]", DEFAULT_ADMIN_EMAIL)
    page.fill("input[name=password]", (stack.home.secrets / "admin_password").read_text(encoding="utf-8").strip())
    page.click("button[type=submit]")
    page.wait_for_load_state()
    assert "/user/login" not in page.url
    return page


def to_json(value: object) -> str:
    """Return a text that is equal for equal content."""
    return json.dumps(value, sort_keys=True, default=str)
