"""Jobs that end by SIGKILL at a random moment and are then run again, on the real tools: nothing lost, nothing doubled.

What people do goes on all the time, and after each kill as well. The everyday size is 12 kills; the full one:
``LABELLOOP_KILLS=200 uv run pytest -n 0 -s tests/e2e/test_killed.py``.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sync.settings import read_secret
from tests.e2e.conftest import RunningStack
from tests.e2e.fresh_project import FreshProject, open_fresh_project
from tests.e2e.nursery import Nursery, Order, open_nursery
from tests.fakes.project import CONFIG
from tests.fakes.siege import Ending, Siege

KILLS = int(os.environ.get("LABELLOOP_KILLS", "12"))
SEED = random.SystemRandom().getrandbits(32) if "LABELLOOP_KILLS" in os.environ else 1
IMAGES = 8
FIRST_S = 0.3


@dataclass
class Killer:
    """Runs each job in a process of its own, and kills it within the time that it took when it was let alone."""

    nursery: Nursery
    order: Mapping[str, Any]
    lasts_s: dict[str, float] = field(default_factory=dict)

    def run(self, job: str, params: Mapping[str, Any], model_version: str, dies_at: float | None) -> Ending:
        """Run a job, dead or alive."""
        kill_after_s = None if dies_at is None else dies_at * self.lasts_s.get(job, FIRST_S)
        order = Order(**self.order, job=job, params=params, model_version=model_version, kill_after_s=kill_after_s)
        ending = self.nursery.run(order)
        if not ending.was_killed and ending.error is None:
            self.lasts_s[job] = ending.took_s
        return ending


def make_order(stack: RunningStack, project: FreshProject) -> dict[str, Any]:
    """Return what all jobs of a project are told."""
    return {
        "home": str(stack.home.path),
        "url": stack.addresses.label_studio,
        "token": read_secret(stack.home, "label_studio_token") or "",
        "project_id": project.project_id,
        "dataset": project.context.project.name,
        "ledger": str(project.context.ledger.path),
        "config_xml": CONFIG.xml,
    }


def test_jobs_killed_at_random_moments_lose_and_double_nothing(stack: RunningStack, tmp_path: Path):
    print(f"seed {SEED}")  # noqa: T201
    with open_fresh_project(stack, tmp_path, images=IMAGES, config=CONFIG) as project, open_nursery() as nursery:
        siege = Siege.open(project, Killer(nursery, make_order(stack, project)), SEED)
        siege.lay(KILLS)
        told = f"killed {dict(siege.kills)}, labels drawn or changed by people: {siege.crowd.drawn}"
        print(f"\n{told}, waited for the dead: {siege.waits}")  # noqa: T201

        assert siege.kills.total() >= KILLS
        siege.oracle.expect_agreement(project.view())
