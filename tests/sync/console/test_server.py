"""The console as the one process it is: real HTTP, real jobs, ended by SIGTERM; and the health of real sockets."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from sync.console.health import Health, fetch_health
from sync.console.status import Tool
from tests.sync.job_queues import wait_for

AUTH = {"Authorization": "Bearer the-token"}
TIMEOUT_S = 20.0
CONSOLE = """
    import sys, time
    from pathlib import Path
    from sync.console.server import serve
    from sync.console.settings import ConsoleSettings
    from sync.console.catalogue import ProjectCatalogue
    from sync.jobs.context import Services
    from sync.runs.runner import Runner
    from labels.report import Report
    from sync.settings import Home

    def pull(context, params, on_progress):
        for step in range(params.get("steps", 0)):
            on_progress(None, f"step {step}")
            time.sleep(0.05)
        return Report("pull", moved=1)

    home = Home(Path(sys.argv[1]))
    settings = ConsoleSettings(home, "the-token", "the-secret", "the-key", home.secrets / "none", port=int(sys.argv[2]))
    catalogue = ProjectCatalogue(home, Services("http://127.0.0.1:1", "http://127.0.0.1:1", "mongodb://127.0.0.1:1/"))
    serve(settings, Runner(home, {"pull": pull}, wake_delay_s=0.2), catalogue)
"""


def find_free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def port() -> int:
    return find_free_port()


@pytest.fixture
def console(tmp_path: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(CONSOLE), str(tmp_path), str(port)])
    try:
        wait_until_up(port)
        yield process
    finally:
        process.terminate()
        assert process.wait(TIMEOUT_S) == 0


def wait_until_up(port: int) -> None:
    deadline_s = time.monotonic() + TIMEOUT_S
    while fetch_health([Tool("console", "console", health_url=f"tcp://127.0.0.1:{port}")])["console"].state != "up":
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def fetch_active(port: int) -> list[dict[str, Any]]:
    answer = requests.get(f"http://127.0.0.1:{port}/api/jobs", headers=AUTH, timeout=5).json()
    return [job for job in answer["jobs"] if job["state"] in ("queued", "running")]


def wait_for_job(port: int, job_id: str) -> dict[str, Any]:
    deadline_s = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline_s:
        url = f"http://127.0.0.1:{port}/api/jobs/{job_id}"
        job: dict[str, Any] = requests.get(url, headers=AUTH, timeout=5).json()
        if job["state"] in ("done", "failed"):
            return job
        time.sleep(0.05)
    pytest.fail("the job did not end in time")


@pytest.mark.usefixtures("console")
def test_one_process_serves_and_runs(port: int) -> None:
    started = requests.post(f"http://127.0.0.1:{port}/api/jobs", json={"job": "pull"}, headers=AUTH, timeout=5)
    job = wait_for_job(port, started.json()["id"])

    assert (job["state"], job["report"]["lines"]) == ("done", ["pull: 1 merged, 0 unchanged"])


@pytest.mark.usefixtures("console")
def test_a_burst_of_webhooks_is_answered_while_a_job_runs_and_makes_one_pull(port: int) -> None:
    body = {"job": "pull", "params": {"steps": 60}}
    started = requests.post(f"http://127.0.0.1:{port}/api/jobs", json=body, headers=AUTH, timeout=5).json()["id"]
    for _ in range(20):
        answer = requests.post(
            f"http://127.0.0.1:{port}/webhooks/label-studio",
            json={"action": "ANNOTATION_UPDATED", "project": {"label_config": "<View/>" * 400}},
            headers={"X-Labelloop-Secret": "the-secret"},
            timeout=5,
        )
        assert answer.status_code == 204
    time.sleep(0.4)
    woken = [job["id"] for job in fetch_active(port) if job["id"] != started]

    assert len(woken) == 1
    assert wait_for_job(port, woken[0])["state"] == "done"


def test_sigterm_ends_a_running_job_and_the_process_within_seconds(console: subprocess.Popen[bytes], port: int) -> None:
    body = {"job": "pull", "params": {"steps": 100_000}}
    requests.post(f"http://127.0.0.1:{port}/api/jobs", json=body, headers=AUTH, timeout=5)
    while not any(job["state"] == "running" for job in fetch_active(port)):
        time.sleep(0.05)
    console.send_signal(signal.SIGTERM)

    assert console.wait(TIMEOUT_S) == 0


@pytest.mark.parametrize("asked_while", ["serving", "starting"])
def test_sigterm_waits_for_what_is_being_imported(asked_while: str, tmp_path: Path, port: int) -> None:
    """Libraries of C++ abort a process that ends while a thread imports them."""
    slow = """
        def warm_up(catalogue):
            (home.path / "started").touch()
            time.sleep(2)
            (home.path / "ended").touch()

        import sync.console.server
        sync.console.server._warm_up = warm_up
    """
    if asked_while == "starting":
        slow += """
        import signal, threading

        begin, begun = threading.Thread.start, []

        def start(thread):
            begin(thread)
            begun.append("warm_up" in thread.name)
            if begun[-2:] == [True, False]:
                signal.raise_signal(signal.SIGTERM)

        threading.Thread.start = start
        """
    head, serving = textwrap.dedent(CONSOLE).rsplit("serve(", 1)
    script = f"{head}{textwrap.dedent(slow)}serve({serving}"
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path), str(port)])
    if asked_while == "serving":
        wait_for((tmp_path / "started").exists, timeout_s=TIMEOUT_S)
        process.send_signal(signal.SIGTERM)

    assert process.wait(TIMEOUT_S) == 0
    assert (tmp_path / "ended").exists()


@pytest.mark.usefixtures("console")
def test_health_tells_what_answers_from_what_does_not(port: int) -> None:
    tools = [
        Tool("page", "page", health_url=f"http://127.0.0.1:{port}/health"),
        Tool("socket", "socket", health_url=f"tcp://127.0.0.1:{port}"),
        Tool("nobody", "nobody", health_url=f"http://127.0.0.1:{find_free_port()}/health"),
        Tool("untold", "untold"),
    ]

    assert fetch_health(tools) == {
        "page": Health("up"),
        "socket": Health("up"),
        "nobody": Health("down", "does not answer"),
        "untold": Health("unknown"),
    }
