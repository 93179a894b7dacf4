"""Which images an export holds: those that were reviewed, as FiftyOne has them; of all others it says why not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from labels import fields
from labels.errors import LabelingError
from labels.geometry import Box
from labels.report import Failure, Report
from labels.results import Label
from sync.catalogue.samples import SamplePrediction
from sync.jobs.datasets.export import export
from sync.jobs.exchange.pull import pull
from sync.jobs.exchange.push import push
from tests.fakes.project import FakeProject, open_fake_project

DRAWN = (Label("b" * 24, "label", ("car",), Box(50, 10, 20, 30), confidence=0.5),)
MINE = Label("a" * 24, "label", ("dog",), Box(10, 10, 20, 30))
KEEP = Label("c" * 24, "quality", ("keep",))
TRASH = Label("d" * 24, "quality", ("trash",))
CLEARED = (
    "was reviewed, and its labels were cleared in FiftyOne, which says nothing: left out. pull --all brings them back; "
    "to say that nothing is there, leave an empty list"
)


@pytest.fixture
def project() -> Iterator[FakeProject]:
    """Four images with a prediction, all sent; the first was submitted as it was and pulled."""
    with open_fake_project(images=4) as project:
        for sample in project.dataset.samples.values():
            sample.image = replace(sample.image, sha256=hashlib.sha256(sample.image.path.read_bytes()).hexdigest())
        project.context.dataset.write_predictions(
            {key: SamplePrediction("fake-1", 0.25, DRAWN) for key in project.sample_ids}
        )
        push(project.context)
        submit(project, 0)
        yield project


def submit(project: FakeProject, number: int) -> int:
    """Submit a task as it is shown, and pull."""
    annotation_id = project.annotator.submit_shown(project.task_ids()[project.sample_ids[number]])
    pull(project.context)
    return annotation_id


def labels_of(project: FakeProject, report: Report) -> dict[str, list[str]]:
    """Return the classes on each exported image, by the start of its name."""
    document: dict[str, Any] = json.loads((project.context.home.exports / "coco" / "labels.json").read_text())
    names = {category["id"]: category["name"] for category in document["categories"]}
    assert report.moved == len(document["images"])
    return {
        image["file_name"][:4]: sorted(
            names[one["category_id"]] for one in document["annotations"] if one["image_id"] == image["id"]
        )
        for image in document["images"]
    }


def test_a_waiting_image_with_a_box_of_a_curator_is_left_out_and_counted(project: FakeProject):
    project.dataset.curate(project.sample_ids[1], [MINE])
    report = export(project.context, export_format="coco")
    assert labels_of(project, report) == {"0000": ["car"]}
    assert report.details["labelled in FiftyOne, not reviewed"] == 1
    assert report.details["images not reviewed"] == 2
    assert any("1 images are not in it: they were labelled in FiftyOne and not reviewed" in one for one in report.notes)
    assert report.failed == ()


def test_a_reviewed_image_goes_as_fiftyone_has_it(project: FakeProject):
    project.dataset.curate(project.sample_ids[0], [*DRAWN, MINE])
    assert labels_of(project, export(project.context, export_format="coco")) == {"0000": ["car", "dog"]}


def test_an_image_whose_annotation_was_deleted_is_left_out_and_counted(project: FakeProject):
    project.annotator.delete_annotation(submit(project, 1))
    pull(project.context)
    report = export(project.context, export_format="coco")
    assert labels_of(project, report) == {"0000": ["car"]}
    assert (report.details["images reopened"], report.details["images not reviewed"]) == (1, 2)


def test_a_skipped_image_is_left_out_and_counted(project: FakeProject):
    project.dataset.curate(project.sample_ids[1], [MINE])
    project.annotator.skip(project.task_ids()[project.sample_ids[1]])
    pull(project.context)
    report = export(project.context, export_format="coco")
    assert labels_of(project, report) == {"0000": ["car"]}
    assert report.details["images skipped"] == 1


def test_a_reviewed_image_whose_field_was_cleared_is_named(project: FakeProject):
    first, second = project.sample_ids[:2]
    submit(project, 1)
    project.dataset.clear_regions(second)
    report = export(project.context, export_format="coco")
    assert labels_of(project, report) == {"0000": ["car"]}
    assert report.failed == (Failure(f"0001.png (sample {second})", CLEARED, second),)
    assert "images not reviewed" in report.details
    project.dataset.clear_regions(first)
    with pytest.raises(LabelingError, match=r"nothing to export.*0000\.png .*cleared in FiftyOne"):
        export(project.context, export_format="coco")


def test_an_empty_list_on_a_reviewed_image_is_a_negative(project: FakeProject):
    project.dataset.curate(project.sample_ids[0], [])
    report = export(project.context, export_format="coco")
    assert labels_of(project, report) == {"0000": []}
    assert report.details["images without objects"] == 1


def test_a_conflict_goes_with_the_labels_of_fiftyone_and_is_named(project: FakeProject):
    first = project.sample_ids[0]
    held = project.dataset.labels([first])[first].labels
    annotation = project.context.ledger.links([first])[first].annotation_id
    project.dataset.curate(first, [replace(held[0], classes=("dog",))])
    task = project.annotator.read(project.task_ids()[first])
    regions: list[dict[str, Any]] = [json.loads(json.dumps(dict(one))) for one in task.annotations[0].result]
    regions[0]["value"]["rectanglelabels"] = ["bus"]
    project.annotator.edit(annotation, regions)
    pull(project.context)
    report = export(project.context, export_format="coco")
    assert labels_of(project, report) == {"0000": ["dog"]}
    assert report.conflicts == (f"0000.png: exported with FiftyOne's labels (sample {first})",)


def test_trash_is_left_out_and_counted(project: FakeProject):
    project.dataset.curate(project.sample_ids[0], [*DRAWN, TRASH])
    submit(project, 1)
    report = export(project.context, export_format="coco")
    assert labels_of(project, report) == {"0001": ["car"]}
    assert report.details["images marked as trash"] == 1


@pytest.mark.parametrize(
    ("tag", "counted"),
    [(fields.DUPLICATE_TAG, "images dropped as duplicates"), (fields.TRASH_TAG, "images marked as trash")],
)
def test_what_a_curator_put_aside_is_left_out_and_counted(project: FakeProject, tag: str, counted: str) -> None:
    submit(project, 1)
    project.dataset.samples[project.sample_ids[0]].tags = frozenset({tag})
    report = export(project.context, export_format="coco")
    assert (report.moved, report.details[counted]) == (1, 1)


def test_labels_of_fiftyone_count_as_reviewed_once_they_were_sent():
    with open_fake_project(images=3) as project:
        for sample in project.dataset.samples.values():
            sample.image = replace(sample.image, sha256=hashlib.sha256(sample.image.path.read_bytes()).hexdigest())
        boxed, kept, empty = project.sample_ids
        project.context.dataset.write_labels({boxed: [MINE], empty: []})
        project.dataset.curate(kept, [KEEP])
        with pytest.raises(LabelingError, match="2 images are not in it: they were labelled in FiftyOne"):
            export(project.context, export_format="coco")
        push(project.context)
        assert {state.review_state for state in project.dataset.states().values()} == {"reviewed"}
        report = export(project.context, export_format="coco")
        assert labels_of(project, report) == {"0000": ["dog"], "0002": []}
        assert report.details["images with an answer and no look for objects"] == 1


def test_a_folder_that_is_none_of_ours_is_refused_before_anything_is_frozen(project: FakeProject):
    foreign = project.context.home.path / "photos"
    foreign.mkdir()
    (foreign / "mine.jpg").write_bytes(b"mine")
    # Never looked through: it may be as large as a disk.
    (foreign / "closed").mkdir(mode=0)

    with pytest.raises(LabelingError, match="is no export of labelloop"):
        export(project.context, export_format="coco", out_dir=foreign)

    assert not project.context.home.versions.exists()
    assert (foreign / "mine.jpg").read_bytes() == b"mine"


def answer_only(project: FakeProject) -> None:
    """Have images on which people said «keep», and looked for no objects, and send them."""
    for sample in project.dataset.samples.values():
        sample.image = replace(sample.image, sha256=hashlib.sha256(sample.image.path.read_bytes()).hexdigest())
    for key in project.sample_ids:
        project.dataset.curate(key, [KEEP])
    push(project.context)


def test_a_format_of_objects_refuses_images_that_were_only_answered_and_says_which_would_do():
    with open_fake_project(images=2) as project:
        answer_only(project)
        with pytest.raises(LabelingError, match="2 reviewed images say nothing about objects, which yolo needs") as got:
            export(project.context, export_format="yolo")
        assert "csv, folders, webdataset" in str(got.value)
        assert "no image is reviewed" not in str(got.value)
        report = export(project.context, export_format="csv")
        assert report.moved == 2
        with pytest.raises(LabelingError, match="2 images say nothing about objects, which coco needs"):
            export(project.context, export_format="coco", version="latest")


def test_images_that_were_only_answered_are_no_images_without_objects(project: FakeProject):
    with open_fake_project(images=2) as answered:
        answer_only(answered)
        assert "images without objects" not in export(answered.context, export_format="csv").details
    project.dataset.curate(project.sample_ids[1], [KEEP])
    submit(project, 2)
    project.dataset.curate(project.sample_ids[2], [])
    assert export(project.context, export_format="csv").details["images without objects"] == 1
