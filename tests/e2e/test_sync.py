"""Push and pull on the real servers: nothing twice, nothing lost, the same end after any interruption."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest

from labels import fields
from labels.geometry import Box
from labels.report import Failure
from labels.results import Label, to_label_id
from sync.catalogue.dataset import Dataset
from sync.jobs.datasets.export import export
from sync.jobs.exchange.pull import pull
from sync.jobs.exchange.push import push
from sync.ledger import Ledger
from tests.e2e.conftest import RunningStack
from tests.e2e.fresh_project import (
    BOXES_PER_IMAGE,
    MODEL_VERSION,
    SIZE,
    FreshProject,
    open_fresh_project,
)
from tests.fakes.killing import KilledError, KillSwitch

NEW_REGION = "kX9_b-Q2sA"
# A kill costs seconds here: every day a third of the points, all of them with LABELLOOP_EVERY_WRITE=1.
EVERY_WRITE = bool(os.environ.get("LABELLOOP_EVERY_WRITE"))


@pytest.fixture
def project(stack: RunningStack, tmp_path: Path) -> Iterator[FreshProject]:
    """A pushed project of twelve images."""
    with open_fresh_project(stack, tmp_path, images=12) as project:
        push(project.context)
        yield project


def move_first(regions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    regions[0]["value"]["x"] += 3
    return regions


def edit(regions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Move one, relabel one, delete one, add one."""
    regions[0]["value"]["x"] += 3
    regions[1]["value"]["rectanglelabels"] = ["dog"]
    drawn = {**regions[2], "id": NEW_REGION, "value": {**regions[2]["value"], "y": 70, "height": 5}}
    drawn.pop("score")
    return [*regions[:2], drawn]


def test_every_sample_becomes_one_task_with_its_prediction(project: FreshProject):
    tasks = list(project.context.label_studio.fetch_tasks(list(project.task_ids().values())))
    assert len(tasks) == 12
    assert {len(task.predictions) for task in tasks} == {1}
    assert {len(task.predictions[0].result) for task in tasks} == {BOXES_PER_IMAGE}
    assert project.context.label_studio.fetch_model_version() == MODEL_VERSION
    states = project.context.dataset.states()
    assert {state.review_state for state in states.values()} == {"queued"}
    assert {key: state.task_id for key, state in states.items()} == project.task_ids()


def test_a_second_push_and_pull_change_nothing(project: FreshProject):
    task_ids = sorted(project.task_ids().values())
    project.submit(task_ids[0], edit)
    project.skip(task_ids[1])
    pull(project.context)
    before = project.snapshot()
    pushed, pulled = push(project.context), pull(project.context)
    assert (pushed.moved, pushed.unchanged, pulled.moved) == (0, 12, 0)
    assert project.snapshot() == before


def test_a_review_arrives_box_by_box(project: FreshProject):
    sample_id, task_id = sorted(project.task_ids().items(), key=lambda pair: pair[1])[0]
    predicted = {label.id: label for label in project.context.dataset.predictions([sample_id])[sample_id].labels}
    first, second, third = predicted
    project.submit(task_id, edit)
    report = pull(project.context)
    assert (report.moved, report.failed, report.conflicts) == (1, (), ())
    labels = {label.id: label for label in project.context.dataset.labels([sample_id])[sample_id].labels}
    assert set(labels) == {first, second, to_label_id(NEW_REGION)}
    moved = labels[first].geometry
    assert isinstance(moved, Box)
    assert moved.x == pytest.approx(predicted[first].geometry.x + 0.03 * SIZE.width)
    assert labels[second].classes == ("dog",)
    verdicts = {row.verdict.label_id: row.verdict.kind for row in project.context.ledger.feedback(sample_id)}
    assert verdicts == {first: "moved", second: "relabelled", third: "deleted", to_label_id(NEW_REGION): "added"}
    document = project.fiftyone[sample_id]
    assert document[fields.REVIEW_STATE] == "reviewed"
    assert document[fields.REVIEWER] == "admin@labelloop.local"


def test_an_empty_annotation_is_an_answer_and_a_skip_is_none(project: FreshProject):
    (empty, first), (skipped, second) = sorted(project.task_ids().items(), key=lambda pair: pair[1])[:2]
    project.submit(first, lambda _: [])
    project.skip(second)
    report = pull(project.context)
    assert report.details == {"skipped": 1}
    documents = {sample_id: project.fiftyone[sample_id] for sample_id in (empty, skipped)}
    assert documents[empty][fields.GROUND_TRUTH].detections == []
    assert documents[empty][fields.REVIEW_STATE] == "reviewed"
    assert documents[skipped][fields.GROUND_TRUTH] is None
    assert documents[skipped][fields.REVIEW_STATE] == "skipped"


def test_an_edit_on_both_sides_is_a_conflict_that_keeps_both(project: FreshProject):
    sample_id, task_id = sorted(project.task_ids().items(), key=lambda pair: pair[1])[0]
    annotation_id = project.submit(task_id, lambda regions: regions)
    pull(project.context)
    agreed = project.context.dataset.labels([sample_id])[sample_id].labels
    ours = replace(agreed[0], classes=("bus",))
    project.context.dataset.write_labels({sample_id: [ours, *agreed[1:]]})
    (task,) = project.context.label_studio.fetch_tasks([task_id])
    theirs = [dict(region) for region in task.review.result]
    theirs[0] = {**theirs[0], "value": {**theirs[0]["value"], "rectanglelabels": ["truck"]}}
    theirs[1] = {**theirs[1], "value": {**theirs[1]["value"], "rectanglelabels": ["train"]}}
    project.sdk.annotations.update(id=annotation_id, result=theirs)

    report = pull(project.context)

    assert [line.rpartition("(")[2] for line in report.conflicts] == [f"sample {sample_id})"]
    held = {label.id: label.classes for label in project.context.dataset.labels([sample_id])[sample_id].labels}
    assert held == {agreed[0].id: ("bus",), agreed[1].id: ("train",), agreed[2].id: ("car",)}
    (task,) = project.context.label_studio.fetch_tasks([task_id])
    assert task.review.result[0]["value"]["rectanglelabels"] == ["truck"]
    (conflict,) = project.context.ledger.conflicts()[sample_id]
    assert (conflict.ours.classes, conflict.theirs.classes) == (("bus",), ("truck",))
    assert fields.CONFLICT_TAG in project.fiftyone[sample_id].tags
    assert project.fiftyone[sample_id][fields.REVIEW_STATE] == "conflict"

    again = pull(project.context)
    assert again.conflicts == report.conflicts

    decided = pull(project.context, prefer="reviewed")
    project.fiftyone.reload()
    assert decided.conflicts == ()
    assert project.context.dataset.labels([sample_id])[sample_id].labels[0].classes == ("truck",)
    assert fields.CONFLICT_TAG not in project.fiftyone[sample_id].tags


def test_a_conflict_is_over_when_the_curator_comes_round(project: FreshProject):
    sample_id, task_id = sorted(project.task_ids().items(), key=lambda pair: pair[1])[0]
    predicted = project.context.dataset.predictions([sample_id])[sample_id].labels
    project.context.dataset.write_labels({sample_id: [replace(predicted[0], classes=("bus",), confidence=None)]})
    project.submit(task_id, lambda regions: regions[:1])
    assert len(pull(project.context).conflicts) == 1
    project.context.dataset.write_labels({sample_id: [replace(predicted[0], confidence=None)]})
    assert pull(project.context).conflicts == ()
    assert project.context.dataset.states()[sample_id].review_state == "reviewed"


def test_what_a_curator_drew_and_wrote_on_a_label_survives_a_review(project: FreshProject):
    sample_id, task_id = sorted(project.task_ids().items(), key=lambda pair: pair[1])[0]
    annotation_id = project.submit(task_id, lambda regions: regions)
    pull(project.context)
    sample = project.fiftyone[sample_id]
    sample[fields.GROUND_TRUTH].detections[0]["note"] = "check the plate"
    sample[fields.GROUND_TRUTH].detections[0].tags.append("hard")
    sample[fields.GROUND_TRUTH].detections.append(fo.Detection(label="person", bounding_box=[0.5, 0.5, 0.1, 0.2]))
    sample.save()
    drawn = str(sample[fields.GROUND_TRUTH].detections[-1].id)
    (task,) = project.context.label_studio.fetch_tasks([task_id])
    regions = [dict(region) for region in task.review.result]
    regions[0] = {**regions[0], "value": {**regions[0]["value"], "x": 1.0}}
    project.sdk.annotations.update(id=annotation_id, result=regions)
    assert pull(project.context).conflicts == ()
    project.fiftyone.reload()
    detections = project.fiftyone[sample_id][fields.GROUND_TRUTH].detections
    assert drawn in [str(detection.id) for detection in detections]
    assert detections[0].bounding_box[0] == pytest.approx(0.01)
    assert (detections[0]["note"], detections[0].tags) == ("check the plate", ["hard"])


def test_an_edit_made_while_a_pull_was_writing_takes_part_in_the_merge(project: FreshProject):
    sample_id, task_id = sorted(project.task_ids().items(), key=lambda pair: pair[1])[0]
    annotation_id = project.submit(task_id, lambda regions: regions)
    pull(project.context)
    (task,) = project.context.label_studio.fetch_tasks([task_id])
    regions = [dict(region) for region in task.review.result]
    regions[0] = {**regions[0], "value": {**regions[0]["value"], "x": 1.0}}
    project.sdk.annotations.update(id=annotation_id, result=regions)
    drawn = fo.Detection(label="person", bounding_box=[0.5, 0.5, 0.1, 0.2])
    write = project.context.dataset.write_labels

    def write_late(*args: Any, **kwargs: Any) -> list[str]:
        """Let a curator draw a box between the pull's reading and its writing, the first time."""
        project.context.dataset.write_labels = write
        project.fiftyone._sample_collection.update_one(
            {"_id": project.fiftyone[sample_id]._id}, {"$push": {"ground_truth.detections": drawn.to_dict()}}
        )
        return write(*args, **kwargs)

    project.context.dataset.write_labels = write_late
    report = pull(project.context)
    assert (report.failed, report.conflicts) == ((), ())
    held = {label.id: label for label in project.context.dataset.labels([sample_id])[sample_id].labels}
    assert len(held) == BOXES_PER_IMAGE + 1
    assert held[str(drawn.id)].classes == ("person",)
    assert min(label.geometry.x for label in held.values()) == pytest.approx(0.01 * SIZE.width)


def test_a_field_that_was_cleared_is_no_word_about_the_objects(project: FreshProject):
    sample_id, task_id = sorted(project.task_ids().items(), key=lambda pair: pair[1])[0]
    annotation_id = project.submit(task_id, lambda regions: regions)
    pull(project.context)
    project.fiftyone.set_values(fields.GROUND_TRUTH, {sample_id: None}, key_field="id")
    (task,) = project.context.label_studio.fetch_tasks([task_id])
    project.sdk.annotations.update(id=annotation_id, result=move_first([dict(one) for one in task.review.result]))
    assert pull(project.context).conflicts == ()
    assert len(project.context.dataset.labels([sample_id])[sample_id].labels) == BOXES_PER_IMAGE


def test_of_several_annotations_the_last_one_counts_and_that_is_said(project: FreshProject):
    sample_id, task_id = sorted(project.task_ids().items(), key=lambda pair: pair[1])[0]
    project.submit(task_id, lambda regions: regions)
    project.submit(task_id, lambda regions: regions[:1])
    report = pull(project.context)
    assert "tasks with several annotations: 1; of each the one changed last counts" in report.notes
    assert len(project.context.dataset.labels([sample_id])[sample_id].labels) == 1


def test_a_file_that_is_gone_is_not_sent(stack: RunningStack, tmp_path: Path):
    with open_fresh_project(stack, tmp_path, images=2) as project:
        gone, _ = project.context.dataset.images().values()
        gone.path.unlink()
        report = push(project.context)
        problem = "is gone; its task would have no picture"
        assert (report.moved, report.failed) == (1, (Failure(str(gone.path), problem, gone.sample_id),))


def test_a_deleted_task_and_a_deleted_annotation_take_no_label_away(project: FreshProject):
    (gone, first), (reopened, second) = sorted(project.task_ids().items(), key=lambda pair: pair[1])[:2]
    for task_id in (first, second):
        annotation_id = project.submit(task_id, edit)
    pull(project.context)
    before = {sample_id: project.context.dataset.labels([sample_id])[sample_id] for sample_id in (gone, reopened)}
    project.sdk.tasks.delete(id=str(first))
    project.sdk.annotations.delete(id=annotation_id)
    report = pull(project.context)
    assert report.notes == ("tasks deleted in Label Studio: 1; their samples keep all labels",)
    assert report.details == {"reopened": 1}
    for sample_id, labels in before.items():
        assert project.context.dataset.labels([sample_id])[sample_id] == labels
    assert project.context.dataset.states()[reopened].review_state == "queued"
    assert push(project.context).moved == 0
    assert push(project.context, sample_ids=[gone]).moved == 1
    (task,) = project.context.label_studio.fetch_tasks([project.task_ids()[gone]])
    assert len(task.review.result) == len(before[gone].labels)


def test_an_annotation_that_cannot_be_carried_is_reported_until_it_can(project: FreshProject):
    (sample_id, first), (_, second) = sorted(project.task_ids().items(), key=lambda pair: pair[1])[:2]
    unknown = {"id": "r1", "type": "textarea", "from_name": "note", "to_name": "image", "value": {"text": ["hm"]}}
    annotation_id = project.submit(first, lambda regions: [*regions, unknown])
    project.submit(second, edit)
    problem = "control 'note' is not in label_config.xml (known: label, quality)"
    for _ in range(2):
        report = pull(project.context)
        assert report.failed == (Failure(f"task {first}, region r1", problem, sample_id),)
    assert project.context.dataset.labels([sample_id]) == {}
    (task,) = project.context.label_studio.fetch_tasks([first])
    project.sdk.annotations.update(
        id=annotation_id, result=[region for region in task.review.result if region != unknown]
    )
    assert pull(project.context).failed == ()
    assert len(project.context.dataset.labels([sample_id])[sample_id].labels) == BOXES_PER_IMAGE


def test_labels_people_made_travel_as_an_annotation_and_come_back_merged(stack: RunningStack, tmp_path: Path):
    with open_fresh_project(stack, tmp_path, images=1) as project:
        (sample_id,) = project.context.dataset.sample_ids()
        mine = [
            Label("a" * 24, "label", ("dog",), Box(10, 10, 20, 30, 15.0)),
            Label("b" * 24, "quality", ("keep",)),
        ]
        project.context.dataset.write_labels({sample_id: mine})
        push(project.context)
        assert pull(project.context).moved == 0
        assert project.context.dataset.states()[sample_id].review_state == "reviewed"
        (task_id,) = project.task_ids().values()
        (task,) = project.context.label_studio.fetch_tasks([task_id])
        regions = [dict(region) for region in task.review.result]
        regions[0] = {**regions[0], "value": {**regions[0]["value"], "rectanglelabels": ["cat"]}}
        project.sdk.annotations.update(id=task.review.annotation_id, result=regions)
        report = pull(project.context)
        assert (report.moved, report.conflicts) == (1, ())
        held = project.context.dataset.labels([sample_id])[sample_id].labels
        assert [(label.id, label.classes) for label in held] == [("a" * 24, ("cat",)), ("b" * 24, ("keep",))]
        assert held[0].geometry.rotation_deg == pytest.approx(15.0)
        assert held[0].geometry.x == pytest.approx(10.0)


def test_an_image_marked_as_trash_stays_out_of_an_export(project: FreshProject, tmp_path: Path):
    (_, first), (_, second) = sorted(project.task_ids().items(), key=lambda pair: pair[1])[:2]
    trash = {"id": "q1", "type": "choices", "from_name": "quality", "to_name": "image", "value": {"choices": ["trash"]}}
    project.submit(first, lambda regions: regions)
    project.submit(second, lambda regions: [*regions, trash])
    pull(project.context)
    report = export(project.context, export_format="yolo", out_dir=tmp_path / "out")
    assert (report.moved, report.details["images marked as trash"]) == (1, 1)


def annotate(project: FreshProject) -> None:
    """Leave one of everything behind: reviews, a skip, an empty answer, an unreadable one, an edit on both sides."""
    pairs = sorted(project.task_ids().items(), key=lambda pair: pair[1])
    unknown = {"id": "r1", "type": "textarea", "from_name": "note", "to_name": "image", "value": {"text": ["hm"]}}
    for _, task_id in pairs[:6]:
        project.submit(task_id, edit)
    project.skip(pairs[6][1])
    project.submit(pairs[7][1], lambda _: [])
    project.submit(pairs[8][1], lambda regions: [*regions, unknown])
    sample_id, task_id = pairs[9]
    predicted = project.context.dataset.predictions([sample_id])[sample_id].labels
    project.context.dataset.write_labels({sample_id: [replace(predicted[0], classes=("bus",), confidence=None)]})
    project.submit(task_id, move_first)


def to_outcome(project: FreshProject, names: dict[str, str]) -> str:
    """Return what matters of all three databases, with sample and task ids replaced by what they stand for."""
    tasks = {task_id: names[sample_id] for sample_id, task_id in project.task_ids().items()}
    ledger = project.context.ledger.snapshot()
    held = {
        "tasks": sorted(
            (tasks[task.task_id], [(one.model_version, one.result) for one in task.predictions])
            for task in project.context.label_studio.fetch_tasks(list(tasks))
        ),
        "shown": project.context.label_studio.fetch_model_version(),
        "links": sorted((names[row["sample_id"]], row["model_version"], row["state"]) for row in ledger["links"]),
        "pushed": sorted((names[row["sample_id"]], row["labels"]) for row in ledger["pushed_predictions"]),
        "states": sorted(
            (names[key], state.review_state, tasks.get(state.task_id))
            for key, state in project.context.dataset.states().items()
        ),
    }
    return repr(held)


def test_a_push_killed_at_any_write_ends_like_an_undisturbed_one(stack: RunningStack, tmp_path: Path):
    def push_with(number: int, switch: KillSwitch) -> str:
        with open_fresh_project(stack, tmp_path / str(number), images=9) as project:
            names = {sample_id: str(index) for index, sample_id in enumerate(project.context.dataset.sample_ids())}
            try:
                push(switch.guard(project.context), tasks_per_import=3)
            except KilledError:
                push(project.context, tasks_per_import=3)
            return to_outcome(project, names)

    undisturbed = KillSwitch()
    expected = push_with(0, undisturbed)
    points = [(at, before) for at in range(1, undisturbed.writes + 1) for before in (True, False)]
    assert len(points) >= 20
    for number, (at, before) in enumerate(points[:: 1 if EVERY_WRITE else 3], start=1):
        switch = KillSwitch(at, before=before)
        assert push_with(number, switch) == expected, f"killed {'before' if before else 'after'} write {at}"


def test_a_pull_killed_at_any_write_ends_like_an_undisturbed_one(stack: RunningStack, tmp_path: Path):
    with open_fresh_project(stack, tmp_path, images=12) as project:
        push(project.context)
        annotate(project)
        ledger_file = tmp_path / f"{project.context.project.name}.db"
        copies = tmp_path / "before.db"
        with closing(sqlite3.connect(ledger_file)) as source, closing(sqlite3.connect(copies)) as target:
            source.backup(target)

        def pull_with(number: int, switch: KillSwitch) -> dict[str, str]:
            name = f"{project.context.project.name}-{number}"
            clone = project.fiftyone.clone(name, persistent=True)
            shutil.copyfile(copies, tmp_path / f"{name}.db")
            with Ledger.open(tmp_path / f"{name}.db") as ledger:
                context = replace(project.context, ledger=ledger, dataset=Dataset(clone, project.context.config))
                try:
                    pull(switch.guard(context), tasks_per_chunk=4)
                except KilledError:
                    pull(context, tasks_per_chunk=4)
                clone.reload()
                outcome = {"ledger": repr(ledger.snapshot()), "FiftyOne": to_comparable(clone)}
            clone.delete()
            return outcome

        undisturbed = KillSwitch()
        expected = pull_with(0, undisturbed)
        points = [(at, before) for at in range(1, undisturbed.writes + 1) for before in (True, False)]
        assert len(points) >= 20
        for number, (at, before) in enumerate(points[:: 1 if EVERY_WRITE else 3], start=1):
            outcome = pull_with(number, KillSwitch(at, before=before))
            assert outcome == expected, f"killed {'before' if before else 'after'} write {at}"


def to_comparable(dataset: Any) -> str:
    documents = list(dataset._sample_collection.find().sort("_id"))
    for document in documents:
        # Every clone is a moment younger than the one before, and names itself.
        for name in ("created_at", "last_modified_at", "_dataset_id"):
            document.pop(name, None)
    return repr(documents)
