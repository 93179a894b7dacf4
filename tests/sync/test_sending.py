"""A request goes on in Label Studio when the job that sent it is dead: the next job waits, and sends nothing twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from labels.errors import LabelingError, ServiceError
from labels.geometry import Box
from labels.results import Label
from sync.catalogue.samples import SamplePrediction
from sync.jobs.exchange.prelabel import prelabel
from sync.jobs.exchange.pull import pull
from sync.jobs.exchange.push import push
from sync.jobs.exchange.sending import announce_tasks
from sync.jobs.exchange.verify import verify
from sync.ledger import Sending
from sync.workbench.label_studio import NoAnswerError, RefusedError
from tests.fakes.killing import KilledError, KillSwitch
from tests.fakes.label_studio import refusal
from tests.fakes.project import FakeProject, open_fake_project

BOX = Label("b" * 24, "label", ("car",), Box(50, 10, 20, 30), confidence=0.5)
OTHER = replace(BOX, id="c" * 24)
LATE_S = 30.0


@pytest.fixture
def project() -> Iterator[FakeProject]:
    """Three images, all with a prediction."""
    with open_fake_project(images=3) as project:
        draw(project, "fake-1")
        yield project


def draw(project: FakeProject, version: str) -> None:
    """Have a model predict a box on every image."""
    project.context.dataset.write_predictions(
        {sample_id: SamplePrediction(version, 0.25, (BOX,)) for sample_id in project.sample_ids}
    )


def kill_while_sending(project: FakeProject, what: str, delay_s: float | None = LATE_S) -> None:
    """Run a push that is killed while that request is under way; None: the request never arrives."""

    def go_on(request: Callable[[], Any]) -> None:
        if delay_s is not None:
            project.server.carry_out_later(request, delay_s)

    switch = KillSwitch((what,), late=go_on)
    with pytest.raises(KilledError):
        push(switch.guard(project.context))
    assert project.context.ledger.sending() is not None


def count(project: FakeProject) -> tuple[int, int]:
    """Return how many tasks and predictions there are."""
    return len(project.server.tasks), len(project.server.predictions)


def test_tasks_that_appear_after_their_push_was_killed_are_taken_and_not_made_again(project: FakeProject):
    kill_while_sending(project, "send_tasks")
    assert count(project) == (0, 0)
    told: list[str] = []
    report = push(project.context, on_progress=lambda _done, message: told.append(message))
    assert (count(project), report.moved) == ((3, 3), 0)
    assert project.context.ledger.sending() is None
    waiting = [message for message in told if message.startswith("an earlier job ended while Label Studio")]
    assert waiting[0] == ("an earlier job ended while Label Studio was making 3 tasks: waiting for them, 90 s at most")
    assert (push(project.context).moved, pull(project.context).moved, verify(project.context).failed) == (0, 0, ())


def test_what_people_said_of_tasks_before_the_ledger_knew_them_is_merged_by_the_next_pull(project: FakeProject):
    first, second, _third = project.sample_ids
    push(project.context, sample_ids=[second])
    with pytest.raises(KilledError):
        push(KillSwitch(("send_tasks",), before=False).guard(project.context), sample_ids=[first])
    project.annotator.submit_shown(project.task_ids()[first])
    project.server.clock.sleep(LATE_S)
    project.annotator.submit_shown(project.task_ids()[second])
    assert pull(project.context).moved == 1
    push(project.context)
    assert pull(project.context).moved == 1
    assert project.dataset.said(first) is not None
    assert verify(project.context).failed == ()


def test_predictions_that_appear_after_their_push_was_killed_are_not_sent_again(project: FakeProject):
    push(project.context)
    draw(project, "fake-2")
    kill_while_sending(project, "send_predictions")
    assert count(project) == (3, 3)
    push(project.context)
    assert count(project) == (3, 6)
    assert verify(project.context).failed == ()


def test_prelabel_too_waits_for_the_predictions_of_a_job_that_was_killed(project: FakeProject):
    prelabel(project.context)
    push(project.context)
    project.backend.model_version = "fake-2"
    prelabel(project.context, sample_ids=project.sample_ids[:0])
    draw(project, "fake-2")
    kill_while_sending(project, "send_predictions")
    report = prelabel(project.context)
    assert (count(project), report.details) == ((3, 6), {})
    assert project.context.label_studio.fetch_model_version() == "fake-2"


def test_a_correction_that_appears_late_is_known_for_ours_though_the_curator_has_gone_on(project: FakeProject):
    push(project.context)
    first = project.sample_ids[0]
    project.annotator.submit_shown(project.task_ids()[first])
    pull(project.context)
    project.dataset.curate(first, [BOX, OTHER])
    kill_while_sending(project, "send_annotation")
    project.dataset.curate(first, [OTHER])
    push(project.context)
    assert len(project.server.annotations) == 3
    pull(project.context)
    held = project.dataset.said(first)
    assert held is not None
    assert [label.id for label in held.labels] == [OTHER.id]
    assert verify(project.context).failed == ()


@pytest.mark.parametrize("labels", [[BOX], []])
def test_a_person_who_passes_a_task_on_is_not_taken_for_the_labels_that_are_under_way_to_it(
    project: FakeProject, labels: list[Label]
):
    first = project.sample_ids[0]
    kill_while_sending(project, "send_tasks", 0.3)
    project.dataset.curate(first, [OTHER])
    project.dataset.curate(first, labels)
    kill_while_sending(project, "send_annotation")
    project.annotator.skip(project.task_ids()[first])

    push(project.context)

    assert not project.server.pending
    assert [row["was_cancelled"] for row in project.server.annotations.values()] == [True, False]
    pull(project.context)
    push(project.context)
    assert verify(project.context).failed == ()


def test_a_skip_is_not_taken_for_the_word_that_nothing_is_there(project: FakeProject):
    first = project.sample_ids[0]
    kill_while_sending(project, "send_tasks", 0.3)
    project.server.clock.sleep(1)
    project.annotator.skip(project.task_ids()[first])
    project.dataset.curate(first, [OTHER])
    project.dataset.curate(first, [])

    push(project.context)
    pull(project.context)

    assert project.context.ledger.links()[first].state == "skipped"
    assert verify(project.context).failed == ()


@pytest.mark.parametrize("is_starred", [True, False])
def test_a_correction_that_a_person_found_right_before_the_ledger_knew_it_is_that_persons_word(
    project: FakeProject, is_starred: bool
):
    push(project.context)
    first = project.sample_ids[0]
    task_id = project.task_ids()[first]
    project.annotator.submit_shown(task_id)
    pull(project.context)
    project.dataset.curate(first, [BOX, OTHER])
    with pytest.raises(KilledError):
        push(KillSwitch(("send_annotation",), before=False).guard(project.context))
    correction = max(project.server.annotations)
    said = [dict(region) for region in project.server.annotations[correction]["result"]]
    project.annotator.submit(task_id, [])
    if is_starred:
        project.annotator.mark_ground_truth(correction)
    else:
        project.annotator.edit(correction, said)
    pull(project.context)
    held = project.dataset.said(first)
    assert held is not None
    assert {label.id for label in held.labels} == {BOX.id, OTHER.id}
    assert project.context.ledger.links()[first].annotation_id == correction
    push(project.context)
    assert verify(project.context).failed == ()


def test_a_request_that_never_arrived_is_made_again_when_patience_is_over(project: FakeProject):
    kill_while_sending(project, "send_tasks", delay_s=None)
    before = project.server.clock.now()
    report = push(project.context)
    waited_s = (project.server.clock.now() - before).total_seconds()
    assert (count(project), report.details["tasks created"]) == ((3, 3), 3)
    assert 80 < waited_s < 100


def test_an_old_request_is_not_waited_for(project: FakeProject):
    kill_while_sending(project, "send_tasks", delay_s=None)
    project.server.clock.sleep(100)
    before = project.server.clock.now()
    push(project.context)
    assert (project.server.clock.now() - before).total_seconds() < 1
    assert count(project) == (3, 3)


def test_whoever_stops_a_job_that_waits_need_not_wait_and_the_next_one_waits_on(project: FakeProject):
    kill_while_sending(project, "send_tasks")

    def stop(_done: float | None, message: str) -> None:
        if message.startswith("an earlier job"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        push(project.context, on_progress=stop)
    assert project.context.ledger.sending() is not None
    push(project.context)
    assert count(project) == (3, 3)


@pytest.mark.parametrize(
    ("raised", "expected", "is_under_way"),
    [
        (refusal(400, "no"), RefusedError, False),
        (refusal(500, "no"), RefusedError, False),
        (refusal(502, "no"), NoAnswerError, True),
        (refusal(504, "no"), NoAnswerError, True),
        (httpx.ReadTimeout("late"), NoAnswerError, True),
        (httpx.ReadError("reset"), NoAnswerError, True),
        (httpx.ConnectError("refused"), ServiceError, False),
    ],
    ids=repr,
)
def test_only_a_request_without_an_answer_is_taken_for_one_that_is_under_way(
    project: FakeProject, raised: Exception, expected: type[LabelingError], is_under_way: bool
):
    def fail() -> None:
        raise raised

    with pytest.raises(expected) as caught, announce_tasks(project.context, project.sample_ids):
        project.context.label_studio._ask("POST import", fail)
    assert type(caught.value) is expected
    assert (project.context.ledger.sending() is not None) == is_under_way


def test_the_wait_counts_from_when_the_answer_was_given_up(project: FakeProject):
    def give_up() -> None:
        project.server.clock.sleep(600)
        raise NoAnswerError("late")

    with pytest.raises(NoAnswerError), announce_tasks(project.context, project.sample_ids):
        give_up()
    sending = project.context.ledger.sending()
    assert sending is not None
    assert sending.at >= "2020-03-01T08:10:00"


@pytest.mark.parametrize(
    "sending",
    [
        Sending("2026-05-04T10:00:00+00:00", sample_ids=("a", "b"), after_task_id=7),
        Sending("2026-05-04T10:00:00+00:00", versions={7: "yolo-1"}),
        Sending("2026-05-04T10:00:00+00:00", marks={7: 2**61}),
        Sending("2026-05-04T10:00:00+00:00", regions={7: ("a", "b")}),
    ],
)
def test_the_ledger_gives_back_what_is_under_way(project: FakeProject, sending: Sending):
    project.context.ledger.record_sending(sending)
    assert project.context.ledger.sending() == sending
    project.context.ledger.record_sent()
    assert project.context.ledger.sending() is None
