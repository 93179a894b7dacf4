"""What a pull does with answers that are not as they should be: it names each, and the others go on."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from labels.config import LabelConfig
from labels.geometry import Box, ImageSize, Mask
from labels.results import Label, to_result
from sync.catalogue.samples import SamplePrediction
from sync.jobs.datasets.export import export
from sync.jobs.exchange import merging
from sync.jobs.exchange.pull import pull
from sync.jobs.exchange.push import push
from sync.jobs.exchange.sweep import sweep
from sync.jobs.exchange.verify import verify
from sync.review.feedback_summary import summarize_feedback
from sync.versions.manifest import read_version
from tests.fakes.people import to_plain
from tests.fakes.project import CONFIG, SIZE, FakeProject, make_single_boxes, open_fake_project

CAR = Label("a" * 24, "label", ("car",), Box(30, 20, 12, 16))
DOG = Label("b" * 24, "label", ("dog",), Box(60, 40, 12, 16))
TWICE = ImageSize(2 * SIZE.width, 2 * SIZE.height)
PAINTED = LabelConfig.from_xml(
    """<View><Image name="image" value="$image"/>
    <RectangleLabels name="label" toName="image"><Label value="car"/><Label value="dog"/></RectangleLabels>
    <BrushLabels name="brush" toName="image"><Label value="road"/></BrushLabels></View>"""
)


@pytest.fixture
def project() -> Iterator[FakeProject]:
    """Two images with a prediction, both sent."""
    with open_fake_project(images=2) as project:
        project.context.dataset.write_predictions(make_single_boxes(project.sample_ids, 0, "fake-1"))
        push(project.context)
        yield project


def regions(*labels: Label, **changes: Any) -> list[dict[str, Any]]:
    """Return regions, of which each says something else in its outer part."""
    return [region | changes for region in to_result(labels, CONFIG, SIZE)]


def tasks_of(project: FakeProject) -> list[int]:
    return [project.task_ids()[sample_id] for sample_id in project.sample_ids]


def held(project: FakeProject) -> list[tuple[Label, ...] | None]:
    """Return what is said of each sample, in their order."""
    said = [project.dataset.said(sample_id) for sample_id in project.sample_ids]
    return [None if one is None else one.labels for one in said]


def test_a_region_drawn_on_an_image_of_another_size_is_named_with_both_sizes(project: FakeProject):
    first, second = tasks_of(project)
    project.annotator.submit(first, regions(CAR, original_width=240, original_height=160))
    project.annotator.submit(second, regions(DOG))
    problem = "was drawn on an image of 240x160, and the sample's is 120x80"
    for _ in range(2):
        (failure,) = pull(project.context).failed
        assert (failure.item, failure.problem) == (f"task {first}, region {CAR.id}", problem)
    assert [failure.problem for failure in verify(project.context).failed] == [problem]
    assert held(project) == [None, (DOG,)]


def test_a_region_without_a_size_is_one_of_the_image_it_is_shown_on(project: FakeProject):
    first, second = tasks_of(project)
    project.annotator.submit(first, regions(CAR, original_width=None, original_height=None), completed_by=2)
    project.annotator.submit(first, regions(CAR), completed_by=3)
    project.annotator.submit(second, regions(DOG, original_width=None, original_height=None))
    assert pull(project.context).failed == ()
    assert verify(project.context).failed == ()
    assert held(project) == [(CAR,), (DOG,)]


@pytest.mark.parametrize("spoiled", [{"original_width": "wide"}, {"original_width": None}, {"from_name": "elsewhere"}])
@pytest.mark.parametrize("policy", ["latest", "ground_truth", "agreement"])
def test_an_annotation_that_nobody_can_read_keeps_no_other_task_from_being_merged(
    project: FakeProject, policy: str, spoiled: dict[str, Any]
):
    first, second = tasks_of(project)
    project.annotator.submit(first, regions(CAR, **spoiled), completed_by=2)
    project.annotator.submit(first, regions(CAR), completed_by=3)
    project.annotator.submit(second, regions(DOG))
    report = pull(project.context, annotators=policy)
    assert len(report.failed) == (policy == "agreement")
    assert held(project) == [None if policy == "agreement" else (CAR,), (DOG,)]
    assert sweep(project.context).failed == ()


def test_masks_of_two_sizes_keep_no_review_from_being_merged():
    with open_fake_project(images=1, config=PAINTED) as project:
        road = Label("c" * 24, "brush", ("road",), Mask(np.ones((SIZE.height, SIZE.width), dtype=np.bool_)))
        larger = replace(road, geometry=Mask(np.ones((TWICE.height, TWICE.width), dtype=np.bool_)))
        (sample_id,) = project.sample_ids
        prediction = SamplePrediction("fake-1", 0.5, (replace(road, id="d" * 24, confidence=0.5),))
        project.context.dataset.write_predictions({sample_id: prediction})
        push(project.context)
        (shown,) = project.server.predictions.values()
        shown["result"] = to_result([larger], PAINTED, TWICE)
        project.annotator.submit(
            project.task_ids()[sample_id], to_result([road], PAINTED, SIZE), parent_prediction=shown["id"]
        )
        report = pull(project.context)
        assert (report.moved, report.failed) == (1, ())
        assert report.notes[0].endswith("its review was merged, without feedback")
        assert held(project) == [(road,)]


def test_what_nobody_foresaw_in_one_task_is_that_tasks_failure_and_is_logged(
    project: FakeProject, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    first, second = tasks_of(project)
    project.annotator.submit(first, regions(CAR))
    project.annotator.submit(second, regions(DOG))
    read = merging.read_review

    def stumble(people: Any, *rest: Any) -> Any:
        return 1 / 0 if people.task.task_id == first else read(people, *rest)

    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
        patch.setattr(merging, "read_review", stumble)
        (failure,) = pull(project.context).failed
    assert failure.item == f"task {first}"
    assert "a mistake of labelloop (ZeroDivisionError: division by zero)" in failure.problem
    assert caplog.records[0].exc_info is not None
    assert held(project) == [None, (DOG,)]
    assert pull(project.context).failed == ()
    assert held(project) == [(CAR,), (DOG,)]


def test_an_annotation_that_has_no_say_and_cannot_be_read_is_named_at_each_pull_and_by_verify(project: FakeProject):
    first, _ = tasks_of(project)
    strange = project.annotator.submit(first, regions(CAR, from_name="elsewhere"), completed_by=2)
    project.annotator.submit(first, regions(CAR), completed_by=3)
    for moved in (1, 0, 0):
        report = pull(project.context)
        assert report.moved == moved
        assert report.notes[0].startswith(f"task {first}: annotation {strange} is not compared with the others")
    (failure,) = verify(project.context).failed
    assert (failure.item, failure.sample_id) == (f"task {first}", project.sample_ids[0])
    assert failure.problem.startswith(f"annotation {strange} is not compared with the others")
    project.dataset.curate(project.sample_ids[0], [DOG])
    assert push(project.context).details["corrections sent"] == 1
    project.annotator.delete_annotation(strange)
    assert pull(project.context).failed == ()
    assert project.context.ledger.counts()["failed"] == 0
    assert verify(project.context).failed == ()


def test_a_task_that_nobody_can_read_fails_verify_too(project: FakeProject):
    first, _ = tasks_of(project)
    project.annotator.submit(first, regions(CAR, from_name="elsewhere"))
    (failure,) = pull(project.context).failed
    assert verify(project.context).failed == (failure,)


def test_a_sample_whose_size_is_not_known_is_there_and_waits_for_a_push(project: FakeProject):
    first, _ = tasks_of(project)
    project.annotator.submit(first, regions(CAR))
    project.dataset.forget_size(project.sample_ids[0])
    (failure,) = pull(project.context).failed
    assert failure.problem == "the size of its image is not known; run push, which reads it"
    assert verify(project.context).failed[0].problem == failure.problem
    push(project.context)
    assert pull(project.context).failed == ()
    assert held(project)[0] == (CAR,)


def test_a_reopened_sample_names_no_reviewer_and_its_deleted_review_does_not_count(project: FakeProject):
    first, _ = tasks_of(project)
    deleted = project.annotator.submit_shown(first)
    pull(project.context)
    sample = project.dataset.samples[project.sample_ids[0]]
    assert sample.reviewer is not None
    project.annotator.delete_annotation(deleted)
    assert pull(project.context).details["reopened"] == 1
    assert sample.reviewer is None
    kept = project.annotator.submit_shown(first)
    pull(project.context)
    ledger = project.context.ledger
    assert [row.annotation_id for row in ledger.feedback()] == [kept]
    assert summarize_feedback(ledger.feedback(), ledger.reviews()).reviews == 1


def test_a_pull_writes_no_sample_of_which_there_is_nothing_new(project: FakeProject):
    first, second = tasks_of(project)
    in_conflict = project.annotator.submit(first, regions(CAR))
    project.annotator.submit(second, regions(DOG))
    pull(project.context)
    project.annotator.edit(in_conflict, regions(replace(CAR, classes=("dog",))))
    project.dataset.curate(project.sample_ids[0], [replace(CAR, classes=("bus",))])
    assert len(pull(project.context).conflicts) == 1
    before = project.dataset.changed_at(project.sample_ids)
    for everything in (False, True):
        project.server.clock.sleep(60)
        pull(project.context, everything=everything)
        assert project.dataset.changed_at(project.sample_ids) == before


def test_an_import_that_somebody_touched_up_is_no_work_without_boxes():
    with open_fake_project(images=2) as labelled:
        assert isinstance(CAR.geometry, Box)
        first, second = labelled.sample_ids
        labelled.context.dataset.write_labels({first: [CAR]})
        push(labelled.context)
        ledger, annotator = labelled.context.ledger, labelled.annotator
        sent = ledger.links([first])[first].annotation_id
        annotator.submit(labelled.task_ids()[second], regions(DOG))
        for shift in (1, 2):  # read again after each change
            moved = replace(CAR, geometry=replace(CAR.geometry, x=CAR.geometry.x + shift))
            annotator.sdk.annotations.update(id=sent, result=to_plain(regions(moved)), lead_time=7.0 * shift)
            assert pull(labelled.context).failed == ()
            times = summarize_feedback(ledger.feedback(), ledger.reviews()).times
            assert (times.without.reviews, times.with_prelabels.reviews) == (1, 0)
            assert (times.over_labels.reviews, times.over_labels.median_s) == (1, 7.0 * shift)
        for sample in labelled.dataset.samples.values():
            sample.image = replace(sample.image, sha256=hashlib.sha256(sample.image.path.read_bytes()).hexdigest())
        export(labelled.context, export_format="coco")
        (label,) = next(one.labels for one in read_version(labelled.context.home).images if one.sample_id == first)
        # Its name is no model's.
        assert (label.model_version, label.verdict) == (None, None)


def test_what_is_drawn_anew_after_sent_labels_were_deleted_is_work_without_boxes():
    with open_fake_project(images=1) as labelled:
        (first,) = labelled.sample_ids
        labelled.context.dataset.write_labels({first: [CAR]})
        push(labelled.context)
        sent = labelled.context.ledger.links([first])[first].annotation_id
        assert sent is not None
        labelled.annotator.delete_annotation(sent)
        labelled.annotator.submit(labelled.task_ids()[first], regions(DOG))
        pull(labelled.context)
        times = summarize_feedback([], labelled.context.ledger.reviews()).times
        assert (times.without.reviews, times.over_labels.reviews) == (1, 0)
