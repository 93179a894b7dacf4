"""Prints how fast labelloop syncs, beside FiftyOne's own Label Studio integration. Asserts nothing about speed.

    uv run python tests/benchmarks/sync_throughput.py --images 1000

Starts a Label Studio (on SQLite) and a MongoDB of its own in a temporary folder, on free ports; all of it is stopped
and removed at the end, also after a failure. In every round both sides get a new project and dataset with the same
images and seeded boxes, on the same server, one after the other; who comes first alternates. The same tasks are then
answered over the API: some percent with a moved box, later those once more and all others by accepting their boxes as
they are. A small round before, which does not count, warms both up. A round with 1,000 images takes about a minute.

The table has one line a step and side:
  wall s      of the call, least / median / most of the rounds
  images/s    images of the dataset by the median, whatever part of them had changed
  client s    CPU seconds of this process, median
  server s    CPU seconds of Label Studio during the call, median
  ratio       wall seconds of the peer by ours in the same round, median (least to most)
--profile FOLDER adds a round of labelloop alone under cProfile, which does not count, and leaves a file a step there.
"""

from __future__ import annotations

import cProfile
import gc
import importlib.metadata
import logging
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import click
import psutil

from labels.config import LabelConfig, default_label_config_path
from sync.jobs.exchange.pull import pull
from sync.jobs.exchange.push import push
from sync.services import programs
from sync.services.label_studio_token import read_or_make_token
from sync.services.stack import ending_signals
from sync.settings import Home
from tests.benchmarks.stage import (
    Material,
    Peer,
    Server,
    accept_rest,
    allow_legacy_token,
    annotate,
    expect_moved,
    open_ours,
    write_material,
)
from tests.sync.services.stub_stack import StubStack

Answer = TypeVar("Answer")

UP: Final = "up: tasks with predictions"
UP_AGAIN: Final = "up again, nothing to do"
BACK_PART: Final = "back, {share} % of tasks changed"
BACK_NONE: Final = "back, nothing changed"
BACK_ALL: Final = "back, all tasks changed"
OURS: Final = "labelloop"
PEER: Final = "peer"
WARM_UP_IMAGES: Final = 20
VERSIONS_OF: Final = ("labelloop", "label-studio", "label-studio-sdk", "fiftyone", "pymongo", "sqlite-utils")
NOTES: Final = """\
peer: FiftyOne's integration, dataset.annotate(backend="labelstudio") and load_annotations(), in local-files mode (no
image travels on either side), with a legacy token. It has no incremental mode: every load reads all tasks and writes
all labels, so what it does for a few changed tasks is what it does for all of them. It cannot send a second time
either: the same key is refused and another one makes a second project. It does not record versions, reviewers or
verdicts, nor merge; labelloop's seconds include all of that.
labelloop: a first pull asks for the answered tasks in brief, a later one for what changed since; only what changed is
read whole.
aims: 5 times the peer's speed up, 20 times on a pull of a few percent. Stated, not asserted."""


@dataclass(frozen=True)
class Cost:
    """What one call took: seconds of the clock, of this process, and of Label Studio's."""

    wall_s: float
    client_s: float
    server_s: float


@dataclass
class Bench:
    """One run: the material, the server, and the costs of each step of each side, round by round."""

    server: Server
    server_pid: int
    material: Material
    changed: frozenset[str]
    profiles: Path | None = None
    costs: dict[tuple[str, str], list[Cost]] = field(default_factory=lambda: defaultdict(list))

    @property
    def back_part(self) -> str:
        return BACK_PART.format(share=f"{100 * len(self.changed) / len(self.material.names):g}")

    @property
    def steps(self) -> list[str]:
        return [UP, UP_AGAIN, self.back_part, BACK_NONE, BACK_ALL]

    def time_ours(self, name: str) -> None:
        """Send the images with labelloop and bring answers back: of some, of none, of all."""
        everything = self.material.names
        with open_ours(self.server, self.material, f"ours-{name}") as context:
            expect_moved(self._time(OURS, UP, lambda: push(context)), len(everything))
            expect_moved(self._time(OURS, UP_AGAIN, lambda: push(context)), 0)
            project_id = context.project.label_studio_id
            assert project_id is not None
            annotate(self.server, project_id, self.changed)
            expect_moved(self._time(OURS, self.back_part, lambda: pull(context)), len(self.changed))
            expect_moved(self._time(OURS, BACK_NONE, lambda: pull(context)), 0)
            annotate(self.server, project_id, self.changed)
            accept_rest(self.server, project_id)
            expect_moved(self._time(OURS, BACK_ALL, lambda: pull(context)), len(everything))

    def time_peer(self, name: str) -> None:
        """Do the same with FiftyOne's integration."""
        peer = Peer(self.server, self.material, f"peer-{name}")
        project_id = self._time(PEER, UP, peer.upload)
        annotate(self.server, project_id, self.changed)
        self._time_load(peer, self.back_part, len(self.changed))
        self._time_load(peer, BACK_NONE, 0)
        annotate(self.server, project_id, self.changed)
        accept_rest(self.server, project_id)
        self._time_load(peer, BACK_ALL, len(self.changed))

    def _time_load(self, peer: Peer, step: str, expected: int) -> None:
        before = peer.positions()
        self._time(PEER, step, peer.load)
        after = peer.positions()
        # What was moved was moved by one percent. By the sum, since the order of boxes is not kept.
        moved = sum(abs(sum(before[name]) - sum(after[name])) > 0.005 for name in before)
        if moved != expected:
            raise RuntimeError(f"the peer, {step}: expected {expected} images with a moved box, got {moved}")

    def _time(self, side: str, step: str, call: Callable[[], Answer]) -> Answer:
        gc.collect()
        profile = cProfile.Profile() if self.profiles is not None else None
        before, server_before_s = os.times(), self._server_s()
        begun_s = time.perf_counter()
        answer = call() if profile is None else profile.runcall(call)
        wall_s = time.perf_counter() - begun_s
        after = os.times()
        client_s = after.user + after.system - before.user - before.system
        self.costs[step, side].append(Cost(wall_s, client_s, self._server_s() - server_before_s))
        click.echo(f"  {side:9}  {step:32}  {wall_s:7.2f} s", err=True)
        if profile is not None and self.profiles is not None:
            profile.dump_stats(self.profiles / f"{self.steps.index(step)}-{step.split(',')[0].split(':')[0]}.prof")
        return answer

    def _server_s(self) -> float:
        process = psutil.Process(self.server_pid)
        times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
        return sum(one.user + one.system for one in times)


@contextmanager
def run_server(folder: Path) -> Iterator[tuple[Server, int]]:
    """Run Label Studio and MongoDB in a folder; idle stand-ins take the places of the servers that sync never asks."""
    home = Home(folder / "home")
    real = frozenset({programs.MONGOD, programs.LABEL_STUDIO})
    stub = StubStack(home, real=real, start_timeout_s=120.0)
    stack = stub.make()
    with stack.running(lambda line: click.echo(f"  {line}", err=True)) as addresses, ExitStack() as ending:
        os.environ.update(programs.to_fiftyone_environment(addresses.database_uri))
        # While the process ends, FiftyOne would look for seconds for a database that is gone.
        ending.callback(_leave_database)
        token = read_or_make_token(
            addresses.label_studio,
            email=stub.settings.admin_email,
            password_file=home.secrets / "admin_password",
            token_file=home.secrets / "label_studio_token",
        )
        pids = {status.name: status.pid for status in stack.status()}
        pid = pids[programs.LABEL_STUDIO]
        assert pid is not None
        legacy = allow_legacy_token(addresses.label_studio, token)
        yield Server(home, stub.settings, addresses, token, legacy), pid


def _leave_database() -> None:
    if "fiftyone" in sys.modules:
        sys.modules["fiftyone.core.odm.database"]._disconnect()


def make_bench(server: Server, pid: int, folder: Path, *, images: int, seed: int, share: float) -> Bench:
    """Write the material of a run and choose the images whose tasks are answered first."""
    material = write_material(folder, LabelConfig.read(default_label_config_path()), images=images, seed=seed)
    chosen = random.Random(seed).sample(material.names, max(1, round(images * share / 100)))
    return Bench(server, pid, material, frozenset(chosen))


def to_lines(bench: Bench) -> Iterator[str]:
    """Yield the table."""
    yield (f"{'':34}{'':11}{'wall s':^23}{'images/s':>10}{'client s':>10}{'server s':>10}   ratio to the peer")
    for step in bench.steps:
        for side in (OURS, PEER):
            costs = bench.costs.get((step, side))
            yield (
                f"{step if side == OURS else '':34}{side:11}"
                + (f"{'cannot':^23}" if costs is None else _to_cells(costs, len(bench.material.names)))
                + (_to_ratio(bench, step) if side == OURS else "")
            )


def _to_cells(costs: Sequence[Cost], images: int) -> str:
    walls = [cost.wall_s for cost in costs]
    middle = statistics.median(walls)
    return (
        f"{min(walls):7.2f}{middle:8.2f}{max(walls):8.2f}{images / middle:10.0f}"
        f"{statistics.median(cost.client_s for cost in costs):10.2f}"
        f"{statistics.median(cost.server_s for cost in costs):10.2f}"
    )


def _to_ratio(bench: Bench, step: str) -> str:
    ours, peers = bench.costs[step, OURS], bench.costs.get((step, PEER))
    if peers is None:
        return ""
    ratios = [peer.wall_s / our.wall_s for our, peer in zip(ours, peers, strict=True)]
    return f"   {statistics.median(ratios):.1f} x ({min(ratios):.1f} to {max(ratios):.1f})"


def to_versions() -> str:
    """Return what was measured and on what."""
    import fiftyone as fo

    packages = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in VERSIONS_OF)
    mongodb = fo.core.odm.get_db_conn().client.server_info()["version"]
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{packages}, MongoDB {mongodb}, Python {platform.python_version()}\n"
        f"{platform.platform()}, {os.cpu_count()} CPUs, load now {load}; Label Studio on SQLite, one process"
    )


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--images", default=1000, type=click.IntRange(min=20), help="Images of the dataset.")
@click.option("--rounds", default=3, type=click.IntRange(min=1), help="Rounds that count.")
@click.option("--changed", default=5.0, type=click.FloatRange(0, 100), help="Percent of tasks answered first.")
@click.option("--seed", default=51, help="Seed of images, boxes and answers.")
@click.option("--profile", type=click.Path(path_type=Path), help="Folder for a profile of each step of labelloop.")
def main(images: int, rounds: int, changed: float, seed: int, profile: Path | None) -> None:
    """Print how fast labelloop syncs, beside FiftyOne's own integration.

    Example: uv run python tests/benchmarks/sync_throughput.py --images 1000
    """
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
    with ending_signals(), tempfile.TemporaryDirectory(prefix="labelloop-") as scratch, ExitStack() as running:
        server, pid = running.enter_context(run_server(Path(scratch)))
        click.echo("warming up", err=True)
        warm_up = make_bench(server, pid, Path(scratch, "warm-up"), images=WARM_UP_IMAGES, seed=seed, share=changed)
        warm_up.time_ours("warm-up")
        # FiftyOne sets its own level when it is imported, which was just now.
        logging.getLogger("fiftyone").setLevel(logging.ERROR)
        warm_up.time_peer("warm-up")
        bench = make_bench(server, pid, Path(scratch, "photos"), images=images, seed=seed, share=changed)
        for number in range(1, rounds + 1):
            click.echo(f"round {number} of {rounds}", err=True)
            sides = [bench.time_ours, bench.time_peer]
            for time_side in sides if number % 2 else reversed(sides):
                time_side(f"round-{number}")
        click.echo(f"{images} images, {bench.material.box_count} boxes, {rounds} rounds, seed {seed}\n")
        for line in to_lines(bench):
            click.echo(line)
        click.echo(f"\n{NOTES}\n\n{to_versions()}")
        if profile is not None:
            profile.mkdir(parents=True, exist_ok=True)
            profiled = Bench(server, pid, bench.material, bench.changed, profiles=profile)
            profiled.time_ours("profile")


if __name__ == "__main__":
    main()
