"""The clients of the benchmark of serving, each a process of its own: in one they would wait for each other."""

from __future__ import annotations

import http.client
import itertools
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.context import ForkProcess
from typing import Any, Final

import psutil

from labels.config import default_label_config_path

# Forked before any thread is started here: nothing has to be imported again.
CONTEXT: Final = multiprocessing.get_context("fork")
PEOPLE_S: Final = 0.15  # between an answer and the next question of one person
JOB_TASKS: Final = 16
LONG_TASKS: Final = 10_000
# Label Studio sends all that is known of a task along: about eight kilobytes.
OLD_REGIONS: Final = 24
CHECK_S: Final = 0.01


@dataclass(frozen=True)
class Load:
    """What some clients measured."""

    clients: int
    images_per_s: float
    p50_ms: float
    p95_ms: float
    cpu_ms: float | None = None  # of the server for each image: what a busy machine changes least

    def __str__(self) -> str:
        cpu = "" if self.cpu_ms is None else f"  cpu {self.cpu_ms:4.0f}"
        return f"{self.images_per_s:6.1f}/s  p50 {self.p50_ms:5.0f}  p95 {self.p95_ms:5.0f}{cpu} ms"


@dataclass(frozen=True)
class Checks:
    """How long checks of health took while one long request was answered."""

    count: int
    p50_ms: float
    slowest_ms: float
    request_s: float
    request_bytes: int


class Client:
    """Asks for one image after the other over one connection."""

    def __init__(self, port: int, urls: Sequence[str], first: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        self._urls = itertools.islice(itertools.cycle(urls), first, None)
        self._config = default_label_config_path().read_text(encoding="utf-8")

    def ask(self, count: int = 1, **headers: str) -> float:
        """Return the seconds until the answer to a predict for as many tasks."""
        return self.send(self.make_body(count), count, **headers)

    def make_body(self, count: int, **more: Any) -> str:
        """Return a predict for as many tasks, each with ``more`` in it."""
        tasks = [{"id": number, "data": {"image": next(self._urls)}, **more} for number in range(count)]
        return json.dumps({"tasks": tasks, "label_config": self._config, "params": {}})

    def send(self, body: str, count: int, **headers: str) -> float:
        """Return the seconds until the answer to a predict."""
        started = time.perf_counter()
        self._connection.request("POST", "/predict", body, {"Content-Type": "application/json", **headers})
        answer = self._connection.getresponse()
        content = answer.read()
        seconds = time.perf_counter() - started
        if answer.status != 200 or len(json.loads(content)["results"]) != count:
            sys.exit(f"a predict was answered {answer.status}: {content[:300]!r}")
        return seconds


def check(port: int, path: str) -> tuple[int, float]:
    """Return how a path is answered, and the seconds it took."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    started = time.perf_counter()
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        return answer.status, time.perf_counter() - started
    finally:
        connection.close()


@contextmanager
def run_clients(run: Callable[[int], None], count: int) -> Iterator[list[ForkProcess]]:
    """Run something in as many processes, told its number; whoever leaves the block sees to it that they end."""
    processes = [CONTEXT.Process(target=run, args=(number,), daemon=True) for number in range(count)]
    for process in processes:
        process.start()
    yield processes
    for process in processes:
        process.join()
        if process.exitcode != 0:
            sys.exit(f"a client ended with {process.exitcode}")


def measure(port: int, urls: Sequence[str], clients: int, seconds: float, server: psutil.Process) -> Load:
    """Have clients ask one task at a time for some seconds; what came before all had begun does not count."""
    Client(port, urls, 0).ask()
    begin, end, found = CONTEXT.Barrier(clients + 1), CONTEXT.Event(), CONTEXT.SimpleQueue()

    def run(number: int) -> None:
        client, latencies = Client(port, urls, number * 7), []
        client.ask()
        begin.wait()
        while not end.is_set():
            latencies.append(client.ask())
        found.put(latencies)

    with run_clients(run, clients):
        begin.wait()
        started, cpu_s = time.perf_counter(), _read_cpu_s(server)
        time.sleep(seconds)
        end.set()
        latencies = [one for _ in range(clients) for one in found.get()]
        passed, used_s = time.perf_counter() - started, _read_cpu_s(server) - cpu_s
    load = _to_load(clients, latencies, passed)
    return replace(load, cpu_ms=1000 * used_s / (load.images_per_s * passed))


@contextmanager
def run_jobs(port: int, urls: Sequence[str], count: int) -> Iterator[Callable[[], int]]:
    """Run batch jobs as ``prelabel`` does, and yield how to read the number of images they got answers for."""
    end, done = CONTEXT.Event(), CONTEXT.Value("l", 0)

    def run(number: int) -> None:
        client = Client(port, urls, number * 11)
        while not end.is_set():
            client.ask(JOB_TASKS, **{"X-Labelloop-Priority": "batch"})
            with done.get_lock():
                done.value += JOB_TASKS

    with run_clients(run, count):
        yield lambda: int(done.value)
        end.set()


def ask_as_a_person(port: int, urls: Sequence[str], seconds: float) -> Load:
    """Ask for one task, look at it a moment, ask for the next."""
    client, latencies, started = Client(port, urls, 3), [], time.perf_counter()
    while time.perf_counter() - started < seconds:
        latencies.append(client.ask())
        time.sleep(PEOPLE_S)
    return _to_load(1, latencies, seconds)


def check_beside_a_long_request(port: int, urls: Sequence[str]) -> Checks:
    """Ask for ten thousand tasks at once, as heavy as Label Studio sends them, and check the health meanwhile."""
    value = {"x": 1.5, "y": 2.25, "width": 33.3333333, "height": 12.125, "rotation": 0, "rectanglelabels": ["person"]}
    region: dict[str, Any] = {
        "id": "abcdefghij",
        "type": "rectanglelabels",
        "from_name": "label",
        "to_name": "image",
        "value": value,
    }
    region |= {"original_width": 640, "original_height": 480, "image_rotation": 0, "score": 0.9}
    client = Client(port, urls, 0)
    body = client.make_body(LONG_TASKS, predictions=[{"id": 1, "result": [region] * OLD_REGIONS}])
    seconds = CONTEXT.SimpleQueue()
    waits = []
    with run_clients(lambda _: seconds.put(client.send(body, LONG_TASKS)), 1) as (process,):
        while process.is_alive():
            waits.append(check(port, "/health")[1])
            time.sleep(CHECK_S)
    return Checks(len(waits), 1000 * statistics.median(waits), 1000 * max(waits), seconds.get(), len(body))


def _read_cpu_s(server: psutil.Process) -> float:
    times = server.cpu_times()
    return float(times.user + times.system)


def _to_load(clients: int, latencies: Sequence[float], seconds: float) -> Load:
    ordered = sorted(latencies)
    return Load(
        clients,
        len(ordered) / seconds,
        1000 * statistics.median(ordered),
        1000 * ordered[min(int(0.95 * len(ordered)), len(ordered) - 1)],
    )
