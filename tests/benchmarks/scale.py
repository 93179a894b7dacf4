"""Prints what syncing costs as the project grows: time and memory with N samples, and with a tenth of them.

    uv run python -m tests.benchmarks.scale --samples 100000

Starts a Label Studio (on SQLite) and a MongoDB of its own in a temporary folder, on free ports; all of it is stopped
and removed at the end. Each size is a project of its own: a sample with five boxes is sent by labelloop's own push,
then copied in the databases until there are as many, and one is saved once more, so that the others lie in the past.
Then 1 % of the reviews are changed, and each job is measured in a process of its own: seconds of the clock, and by how
much its memory grew at the most beyond what it held when its tools were open. At the end 1,000 samples of their own are
synced beside FiftyOne's own integration, on the same server.
"""

from __future__ import annotations

import json
import logging
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click
from PIL import Image

from labels.config import LabelConfig, default_label_config_path
from labels.geometry import Box, ImageSize
from labels.report import Report
from labels.results import Label
from sync.catalogue.samples import NewImage
from sync.jobs.context import Context, Services, open_context, open_dataset
from sync.jobs.exchange.pull import OVERLAP, pull
from sync.jobs.exchange.push import push
from sync.jobs.exchange.sweep import sweep
from sync.jobs.exchange.verify import verify
from sync.project_status import read_status
from sync.services.bootstrap import bootstrap
from sync.services.stack import ending_signals
from sync.settings import Home, Project
from tests.benchmarks import sync_throughput as throughput
from tests.benchmarks.copying import copy_sample
from tests.benchmarks.stage import Server

SIZE: Final = ImageSize(240, 160)
BOXES: Final = 5
CHANGED_PERCENT: Final = 1
PEER_SAMPLES: Final = 1000
STEPS: Final = ("pull, 1 % changed", "pull, nothing changed", "push, nothing changed", "status", "sweep", "verify")


def make_project(server: Server, folder: Path, *, samples: int) -> Home:
    """Make a project with as many reviewed samples, all of them sent."""
    home = Home(folder / f"samples-{samples}")
    home.images.mkdir(parents=True)
    config = LabelConfig.read(default_label_config_path())
    home.label_config.write_text(config.xml, encoding="utf-8")
    name = f"scale-{samples}"
    settings = replace(server.settings, project_title=name)
    workbench = bootstrap(server.home, settings, server.addresses, project_id=None)
    Project(name=name, label_studio_id=workbench.project_id).write(home)
    write_sample(server, home, name, config)
    with open_context(home, to_services(server)) as context:
        push(context)
        pull(context)
        copy_sample(context, server.home.label_studio / "label_studio.sqlite3", samples - 1)
        let_time_pass(context)
        for job in (push, pull):
            report = job(context)
            if report.moved or report.failed or context.ledger.link_count() != samples:
                raise RuntimeError(f"the copies are not what a push leaves: {report.to_dict()}")
    return home


def write_sample(server: Server, home: Home, name: str, config: LabelConfig) -> None:
    """Make a dataset with one sample that somebody has drawn five boxes on."""
    path = home.images / "one.png"
    Image.new("RGB", (SIZE.width, SIZE.height)).save(path)
    dataset = open_dataset(name, config, server.addresses.database_uri)
    image = NewImage(path, SIZE, "0" * 64, path.stat().st_size, "image/png")
    (first,) = dataset.write_images([image])
    assert config.box_control is not None
    boxes = [
        Label(f"f{number:023x}", config.box_control.name, ("car",), Box(10 + 40 * number, 20, 30, 40))
        for number in range(BOXES)
    ]
    dataset.write_labels({first: boxes})


def let_time_pass(context: Context) -> None:
    """Save a review as it is, and pull: all copies have the stamp of the first, which the cursor then leaves behind."""
    time.sleep(OVERLAP.total_seconds())
    (task,) = context.label_studio.fetch_tasks([min(context.ledger.links_by_task())])
    assert task.review is not None
    regions = [dict(region) for region in task.review.result]
    context.label_studio._sdk.annotations.update(id=task.review.annotation_id, result=regions)
    pull(context)


def change_reviews(server: Server, home: Home, *, samples: int, seed: int) -> int:
    """Move a box in the reviews of one percent of the tasks, and return how many that are."""
    with open_context(home, to_services(server)) as context:
        chosen = random.Random(seed).sample(sorted(context.ledger.links_by_task()), samples * CHANGED_PERCENT // 100)
        for task in context.label_studio.fetch_tasks(chosen):
            assert task.review is not None
            regions = [json.loads(json.dumps(dict(region))) for region in task.review.result]
            regions[0]["value"]["x"] += 1
            context.label_studio._sdk.annotations.update(id=task.review.annotation_id, result=regions)
    return len(chosen)


def to_services(server: Server) -> Services:
    return Services(server.url, server.addresses.ml_backend, server.addresses.database_uri)


def measure(home: Home, services: Services, step: str) -> dict[str, Any]:
    """Do one step in this process and return seconds, growth of memory in bytes, and what was reported."""
    with open_context(home, services) as context:
        # A small read, so that what comes with the first use of a tool is there already.
        next(iter(context.label_studio.fetch_task_refs()))
        context.dataset.labels(context.dataset.sort_ids(list(context.ledger.links_by_task(range(5)))))
        steps: dict[str, Callable[[Context], Any]] = {
            "pull": pull,
            "push": push,
            "sweep": sweep,
            "verify": verify,
            "status": lambda _context: read_status(home, services),
        }
        call = steps[step.partition(",")[0]]
        Path("/proc/self/clear_refs").write_text("5")
        before = _memory("VmRSS")
        begun_s = time.perf_counter()
        report = call(context)
        took_s = time.perf_counter() - begun_s
        grown = _memory("VmHWM") - before
    told = next(report.lines()) if isinstance(report, Report) else str(report.counts)
    return {"took_s": took_s, "grown": grown, "told": told}


def _memory(name: str) -> int:
    """Return a size of this process in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def measure_apart(server: Server, home: Home, step: str) -> dict[str, Any]:
    """Measure a step in a process of its own."""
    environment = os.environ | {
        "LABEL_STUDIO_API_KEY": server.token,
        "LABEL_STUDIO_URL": server.url,
        "LABELLOOP_ML_BACKEND_URL": server.addresses.ml_backend,
        "FIFTYONE_DATABASE_URI": server.addresses.database_uri,
    }
    command = [sys.executable, "-m", "tests.benchmarks.scale", "--home", str(home.path), "--step", step]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{step}: {done.stderr[-2000:]}")
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    grown = f"+{measured['grown'] / 1e6:.1f} MB"
    click.echo(f"  {step:24} {measured['took_s']:8.2f} s {grown:>10}  {measured['told']}", err=True)
    return measured


def to_lines(sizes: list[int], figures: Mapping[tuple[int, str], Mapping[str, Any]]) -> Iterator[str]:
    """Yield the table: a line a step, seconds and memory for each size."""
    yield f"{'':24}" + "".join(f"{f'{size:,} samples':>28}" for size in sizes)
    yield f"{'':24}" + f"{'wall s':>14}{'memory +MB':>14}" * len(sizes)
    for step in STEPS:
        cells = (figures[size, step] for size in sizes)
        yield f"{step:24}" + "".join(f"{one['took_s']:14.2f}{one['grown'] / 1e6:14.1f}" for one in cells)


def compare_with_peer(server: Server, pid: int, folder: Path, *, seed: int) -> Iterator[str]:
    """Yield the table of one round of ``sync_throughput``, after a small one that warms both sides up."""
    for name, images in (("warm-up", throughput.WARM_UP_IMAGES), ("round", PEER_SAMPLES)):
        bench = throughput.make_bench(server, pid, folder / name, images=images, seed=seed, share=CHANGED_PERCENT)
        bench.time_ours(name)
        # FiftyOne sets its own level when it is imported, which was just now.
        logging.getLogger("fiftyone").setLevel(logging.ERROR)
        bench.time_peer(name)
    yield from throughput.to_lines(bench)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--samples", default=100_000, type=click.IntRange(min=1000), help="Samples of the larger project.")
@click.option("--seed", default=51, help="Seed of what is changed.")
@click.option("--home", type=click.Path(path_type=Path), hidden=True)
@click.option("--step", hidden=True)
def main(samples: int, seed: int, home: Path | None, step: str | None) -> None:
    """Print what syncing costs with N samples and with a tenth of them.

    Example: uv run python -m tests.benchmarks.scale --samples 100000
    """
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
    if home is not None and step is not None:
        click.echo(json.dumps(measure(Home(home), Services.from_environ(os.environ), step)))
        return
    sizes = [samples // 10, samples]
    figures: dict[tuple[int, str], Mapping[str, Any]] = {}
    with ending_signals(), tempfile.TemporaryDirectory(prefix="labelloop-") as scratch, ExitStack() as running:
        server, pid = running.enter_context(throughput.run_server(Path(scratch)))
        os.environ["LABEL_STUDIO_API_KEY"] = server.token
        for size in sizes:
            made = make_project(server, Path(scratch), samples=size)
            changed = change_reviews(server, made, samples=size, seed=seed)
            click.echo(f"{size} samples, {changed} reviews changed", err=True)
            for one in STEPS:
                figures[size, one] = measure_apart(server, made, one)
        click.echo(f"{BOXES} boxes a sample, {CHANGED_PERCENT} % of the reviews changed, seed {seed}\n")
        for line in to_lines(sizes, figures):
            click.echo(line)
        click.echo(f"\n{PEER_SAMPLES:,} samples, {CHANGED_PERCENT} % of the reviews changed, beside FiftyOne's own\n")
        for line in compare_with_peer(server, pid, Path(scratch), seed=seed):
            click.echo(line)
        click.echo(f"\n{throughput.to_versions()}")


if __name__ == "__main__":
    main()
