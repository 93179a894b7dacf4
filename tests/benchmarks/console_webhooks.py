"""How long Label Studio's webhooks wait for the console: while a job runs and writes, and pages are looked at.

    uv run python tests/benchmarks/console_webhooks.py --events 1000

Label Studio sends an event inside the annotator's request and gives up after a second. Nothing is asserted here.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import requests

from labels.report import OnProgress, Report
from sync.services.ports import find_free_port
from sync.settings import Home

TOKEN: Final = {"Authorization": "Bearer the-token"}
SECRET: Final = {"X-Labelloop-Secret": "the-secret"}
# An event carries the whole project, label config included.
EVENT: Final = {"action": "ANNOTATION_UPDATED", "project": {"label_config": "<View/>" * 3000}}
SENDERS: Final = 4


def pull(_context: object, _params: Mapping[str, Any], on_progress: OnProgress) -> Report:
    """A job that computes in this process and tells of it all the time."""
    for step in range(100_000):
        on_progress(step / 100_000, f"step {step}")
        sum(range(20_000))
    return Report("pull")


def serve_console(folder: Path, port: int) -> None:
    """Be the console, until told to end."""
    from sync.console.catalogue import ProjectCatalogue
    from sync.console.server import serve
    from sync.console.settings import ConsoleSettings
    from sync.jobs.context import Services
    from sync.runs.runner import Runner

    home = Home(folder)
    settings = ConsoleSettings(home, "the-token", "the-secret", "the-key", home.secrets / "none", port=port)
    nowhere = Services("http://127.0.0.1:1", "http://127.0.0.1:1", "mongodb://127.0.0.1:1/")
    serve(settings, Runner(home, {"pull": pull}), ProjectCatalogue(home, nowhere))


@contextmanager
def running_console(folder: Path) -> Iterator[str]:
    """Run a console with a home of its own, and give its address."""
    port = find_free_port()
    command = [sys.executable, __file__, "--serve", str(folder), "--port", str(port)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": os.getcwd()})
    url = f"http://127.0.0.1:{port}"
    try:
        while not is_up(url):
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def is_up(url: str) -> bool:
    """Return whether the console answers."""
    try:
        return requests.get(f"{url}/health", timeout=2).ok
    except requests.RequestException:
        return False


def measure(url: str, events: int) -> list[float]:
    """Send events from several threads, and return how many milliseconds each waited for its answer."""
    session = requests.Session()

    def send(_number: int) -> float:
        begin_s = time.perf_counter()
        answer = session.post(f"{url}/webhooks/label-studio", json=EVENT, headers=SECRET, timeout=10)
        answer.raise_for_status()
        return 1000 * (time.perf_counter() - begin_s)

    with ThreadPoolExecutor(SENDERS) as senders:
        return sorted(senders.map(send, range(events)))


def main() -> None:
    """Print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1000)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        serve_console(options.serve, options.port)
        return
    with tempfile.TemporaryDirectory() as folder, running_console(Path(folder) / "home") as url:
        # In its first seconds it imports FiftyOne and matplotlib.
        time.sleep(10)
        for name in ("nothing else to do", "a job running"):
            if name == "a job running":
                requests.post(f"{url}/api/jobs", json={"job": "pull"}, headers=TOKEN, timeout=10).raise_for_status()
                time.sleep(1)
            waits = measure(url, options.events)
            print(  # noqa: T201  it is what this is for
                f"{name}: {options.events} events from {SENDERS} senders: median {statistics.median(waits):.1f} ms, "
                f"99 % within {waits[int(0.99 * len(waits))]:.1f} ms, slowest {waits[-1]:.1f} ms"
            )


if __name__ == "__main__":
    main()
