"""What a curator clears, misspells or draws over the edge: no job takes it for something else, and each says it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from labels.config import LabelConfig
from labels.geometry import Box, Keypoint, Polygon
from labels.results import Label, to_result
from sync.catalogue.samples import SampleLabels, SamplePrediction, find_cleared, restore_cleared
from sync.jobs.exchange.parcels import count_over_edge
from sync.jobs.exchange.pull import pull
from sync.jobs.exchange.push import push
from sync.jobs.exchange.verify import verify
from tests.fakes.project import CONFIG, SIZE, FakeProject, open_fake_project

DRAWN = (Label("b" * 24, "label", ("car",), Box(50, 10, 20, 30), confidence=0.5),)
OUTSIDE = Label("a" * 24, "label", ("dog",), Box(-10, 10, 20, 30))
LAKE = Label("e" * 24, "outline", ("lake",), Polygon(((1.0, 1.0), (9.0, 1.0), (9.0, 9.0))))
OVER_EDGE = "labels that reach over their image's edge: 1, sent as they were drawn"
OUTLINED = SampleLabels((), has_regions=True, silent=frozenset({"label"}))


@pytest.fixture
def project() -> Iterator[FakeProject]:
    """Two images with a prediction, both sent; the first was submitted as it was and pulled."""
    with open_fake_project(images=2) as project:
        project.context.dataset.write_predictions(
            {key: SamplePrediction("fake-1", 0.25, DRAWN) for key in project.sample_ids}
        )
        push(project.context)
        project.annotator.submit_shown(project.task_ids()[project.sample_ids[0]])
        pull(project.context)
        push(project.context)
        yield project


def test_a_cleared_field_is_named_by_push_and_verify_and_by_the_pull_that_fills_it_again(project: FakeProject):
    first = project.sample_ids[0]
    held = project.dataset.labels([first])[first]
    project.dataset.clear_regions(first)
    pushed = push(project.context)
    assert pushed.moved == 0
    assert pushed.notes[0].startswith("reviewed samples whose labels were cleared in FiftyOne: 1; that says nothing")
    verified = verify(project.context)
    assert (verified.failed, verified.details["cleared in FiftyOne, to be restored"]) == ((), 1)
    report = pull(project.context, everything=True)
    assert project.dataset.labels([first])[first] == held
    assert report.details["cleared in FiftyOne, restored"] == 1
    assert report.notes[0].startswith("samples whose labels were cleared in FiftyOne and are there again: 1")
    assert "cleared in FiftyOne, to be restored" not in verify(project.context).details
    again = pull(project.context, everything=True)
    assert (again.moved, "cleared in FiftyOne, restored" in again.details) == (0, False)


def test_an_empty_list_is_sent_as_nothing_here(project: FakeProject):
    project.dataset.curate(project.sample_ids[0], [])
    report = push(project.context)
    assert (report.details["corrections sent"], report.notes) == (1, ())
    pull(project.context, everything=True)
    said = project.dataset.labels([project.sample_ids[0]])[project.sample_ids[0]]
    assert (said.labels, said.has_regions) == ((), True)


def test_of_two_fields_the_cleared_one_says_nothing():
    box = replace(DRAWN[0], confidence=None)
    assert find_cleared(OUTLINED, [box, LAKE]) == (box,)
    assert restore_cleared(OUTLINED, [box, LAKE]) == (box,)
    assert find_cleared(replace(OUTLINED, silent=frozenset()), [box, LAKE]) == ()


@pytest.mark.parametrize(("control", "also"), [("quality", ()), ("stars", ()), ("quality", ("stars", "label"))])
def test_a_cleared_answer_says_nothing_either(project: FakeProject, control: str, also: tuple[str, ...]):
    first = project.sample_ids[0]
    answers = [Label("c" * 24, "quality", ("keep",)), Label("d" * 24, "stars", rating=4)]
    answer(project, *answers)
    before = project.dataset.said(first)
    for name in (control, *also):
        project.dataset.clear(first, name)
    assert "corrections sent" not in push(project.context).details
    assert verify(project.context).details["cleared in FiftyOne, to be restored"] == 1
    assert pull(project.context, everything=True).details["cleared in FiftyOne, restored"] == 1
    assert project.dataset.said(first) == before
    assert "cleared in FiftyOne, to be restored" not in verify(project.context).details


def test_an_answer_that_was_cleared_and_then_changed_in_label_studio_is_no_conflict(project: FakeProject):
    answer(project, Label("c" * 24, "quality", ("keep",)))
    project.dataset.clear(project.sample_ids[0], "quality")
    answer(project, Label("c" * 24, "quality", ("trash",)))
    said = project.dataset.said(project.sample_ids[0])
    assert said is not None
    assert [label.classes for label in said.labels if label.control == "quality"] == [("trash",)]
    assert project.context.ledger.conflicts() == {}


def test_an_answer_is_taken_back_in_label_studio(project: FakeProject):
    answer(project, Label("c" * 24, "quality", ("keep",)))
    answer(project)
    said = project.dataset.said(project.sample_ids[0])
    assert said is not None
    assert [label.control for label in said.labels] == ["label"]
    assert "cleared in FiftyOne, to be restored" not in verify(project.context).details


def answer(project: FakeProject, *answers: Label) -> None:
    """Submit the first image again with these answers beside its box, and pull."""
    box = replace(DRAWN[0], confidence=None)
    task_id = project.task_ids()[project.sample_ids[0]]
    project.server.clock.sleep(60)
    project.annotator.submit(task_id, to_result([box, *answers], CONFIG, SIZE))
    pull(project.context)


def test_a_project_without_shapes_is_pulled_without_a_write_where_nothing_is_new():
    sorting = LabelConfig.from_xml(
        """<View><Image name="image" value="$image"/>
        <Choices name="quality" toName="image"><Choice value="keep"/><Choice value="trash"/></Choices></View>"""
    )
    with open_fake_project(images=1, config=sorting) as project:
        (sample_id,) = project.sample_ids
        push(project.context)
        keep = Label("c" * 24, "quality", ("keep",))
        project.annotator.submit(project.task_ids()[sample_id], to_result([keep], sorting, SIZE))
        assert pull(project.context).moved == 1
        changed_at = project.dataset.changed_at([sample_id])
        again = pull(project.context, everything=True)
        assert (again.moved, again.unchanged, project.dataset.changed_at([sample_id])) == (0, 1, changed_at)
        project.dataset.clear(sample_id, "quality")
        assert push(project.context).moved == 0
        pull(project.context, everything=True)
        assert project.dataset.said(sample_id) == SampleLabels((keep,), has_regions=False)


def test_of_several_choices_none_is_ticked_where_the_list_is_empty():
    ticked = LabelConfig.from_xml(
        """<View><Image name="image" value="$image"/><Choices name="seen" toName="image" choice="multiple">
        <Choice value="sun"/><Choice value="rain"/></Choices></View>"""
    )
    with open_fake_project(images=1, config=ticked) as project:
        (sample_id,) = project.sample_ids
        push(project.context)
        both = Label("c" * 24, "seen", ("sun", "rain"))
        project.annotator.submit(project.task_ids()[sample_id], to_result([both], ticked, SIZE))
        pull(project.context)
        project.dataset.curate(sample_id, [])
        assert push(project.context).details["corrections sent"] == 1
        pull(project.context, everything=True)
        assert project.dataset.said(sample_id) == SampleLabels((), has_regions=False)


def test_a_class_the_config_lacks_is_named_with_its_file_by_push_and_verify(project: FakeProject):
    first = project.sample_ids[0]
    project.dataset.curate(first, [replace(DRAWN[0], classes=("Trukc",), confidence=None)])
    (pushed,) = push(project.context).failed
    assert pushed.item.endswith("0000.png")
    assert pushed.problem.startswith("label 'Trukc' is not in label_config.xml (known to 'label': car, dog, bus)")
    assert pushed.problem.endswith("labelloop relabel OLD NEW")
    assert pushed.sample_id == first
    report = verify(project.context)
    (found,) = report.failed
    assert (found.item, found.sample_id) == (f"sample {first}", first)
    assert found.problem.startswith("0000.png can never be sent: label 'Trukc' is not in label_config.xml")
    assert "changes of curators to be sent" not in report.details


def test_a_new_sample_with_a_class_the_config_lacks_is_named_with_its_file_and_what_to_do():
    with open_fake_project(images=2) as project:
        first = project.sample_ids[0]
        project.context.dataset.write_labels({first: [replace(OUTSIDE, classes=("Trukc",))]})
        report = push(project.context)
        assert (report.moved, [one.sample_id for one in report.failed]) == (1, [first])
        assert report.failed[0].item.endswith("0000.png")
        assert report.failed[0].problem.endswith("labelloop relabel OLD NEW")


def test_a_box_over_the_edge_is_sent_as_it_was_drawn_and_said(project: FakeProject):
    first = project.sample_ids[0]
    project.dataset.curate(first, [*project.dataset.labels([first])[first].labels, OUTSIDE])
    report = push(project.context)
    assert [note.partition(";")[0] for note in report.notes] == [OVER_EDGE]
    task = project.annotator.read(project.task_ids()[first])
    assert task is not None
    drawn = next(region for region in task.annotations[-1].result if region["id"] == OUTSIDE.id)
    assert drawn["value"]["x"] == pytest.approx(-10 / SIZE.width * 100)


def test_a_box_over_the_edge_on_a_new_sample_is_said():
    with open_fake_project(images=1) as project:
        project.context.dataset.write_labels({project.sample_ids[0]: [OUTSIDE]})
        assert [note.partition(";")[0] for note in push(project.context).notes] == [OVER_EDGE]


def test_what_touches_the_edge_reaches_not_over_it():
    whole = Label("1", "label", ("car",), Box(0, 0, SIZE.width, SIZE.height))
    dot = Label("2", "point", ("nose",), Keypoint(0, 0, 8))
    turned = Label("3", "label", ("car",), Box(0, 0, 10, 10, rotation_deg=45))
    assert [count_over_edge([one], SIZE) for one in (whole, dot, LAKE, turned)] == [0, 0, 0, 1]
