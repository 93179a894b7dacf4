"""A second start finds everything as it is."""

from __future__ import annotations

import json
from typing import Any

import fiftyone as fo

from tests.e2e.conftest import RunningStack


def snapshot(stack: RunningStack) -> dict[str, Any]:
    """Return what the three databases hold of the project, and what the home says of it."""
    with stack.open() as context:
        task_ids = [ref.task_id for ref in context.label_studio.fetch_task_refs()]
        return {
            "Label Studio": sorted(repr(task) for task in context.label_studio.fetch_tasks(task_ids)),
            "shown": context.label_studio.fetch_model_version(),
            "ledger": json.dumps(context.ledger.snapshot(), sort_keys=True),
            "FiftyOne": repr(list(fo.load_dataset(context.project.name)._sample_collection.find().sort("_id"))),
            "project": stack.home.project_file.read_text(encoding="utf-8"),
        }


def test_a_second_up_changes_nothing_in_any_database(stack: RunningStack):
    before = snapshot(stack)
    again = stack.run("demo", "--detach")
    assert again.returncode == 0, again.stderr
    assert "prelabel: 0 pre-labelled" in again.stdout
    assert "push: 0 sent" in again.stdout
    assert snapshot(stack) == before
