"""Jobs that end by SIGKILL at a random moment and are then run again, on the real tools: nothing lost, nothing doubled.

What people do goes on all the time, and after each kill as well. The everyday size is 24 kills; the full one:
``LABELLOOP_KILLS=200 uv run pytest -s tests/e2e/test_killed.py``.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sync.settings import read_secret
from tests.e2e.conftest import RunningStack
from tests.e2e.crowd import Crowd
from tests.e2e.fresh_project import FreshProject, add_images, open_fresh_project
from tests.e2e.nursery import Ending, Nursery, Order, open_nursery
from tests.e2e.real_view import read_view
from tests.fakes.model import SampleModel
from tests.fakes.oracle import Oracle, View, to_key
from tests.fakes.project import CONFIG

KILLS = int(os.environ.get("LABELLOOP_KILLS", "12"))
SEED = random.SystemRandom().getrandbits(32) if "LABELLOOP_KILLS" in os.environ else 1
IMAGES = 8
MOST_RUNS = 4
JOBS = ("push", "pull", "resolve", "push", "pull", "prelabel", "resolve")
SENDERS = ("push", "prelabel")
# Of a job that ends before its moment to die comes, another attempt is made.
MOST_ATTEMPTS = KILLS * 4


@dataclass
class Siege:
    """One project under attack, and what came of it."""

    project: FreshProject
    nursery: Nursery
    order: Mapping[str, Any]
    crowd: Crowd
    oracle: Oracle
    rng: random.Random
    # How long each job took when it was let alone, so that death comes within that time.
    lasts_s: dict[str, float] = field(default_factory=dict)
    kills: Counter[str] = field(default_factory=Counter)
    versions: int = 1
    # Jobs that found a request of a dead one under way.
    waits: int = 0
    # What there was before the last job that sends things, if it was killed: what it asked for may come at any time.
    unsettled: View | None = None

    def run(self, job: str, kill_after_s: float | None, **params: Any) -> Ending:
        """Run a job, dead or alive, and let the oracle check what it left."""
        self.note_late()
        first = read_view(self.project)
        self.waits += job in SENDERS and self.project.context.ledger.sending() is not None
        ending = self.nursery.run(
            Order(
                **self.order, job=job, params=params, model_version=f"fake-{self.versions}", kill_after_s=kill_after_s
            )
        )
        # A busy Label Studio on SQLite drops things by itself now and then; the job says so, and is run again.
        assert ending.error is None or "Label Studio kept" in ending.error, ending.error
        is_done = not ending.was_killed and ending.error is None
        view = read_view(self.project)
        if job in SENDERS:
            before = self.unsettled or first
            surely = is_done and self.unsettled is None
            self.oracle.note_sent(before.task_of, view, surely=surely, sent_from=before)
            self.unsettled = None if is_done else before
        if job == "pull":
            self.oracle.check_pulled(view, params.get("prefer"), is_done=is_done)
        if job == "resolve":
            decided = {
                key: {to_key(one): side for one in first.conflicts.get(key, ())}
                for key, side in params["decisions"].items()
            }
            self.oracle.check_resolved(view, decided, first.conflicts, is_current=False, is_done=is_done)
        if is_done:
            self.lasts_s[job] = ending.took_s
        self.oracle.expect_nothing_touched(view)
        if is_done:
            self.oracle.expect_nothing_doubled(view)
        self.oracle.expect_held(view)
        return ending

    def strike(self, job: str) -> bool:
        """Kill a job at a random moment and run it again; return whether it was killed."""
        if job == "push":
            new = add_images(self.project, 1, f"fake-{self.versions}")
            self.oracle.models |= {sample_id: SampleModel() for sample_id in new}
        if job == "prelabel":
            self.versions += 1
        params = self._choose(job)
        ending = self.run(job, self.rng.uniform(0, self.lasts_s.get(job, 0.3)), **params)
        if self.rng.random() < 0.5:
            self.note_late()
            self.crowd.act(1)
        if ending.was_killed:
            self.kills[job] += 1
            print(f"{self.kills.total()} {job}", end=" ", flush=True)  # noqa: T201
            self.finish(job, **params)
            self.verify()
        return ending.was_killed

    def note_late(self) -> None:
        """Tell the oracle what Label Studio has done meanwhile for a job that was killed."""
        if self.unsettled is not None:
            now = read_view(self.project)
            self.oracle.note_sent(self.unsettled.task_of, now, surely=False, sent_from=self.unsettled)

    def finish(self, job: str, **params: Any) -> Ending:
        """Run a job to its end."""
        endings = (self.run(job, None, **params) for _ in range(MOST_RUNS))
        return next(ending for ending in endings if ending.error is None)

    def _choose(self, job: str) -> dict[str, Any]:
        if job == "pull":
            return {"prefer": self.rng.choice((None, None, None, "reviewed", "curated"))}
        if job == "resolve":
            self.crowd.disagree(2)
            self.finish("pull")
            open_ones = sorted(self.project.context.ledger.conflicts())
            return {"decisions": {key: self.rng.choice(("reviewed", "curated")) for key in open_ones}}
        return {}

    def verify(self) -> None:
        """Compare all three with the job that does that."""
        report = self.finish("verify").report
        assert report is not None
        assert report["failed"] == [], report["failed"]


def open_siege(stack: RunningStack, project: FreshProject, nursery: Nursery) -> Siege:
    oracle = Oracle({sample_id: SampleModel() for sample_id in project.context.dataset.sample_ids()})
    rng = random.Random(SEED)
    order = {
        "home": str(stack.home.path),
        "url": stack.addresses.label_studio,
        "token": read_secret(stack.home, "label_studio_token") or "",
        "project_id": project.project_id,
        "dataset": project.context.project.name,
        "ledger": str(project.context.ledger.path),
        "config_xml": CONFIG.xml,
    }
    return Siege(project, nursery, order, Crowd(project, oracle, rng), oracle, rng)


def settle(siege: Siege) -> None:
    """Sync until nothing moves; then both tools agree."""
    for _ in range(2):
        siege.finish("push")
        siege.finish("pull")
    for job in ("push", "pull"):
        report = siege.finish(job).report
        assert report is not None
        assert report["moved"] == 0
    siege.oracle.expect_agreement(read_view(siege.project))
    siege.verify()


def test_jobs_killed_at_random_moments_lose_and_double_nothing(stack: RunningStack, tmp_path: Path):
    with open_fresh_project(stack, tmp_path, images=IMAGES, config=CONFIG) as project, open_nursery() as nursery:
        siege = open_siege(stack, project, nursery)
        settle(siege)
        for attempt in range(MOST_ATTEMPTS):
            if siege.kills.total() >= KILLS:
                break
            siege.crowd.act(2)
            siege.strike(JOBS[attempt % len(JOBS)])
        settle(siege)
        assert siege.kills.total() >= KILLS
        told = f"seed {SEED}, killed {dict(siege.kills)}, labels drawn or changed by people: {siege.crowd.drawn}"
        print(f"\n{told}, waited for the dead: {siege.waits}")  # noqa: T201
