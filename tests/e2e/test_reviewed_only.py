"""An export on the real tools: what was reviewed is in it, whatever stands in the field that holds people's labels."""

from __future__ import annotations

import json
from pathlib import Path

import fiftyone as fo

from sync.jobs.datasets.export import export
from sync.jobs.exchange.pull import pull
from sync.jobs.exchange.push import push
from sync.jobs.exchange.verify import verify
from tests.e2e.conftest import RunningStack
from tests.e2e.fresh_project import BOXES_PER_IMAGE, open_fresh_project


def test_a_curators_edits_in_fiftyone_make_no_image_reviewed_and_none_unreviewed(stack: RunningStack, tmp_path: Path):
    with open_fresh_project(stack, tmp_path, images=5) as project:
        context = project.context
        reviewed, cleared, reopened, boxed, sent = context.dataset.sample_ids()
        one = fo.Detections(detections=[fo.Detection(label="dog", bounding_box=[0.1, 0.1, 0.2, 0.2])])
        set_field(project.fiftyone, sent, one)
        push(context)
        tasks = project.task_ids()
        project.submit(tasks[reviewed], lambda regions: regions)
        project.submit(tasks[cleared], lambda regions: regions)
        deleted = project.submit(tasks[reopened], lambda regions: regions)
        pull(context)
        project.sdk.annotations.delete(id=deleted)
        pull(context)
        set_field(project.fiftyone, boxed, one)
        project.fiftyone.select([cleared]).clear_sample_field("ground_truth")
        pushed = push(context)
        assert [note.partition(";")[0] for note in pushed.notes] == [
            "reviewed samples whose labels were cleared in FiftyOne: 1"
        ]
        checked = verify(context)
        assert (checked.failed, checked.details["cleared in FiftyOne, to be restored"]) == ((), 1)
        report = export(context, export_format="coco", out_dir=tmp_path / "out")
        listed = json.loads((tmp_path / "out" / "labelloop.json").read_text(encoding="utf-8"))["images"]
        assert {image["sample_id"]: len(image["labels"]) for image in listed} == {reviewed: BOXES_PER_IMAGE, sent: 1}
        assert [failure.sample_id for failure in report.failed] == [cleared]
        assert (report.details["images reopened"], report.details["labelled in FiftyOne, not reviewed"]) == (1, 1)
        restored = pull(context, everything=True)
        assert restored.details["cleared in FiftyOne, restored"] == 1
        assert export(context, export_format="coco", out_dir=tmp_path / "out").moved == 3
        set_field(project.fiftyone, cleared, fo.Detections(detections=[]))
        assert push(context).details["corrections sent"] == 1
        assert pull(context, everything=True).details == {}
        negatives = export(context, export_format="coco", out_dir=tmp_path / "out").details["images without objects"]
        assert negatives == 1
        assert verify(context).failed == ()


def set_field(dataset: fo.Dataset, sample_id: str, value: fo.Detections) -> None:
    """Do what a curator does in Python."""
    dataset.reload()
    sample = dataset[sample_id]
    sample["ground_truth"] = value.copy()
    sample.save()
