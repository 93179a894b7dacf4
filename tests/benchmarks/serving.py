"""How many images a second the ML backend answers, against two other ways to build one, all in one run.

    python -m tests.benchmarks.serving --weights yolov8n.pt --images DIR

- ``ours``: ``python -m ml_backend``, micro-batched; once by the runtime it chooses itself, once by plain torch.
- ``unbatched``: the same, one image a forward pass.
- ``official``: Label Studio's own example in style: Flask with 8 threads, for each task Ultralytics' ``predict(path)``.
- ``simulated``: a model that takes 6 ms and 0.6 ms an image, as a small accelerator does; batches of 32 and of 1.

Caches are off, each server and each client is a process of its own, clients ask for one task at a time as people do.
Numbers of different runs say nothing about each other: the machine is shared.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click
import psutil
from PIL import Image as PillowImage

from labels.config import default_label_config_path
from ml_backend.settings import Settings
from tests.benchmarks.serving_clients import (
    LONG_TASKS,
    ask_as_a_person,
    check,
    check_beside_a_long_request,
    measure,
    run_jobs,
)

CLIENTS: Final = (1, 8, 32)
START_S: Final = 180.0


def main() -> None:
    """Measure and print."""
    options = read_options()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        urls = prepare_images(home, options.images)
        click.echo(
            f"{len(urls)} images, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, weights {options.weights}"
        )
        click.echo(f"{'server':34}" + "".join(f"{clients:>3} clients{'':24}" for clients in CLIENTS))
        for name, command, environment in list_servers(home, options):
            with run_server(home, name, command, environment) as (port, process):
                loads = [measure(port, urls, clients, options.seconds, process) for clients in CLIENTS]
                click.echo(f"{name:34}" + "  ".join(str(load) for load in loads))
                if name in {"ours, its own runtime", "simulated accelerator, ours"}:
                    print_meanwhile(port, urls, options.seconds)
                if name == "simulated accelerator, ours":
                    print_long_request(port, urls)
        print_split(home, urls, options)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="yolo11n", help="a path or a known name (default: the packaged one)")
    parser.add_argument("--images", type=Path, help="a folder of JPEG files (default: windows of packaged photos)")
    parser.add_argument("--seconds", type=float, default=8.0, help="for each measurement")
    parser.add_argument("--only", help="measure the servers whose name has this in it")
    return parser.parse_args()


def prepare_images(home: Path, folder: Path | None) -> list[str]:
    """Put images under a media root and return their addresses."""
    images = home / "media" / "images"
    images.mkdir(parents=True)
    if folder is not None:
        (images / "photos").symlink_to(folder.resolve())
        names = sorted(path.name for path in folder.glob("*.jpg"))
        return [f"/data/local-files/?d=images/photos/{name}" for name in names]
    spec = importlib.util.find_spec("ultralytics")
    assert spec is not None
    assert spec.origin is not None
    with PillowImage.open(Path(spec.origin).parent / "assets" / "bus.jpg") as photo:
        for number in range(64):
            left, top = number % 8 * 20, number // 8 * 40
            photo.crop((left, top, left + 640, top + 480)).save(images / f"{number:03}.jpg", quality=90)
    return [f"/data/local-files/?d=images/{number:03}.jpg" for number in range(64)]


def list_servers(home: Path, options: argparse.Namespace) -> Iterator[tuple[str, list[str], dict[str, str]]]:
    """Yield the name, command and variables of each server; its port comes last in the command or the variables."""
    environment = {
        "LABELLOOP_HOME": str(home),
        "LABELLOOP_MODEL": str(options.weights),
        "LABELLOOP_OFFLINE": "1",
        "LABELLOOP_CACHE_MB": "0",
        "LABELLOOP_TRUST_WEIGHTS": "1",
        "LABELLOOP_DEVICE": "auto",
    }
    ours = [sys.executable, "-P", "-m", "ml_backend"]
    other = [sys.executable, "-m", "tests.benchmarks.serving_rivals", "--weights", str(options.weights)]
    other += ["--media", str(home / "media")]
    servers = [
        ("official style, 8 threads", [*other, "official"], {}),
        ("unbatched, torch", ours, environment | {"LABELLOOP_BATCH_SIZE": "1", "LABELLOOP_RUNTIME": "torch"}),
        ("ours, torch", ours, environment | {"LABELLOOP_RUNTIME": "torch"}),
        ("unbatched, its own runtime", ours, environment | {"LABELLOOP_BATCH_SIZE": "1"}),
        ("ours, its own runtime", ours, environment),
        ("ours, its own runtime, bfloat16", ours, environment | {"LABELLOOP_PRECISION": "bfloat16"}),
        ("simulated accelerator, unbatched", [*other, "simulated", "--batch-size", "1"], {}),
        ("simulated accelerator, ours", [*other, "simulated", "--batch-size", "32"], {}),
    ]
    yield from (server for server in servers if options.only is None or options.only in server[0])


@contextmanager
def run_server(
    home: Path, name: str, command: list[str], environment: Mapping[str, str]
) -> Iterator[tuple[int, psutil.Process]]:
    """Run a server on a free port until its model is there, and stop it."""
    port = find_port()
    arguments = [] if "ml_backend" in command else ["--port", str(port)]
    log = home / "log"
    with log.open("wb") as file:
        server = subprocess.Popen(
            command + arguments,
            env=os.environ | environment | {"LABELLOOP_PORT": str(port)},
            stdout=file,
            stderr=file,
        )
    try:
        deadline = time.monotonic() + START_S
        waits = [0.0]
        while not is_ready(port, waits):
            if server.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{name} did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.02)
        if len(waits) > 1 and name == "ours, its own runtime":
            click.echo(f"  while its model was loading: {len(waits) - 1} answers, slowest {1000 * max(waits):.0f} ms")
        yield port, psutil.Process(server.pid)
    finally:
        server.terminate()
        server.wait(30)


def find_port() -> int:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def is_ready(port: int, waits: list[float]) -> bool:
    """Return whether the model is there, and add how long the answer took if it was none yet."""
    try:
        status, seconds = check(port, "/ready")
    except OSError:
        return False
    if status != 200:
        waits.append(seconds)
    return status == 200


def print_meanwhile(port: int, urls: Sequence[str], seconds: float) -> None:
    """Print how long a person waits while two batch jobs run, and what those still get done."""
    alone = ask_as_a_person(port, urls, seconds)
    with run_jobs(port, urls, 2) as read_done:
        time.sleep(1)
        started, before = time.perf_counter(), read_done()
        beside = ask_as_a_person(port, urls, seconds)
        images = (read_done() - before) / (time.perf_counter() - started)
        waits = [check(port, "/health")[1] for _ in range(100)]
    click.echo(
        f"  a person alone: p50 {alone.p50_ms:.0f}, p95 {alone.p95_ms:.0f} ms; beside two batch jobs that get"
        f" {images:.0f} images/s: p50 {beside.p50_ms:.0f}, p95 {beside.p95_ms:.0f} ms;"
        f" slowest of 100 checks of health meanwhile {1000 * max(waits):.0f} ms"
    )


def print_long_request(port: int, urls: Sequence[str]) -> None:
    """Print how long checks of health take while a request of ten thousand tasks is answered."""
    checks = check_beside_a_long_request(port, urls)
    click.echo(
        f"  a request of {LONG_TASKS} tasks, {checks.request_bytes / 1e6:.0f} MB, took {checks.request_s:.1f} s;"
        f" of {checks.count} checks of health meanwhile the median took {checks.p50_ms:.0f}, the slowest"
        f" {checks.slowest_ms:.0f} ms"
    )


def print_split(home: Path, urls: Sequence[str], options: argparse.Namespace) -> None:
    """Print where the time of one image goes, one image at a time in this process."""
    from functools import partial

    from ml_backend.serving.app import create_app
    from ml_backend.serving.engine import Engine
    from ml_backend.serving.holding import ModelHolder
    from ml_backend.serving.loading import load_model
    from ml_backend.serving.metrics import Metrics
    from ml_backend.serving.process import spare_the_cores

    spare_the_cores()
    settings = Settings.from_environment({"LABELLOOP_HOME": str(home), "LABELLOOP_OFFLINE": "1"})
    settings = replace(settings, model=str(options.weights), cache_bytes=0)
    metrics = Metrics()
    holder = ModelHolder(partial(load_model, settings), metrics=metrics)
    holder.start_loading(settings.model)
    problem = holder.wait()
    if problem is not None:
        sys.exit(problem)
    engine = Engine(settings, holder, metrics=metrics)
    client = create_app(engine).test_client()
    times = watch(holder.get().detector)
    config = default_label_config_path().read_text(encoding="utf-8")
    started = time.perf_counter()
    for number, url in enumerate(urls):
        client.post("/predict", json={"tasks": [{"id": number, "data": {"image": url}}], "label_config": config})
    total = time.perf_counter() - started
    engine.close()
    model = metrics.read_value("forward_seconds_sum")
    parts = {
        "read": metrics.read_value("read_seconds_sum"),
        "decode": metrics.read_value("decode_seconds_sum"),
        "pre-process": times["prepare"],
        "forward": times["forward"],
        "NMS and boxes": model - times["prepare"] - times["forward"],
    }
    parts["HTTP, JSON, regions, queue"] = total - sum(parts.values())
    click.echo("one image, ms: " + ", ".join(f"{name} {1000 * value / len(urls):.2f}" for name, value in parts.items()))


def watch(detector: Any) -> dict[str, float]:
    """Add up the time of a YOLO detector's two inner steps; nothing is added for another detector."""
    times = {"prepare": 0.0, "forward": 0.0}

    def timed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            started = time.perf_counter()
            try:
                return call(*arguments)
            finally:
                times[name] += time.perf_counter() - started

        return run

    for name in times:
        if hasattr(detector, f"_{name}"):
            setattr(detector, f"_{name}", timed(name, getattr(detector, f"_{name}")))
    return times


if __name__ == "__main__":
    main()
