"""A home of its own on the running tools, for what a command, a console or an App of it does."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from labels.geometry import Box
from labels.results import Label, to_result
from sync.ledger import Ledger, Run
from sync.media import link_folder
from sync.services.console_login import make_console_login
from sync.services.ports import find_free_port
from sync.services.secrets import write_secret
from sync.settings import Home, read_secret
from tests.e2e.conftest import RunningStack
from tests.e2e.fresh_project import SIZE, FreshProject, open_fresh_project
from tests.fakes.flaky_backend import FlakyBackend, serve_flaky_backend
from tests.sync.job_queues import wait_for

START_TIMEOUT_S = 120
TOKEN = {"Authorization": "Bearer the-token"}


@dataclass(frozen=True)
class JobHome:
    """A home of its own for a fresh project on the running tools, and the environment its programs are told by."""

    home: Home
    project: FreshProject
    backend: FlakyBackend
    environment: Mapping[str, str]

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start a module of Python in this home's environment."""
        return subprocess.Popen(
            [sys.executable, "-m", *arguments],
            env={**os.environ, **self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        with self.start("sync.cli", *arguments) as command:
            out, error = command.communicate(timeout=START_TIMEOUT_S)
        return subprocess.CompletedProcess(arguments, command.returncode, out, error)

    def read_run(self, run_id: int) -> Run | None:
        """Return a run; None: it is not there yet."""
        if not self.home.ledger.exists():
            return None
        with Ledger.open(self.home.ledger) as ledger:
            return ledger.run(run_id)

    def versions(self) -> list[str | None]:
        """Return the version that drew on each sample, as FiftyOne says."""
        found: list[str | None] = self.project.fiftyone.values("model_version")
        return found


@contextmanager
def open_job_home(stack: RunningStack, folder: Path, *, images: int) -> Iterator[JobHome]:
    """Open a home for a project of as many images whose ML backend does as it is told."""
    with (
        serve_flaky_backend(FlakyBackend()) as backend,
        open_fresh_project(stack, folder, images=images) as project,
    ):
        config = project.context.config
        backend.regions = lambda task: to_result([draw(task["id"], backend.version)], config, SIZE)
        home = Home(folder / "home")
        home.make()
        project.context.project.write(home)
        home.label_config.write_text(config.xml, encoding="utf-8")
        link_folder(home, (folder / "images").resolve())
        write_secret(home.secrets / "console_token", "the-token")
        write_secret(home.secrets / "webhook_secret", "the-secret")
        make_console_login(home.secrets)
        environment = {
            "LABELLOOP_HOME": str(home.path),
            "LABEL_STUDIO_URL": stack.addresses.label_studio,
            "LABEL_STUDIO_API_KEY": read_secret(stack.home, "label_studio_token") or "",
            "LABELLOOP_ML_BACKEND_URL": backend.url,
            "FIFTYONE_DATABASE_URI": stack.addresses.database_uri,
            "LABELLOOP_PULL_EVERY_MIN": "0",
            "LABELLOOP_SWEEP_AT": "",
        }
        yield JobHome(home, project, backend, environment)


def draw(sample_id: str, version: str) -> Label:
    """Return a box whose place follows from the sample, and its id from the version too."""
    digest = hashlib.sha256(f"{sample_id} {version}".encode()).hexdigest()
    return Label(digest[:24], "label", ("car",), Box(5 + int(digest[0], 16), 7, 30, 20), confidence=0.5)


@dataclass(frozen=True)
class RunningConsole:
    """A console in a process of its own."""

    process: subprocess.Popen[str]
    url: str

    def read_runs(self) -> list[dict[str, Any]]:
        """Return all runs, newest first."""
        answer = requests.get(f"{self.url}/api/jobs", headers=TOKEN, timeout=10)
        found: list[dict[str, Any]] = answer.json()["jobs"]
        return found

    def submit(self, job: str) -> int:
        """Start a job and return its number."""
        answer = requests.post(f"{self.url}/api/jobs", json={"job": job}, headers=TOKEN, timeout=10)
        assert answer.status_code == 202, answer.text
        return int(answer.json()["id"])


@contextmanager
def open_console(job_home: JobHome) -> Iterator[RunningConsole]:
    """Run the home's console; told to end at the end, if it has not."""
    with _serve(job_home, "sync.console", "/health") as (process, url):
        yield RunningConsole(process, url)


@contextmanager
def open_app_server(job_home: JobHome, console: RunningConsole) -> Iterator[str]:
    """Run a FiftyOne App of the home, whose operators ask this console; give its address."""
    told = {
        "LABELLOOP_CONSOLE_URL": console.url,
        "LABELLOOP_CONSOLE_TOKEN_FILE": str(job_home.home.secrets / "console_token"),
    }
    with _serve(job_home, "sync.services.app", "/fiftyone", **told) as (_, url):
        yield url


@contextmanager
def _serve(
    job_home: JobHome, module: str, health_path: str, **environment: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    port = find_free_port()
    log = job_home.home.logs / f"{module}.log"
    url = f"http://127.0.0.1:{port}"
    with log.open("a", encoding="utf-8") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module],
            env={**os.environ, **job_home.environment, **environment, "LABELLOOP_PORT": str(port)},
            stdout=output,
            stderr=output,
            text=True,
        )

        def answers() -> bool:
            assert process.poll() is None, log.read_text(encoding="utf-8")[-2000:]
            try:
                return requests.get(url + health_path, timeout=10).ok
            except requests.ConnectionError:
                return False

        try:
            wait_for(answers, timeout_s=START_TIMEOUT_S)
            yield process, url
        finally:
            process.terminate()
            process.wait(START_TIMEOUT_S)
