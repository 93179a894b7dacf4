"""Conflicts on the real tools: decided per label, by policy, once, and never blindly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from labels import fields
from labels.errors import LabelingError
from labels.results import Label
from sync.jobs.exchange.pull import pull
from sync.jobs.exchange.push import push
from sync.jobs.exchange.resolve import resolve
from sync.jobs.exchange.verify import verify
from sync.review.merge import Conflict, conflicts_version
from tests.e2e.conftest import RunningStack
from tests.e2e.fresh_project import FreshProject, open_fresh_project
from tests.fakes.killing import KilledError, KillSwitch

KILL_POINTS = 14


@pytest.fixture
def project(stack: RunningStack, tmp_path: Path) -> Iterator[FreshProject]:
    """A project of one image with two labels in conflict."""
    with open_fresh_project(stack, tmp_path, images=1) as project:
        disagree(project)
        yield project


def disagree(project: FreshProject) -> None:
    """Let both sides name the first two labels of each image anew, each in its own way, and pull."""
    push(project.context)
    made = {
        sample_id: project.submit(task_id, lambda regions: regions) for sample_id, task_id in project.task_ids().items()
    }
    pull(project.context)
    for sample_id, annotation_id in made.items():
        rename(project, ["bus", "bus"], sample_id)
        say(project, annotation_id, ["dog", "cat"], sample_id)
    pull(project.context)


def sample_of(project: FreshProject) -> str:
    (sample_id,) = project.context.dataset.sample_ids()
    return sample_id


def held(project: FreshProject) -> tuple[Label, ...]:
    return project.context.dataset.labels([sample_of(project)])[sample_of(project)].labels


def classes(project: FreshProject) -> list[str]:
    return [label.class_name for label in held(project)]


def rename(project: FreshProject, names: Sequence[str], sample_id: str | None = None) -> None:
    sample_id = sample_id or sample_of(project)
    labels = list(project.context.dataset.labels([sample_id])[sample_id].labels)
    for number, name in enumerate(names):
        labels[number] = replace(labels[number], classes=(name,))
    project.context.dataset.write_labels({sample_id: labels})


def say(project: FreshProject, annotation_id: int, names: Sequence[str], sample_id: str | None = None) -> None:
    (task,) = project.context.label_studio.fetch_tasks([project.task_ids()[sample_id or sample_of(project)]])
    annotation = next(one for one in task.annotations if one.annotation_id == annotation_id)
    regions = [dict(region) for region in annotation.result]
    for number, name in enumerate(names):
        regions[number] = {**regions[number], "value": {**regions[number]["value"], "rectanglelabels": [name]}}
    project.sdk.annotations.update(id=annotation_id, result=regions)


def annotation_of(project: FreshProject) -> int:
    (task,) = project.context.label_studio.fetch_tasks(list(project.task_ids().values()))
    return task.annotations[0].annotation_id


def conflicts_of(project: FreshProject) -> tuple[Conflict, ...]:
    return project.context.ledger.conflicts().get(sample_of(project), ())


def state_of(project: FreshProject) -> tuple[str | None, bool]:
    state = project.context.dataset.states()[sample_of(project)]
    return state.review_state, state.is_tagged


def test_each_label_is_decided_for_a_side_of_its_own_and_does_not_come_back(project: FreshProject):
    first, second = (conflict.label_id for conflict in conflicts_of(project))
    report = resolve(project.context, decisions={sample_of(project): {first: "reviewed"}})
    assert (report.moved, len(report.conflicts)) == (1, 1)
    assert (classes(project), state_of(project)) == (["dog", "bus", "car"], ("conflict", True))
    report = resolve(project.context, decisions={sample_of(project): {second: "curated"}})
    assert (report.moved, report.conflicts) == (1, ())
    assert (classes(project), state_of(project)) == (["dog", "bus", "car"], ("reviewed", False))
    assert (pull(project.context, everything=True).conflicts, classes(project)) == ((), ["dog", "bus", "car"])
    again = resolve(project.context, decisions={sample_of(project): {second: "curated"}})
    assert (again.moved, again.unchanged, again.failed) == (0, 1, ())
    assert verify(project.context).failed == ()


def test_what_was_kept_goes_back_as_a_correction(project: FreshProject):
    resolve(project.context, decisions={sample_of(project): "curated"})
    assert push(project.context).details["corrections sent"] == 1
    (task,) = project.context.label_studio.fetch_tasks(list(project.task_ids().values()))
    said = [[region["value"]["rectanglelabels"][0] for region in one.result] for one in task.annotations]
    assert said == [["dog", "cat", "car"], ["bus", "bus", "car"]]
    assert pull(project.context).moved == 0


def test_a_conflict_whose_sides_changed_since_it_was_shown_is_not_decided(project: FreshProject):
    sample_id = sample_of(project)
    shown = {sample_id: conflicts_version(conflicts_of(project))}
    rename(project, ["truck"])
    report = resolve(project.context, decisions={sample_id: "reviewed"}, shown=shown)
    assert [failure.sample_id for failure in report.failed] == [sample_id]
    assert classes(project)[0] == "truck"
    say(project, annotation_of(project), ["person", "cat"])
    pull(project.context)
    report = resolve(project.context, decisions={sample_id: "reviewed"}, shown=shown)
    assert [failure.sample_id for failure in report.failed] == [sample_id]
    shown = {sample_id: conflicts_version(conflicts_of(project))}
    assert resolve(project.context, decisions={sample_id: "reviewed"}, shown=shown).failed == ()
    assert classes(project) == ["person", "cat", "car"]


def test_a_decision_that_makes_no_sense_is_refused(project: FreshProject):
    with pytest.raises(LabelingError, match=r"'mine' is not known \(known: reviewed, curated\)"):
        resolve(project.context, decisions={sample_of(project): "mine"})


def test_the_side_changed_last_wins_when_that_is_preferred(stack: RunningStack, tmp_path: Path):
    for number, is_curator_last in enumerate((True, False)):
        with open_fresh_project(stack, tmp_path / str(number), images=1) as project:
            push(project.context)
            project.submit(min(project.task_ids().values()), lambda regions: regions)
            pull(project.context)
            if is_curator_last:
                say(project, annotation_of(project), ["dog"])
                rename(project, ["bus"])
            else:
                rename(project, ["bus"])
                say(project, annotation_of(project), ["dog"])
            # Finding the conflict touches the sample; that makes it no younger.
            assert len(pull(project.context).conflicts) == 1
            assert pull(project.context, prefer="newest").conflicts == ()
            assert classes(project)[0] == ("bus" if is_curator_last else "dog")


def test_a_skip_and_a_deletion_end_a_conflict_and_keep_the_labels(project: FreshProject):
    project.sdk.annotations.delete(id=annotation_of(project))
    pull(project.context)
    assert (classes(project), state_of(project), conflicts_of(project)) == (
        ["bus", "bus", "car"],
        ("queued", False),
        (),
    )
    project.skip(min(project.task_ids().values()))
    pull(project.context)
    assert (classes(project), state_of(project)) == (["bus", "bus", "car"], (fields.SKIPPED, False))
    assert verify(project.context).failed == ()


def test_a_conflict_whose_task_is_gone_is_decided_before_the_sample_is_sent_again(project: FreshProject):
    sample_id = sample_of(project)
    (task_id,) = project.task_ids().values()
    first, second = (conflict.label_id for conflict in conflicts_of(project))
    project.sdk.tasks.delete(id=str(task_id))
    pull(project.context)
    assert (len(conflicts_of(project)), verify(project.context).failed) == (2, ())
    report = push(project.context, sample_ids=[sample_id])
    assert (report.moved, [failure.sample_id for failure in report.failed]) == (0, [sample_id])
    decisions = {sample_id: {first: "reviewed", second: "curated"}}
    for _ in range(2):
        assert resolve(project.context, decisions=decisions).failed == ()
        assert (classes(project), state_of(project)) == (["dog", "bus", "car"], ("reviewed", False))
    assert push(project.context, sample_ids=[sample_id]).moved == 1
    assert (pull(project.context).moved, classes(project)) == (0, ["dog", "bus", "car"])
    assert verify(project.context).failed == ()


def test_a_decision_killed_at_any_write_ends_like_an_undisturbed_one(stack: RunningStack, tmp_path: Path):
    with open_fresh_project(stack, tmp_path, images=KILL_POINTS) as project:
        context = project.context
        disagree(project)
        shown = {key: conflicts_version(found) for key, found in context.ledger.conflicts().items()}
        decisions = {
            key: dict(zip((one.label_id for one in found), ("reviewed", "curated"), strict=True))
            for key, found in context.ledger.conflicts().items()
        }
        assert len(decisions) == KILL_POINTS
        undisturbed = KillSwitch()
        for at, sample_id in enumerate(sorted(decisions)):
            decision = {sample_id: decisions[sample_id]}
            # Ended before the write after this one is ended after this one.
            switch = KillSwitch(at, before=False) if at else undisturbed
            try:
                resolve(switch.guard(context), decisions=decision, shown=shown)
            except KilledError:
                assert resolve(context, decisions=decision, shown=shown).failed == (), f"killed after write {at}"
            held = [label.class_name for label in context.dataset.labels([sample_id])[sample_id].labels]
            assert held == ["dog", "bus", "car"], f"killed after write {at}"
            state = context.dataset.states([sample_id])[sample_id]
            assert (state.review_state, state.is_tagged) == ("reviewed", False), f"killed after write {at}"
        assert 3 < undisturbed.writes < KILL_POINTS
        assert context.ledger.conflicts() == {}
        assert verify(context).failed == ()
