"""What a sweep cleans, and what it leaves alone."""

from __future__ import annotations

from typing import Any

import pytest

from labels.geometry import Box
from labels.results import Label, to_result
from sync.jobs.exchange.pull import pull
from sync.jobs.exchange.push import push
from sync.jobs.exchange.sweep import find_surplus, sweep
from sync.jobs.exchange.verify import verify
from sync.workbench.label_studio import TaskPredictions
from tests.fakes.killing import KilledError, KillSwitch
from tests.fakes.project import CONFIG, SIZE, FakeProject, open_fake_project

LONG_S = 3 * 3600


def box(x: float) -> list[dict[str, Any]]:
    return to_result([Label("1" * 24, "label", ("car",), Box(x, 4, 20, 11))], CONFIG, SIZE)


def count_predictions(project: FakeProject, task_id: int) -> int:
    return len(project.server.of_task(project.server.predictions, task_id))


def test_predictions_on_a_task_that_labelloop_did_not_make_are_left_alone():
    with open_fake_project(images=1) as project:
        push(project.context)
        made = project.annotator.sdk.projects.import_tasks(1, request=[{"data": {"image": "/x.jpg"}}])
        (foreign,) = made.dict()["task_ids"]
        for x in (1, 50):
            project.annotator.sdk.predictions.create(task=foreign, model_version="theirs-1", result=box(x))
        project.server.clock.sleep(LONG_S)
        assert verify(project.context).failed == ()
        assert sweep(project.context).moved == 0
        assert count_predictions(project, foreign) == 2


def test_predictions_that_name_no_version_are_not_taken_for_one():
    assert list(find_surplus(TaskPredictions(1, {5: "", 6: "", 7: "a", 8: "a"}, frozenset(), {}))) == [8]
    with open_fake_project(images=1) as project:
        push(project.context)
        (task_id,) = project.task_ids().values()
        for x in (1, 50):
            project.annotator.sdk.predictions.create(task=task_id, model_version="", result=box(x))
        project.server.clock.sleep(LONG_S)
        assert sweep(project.context).moved == 0
        assert count_predictions(project, task_id) == 2


def test_a_task_that_a_sweep_comes_to_know_is_cleaned_by_it():
    with open_fake_project(images=1) as project:
        with pytest.raises(KilledError):
            push(KillSwitch(("send_tasks",), before=False).guard(project.context))
        (task_id,) = project.task_ids().values()
        for _ in range(2):
            project.annotator.sdk.predictions.create(task=task_id, model_version="fake-1", result=box(1))
        project.server.clock.sleep(LONG_S)
        assert sweep(project.context).failed == ()
        assert count_predictions(project, task_id) == 1
        assert verify(project.context).failed == ()


def test_a_correction_somebody_deleted_takes_nothing_back_and_is_counted_for_what_it_is():
    with open_fake_project(images=1) as project:
        push(project.context)
        (sample_id, task_id), *_ = project.task_ids().items()
        project.annotator.submit(task_id, box(3))
        pull(project.context)
        project.dataset.curate(sample_id, [Label("1" * 24, "label", ("car",), Box(60, 4, 20, 11))])
        push(project.context)
        assert verify(project.context).details == {"changes of curators, sent": 1}
        project.server.clock.sleep(60)
        project.annotator.delete_annotation(max(project.server.annotations))
        pulled = pull(project.context)
        counted = "corrections deleted in Label Studio, FiftyOne keeps the change"
        assert pulled.details == {counted: 1}
        assert (pull(project.context).details, sweep(project.context).moved, push(project.context).moved) == ({}, 0, 0)
        held = project.dataset.said(sample_id)
        assert held is not None
        assert [label.geometry for label in held.labels] == [Box(60, 4, 20, 11)]
        assert verify(project.context).details == {counted: 1}

        project.dataset.curate(sample_id, [Label("1" * 24, "label", ("car",), Box(70, 4, 20, 11))])
        assert push(project.context).details["corrections sent"] == 1
        assert verify(project.context).details == {"changes of curators, sent": 1}
