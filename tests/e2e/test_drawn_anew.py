"""The same weights draw anew while somebody has the task open: on the real Label Studio nothing of it is lost."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

from sync.jobs.exchange.pull import pull
from sync.jobs.exchange.push import push
from sync.jobs.exchange.shown_predictions import send_predictions_to
from sync.jobs.exchange.verify import verify
from tests.e2e.conftest import RunningStack
from tests.e2e.fresh_project import open_fresh_project

OPEN_FOR_S = 3.0


def test_who_had_the_task_open_can_submit_and_is_compared_with_what_was_shown(stack: RunningStack, tmp_path: Path):
    with open_fresh_project(stack, tmp_path, images=1) as project:
        context, dataset = project.context, project.context.dataset
        push(context)
        ((sample_id, task_id),) = project.task_ids().items()
        (task,) = context.label_studio.fetch_tasks([task_id])
        (shown,) = task.predictions
        saw = json.loads(json.dumps(list(shown.result)))
        time.sleep(1)

        drawn = dataset.predictions()[sample_id]
        dataset.write_predictions({sample_id: replace(drawn, labels=drawn.labels[:1])})
        assert send_predictions_to(context, [sample_id], drawn_anew={sample_id}).sent == 1
        assert send_predictions_to(context, [sample_id], drawn_anew={sample_id}).sent == 0
        (task,) = context.label_studio.fetch_tasks([task_id])
        (now,) = task.predictions
        assert (now.prediction_id, len(now.result), len(saw)) == (shown.prediction_id, 1, len(drawn.labels))

        project.sdk.annotations.create(
            id=task_id,
            result=saw,
            parent_prediction=shown.prediction_id,
            was_cancelled=False,
            lead_time=OPEN_FOR_S,
        )
        pull(context)
        kinds = [row.verdict.kind for row in context.ledger.feedback(sample_id)]
        assert kinds == ["confirmed"] * len(drawn.labels)
        assert verify(context).failed == ()
