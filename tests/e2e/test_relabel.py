"""A class gets another name on the real servers: on both sides, without loss, after any interruption, and no news."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest

from labels import fields
from labels.config import LabelConfig
from labels.errors import LabelConfigError, LabelingError
from labels.geometry import Box
from labels.results import Label
from sync.catalogue.dataset import Dataset
from sync.jobs.exchange.pull import pull
from sync.jobs.exchange.push import push
from sync.jobs.exchange.relabel import relabel
from sync.jobs.exchange.verify import verify
from sync.jobs.registry import call_job
from sync.services.label_config_check import check_nothing_in_use_is_lost
from sync.settings import Home
from tests.e2e.conftest import RunningStack
from tests.e2e.fresh_project import FreshProject, open_fresh_project
from tests.e2e.several_people import ADMIN, ANN, BEN, Regions, submit_as
from tests.fakes.killing import KilledError, KillSwitch

# A kill costs seconds here: every day a quarter of the writes, all of them with LABELLOOP_EVERY_WRITE=1.
EVERY_WRITE = bool(os.environ.get("LABELLOOP_EVERY_WRITE"))
XML = """
<View>
  <Image name="image" value="$image"/>
  <RectangleLabels name="label" toName="image">
    <Label value="car" hotkey="1"/>
    <Label value="dog"/>
    <Label value="bus"/>
  </RectangleLabels>
  <Choices name="scene" toName="image" choice="multiple"><Choice value="day"/><Choice value="rain"/></Choices>
</View>
"""
DAY = {
    "id": "c" * 24,
    "type": "choices",
    "from_name": "scene",
    "to_name": "image",
    "value": {"choices": ["day", "rain"]},
}


@dataclass(frozen=True)
class Renamed:
    """A project with a home of its own: the label config of the stack is nobody's to change."""

    project: FreshProject
    home: Home

    @property
    def context(self):
        """The context of a job that starts now: it reads the home's label config."""
        config = LabelConfig.read(self.home.label_config)
        dataset = Dataset.open(self.project.context.dataset.name, config)
        return replace(self.project.context, home=self.home, config=config, dataset=dataset)

    def classes(self) -> dict[str, Any]:
        """Return which classes are used where, and which are known."""
        context = self.context
        tasks = sorted(
            context.label_studio.fetch_tasks(list(self.project.task_ids().values())), key=lambda task: task.sample_id
        )
        said = context.dataset.labels()
        drawn = context.dataset.predictions()
        ledger = context.ledger.snapshot()
        return {
            "annotations": [[_classes_of(one.result) for one in task.annotations] for task in tasks],
            "predictions": [[_classes_of(one.result) for one in task.predictions] for task in tasks],
            "FiftyOne": [sorted(label.classes for label in said[key].labels) for key in sorted(said)],
            "drawn": [[label.classes for label in drawn[key].labels] for key in sorted(drawn)],
            "ledger": {
                table: sorted(row["labels"] for row in ledger[table]) for table in ("bases", "pushed_predictions")
            },
            "conflicts": [[row[side] for side in ("base", "ours", "theirs")] for row in ledger["conflicts"]],
            "feedback": sorted(
                (row["kind"], row["class_before"] or "", row["class_after"] or "") for row in ledger["feedback"]
            ),
            "config": context.config.control("label").classes,
            "their config": LabelConfig.from_xml(context.label_studio.fetch_label_config()).control("label").classes,
        }  # fmt: skip


def _classes_of(result: Any) -> list[Any]:
    return [region["value"].get("rectanglelabels") or region["value"].get("choices") for region in result]


@pytest.fixture
def renamed(stack: RunningStack, tmp_path: Path) -> Iterator[Renamed]:
    """Six samples: reviewed with every kind of edit, in conflict, only predicted, labelled by a curator alone."""
    with open_renamed(stack, tmp_path) as opened:
        yield opened


@contextmanager
def open_renamed(stack: RunningStack, folder: Path) -> Iterator[Renamed]:
    with open_fresh_project(stack, folder, images=6, config=LabelConfig.from_xml(XML)) as project:
        fill(project)
        yield make_home(project, folder)


def make_home(project: FreshProject, folder: Path) -> Renamed:
    home = Home(folder / "own")
    home.path.mkdir(parents=True)
    home.label_config.write_text(XML, encoding="utf-8")
    return Renamed(project, home)


def fill(project: FreshProject) -> None:
    context = project.context
    sample_ids = context.dataset.sample_ids()
    drawn = Label("e" * 24, "label", ("car",), Box(3, 3, 20, 10))
    context.dataset.write_labels({sample_ids[5]: [drawn]})
    push(context, sample_ids=sample_ids[:5])
    task_ids = project.task_ids()
    first, second, third = (task_ids[sample_id] for sample_id in sample_ids[:3])

    def edit(regions: list[dict[str, Any]]) -> list[dict[str, Any]]:
        regions[0]["value"]["rectanglelabels"] = ["dog"]
        return [*regions[:2], DAY]

    project.submit(first, edit)
    project.submit(second, lambda regions: [])
    conflict_id = project.submit(third, lambda regions: regions)
    pull(context)
    ours = context.dataset.labels([sample_ids[2]])[sample_ids[2]].labels
    context.dataset.write_labels({sample_ids[2]: [replace(ours[0], classes=("bus",)), *ours[1:]]})
    (task,) = context.label_studio.fetch_tasks([third])
    theirs = json.loads(json.dumps(list(task.review.result)))
    theirs[0]["value"]["rectanglelabels"] = ["dog"]
    project.sdk.annotations.update(id=conflict_id, result=theirs)
    assert len(pull(context).conflicts) == 1
    # Not pulled yet when the class is renamed.
    project.submit(task_ids[sample_ids[3]], lambda regions: regions[:1])


def test_a_renamed_class_has_its_new_name_everywhere_and_a_pull_has_no_other_news(renamed: Renamed):
    report = relabel(renamed.context, old="car", new="Auto", tasks_per_chunk=2)

    assert report.failed == ()
    # Before anything opens the dataset again, which would write them too.
    assert renamed.project.fiftyone.classes[fields.GROUND_TRUTH] == ["Auto", "dog", "bus"]
    assert (report.details["annotations"], report.details["predictions"]) == (3, 5)
    after = renamed.classes()
    assert "car" not in json.dumps(after)
    assert after["config"] == after["their config"] == ("Auto", "dog", "bus")
    assert after["annotations"] == [
        [[["dog"], ["Auto"], ["day", "rain"]]],
        [[]],
        [[["dog"], ["Auto"], ["Auto"]]],
        [[["Auto"]]],
        [],
    ]
    assert after["FiftyOne"] == [
        [("Auto",), ("day", "rain"), ("dog",)],
        [],
        [("Auto",), ("Auto",), ("bus",)],
        [("Auto",)],
    ]
    pulled = pull(renamed.context)
    # The one that was submitted and not pulled before; the conflict is still one.
    assert (pulled.moved, pulled.failed, len(pulled.conflicts)) == (1, (), 1)
    before = renamed.classes()
    assert pull(renamed.context).moved == 0
    assert push(renamed.context, sample_ids=renamed.context.dataset.sample_ids()[:5]).moved == 0
    assert renamed.classes() == before


def test_a_class_that_goes_into_another_is_no_disagreement_any_more(renamed: Renamed):
    before = renamed.classes()
    assert ("relabelled", "car", "dog") in before["feedback"]
    report = relabel(renamed.context, old="car", new="dog")
    assert report.failed == ()
    after = renamed.classes()
    assert after["config"] == ("dog", "bus")
    assert "car" not in json.dumps(after | {"config": renamed.context.config.xml.replace('predicted_values="car"', "")})
    assert ("confirmed", "dog", "dog") in after["feedback"]
    assert ("relabelled", "car", "dog") not in after["feedback"]
    # The annotator had said dog where all said car: the curator's bus is now the only change.
    assert pull(renamed.context).conflicts == ()
    assert renamed.context.config.control("label").class_for("car") == "dog"


def test_one_of_several_choices_goes_into_another_and_is_ticked_once(renamed: Renamed):
    relabel(renamed.context, old="rain", new="day")
    after = renamed.classes()
    assert after["annotations"][0] == [[["dog"], ["car"], ["day"]]]
    assert after["FiftyOne"][0] == [("car",), ("day",), ("dog",)]
    assert pull(renamed.context).failed == ()
    first = renamed.project.fiftyone[renamed.context.dataset.sample_ids()[0]]
    assert [one.label for one in first["scene"].classifications] == ["day"]


def test_people_who_differed_in_the_two_names_agree_after_it(stack: RunningStack, tmp_path: Path):
    def say(name: str, count: int) -> Callable[[Regions], Regions]:
        def change(regions: Regions) -> Regions:
            for region in regions:
                region["value"]["rectanglelabels"] = [name]
            return regions[:count]

        return change

    with open_fresh_project(stack, tmp_path, images=1, config=LabelConfig.from_xml(XML)) as project:
        opened = make_home(project, tmp_path)
        context = replace(project.context, project=replace(project.context.project, annotators="agreement"))
        push(context)
        ((sample_id, task_id),) = project.task_ids().items()
        for email, name in ((ADMIN, "car"), (ANN, "dog"), (BEN, "bus")):
            submit_as(project, email, task_id, say(name, 1))
        pull(context)
        document = project.fiftyone[sample_id]
        assert document[fields.DISAGREEMENT] == 1.0
        relabel(opened.context, old="car", new="dog")
        renamed = replace(opened.context, project=context.project)
        assert pull(renamed).moved == 1
        document.reload()
        assert document[fields.DISAGREEMENT] == pytest.approx(2 / 3)
        assert [one.label for one in document[fields.GROUND_TRUTH].detections] == ["dog"]
        assert verify(renamed).failed == ()


def test_a_renaming_changes_neither_who_spoke_last_nor_when_nor_what_goes_to_curators(
    stack: RunningStack, tmp_path: Path
):
    def say(name: str, x: float = 10.0) -> Callable[[Regions], Regions]:
        def change(regions: Regions) -> Regions:
            regions[0]["value"] |= {"rectanglelabels": [name], "x": x}
            return regions[:1]

        return change

    with open_fresh_project(stack, tmp_path, images=2, config=LabelConfig.from_xml(XML)) as project:
        opened = make_home(project, tmp_path)
        context = project.context
        push(context)
        (several, overtaken), task_ids = context.dataset.sample_ids(), project.task_ids()
        submit_as(project, ADMIN, task_ids[several], say("car"))
        submit_as(project, BEN, task_ids[several], say("dog"))
        annotation_id = project.submit(task_ids[overtaken], say("car"))
        pull(context)
        (said,) = context.dataset.labels([overtaken])[overtaken].labels
        context.dataset.write_labels({overtaken: [replace(said, geometry=Box(60, 40, 20, 10))]})
        assert push(context).details["corrections sent"] == 1
        (task,) = context.label_studio.fetch_tasks([task_ids[overtaken]])
        first = next(one for one in task.annotations if one.annotation_id == annotation_id)
        project.sdk.annotations.update(id=annotation_id, result=say("car", 33.0)(json.loads(json.dumps(first.result))))
        assert len(pull(context).conflicts) == 1
        call_job(context, "resolve", {"decisions": {overtaken: "reviewed"}})
        assert push(context).moved == 0
        before = {key: _reviewed(project, key) for key in (several, overtaken)}
        changed_at = context.dataset.changed_at([overtaken])[overtaken]

        assert relabel(opened.context, old="car", new="Auto").details["annotations"] == 3

        touched = context.dataset.changed_at([overtaken])[overtaken] - changed_at
        assert timedelta(0) < touched <= timedelta(milliseconds=5)
        renamed = opened.context
        assert verify(renamed).failed == ()
        assert (pull(renamed).moved, pull(renamed, everything=True).moved) == (0, 0)
        assert (push(renamed).moved, push(renamed, sample_ids=[several, overtaken]).moved) == (0, 0)
        assert _reviewed(project, several) == before[several]
        assert before[several][:2] == (["dog"], BEN)
        assert _reviewed(project, overtaken) == (["Auto"], *before[overtaken][1:])


def _reviewed(project: FreshProject, sample_id: str) -> tuple[list[str], str, Any]:
    project.fiftyone.reload()
    sample = project.fiftyone[sample_id]
    sample.reload()
    classes = [one.label for one in sample[fields.GROUND_TRUTH].detections]
    return classes, sample[fields.REVIEWER], sample[fields.REVIEWED_AT]


def test_what_uses_a_class_is_counted_and_a_config_without_it_is_refused(renamed: Renamed):
    without = LabelConfig.from_xml(XML.replace('<Label value="car" hotkey="1"/>', ""))
    sdk, project_id = renamed.project.sdk, renamed.project.project_id
    used = r"class 'car' of control 'label' \(3 images: 0000.png, 0002.png, 0003.png\).*labelloop relabel OLD NEW"
    with pytest.raises(LabelConfigError, match=used):
        check_nothing_in_use_is_lost(sdk, project_id, without, drafts={})
    check_nothing_in_use_is_lost(sdk, project_id, LabelConfig.from_xml(XML), drafts={})

    before, xml = renamed.project.snapshot(), renamed.home.label_config.read_text(encoding="utf-8")
    report = relabel(renamed.context, old="car", new="Auto", dry_run=True)
    assert report.is_dry_run
    joining = relabel(renamed.context, old="car", new="bus", dry_run=True)
    assert any("'bus' is a class already" in note and "for good" in note for note in joining.notes)
    assert not any("for good" in note for note in report.notes)
    assert report.details == {"annotations": 3, "predictions": 5, "FiftyOne samples": 6}
    assert report.moved == 6
    assert renamed.project.snapshot() == before
    assert renamed.home.label_config.read_text(encoding="utf-8") == xml
    assert renamed.context.ledger.unfinished_renaming() is None


def test_what_a_curator_wrote_on_a_label_and_other_controls_stay(renamed: Renamed):
    sample_id = renamed.context.dataset.sample_ids()[5]
    sample = renamed.project.fiftyone[sample_id]
    sample[fields.GROUND_TRUTH].detections[0]["note"] = "check"
    sample[fields.GROUND_TRUTH].detections.append(fo.Detection(label="car", bounding_box=[0.5, 0.5, 0.1, 0.2]))
    sample.save()
    relabel(renamed.context, old="car", new="Auto")
    renamed.project.fiftyone.reload()
    drawn, by_hand = renamed.project.fiftyone[sample_id][fields.GROUND_TRUTH].detections
    assert (drawn.label, drawn["note"], str(drawn.id)) == ("Auto", "check", "e" * 24)
    assert by_hand.label == "Auto"


def test_a_draft_keeps_the_class_in_the_config_until_it_is_submitted(renamed: Renamed):
    task_id = renamed.project.task_ids()[renamed.context.dataset.sample_ids()[4]]
    region = {
        "id": "d1", "type": "rectanglelabels", "from_name": "label", "to_name": "image",
        "original_width": 120, "original_height": 80, "image_rotation": 0,
        "value": {"x": 1, "y": 1, "width": 9, "height": 9, "rotation": 0, "rectanglelabels": ["car"]},
    }  # fmt: skip
    client = renamed.project.sdk._client_wrapper.httpx_client
    draft = client.request(f"api/tasks/{task_id}/drafts", method="POST", json={"result": [region], "lead_time": 1})
    assert draft.status_code == 201

    report = relabel(renamed.context, old="car", new="Auto")

    assert report.details["tasks with drafts"] == 1
    assert str(task_id) in report.notes[0]
    assert renamed.classes()["their config"] == ("Auto", "car", "dog", "bus")
    renamed.project.sdk.annotations.create(id=task_id, result=[region], was_cancelled=False)
    client.request(f"api/drafts/{draft.json()['id']}/", method="DELETE")
    assert relabel(renamed.context, old="car", new="Auto").failed == ()
    assert renamed.classes()["their config"] == renamed.classes()["config"] == ("Auto", "dog", "bus")
    assert renamed.classes()["annotations"][4] == [[["Auto"]]]


def test_somebody_who_saves_while_it_runs_loses_nothing(renamed: Renamed):
    """A review that was pulled is saved again, with the old name, right after the new one was written."""
    context = renamed.context
    reviewed = context.ledger.links()[context.dataset.sample_ids()[0]].annotation_id
    write = context.label_studio.send_annotation_result
    saves: list[int] = []

    def write_and_save(annotation_id: int, result: Any) -> str:
        after = write(annotation_id, result)
        if annotation_id == reviewed and not saves:
            saves.append(annotation_id)
            theirs = json.loads(json.dumps(list(result)).replace("Auto", "car"))
            theirs[0]["value"]["y"] = 60
            renamed.project.sdk.annotations.update(id=annotation_id, result=theirs)
        return after

    context.label_studio.send_annotation_result = write_and_save
    assert relabel(context, old="car", new="Auto").failed == ()
    del context.label_studio.send_annotation_result
    assert context.label_studio.fetch_annotation(reviewed).result[0]["value"]["y"] == 60
    assert "car" not in json.dumps(renamed.classes()["annotations"])
    # What they moved is news to a pull, beside the review that was not pulled before.
    assert pull(renamed.context).moved == 2


def test_no_other_job_writes_while_a_renaming_is_not_ended(renamed: Renamed):
    switch = KillSwitch(3)
    with pytest.raises(KilledError):
        relabel(switch.guard(renamed.context), old="car", new="Auto")
    command = "labelloop relabel car Auto --control label"
    for job, params in (("push", {}), ("pull", {}), ("prelabel", {}), ("export", {})):
        with pytest.raises(LabelingError, match=command):
            call_job(renamed.context, job, params)
    with pytest.raises(LabelingError, match=command):
        relabel(renamed.context, old="dog", new="Hund")
    call_job(renamed.context, "relabel", {"old": "car", "new": "Auto"})
    assert call_job(renamed.context, "pull", {}).failed == ()


def test_a_renaming_killed_at_any_write_ends_like_an_undisturbed_one(stack: RunningStack, tmp_path: Path):
    def relabel_with(number: int, switch: KillSwitch) -> dict[str, Any]:
        config = LabelConfig.from_xml(XML)
        with open_fresh_project(stack, tmp_path / str(number), images=2, config=config) as project:
            renamed = make_home(project, tmp_path / str(number))
            push(project.context)
            project.submit(min(project.task_ids().values()), lambda regions: regions[:2])
            pull(project.context)
            try:
                relabel(switch.guard(renamed.context), old="car", new="Auto", tasks_per_chunk=1)
            except KilledError:
                relabel(renamed.context, old="car", new="Auto", tasks_per_chunk=1)
            after = renamed.classes()
            pulled = pull(renamed.context)
            assert (pulled.failed, pulled.conflicts, renamed.classes()) == ((), (), after)
            # What was changed and not recorded before the end is read once more, and says nothing new.
            assert pulled.moved == 0 or switch is not undisturbed
            assert renamed.context.ledger.unfinished_renaming() is None
        return after

    undisturbed = KillSwitch()
    expected = relabel_with(0, undisturbed)
    assert "car" not in json.dumps(expected)
    assert undisturbed.writes >= 12
    # Before a write is after the one before it.
    for at in range(1, undisturbed.writes + 1, 1 if EVERY_WRITE else 4):
        assert relabel_with(at, KillSwitch(at)) == expected, f"killed before write {at}"
