"""What a curator changed goes back to Label Studio, and nobody's later save reverts it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from labels.results import Label
from sync.jobs.exchange.pull import pull
from sync.jobs.exchange.push import push
from sync.jobs.exchange.verify import verify
from sync.workbench.label_studio import Annotation, Task
from tests.e2e.conftest import RunningStack
from tests.e2e.fresh_project import FreshProject, open_fresh_project
from tests.fakes.killing import KilledError, KillSwitch

KILL_POINTS = 24


@pytest.fixture
def project(stack: RunningStack, tmp_path: Path) -> Iterator[FreshProject]:
    """A pushed project of two images, the first of them reviewed and pulled."""
    with open_fresh_project(stack, tmp_path, images=2) as project:
        push(project.context)
        project.submit(first_task(project), lambda regions: regions)
        pull(project.context)
        yield project


def first_task(project: FreshProject) -> int:
    return min(project.task_ids().values())


def sample_of(project: FreshProject) -> str:
    return min(project.task_ids(), key=lambda sample_id: project.task_ids()[sample_id])


def held(project: FreshProject) -> list[Label]:
    return list(project.context.dataset.labels([sample_of(project)])[sample_of(project)].labels)


def classes(project: FreshProject) -> list[str]:
    return [label.class_name for label in held(project)]


def correct(project: FreshProject, number: int, name: str) -> None:
    """Do what a curator does in the App: give a label another class."""
    labels = held(project)
    labels[number] = replace(labels[number], classes=(name,))
    project.context.dataset.write_labels({sample_of(project): labels})


def read_task(project: FreshProject) -> Task:
    (task,) = project.context.label_studio.fetch_tasks([first_task(project)])
    return task


def save_again(project: FreshProject, annotation: Annotation, number: int, name: str) -> None:
    """Do what an annotator does who opens an annotation, gives a region another class and saves."""
    regions = [dict(region) for region in annotation.result]
    regions[number] = {**regions[number], "value": {**regions[number]["value"], "rectanglelabels": [name]}}
    project.sdk.annotations.update(id=annotation.annotation_id, result=regions)


def classes_of(annotation: Annotation) -> list[str]:
    return [region["value"]["rectanglelabels"][0] for region in annotation.result]


def assert_clean(project: FreshProject) -> None:
    report = verify(project.context)
    assert report.failed == ()


def test_a_curators_change_is_sent_once_and_the_persons_annotation_stays_as_it_is(project: FreshProject):
    (mine,) = read_task(project).annotations
    correct(project, 0, "bus")
    report = push(project.context)
    assert report.details == {"tasks created": 0, "predictions added": 0, "corrections sent": 1}
    first, second = read_task(project).annotations
    assert first == mine
    assert (classes_of(second), second.parent_id, second.ground_truth) == (
        ["bus", "car", "car"],
        mine.annotation_id,
        False,
    )
    assert (push(project.context).moved, pull(project.context).moved) == (0, 0)
    assert len(read_task(project).annotations) == 2
    assert classes(project) == ["bus", "car", "car"]
    assert verify(project.context).details == {"changes of curators, sent": 1}


def test_an_annotator_who_saves_again_does_not_revert_the_curator(project: FreshProject):
    (mine,) = read_task(project).annotations
    correct(project, 0, "bus")
    push(project.context)
    save_again(project, mine, 1, "dog")
    report = pull(project.context)
    assert (report.conflicts, classes(project)) == ((), ["bus", "dog", "car"])
    push(project.context)
    assert [classes_of(one) for one in read_task(project).annotations][-1] == ["bus", "dog", "car"]
    assert_clean(project)


def test_a_correction_that_a_person_changes_is_theirs_and_their_first_one_still_reverts_nothing(
    project: FreshProject,
):
    (mine,) = read_task(project).annotations
    correct(project, 0, "bus")
    push(project.context)
    save_again(project, read_task(project).annotations[1], 1, "dog")
    assert pull(project.context).conflicts == ()
    assert classes(project) == ["bus", "dog", "car"]
    assert_clean(project)
    save_again(project, mine, 2, "cat")
    assert pull(project.context).conflicts == ()
    assert classes(project) == ["bus", "dog", "cat"]
    assert_clean(project)


def test_a_label_that_both_change_after_the_correction_is_a_conflict(project: FreshProject):
    (mine,) = read_task(project).annotations
    correct(project, 0, "bus")
    push(project.context)
    save_again(project, mine, 0, "truck")
    assert len(pull(project.context).conflicts) == 1
    assert classes(project) == ["bus", "car", "car"]
    assert_clean(project)


def test_a_change_waits_while_label_studio_has_news(project: FreshProject):
    (mine,) = read_task(project).annotations
    correct(project, 0, "bus")
    save_again(project, mine, 1, "dog")
    report = push(project.context)
    assert (report.moved, len(report.notes)) == (0, 1)
    assert pull(project.context).conflicts == ()
    assert push(project.context).details["corrections sent"] == 1
    assert classes_of(read_task(project).annotations[-1]) == ["bus", "dog", "car"]


def test_a_second_change_is_a_second_correction_and_taking_it_back_a_third(project: FreshProject):
    for name in ("bus", "dog", "bus"):
        correct(project, 0, name)
        assert push(project.context).details["corrections sent"] == 1
    assert [classes_of(one)[0] for one in read_task(project).annotations] == ["car", "bus", "dog", "bus"]
    assert_clean(project)


def test_a_correction_killed_at_any_write_is_there_once(stack: RunningStack, tmp_path: Path):
    with open_fresh_project(stack, tmp_path, images=KILL_POINTS) as project:
        context = project.context
        push(context)
        for task_id in project.task_ids().values():
            project.submit(task_id, lambda regions: regions)
        pull(context)
        undisturbed = KillSwitch()
        for at, (sample_id, task_id) in enumerate(sorted(project.task_ids().items())):
            labels = context.dataset.labels([sample_id])[sample_id].labels
            context.dataset.write_labels({sample_id: [replace(labels[0], classes=("bus",)), *labels[1:]]})
            # Ended before the write after this one is ended after this one.
            switch = KillSwitch(at, before=False) if at else undisturbed
            try:
                push(switch.guard(context), sample_ids=[sample_id])
            except KilledError:
                pull(context)
                push(context, sample_ids=[sample_id])
            pull(context)
            (task,) = context.label_studio.fetch_tasks([task_id])
            said = [classes_of(one) for one in task.annotations]
            assert said == [["car", "car", "car"], ["bus", "car", "car"]], f"killed after write {at}"
            held = [label.class_name for label in context.dataset.labels([sample_id])[sample_id].labels]
            assert held == ["bus", "car", "car"], f"killed after write {at}"
        assert 5 < undisturbed.writes < KILL_POINTS
        assert_clean(project)
