"""A renaming is nobody's word: who spoke last, when, and what a curator was told stay what they were."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import pytest

from labels.geometry import Box
from labels.report import Report, ignore_progress
from labels.results import Label, to_result
from sync.jobs.context import Context
from sync.jobs.exchange.class_changes import Found, _change_annotation, change_tasks
from sync.jobs.exchange.pull import pull
from sync.jobs.exchange.push import push
from sync.jobs.exchange.resolve import resolve
from sync.jobs.exchange.rewriting import fetch_tasks, rewrite, settle_begun
from sync.jobs.exchange.verify import verify
from sync.review.relabelling import Renaming
from sync.workbench.label_studio import LabelStudio, NoAnswerError, RefusedError, Task
from tests.fakes.answering import answering
from tests.fakes.killing import KilledError, KillSwitch
from tests.fakes.project import CONFIG, SIZE, FakeProject, open_fake_project

BOX = Label("b" * 24, "label", ("car",), Box(50, 10, 20, 30))
BUS = Renaming("label", "RectangleLabels", "car", "bus")
ADMIN, ANN, BOB = 1, 2, 3


@pytest.fixture
def project() -> Iterator[FakeProject]:
    """One image that was sent, with nothing drawn on it."""
    with open_fake_project(images=1) as project:
        push(project.context)
        yield project


def regions(*labels: Label) -> list[dict[str, Any]]:
    return to_result(labels, CONFIG, SIZE)


def say(project: FakeProject, name: str, person: int = ADMIN, box: Label = BOX) -> int:
    """Submit the box with a class, as a person."""
    (task_id,) = project.task_ids().values()
    drawn = replace(box, classes=(name,))
    return project.annotator.submit(task_id, regions(drawn), completed_by=person, updated_by=person)


def rename(context: Context, renaming: Renaming = BUS) -> None:
    """Rename as the job does, but for the label config and the real catalogue."""
    settle_begun(context)
    change_tasks(context, renaming, Found(), 200, ignore_progress)
    for sample_id, said in context.dataset.labels().items():
        held = [
            replace(one, classes=tuple(renaming.new if name == renaming.old else name for name in one.classes))
            for one in said.labels
        ]
        if held != list(said.labels):
            context.dataset.write_labels({sample_id: held})
    context.ledger.record_class(renaming)


def held(project: FakeProject) -> list[Label]:
    (said,) = project.context.dataset.labels().values()
    return list(said.labels)


def read(project: FakeProject) -> Task:
    (task,) = fetch_tasks(project.context, list(project.task_ids().values()))
    return task


def pull_all(project: FakeProject, prefer: str | None = None) -> Report:
    report = pull(project.context, everything=True, prefer=prefer)
    assert report.failed == ()
    return report


def test_who_spoke_last_still_counts_when_the_answer_before_was_renamed(project: FakeProject):
    say(project, "car")
    say(project, "dog", BOB)
    pull(project.context)
    before, ledger = read(project), project.context.ledger.links()
    rename(project.context)

    raw = {key: row["updated_at"] for key, row in project.server.annotations.items()}
    assert list(raw) == sorted(raw, key=lambda key: raw[key], reverse=True), "Label Studio takes the renamed for newer"
    assert [one.updated_at for one in read(project).annotations] == [one.updated_at for one in before.annotations]
    assert project.context.ledger.links() == ledger
    assert verify(project.context).failed == ()
    assert pull(project.context).moved == 0
    assert pull_all(project).moved == 0
    assert held(project)[0].classes == ("dog",)


def test_a_renamed_answer_that_its_person_saves_again_is_the_last_word(project: FakeProject):
    annotation_id = say(project, "car")
    say(project, "dog", BOB)
    pull(project.context)
    rename(project.context)
    # With nothing changed: they say it again.
    project.annotator.edit(annotation_id, regions(replace(BOX, classes=("bus",))))
    assert pull(project.context).moved == 1
    assert held(project)[0].classes == ("bus",)


def test_a_second_renaming_leaves_everybody_as_old_as_they_are(project: FakeProject):
    say(project, "car")
    say(project, "dog", BOB)
    pull(project.context)
    before = read(project)
    rename(project.context)
    rename(project.context, replace(BUS, old="bus", new="car"))
    assert read(project).annotations == before.annotations
    assert pull_all(project).moved == 0


def test_when_and_by_whom_it_was_reviewed_stays(project: FakeProject):
    say(project, "car", BOB)
    pull(project.context)
    (sample,) = project.dataset.samples.values()
    before, reviews = sample.reviewer, project.context.ledger.reviews()
    assert before is not None
    rename(project.context)
    pull_all(project)
    assert sample.reviewer == before
    assert [(row["annotation_updated_at"], row["reviewer"]) for row in project.context.ledger.reviews()] == [
        (row["annotation_updated_at"], row["reviewer"]) for row in reviews
    ]


def test_where_the_newest_side_wins_a_renaming_makes_no_side_newer(project: FakeProject):
    annotation_id = say(project, "car")
    pull(project.context)
    theirs, ours = replace(BOX, geometry=Box(1, 1, 9, 9)), replace(BOX, geometry=Box(60, 40, 8, 8))
    project.annotator.edit(annotation_id, regions(theirs))
    (sample_id,) = project.sample_ids
    project.context.dataset.write_labels({sample_id: [ours]})
    sample = project.dataset.samples[sample_id]
    edited = sample.modified_at
    change_tasks(project.context, BUS, Found(), 200, ignore_progress)
    project.context.ledger.record_class(BUS)
    # As the real catalogue is renamed: the sample stays as old as it is.
    sample.said = sample.said | {"boxes": (replace(ours, classes=("bus",)),)}
    assert datetime.fromisoformat(project.server.annotations[annotation_id]["updated_at"]) > edited
    pull_all(project, prefer="newest")
    assert held(project)[0].geometry == ours.geometry


def test_a_correction_that_a_later_answer_overtook_is_not_sent_again(project: FakeProject):
    annotation_id = say(project, "car")
    pull(project.context)
    (sample_id,) = project.sample_ids
    project.context.dataset.write_labels({sample_id: [replace(BOX, geometry=Box(60, 40, 8, 8))]})
    assert push(project.context).details["corrections sent"] == 1
    project.annotator.edit(annotation_id, regions(replace(BOX, geometry=Box(1, 1, 9, 9))))
    assert len(pull(project.context).conflicts) == 1
    resolve(project.context, decisions={sample_id: "reviewed"})
    assert push(project.context).moved == 0
    rename(project.context)
    assert push(project.context).moved == 0
    assert push(project.context, sample_ids=[sample_id]).moved == 0
    assert verify(project.context).failed == ()
    assert pull_all(project).moved == 0


def test_a_correction_that_nobody_touched_is_still_ours_and_one_somebody_changed_is_theirs(project: FakeProject):
    say(project, "car", BOB)
    pull(project.context)
    (sample_id,) = project.sample_ids
    moved = replace(BOX, geometry=Box(60, 40, 8, 8))
    project.context.dataset.write_labels({sample_id: [moved]})
    push(project.context)
    rename(project.context)
    assert (pull_all(project).moved, push(project.context).moved) == (0, 0)
    (correction,) = project.context.ledger.corrections()[sample_id]
    assert correction.annotation_id is not None
    project.annotator.edit(
        correction.annotation_id, regions(replace(moved, classes=("bus",), geometry=Box(1, 1, 5, 5)))
    )
    project.server.annotations[correction.annotation_id]["updated_by"] = BOB
    rename(project.context, replace(BUS, old="bus", new="car"))
    assert pull(project.context).moved == 1
    (sample,) = project.dataset.samples.values()
    assert sample.reviewer is not None
    assert sample.reviewer.name == "bob@example.org"
    assert held(project)[0].geometry == Box(1, 1, 5, 5)


def test_people_who_agree_only_by_the_new_name_are_read_again_and_others_not(project: FakeProject):
    say(project, "car")
    say(project, "dog", BOB)
    pull(project.context)
    rename(project.context)
    assert project.context.ledger.links()[project.sample_ids[0]].answers is not None
    rename(project.context, replace(BUS, old="bus", new="dog"))
    assert project.context.ledger.links()[project.sample_ids[0]].answers is None
    assert pull(project.context).moved == 1


def test_a_renaming_killed_at_any_write_leaves_the_order_when_it_was_run_again():
    def run(switch: KillSwitch) -> Any:
        with open_fake_project(images=1) as project:
            push(project.context)
            say(project, "car")
            say(project, "car", BOB, replace(BOX, geometry=Box(1, 1, 5, 5)))
            say(project, "dog", ANN)
            pull(project.context)
            before = read(project)
            with suppress(KilledError):
                change_tasks(switch.guard(project.context), BUS, Found(), 200, ignore_progress)
            rename(project.context)
            after = read(project)
            assert [(one.updated_at, one.updated_by) for one in after.annotations] == [
                (one.updated_at, one.updated_by) for one in before.annotations
            ]
            assert project.context.ledger.begun_rewritings() == []
            assert verify(project.context).failed == ()
            # Renamed in part, they may have looked as if they differed: then they are read once more.
            assert pull(project.context).moved <= (switch is not undisturbed)
            assert pull_all(project).moved == 0
            assert held(project)[0].classes == ("dog",)
            return [one.result for one in after.annotations], held(project)

    undisturbed = KillSwitch()
    expected = run(undisturbed)
    assert undisturbed.writes == 7
    for before in (True, False):
        for at in range(1, undisturbed.writes + 1):
            assert run(KillSwitch(at, before=before)) == expected, f"killed at write {at}"


def test_an_answer_that_got_lost_is_found_out_by_the_next_run(project: FakeProject):
    say(project, "car")
    before = read(project).annotations[0].updated_at
    switch = KillSwitch(("send_annotation_result",), before=False, error=NoAnswerError)
    with pytest.raises(NoAnswerError):
        change_tasks(switch.guard(project.context), BUS, Found(), 200, ignore_progress)
    assert len(project.context.ledger.begun_rewritings()) == 1
    rename(project.context)
    assert read(project).annotations[0].updated_at == before


def test_what_somebody_saved_after_a_write_that_was_cut_off_is_as_old_as_that(project: FakeProject):
    annotation_id = say(project, "car")
    switch = KillSwitch(("send_annotation_result",), before=False)
    with pytest.raises(KilledError):
        change_tasks(switch.guard(project.context), BUS, Found(), 200, ignore_progress)
    project.annotator.edit(annotation_id, regions(replace(BOX, geometry=Box(1, 1, 5, 5))))
    saved = project.server.annotations[annotation_id]["updated_at"]
    rename(project.context)
    (annotation,) = read(project).annotations
    assert (annotation.updated_at, annotation.result[0]["value"]["rectanglelabels"]) == (saved, ["bus"])


def test_an_annotation_that_was_refused_or_is_gone_leaves_nothing_begun(project: FakeProject):
    annotation_id = say(project, "car")
    (annotation,) = read(project).annotations
    refused = KillSwitch(("send_annotation_result",), error=BadRequestError)
    with pytest.raises(RefusedError):
        rewrite(refused.guard(project.context), annotation, regions(replace(BOX, classes=("bus",))))
    assert len(project.context.ledger.begun_rewritings()) == 1
    settle_begun(project.context)
    assert project.context.ledger.begun_rewritings() == []
    assert read(project).annotations == (annotation,)
    project.annotator.delete_annotation(annotation_id)
    with pytest.raises(RefusedError):
        rewrite(project.context, annotation, [])
    assert project.context.ledger.rewritten([annotation_id]) == {}


@dataclass
class BusyLabelStudio:
    """A server with one annotation, whose database is locked once: a person's save was being written."""

    row: dict[str, Any]
    saved: list[dict[str, Any]]
    writes: int = 0

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        if "users" in path:
            return 200, json.dumps([{"id": ANN, "email": "ann@example.org"}]).encode()
        if method == "PATCH":
            self.writes += 1
            if self.writes == 1:
                self.row |= {"result": self.saved, "updated_at": "2026-01-01T00:00:05Z"}
                return 500, b'{"detail": "database is locked"}'
            self.row |= {"result": json.loads(body)["result"], "updated_at": "2026-01-01T00:00:07Z"}
        return 200, json.dumps(self.row).encode()


def test_what_a_person_saves_while_label_studio_is_too_busy_to_rename_is_not_written_over(project: FakeProject):
    person = {"completed_by": ANN, "updated_by": ANN, "was_cancelled": False, "ground_truth": False}
    drawn = {"id": 5, "task": 1, "result": regions(BOX), "created_at": "2026-01-01T00:00:00Z"} | person
    moved, added = replace(BOX, geometry=Box(60, 20, 20, 30)), Label("c" * 24, "label", ("dog",), Box(1, 2, 3, 4))
    busy = BusyLabelStudio(drawn | {"updated_at": "2026-01-01T00:00:00Z"}, regions(moved, added))
    with answering(busy.answer) as url, closing(LabelStudio(url, "0" * 40, 1)) as label_studio:
        context = replace(project.context, label_studio=label_studio)
        problem = _change_annotation(context, BUS, 5, Found())

    assert problem is None
    assert busy.row["result"] == regions(replace(moved, classes=("bus",)), added)


class BadRequestError(RefusedError):
    def __init__(self, problem: str) -> None:
        super().__init__(problem, 400)
