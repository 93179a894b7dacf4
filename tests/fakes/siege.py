"""Jobs that are killed at random moments and run again, while people work at both ends; an oracle checks each step.

``Siege`` does not know what it besieges: ``tests/e2e/test_killed.py`` gives it the real tools and processes that are
killed, ``tests/sync/test_siege.py`` the tools in memory and jobs that end at a write.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from tests.fakes.crowd import Crowd, Site
from tests.fakes.model import SampleModel
from tests.fakes.oracle import Oracle, View, to_key

MOST_RUNS: Final = 4
JOBS: Final = ("push", "pull", "resolve", "push", "pull", "prelabel", "resolve")
SENDERS: Final = ("push", "prelabel")


@dataclass(frozen=True)
class Ending:
    """How a job ended: killed, with an error of its own, or with its report."""

    was_killed: bool
    took_s: float
    error: str | None = None
    report: Mapping[str, Any] | None = None


class Runner(Protocol):
    """Runs jobs. ``dies_at`` is how far the job gets (0..1, of what it did when it was let alone); None: to its end."""

    def run(self, job: str, params: Mapping[str, Any], model_version: str, dies_at: float | None) -> Ending: ...


@dataclass
class Siege:
    """One project under attack, and what came of it."""

    project: Site
    runner: Runner
    crowd: Crowd
    oracle: Oracle
    rng: random.Random
    kills: Counter[str] = field(default_factory=Counter)
    versions: int = 1
    # Jobs that found a request of a dead one under way.
    waits: int = 0
    # What there was before the last job that sends things, if it was killed: what it asked for may come at any time.
    unsettled: View | None = None

    @classmethod
    def open(cls, project: Site, runner: Runner, seed: int) -> Siege:
        """Begin: nothing was sent yet, and nobody has said anything."""
        oracle = Oracle({sample_id: SampleModel() for sample_id in project.context.dataset.sample_ids()})
        rng = random.Random(seed)
        return cls(project, runner, Crowd(project, oracle, rng), oracle, rng)

    def lay(self, kills: int) -> None:
        """Settle, kill jobs that often (see ``kills``; a job may end before its moment comes), and settle again."""
        self.settle()
        for attempt in range(kills * 4):
            if self.kills.total() >= kills:
                break
            self.crowd.act(2)
            self.strike(JOBS[attempt % len(JOBS)])
        self.settle()

    def strike(self, job: str) -> None:
        """Kill a job at a random moment and run it again."""
        if job == "push":
            new = self.project.add_images(1, self.model_version)
            self.oracle.models |= {sample_id: SampleModel() for sample_id in new}
        if job == "prelabel":
            self.versions += 1
        params = self._choose(job)
        ending = self.run(job, self.rng.random(), **params)
        if self.rng.random() < 0.5:
            self.note_late(self.project.view())
            self.crowd.act(1)
        if ending.was_killed:
            self.kills[job] += 1
            print(f"{self.kills.total()} {job}", end=" ", flush=True)  # noqa: T201
            self.finish(job, **params)
            self.verify()

    def _choose(self, job: str) -> dict[str, Any]:
        if job == "pull":
            return {"prefer": self.rng.choice((None, None, None, "reviewed", "curated"))}
        if job == "resolve":
            self.crowd.disagree(2)
            self.finish("pull")
            open_ones = sorted(self.project.context.ledger.conflicts())
            return {"decisions": {key: self.rng.choice(("reviewed", "curated")) for key in open_ones}}
        return {}

    @property
    def model_version(self) -> str:
        """The version of the model that draws now."""
        return f"fake-{self.versions}"

    def run(self, job: str, dies_at: float | None, **params: Any) -> Ending:
        """Run a job, dead or alive, and let the oracle check what it left."""
        first = self.project.view()
        self.note_late(first)
        self.waits += job in SENDERS and self.project.context.ledger.sending() is not None
        ending = self.runner.run(job, params, self.model_version, dies_at)
        # A busy Label Studio on SQLite drops things by itself now and then; the job says so, and is run again.
        assert ending.error is None or "Label Studio kept" in ending.error, ending.error
        self._check(job, params, first, is_done=not ending.was_killed and ending.error is None)
        return ending

    def _check(self, job: str, params: Mapping[str, Any], first: View, *, is_done: bool) -> None:
        view = self.project.view()
        if job in SENDERS:
            before = self.unsettled or first
            surely = is_done and self.unsettled is None
            self.oracle.note_sent(view, surely=surely, sent_from=before)
            self.unsettled = None if is_done else before
        if job == "pull":
            self.oracle.check_pulled(view, params.get("prefer"), is_done=is_done)
        if job == "resolve":
            decided = {
                key: {to_key(one): side for one in first.conflicts.get(key, ())}
                for key, side in params["decisions"].items()
            }
            self.oracle.check_resolved(view, decided, first.conflicts, is_current=False, is_done=is_done)
        self.oracle.expect_nothing_touched(view)
        if is_done:
            self.oracle.expect_nothing_doubled(view)
        self.oracle.expect_held(view)

    def note_late(self, now: View) -> None:
        """Tell the oracle what Label Studio has done meanwhile for a job that was killed."""
        if self.unsettled is not None:
            self.oracle.note_sent(now, surely=False, sent_from=self.unsettled)

    def finish(self, job: str, **params: Any) -> Ending:
        """Run a job to its end."""
        endings = (self.run(job, None, **params) for _ in range(MOST_RUNS))
        return next(ending for ending in endings if ending.error is None)

    def verify(self) -> None:
        """Compare all three with the job that does that; it changes nothing, so the oracle need not look again."""
        report = self.runner.run("verify", {}, self.model_version, None).report
        assert report is not None
        assert report["failed"] == [], report["failed"]

    def settle(self) -> None:
        """Sync until nothing moves; then both tools agree."""
        for _ in range(2):
            self.finish("push")
            self.finish("pull")
        for job in ("push", "pull"):
            report = self.finish(job).report
            assert report is not None
            assert report["moved"] == 0
        self.oracle.expect_agreement(self.project.view())
        self.verify()
