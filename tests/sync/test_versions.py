"""Versions of the dataset: what is frozen stays, the same state is the same version, and nothing leaks unsaid."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from labels.config import LabelConfig
from labels.errors import LabelingError
from labels.geometry import Box
from labels.results import Label
from sync.catalogue.samples import SamplePrediction
from sync.exports.folder import MANIFEST_NAME as EXPORT_MANIFEST
from sync.jobs.datasets.export import export
from sync.jobs.exchange.pull import pull
from sync.jobs.exchange.push import push
from sync.jobs.exchange.sweep import sweep
from sync.jobs.parameters import READERS
from sync.versions.diff import compare_versions
from sync.versions.manifest import compute_content_sha256, list_versions, read_version, to_text
from sync.versions.summary import summarize
from sync.versions.verify import verify_export
from sync.versions.version import SPLITS, Version
from tests.fakes.killing import KilledError, KillSwitch
from tests.fakes.pictures import box, open_reviewed, show
from tests.fakes.project import FakeProject, open_fake_project


def freeze(project: FakeProject, **options: object) -> Version:
    """Export without images, and return the version that was written."""
    export(project.context, export_format="coco", images_mode="none", **options)  # type: ignore[arg-type]
    (exported,) = (one for one in project.context.ledger.exports() if one.format == "coco")
    return read_version(project.context.home, exported.details["version"])


def splits_of(version: Version) -> dict[str, str]:
    return {image.sample_id: image.split for image in version.images}


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_state_is_the_same_version_and_the_same_bytes():
    with open_reviewed([[box(1)], [], [box(2, "dog"), box(3)]]) as project:
        home = project.context.home
        first = freeze(project)
        before = files_of(home.versions), files_of(home.exports)
        assert freeze(project) == first
        assert (files_of(home.versions), files_of(home.exports)) == before
        assert [one.id for one in project.context.ledger.versions()] == list_versions(home) == [first.id]


def test_a_changed_label_makes_a_new_version_and_the_old_one_stays():
    with open_reviewed([[box(1)], [box(2), box(3)]]) as project:
        first = freeze(project)
        project.dataset.curate(project.sample_ids[1], [replace(box(2), classes=("bus",)), box(4, "dog")])
        second = freeze(project)
        assert (first.number, second.number) == (1, 2)
        assert read_version(project.context.home, "v1") == first
        assert read_version(project.context.home) == second
        found = compare_versions(first, second)
        assert found.count_images() == {"added": 0, "removed": 0, "changed": 1}
        assert found.count_labels() == {"added": 1, "removed": 1, "changed": 1}
        assert found.count_by_class() == {
            "bus": {"added": 0, "removed": 0, "changed": 1},
            "car": {"added": 0, "removed": 1, "changed": 0},
            "dog": {"added": 1, "removed": 0, "changed": 0},
        }
        assert compare_versions(second, second).images == ()


def test_new_images_move_none_of_the_old_ones():
    with open_reviewed([[box(number)] for number in range(12)]) as project:
        first = freeze(project)
        assert {*splits_of(first).values()} == {*SPLITS}
        for number in range(12, 40):
            (sample_id,) = project.dataset.write_images([project.dataset.samples[project.sample_ids[0]].image])
            sample = project.dataset.samples[sample_id]
            sample.image = replace(sample.image, path=sample.image.path.with_name(f"{number:04}.png"))
            show(project, number, number)
            project.context.dataset.write_labels({sample_id: [box(number)]})
        push(project.context)
        second = freeze(project)
        assert len(second.images) == 40
        assert {key: splits_of(second)[key] for key in splits_of(first)} == splits_of(first)
        assert second.split_counts() == {"train": 32, "val": 4, "test": 4}


def test_a_file_that_comes_back_under_another_name_is_where_it_was():
    with open_reviewed([[box(number)] for number in range(10)]) as project:
        first = freeze(project)
        (tested,) = first.in_split("test")
        sample = project.dataset.samples[tested.sample_id]
        project.dataset.delete(tested.sample_id)
        other = sample.image.path.with_name("other.png")
        other.write_bytes(sample.image.path.read_bytes())
        (sample_id,) = project.dataset.write_images([replace(sample.image, path=other)])
        project.context.dataset.write_labels({sample_id: [box(99)]})
        sweep(project.context)
        push(project.context)
        assert splits_of(freeze(project))[sample_id] == "test"


@pytest.mark.parametrize("tie", ["file", "group", "field", "look"])
def test_what_belongs_together_goes_to_one_split(tie: str):
    with open_reviewed([[box(number)] for number in range(30)]) as project:
        ids = project.sample_ids
        twins = ids[::3]
        for number, sample_id in enumerate(twins):
            sample = project.dataset.samples[sample_id]
            if tie == "file":
                show(project, 3 * number, 1000)
            elif tie == "look":
                # The same picture, brighter by one step each.
                show(project, 3 * number, 1000)
                with Image.open(sample.image.path) as picture:
                    picture.point([min(255, value + number) for value in range(256)] * 3).save(sample.image.path)
            else:
                sample.values["duplicate_group" if tie == "group" else "listing"] = "seven"
        version = freeze(project, group_by="listing" if tie == "field" else None)
        assert len({splits_of(version)[one] for one in twins}) == 1
        assert len({image.group for image in version.images if image.sample_id in twins}) == 1
        assert version.leaks.total == 0


def test_a_field_that_samples_do_not_have_is_an_error_and_nothing_is_frozen():
    with open_reviewed([[box(1)]]) as project:
        with pytest.raises(LabelingError, match="group-by 'listing': samples have no such field"):
            freeze(project, group_by="listing")
        assert list_versions(project.context.home) == []


def test_shares_and_the_field_that_groups_hold_until_others_are_asked_for():
    with open_reviewed([[box(number)] for number in range(10)]) as project:
        for sample in project.dataset.samples.values():
            sample.values["listing"] = 7
        first = freeze(project, ratios=(60, 20, 20), group_by="listing")
        assert (first.ratios, first.group_by) == ((60, 20, 20), "listing")
        project.dataset.curate(project.sample_ids[0], [])
        second = freeze(project)
        assert (second.ratios, second.group_by) == ((60, 20, 20), "listing")
        assert freeze(project, ratios=(80, 10, 10)).ratios == (60, 20, 20), "the same state is the version it was"


def test_twins_that_were_parted_before_anybody_knew_stay_and_are_counted():
    with open_reviewed([[box(number)] for number in range(10)]) as project:
        first = freeze(project)
        (tested,), (chosen,) = first.in_split("test"), first.in_split("val")
        learned = first.in_split("train")[0]
        for image in (tested, learned):
            project.dataset.samples[image.sample_id].values["duplicate_group"] = "twins"
        second = freeze(project)
        assert splits_of(second) == splits_of(first)
        assert (second.leaks.same_file, second.leaks.same_group, second.leaks.near) == (0, 1, 0)
        (pair,) = second.leaks.pairs
        assert {pair.first, pair.second} == {tested.sample_id, learned.sample_id}
        assert chosen.split == "val"
        report = export(project.context, export_format="coco")
        assert any("1 images of val and test have a twin in another split" in note for note in report.notes)


def test_a_version_knows_who_said_what_of_which_model():
    with open_fake_project(images=2) as project:
        for number in range(2):
            show(project, number, number)
        drawn = {key: (replace(box(number), confidence=0.5),) for number, key in enumerate(project.sample_ids)}
        project.context.dataset.write_predictions(
            {key: SamplePrediction("m-1", 0.2, one) for key, one in drawn.items()}
        )
        push(project.context)
        tasks = project.task_ids()
        for key in project.sample_ids:
            project.annotator.submit_shown(tasks[key])
        pull(project.context)
        project.dataset.curate(project.sample_ids[1], [replace(box(1), classes=("bus",))])
        first, second = (image.labels[0] for image in freeze(project).images)
        review = project.context.ledger.reviews(project.sample_ids[0])[0]
        assert (first.reviewer, first.reviewed_at) == (review["reviewer"], review["annotation_updated_at"])
        assert (first.model_version, first.verdict) == ("m-1", "confirmed")
        # A curator changed it since: nobody who submitted a review vouches for what it says now.
        assert (second.reviewer, second.verdict, second.label.classes) == (None, None, ("bus",))


def test_an_old_version_is_written_as_it_was_frozen():
    with open_reviewed([[box(1)], [box(2)]]) as project:
        home = project.context.home
        first = freeze(project)
        before = files_of(home.exports / "coco")
        project.dataset.curate(project.sample_ids[0], [])
        assert freeze(project).id != first.id
        assert files_of(home.exports / "coco") != before
        export(project.context, export_format="coco", images_mode="none", version=first.id)
        assert files_of(home.exports / "coco") == before
        with pytest.raises(LabelingError, match="version 'v9' is not known"):
            export(project.context, export_format="coco", version="v9")
        with pytest.raises(LabelingError, match="a version has its splits"):
            export(project.context, export_format="coco", version="v1", ratios=(100, 0, 0))


def test_an_answer_without_a_look_for_objects_is_in_the_version_and_no_negative():
    keep = Label("c" * 24, "quality", ("keep",))
    with open_reviewed([[box(1)], []]) as project:
        (sample_id,) = project.dataset.write_images([project.dataset.samples[project.sample_ids[0]].image])
        image = project.dataset.samples[sample_id].image
        project.dataset.samples[sample_id].image = replace(image, path=image.path.with_name("kept.png"))
        show(project, 2, 77)
        project.dataset.curate(sample_id, [keep])
        push(project.context)
        project.annotator.submit(project.task_ids()[sample_id], [])
        report = export(project.context, export_format="coco")
        assert report.moved == 2
        version = read_version(project.context.home)
        summary = summarize(version)
        assert summary.negatives == sum(image.has_regions and not image.regions for image in version.images)


@pytest.mark.parametrize("before", [True, False])
def test_an_export_that_is_killed_at_any_write_comes_to_the_same_end(before: bool):
    labels = [[box(number)] for number in range(8)]
    with open_reviewed(labels) as project:
        expected, splits = splits_of(freeze(project)), project.context.ledger.splits()
    at, writes = 0, 1
    while at < writes:
        at += 1
        with open_reviewed(labels) as project:
            switch = KillSwitch(at, before=before)
            with contextlib.suppress(KilledError):
                export(switch.guard(project.context), export_format="coco", images_mode="none")
            writes = max(writes, switch.writes + switch.is_over)
            version = freeze(project)
            assert splits_of(version) == expected
            assert project.context.ledger.splits() == splits
            assert [one.id for one in project.context.ledger.versions()] == list_versions(project.context.home)
            assert list_versions(project.context.home) == [version.id]
    assert at > 3, "splits, version and export are three writes"


def test_a_version_file_that_somebody_changed_is_refused():
    with open_reviewed([[box(1)]]) as project:
        version = freeze(project)
        file = project.context.home.versions / version.id / "manifest.json"
        text = file.read_text()
        file.write_text(text.replace('"car"', '"dog"'))
        with pytest.raises(LabelingError, match="is damaged"):
            read_version(project.context.home)
        for broken in (text[: len(text) // 2], "[]", "", '{"manifest_version": 2}'):
            file.write_text(broken)
            with pytest.raises(LabelingError, match="is damaged"):
                read_version(project.context.home)


def test_verify_export_names_what_changed_what_is_gone_and_what_was_added(tmp_path: Path):
    with open_reviewed([[box(number)] for number in range(3)]) as project:
        home, out = project.context.home, tmp_path / "out"
        export(project.context, export_format="yolo", out_dir=out)
        assert verify_export(home, out).failed == ()
        (out / "data.yaml").write_text("train: elsewhere\n")
        gone = next((out / "labels" / "train").iterdir())
        gone.unlink()
        (out / "labels" / "train" / "mine.txt").write_text("0 .5 .5 1 1\n")
        report = verify_export(home, out)
        assert {(one.item, one.problem.partition(" (")[0]) for one in report.failed} == {
            ("data.yaml", "has changed since it was written"),
            (f"labels/train/{gone.name}", "cannot be read"),
            ("labels/train/mine.txt", "is not of the export: somebody put it there"),
        }
        manifest = json.loads((out / EXPORT_MANIFEST).read_text())
        manifest["files"]["../../etc/passwd"] = "0" * 64
        (out / EXPORT_MANIFEST).write_text(json.dumps(manifest))
        assert any("lies outside the folder" in one.problem for one in verify_export(home, out).failed)
        with pytest.raises(LabelingError, match="is no export of labelloop"):
            verify_export(home, tmp_path)


def test_verify_export_compares_with_the_version(tmp_path: Path):
    with open_reviewed([[box(number)] for number in range(3)]) as project:
        out = tmp_path / "out"
        export(project.context, export_format="coco", out_dir=out)
        manifest = json.loads((out / EXPORT_MANIFEST).read_text())
        manifest["images"][0]["labels"].append("f" * 24)
        manifest["images"][1]["split"] = "nowhere"
        (out / EXPORT_MANIFEST).write_text(json.dumps(manifest))
        problems = sorted(one.problem.split(" than")[0] for one in verify_export(project.context.home, out).failed)
        assert problems[0].startswith("has labels that version")
        assert problems[1] == "is another file, or in another split,"


@pytest.mark.parametrize("change", [{"images": []}, {"classes": ["nonsense"]}, {"format": "yolo"}, {"version": None}])
def test_verify_export_sees_what_somebody_changed_in_its_manifest(tmp_path: Path, change: dict[str, object]):
    with open_reviewed([[box(1)], []]) as project:
        out = tmp_path / "out"
        export(project.context, export_format="coco", out_dir=out)
        manifest = json.loads((out / EXPORT_MANIFEST).read_text()) | change
        (out / EXPORT_MANIFEST).write_text(json.dumps(manifest))
        problems = [one.problem for one in verify_export(project.context.home, out).failed]
        assert problems[0] == "what it says of images and classes is not what was written"


def test_an_export_of_an_earlier_labelloop_which_has_no_such_sum_is_compared_with_its_version(tmp_path: Path):
    with open_reviewed([[box(1)], []]) as project:
        home, out = project.context.home, tmp_path / "out"
        export(project.context, export_format="coco", out_dir=out)
        manifest = json.loads((out / EXPORT_MANIFEST).read_text())
        del manifest["facts_sha256"]
        (out / EXPORT_MANIFEST).write_text(json.dumps(manifest))
        assert verify_export(home, out).failed == ()
        (out / EXPORT_MANIFEST).write_text(json.dumps(manifest | {"images": [], "classes": ["nonsense"]}))
        report = verify_export(home, out)
        (version,) = list_versions(home)
        assert [one.problem for one in report.failed] == [f"its classes are not those of version {version}"]
        assert report.notes == (f"compared with version {version}, of which it lacks 2 images",)


def test_a_field_that_groups_can_be_taken_back():
    with open_reviewed([[box(number)] for number in range(3)]) as project:
        for sample in project.dataset.samples.values():
            sample.values["listing"] = 7
        assert freeze(project, group_by="listing").group_by == "listing"
        assert freeze(project, group_by="").group_by is None
        assert freeze(project).group_by is None
    assert READERS["export"]({"group_by": ""})["group_by"] == ""


POINTS = """<View><Image name="image" value="$image"/>
<RectangleLabels name="label" toName="image"><Label value="car"/></RectangleLabels>
<KeyPointLabels name="points" toName="image"><Label value="nose"{}/><Label value="tail"{}/></KeyPointLabels></View>"""


def test_the_order_of_key_points_is_part_of_a_version_and_one_frozen_before_it_was_stays_readable():
    configs = [
        LabelConfig.from_xml(POINTS.format(*(f' model_index="{at}"' for at in order))) for order in ((0, 1), (1, 0))
    ]
    plain = LabelConfig.from_xml(POINTS.format("", ""))
    with open_reviewed([[box(1)]], config=plain) as project:
        version = freeze(project)
        home = project.context.home
        first, second = (replace(version, label_config=config.xml) for config in configs)
        assert compute_content_sha256(first) == version.content_sha256, "they have no order of their own"
        assert compute_content_sha256(second) != version.content_sha256
        file = home.versions / version.id / "manifest.json"
        # As it was frozen when the order was not in the sum.
        file.write_text(to_text(second))
        assert read_version(home).label_config == configs[1].xml
        file.write_text(to_text(replace(second, content_sha256=compute_content_sha256(second))))
        assert read_version(home).label_config == configs[1].xml
        swapped = replace(first, content_sha256=compute_content_sha256(second))
        file.write_text(to_text(swapped))
        with pytest.raises(LabelingError, match="is damaged"):
            read_version(home)


def test_a_box_is_kept_to_the_last_digit():
    odd = replace(box(1), geometry=Box(1 / 3, 2 / 7, 10.1, 20.2, 30.3))
    with open_reviewed([[odd]]) as project:
        version = freeze(project)
        assert version.images[0].labels[0].label == odd
        assert read_version(project.context.home, version.id).images == version.images
