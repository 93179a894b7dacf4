"""Jobs killed at random writes while a crowd works at both ends, on the tools in memory: nothing lost, nothing doubled.

What ``tests/e2e/test_killed.py`` does on the real tools, a hundred times as fast. The everyday size is a few sieges,
always the same; more, and other ones at each run: ``LABELLOOP_SIEGES=200 uv run pytest tests/sync/test_siege.py``.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from labels.errors import LabelingError
from labels.report import ignore_progress
from sync.jobs.registry import call_job
from tests.fakes.backend import FakeBackend
from tests.fakes.killing import KilledError, KillSwitch
from tests.fakes.project import SIZE, FakeProject, make_single_boxes, open_fake_project
from tests.fakes.siege import Ending, Siege

SEEDS = (
    [random.SystemRandom().getrandbits(32) for _ in range(int(os.environ["LABELLOOP_SIEGES"]))]
    if "LABELLOOP_SIEGES" in os.environ
    else [0, 1, 2, 3]
)
KILLS = 25
IMAGES = 8
FIRST_WRITES = 6
# How much later a request is carried out whose sender was killed meanwhile; None: it never arrived, or it had.
LATE_S = (None, None, 0.3, 5.0)


@dataclass
class Ender:
    """Runs jobs in this process, and ends them at one of as many writes as they made when they were let alone."""

    project: FakeProject
    rng: random.Random
    writes: dict[str, int] = field(default_factory=dict)

    def run(self, job: str, params: Mapping[str, Any], model_version: str, dies_at: float | None) -> Ending:
        """Run a job, dead or alive."""
        at = None if dies_at is None else 1 + int(dies_at * self.writes.get(job, FIRST_WRITES))
        late_s = self.rng.choice(LATE_S)
        switch = KillSwitch(
            at,
            before=self.rng.random() < 0.5,
            late=None if late_s is None else lambda request: self._carry_out_later(request, late_s),
        )
        context = replace(
            switch.guard(self.project.context), backend=FakeBackend(self.project.context.config, SIZE, model_version)
        )
        try:
            report = call_job(context, job, params, ignore_progress)
        except KilledError:
            return Ending(True, 0.0)
        except LabelingError as error:
            return Ending(switch.is_over, 0.0, None if switch.is_over else str(error))
        self.writes[job] = max(1, switch.writes)
        return Ending(False, 0.0, report=report.to_dict())

    def _carry_out_later(self, request: Callable[[], Any], delay_s: float) -> None:
        def carry_out() -> None:
            with contextlib.suppress(LabelingError):
                request()

        self.project.server.carry_out_later(carry_out, delay_s)


@pytest.mark.parametrize("seed", SEEDS)
def test_jobs_killed_at_random_writes_lose_and_double_nothing(seed: int):
    with open_fake_project(images=IMAGES) as project:
        project.context.dataset.write_predictions(make_single_boxes(project.sample_ids, 0, "fake-1"))
        siege = Siege.open(project, Ender(project, random.Random(seed)), seed)
        siege.lay(KILLS)

        assert siege.kills.total() >= KILLS
        siege.oracle.expect_agreement(project.view())
