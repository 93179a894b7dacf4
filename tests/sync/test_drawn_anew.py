"""What the same weights draw anew takes the place of what they drew before, and feedback knows what a person saw."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from labels.geometry import Box
from labels.results import Label, to_result
from sync.backend import BackendPrediction
from sync.jobs.exchange.prelabel import prelabel
from sync.jobs.exchange.pull import pull
from sync.jobs.exchange.push import push
from sync.jobs.exchange.verify import verify
from tests.fakes.killing import KilledError, KillSwitch
from tests.fakes.people import to_plain
from tests.fakes.project import CONFIG, SIZE, FakeProject, open_fake_project


def box(name: str, x: float = 3.0) -> Label:
    # One id, whatever it is called: the id of a predicted label comes from its place.
    return Label("7" * 24, "label", (name,), Box(x, 4, 20, 11), confidence=0.5)


def draw(project: FakeProject, *labels: Label) -> None:
    """Have the model draw these from now on, with the weights it has."""
    version = project.backend.model_version
    answer = BackendPrediction(version, 0.25, tuple(to_result(labels, CONFIG, SIZE)))
    object.__setattr__(project.backend, "_predict", lambda _task_id: answer)


def shown(project: FakeProject) -> list[list[tuple[str, float]]]:
    """Return the predictions of Label Studio, the oldest first."""
    return [
        [
            (region["value"]["rectanglelabels"][0], round(region["value"]["x"] * SIZE.width / 100))
            for region in one["result"]
        ]
        for one in project.server.predictions.values()
    ]


def submit(project: FakeProject, sample_id: str, result: list[dict[str, Any]], lead_time_s: float) -> None:
    """Submit what was made from the task's prediction by somebody who needed so long for it."""
    task_id = project.task_ids()[sample_id]
    (task,) = project.context.label_studio.fetch_tasks([task_id])
    (prediction,) = task.predictions
    project.annotator.sdk.annotations.create(
        id=task_id,
        result=result,
        was_cancelled=False,
        lead_time=lead_time_s,
        parent_prediction=prediction.prediction_id,
    )


@pytest.fixture
def project() -> Iterator[FakeProject]:
    """Two images on which a dog was drawn, both sent."""
    with open_fake_project(images=2) as project:
        draw(project, box("dog"))
        prelabel(project.context)
        push(project.context)
        project.server.clock.sleep(60)
        yield project


def test_what_the_same_weights_draw_anew_is_shown_in_place_of_what_they_drew(project: FakeProject):
    before = list(project.server.predictions)
    draw(project, box("car"))
    report = prelabel(project.context, everything=True)
    assert report.details == {"predictions sent": 2}
    assert list(project.server.predictions) == before
    assert shown(project) == [[("car", 3)], [("car", 3)]]
    again = prelabel(project.context, everything=True)
    assert (again.details, push(project.context).moved) == ({}, 0)
    assert verify(project.context).failed == ()


def test_what_is_drawn_anew_and_says_the_same_is_not_sent(project: FakeProject):
    before = copy.deepcopy(project.server.predictions)
    assert prelabel(project.context, everything=True).details == {}
    assert project.server.predictions == before


def test_a_task_that_was_answered_keeps_the_prediction_its_answer_was_made_from(project: FakeProject):
    first, _ = project.sample_ids
    project.annotator.submit_shown(project.task_ids()[first])
    pull(project.context)
    draw(project, box("car"))
    assert prelabel(project.context, everything=True).details == {"predictions sent": 1}
    assert shown(project) == [[("dog", 3)], [("car", 3)]]


def test_feedback_is_of_the_prediction_that_a_person_was_shown_while_it_was_drawn_anew(project: FakeProject):
    first, second = project.sample_ids
    saw = to_plain(next(iter(project.server.predictions.values()))["result"])
    project.server.clock.sleep(30)
    draw(project, box("car"))
    prelabel(project.context, everything=True)
    project.server.clock.sleep(30)
    # One had the task open all the time, the other came afterwards.
    submit(project, first, saw, lead_time_s=45)
    submit(project, second, to_plain(to_result([box("car")], CONFIG, SIZE)), lead_time_s=10)
    pull(project.context)
    (one,), (other,) = (project.context.ledger.feedback(key) for key in (first, second))
    assert (one.verdict.kind, one.verdict.class_before, one.model_version) == ("confirmed", "dog", "fake-1")
    assert (other.verdict.kind, other.verdict.class_before) == ("confirmed", "car")


@pytest.mark.parametrize("at", range(1, 9))
def test_a_job_that_is_killed_while_it_shows_what_was_drawn_anew_goes_on_from_there(project: FakeProject, at: int):
    first, _ = project.sample_ids
    saw = to_plain(next(iter(project.server.predictions.values()))["result"])
    draw(project, box("car"))
    switch = KillSwitch(at)
    try:
        prelabel(switch.guard(project.context), everything=True)
    except KilledError:
        prelabel(project.context, everything=True)
    assert shown(project) == [[("car", 3)], [("car", 3)]]
    project.server.clock.sleep(30)
    submit(project, first, saw, lead_time_s=45)
    pull(project.context)
    (one,) = project.context.ledger.feedback(first)
    assert (one.verdict.kind, one.verdict.class_before) == ("confirmed", "dog")
    assert verify(project.context).failed == ()


def test_a_version_whose_tasks_were_all_deleted_is_not_shown_and_ends_no_push(project: FakeProject):
    draw(project, box("car"))
    for task_id in project.task_ids().values():
        project.annotator.delete_task(task_id)
    project.server.model_version = ""
    assert push(project.context).failed == ()
    assert project.server.model_version == ""
