"""Choosing what people see next, on the real Label Studio and in the App's dataset."""

from __future__ import annotations

from pathlib import Path

from labels import fields
from sync.jobs.exchange.push import push
from sync.jobs.registry import call_job
from tests.e2e.conftest import RunningStack
from tests.e2e.fresh_project import BOXES_PER_IMAGE, MODEL_VERSION, open_fresh_project


def test_only_what_was_chosen_becomes_tasks_with_its_boxes(stack: RunningStack, tmp_path: Path):
    with open_fresh_project(stack, tmp_path, images=6) as project:
        ids = project.context.dataset.sample_ids()
        wish = {"by": "uncertainty", "count": 2, "view": "next"}
        planned = call_job(project.context, "queue", {**wish, "dry_run": True})
        assert (planned.is_dry_run, planned.moved, project.task_ids()) == (True, 2, {})

        report = call_job(project.context, "queue", wish)

        # The later an image, the more uncertain it is.
        assert (report.moved, report.failed) == (2, ())
        assert set(project.task_ids()) == {ids[5], ids[4]}
        tasks = list(project.context.label_studio.fetch_tasks(list(project.task_ids().values())))
        assert [len(task.predictions[0].result) for task in tasks] == [BOXES_PER_IMAGE] * 2
        assert project.context.label_studio.fetch_model_version() == MODEL_VERSION
        project.fiftyone.reload()
        view = project.fiftyone.load_saved_view("next")
        assert view.values("id") == [ids[5], ids[4]]
        assert view.values(fields.REVIEW_STATE) == ["queued", "queued"]
        # The next choice is another one; what nobody chose waits.
        call_job(project.context, "queue", {"by": "random", "count": 1, "seed": 3})
        assert len(project.task_ids()) == 3
        assert project.fiftyone.match({fields.REVIEW_STATE: None}).count() == 3
        assert push(project.context).moved == 3
