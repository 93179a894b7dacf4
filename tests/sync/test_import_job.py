"""Ingest with labels: what is written, what is left as it is, and what is said of the rest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import ExifTags, Image

from labels.errors import LabelingError
from labels.geometry import Box, ImageSize
from labels.results import Label
from sync.catalogue.samples import SampleLabels
from sync.jobs.datasets.export import export
from sync.jobs.datasets.import_labels import LEFT_OUT, Wish, ingest_labels
from sync.jobs.datasets.ingest import ingest
from sync.jobs.datasets.owners import OTHER_CONTENT
from sync.jobs.exchange.push import push
from sync.jobs.parameters import READERS
from sync.versions.manifest import read_version
from tests.fakes.pictures import open_reviewed, write_picture
from tests.fakes.project import SIZE, FakeProject, open_fake_project
from tests.sync.test_imports import XML, write_json

MINE = Label("a" * 24, "label", ("dog",), Box(10, 10, 20, 30))


@pytest.fixture
def project() -> Iterator[FakeProject]:
    """A project without images."""
    with open_fake_project(images=0) as project:
        yield project


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures, a VOC file for two of them."""
    for number, name in enumerate(("a.png", "deep/b.png", "c.png")):
        write_picture(tmp_path / name, number)
    for name in ("a", "b"):
        write_voc(tmp_path, name)
    return tmp_path


def write_voc(folder: Path, name: str, *, label: str = "car", box: tuple[float, ...] = (1, 2, 30, 40)) -> None:
    size = {"width": SIZE.width, "height": SIZE.height}
    (folder / f"{name}.xml").write_text(XML.format(name=f"{name}.png", label=label, box=box, **size))


def boxes_of(project: FakeProject) -> dict[str, list[tuple[str, object]]]:
    said = project.context.dataset.labels()
    return {
        sample.image.path.name: [(label.class_name, label.geometry) for label in found.labels]
        for key, sample in project.dataset.samples.items()
        if isinstance(found := said.get(key), SampleLabels)
    }


def test_labels_are_written_and_an_image_that_no_file_names_says_nothing(project: FakeProject, folder: Path):
    report = ingest_labels(project.context, Wish(folder, folder))
    assert boxes_of(project) == {"a.png": [("car", Box(1, 2, 29, 38))], "b.png": [("car", Box(1, 2, 29, 38))]}
    assert (report.moved, report.failed) == (3, ())
    assert (report.details["labels"], report.details["images that no label file names"]) == (2, 1)


def test_a_second_time_changes_nothing(project: FakeProject, folder: Path):
    ingest_labels(project.context, Wish(folder, folder))
    before = project.context.dataset.labels()
    report = ingest_labels(project.context, Wish(folder, folder))
    assert project.context.dataset.labels() == before
    assert (report.moved, report.details["labels"], report.details["images labelled as before"]) == (0, 0, 2)


def test_what_people_drew_is_never_written_over(project: FakeProject, folder: Path):
    ingest_labels(project.context, Wish(folder, folder))
    first = project.sample_ids[0]
    project.dataset.curate(first, [MINE])
    report = ingest_labels(project.context, Wish(folder, folder))
    assert boxes_of(project)["a.png"] == [("dog", MINE.geometry)]
    assert [(one.item, one.sample_id) for one in report.failed] == [("a.png", first)]
    assert "has labels already" in report.failed[0].problem


@pytest.mark.parametrize(("said", "written"), [("keep", True), ("trash", False)])
def test_a_persons_answer_about_the_image_is_kept_and_one_that_differs_is_named(
    project: FakeProject, folder: Path, said: str, written: bool
):
    answers = Label("c" * 24, "quality", (said,))
    with open_reviewed([[MINE, Label("d" * 24, "quality", ("keep",))]]) as source:
        export(source.context, export_format="csv", out_dir=folder / "out")
    ingest(project.context, folder / "out")
    (key,) = project.sample_ids
    project.context.dataset.write_labels({key: [answers]}, controls={"quality"})
    report = ingest_labels(project.context, Wish(folder / "out", folder / "out"))
    found = project.context.dataset.labels()[key]
    assert isinstance(found, SampleLabels)
    assert [label for label in found.labels if label.control == "quality"] == [answers]
    assert any(label.control == "label" for label in found.labels) is written
    assert [one.sample_id for one in report.failed] == ([] if written else [key])


def test_unknown_classes_are_listed_with_counts_and_nothing_is_changed(project: FakeProject, folder: Path):
    write_voc(folder, "a", label="Forklift")
    write_voc(folder, "b", label="Forklift")
    with pytest.raises(LabelingError, match=r"'Forklift' \(2\).*--map 'Forklift=CLASS'"):
        ingest_labels(project.context, Wish(folder, folder))
    assert project.sample_ids == []
    # Those of the control that draws such shapes, in the order of the config; not the answers about images.
    with pytest.raises(LabelingError, match=r"class 'lorry' is not in label_config\.xml \(known: car, dog, bus\)"):
        ingest_labels(project.context, Wish(folder, folder, classes={"Forklift": "lorry"}))
    with pytest.raises(LabelingError, match=r"class 'lorry' is not .*\(known: car, dog, bus, lake, keep, trash\)"):
        ingest_labels(project.context, Wish(folder, folder, classes={"Forklift": "bus", "nobody": "lorry"}))
    ingest_labels(project.context, Wish(folder, folder, classes={"Forklift": "bus"}))
    assert {name for some in boxes_of(project).values() for name, _ in some} == {"bus"}


@pytest.mark.parametrize("name", ["csv", "parquet"])
def test_labels_of_another_picture_of_that_name_are_not_written(project: FakeProject, tmp_path: Path, name: str):
    with open_reviewed([[MINE], [replace(MINE, id="b" * 24)]]) as source:
        export(source.context, export_format=name, out_dir=tmp_path / "out", images_mode="none")
        paths = [sample.image.path for sample in source.dataset.samples.values()]
        photos = tmp_path / "photos"
        photos.mkdir()
        (photos / paths[0].name).write_bytes(paths[0].read_bytes())
        write_picture(photos / paths[1].name, 77)
    foreseen = ingest_labels(project.context, Wish(photos, tmp_path / "out", is_dry_run=True))
    report = ingest_labels(project.context, Wish(photos, tmp_path / "out"))
    assert boxes_of(project) == {paths[0].name: [("dog", MINE.geometry)]}
    assert [(one.item, one.problem) for one in report.failed] == [(str(paths[1]), OTHER_CONTENT)]
    assert [one.problem for one in foreseen.failed] == [OTHER_CONTENT]


@pytest.mark.parametrize("name", ["csv", "parquet"])
def test_an_image_that_an_export_wrote_upright_gets_its_labels_back(project: FakeProject, tmp_path: Path, name: str):
    with open_reviewed([[MINE]]) as source:
        (sample,) = source.dataset.samples.values()
        path = sample.image.path.with_suffix(".jpg")
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        sha256 = write_picture(path, 1, ImageSize(SIZE.height, SIZE.width), exif=exif)
        sample.image = replace(sample.image, path=path, sha256=sha256)
        export(source.context, export_format=name, out_dir=tmp_path / "out")
    photos = tmp_path / "out"
    if name == "parquet":
        # As somebody may have taken it out.
        (row,) = pq.read_table(tmp_path / "out" / "train.parquet").to_pylist()
        photos = tmp_path / "photos"
        photos.mkdir()
        (photos / row["image"]["path"]).write_bytes(row["image"]["bytes"])
    report = ingest_labels(project.context, Wish(photos, tmp_path / "out"))
    assert report.failed == ()
    assert [*boxes_of(project).values()] == [[("dog", MINE.geometry)]]


def test_a_class_that_is_left_out_is_counted(project: FakeProject, folder: Path):
    write_voc(folder, "b", label="rubbish")
    report = ingest_labels(project.context, Wish(folder, folder, classes={"rubbish": ""}))
    assert boxes_of(project)["b.png"] == []
    assert "1 labels 'rubbish' were left out, as you said" in report.notes


def test_a_dry_run_says_the_same_and_changes_nothing(project: FakeProject, folder: Path):
    write_voc(folder, "b", box=(5, 5, 5, 9))
    report = ingest_labels(project.context, Wish(folder, folder, is_dry_run=True))
    assert project.sample_ids == []
    assert (report.is_dry_run, report.details["labels that would be added"]) == (True, 1)
    assert report.details["images that would be labelled"] == 1
    assert not {"labels", "labelled images"} & set(report.details)
    assert [(one.item, one.problem) for one in report.failed] == [("b.png", f"label 1 (car): has no area{LEFT_OUT}")]
    assert next(report.lines()) == "ingest: 3 would be added, 0 unchanged, 1 failed"


def test_a_dry_run_says_what_the_real_one_would(project: FakeProject, folder: Path):
    ingest_labels(project.context, Wish(folder, folder))
    project.dataset.curate(project.sample_ids[0], [MINE])
    write_picture(folder / "d.png", 7)
    write_picture(folder / "deep/b.png", 8)
    write_voc(folder, "d")
    (folder / "e.png").write_bytes(b"no image")
    before = project.context.dataset.labels()
    foreseen = ingest_labels(project.context, Wish(folder, folder, is_dry_run=True))
    assert (len(project.sample_ids), project.context.dataset.labels()) == (3, before)
    assert (foreseen.moved, foreseen.unchanged, len(foreseen.failed)) == (1, 2, 3)
    real = ingest_labels(project.context, Wish(folder, folder))
    assert (foreseen.moved, foreseen.unchanged) == (real.moved, real.unchanged)
    # In the same order, said of what would be.
    assert [*foreseen.details.values()] == [*real.details.values()]
    assert foreseen.failed == real.failed
    assert real.details["images labelled as before"] == 1
    assert [one.item for one in real.failed][-1] == "a.png"


def test_a_dry_run_refuses_the_folder_that_the_real_one_refuses(project: FakeProject, tmp_path: Path):
    write_voc(tmp_path, "a")
    with pytest.raises(LabelingError, match="no images"):
        ingest_labels(project.context, Wish(tmp_path, tmp_path, is_dry_run=True))


YOLO_FAULTS = ("99 .5 .5 .1 .1", "-1 .5 .5 .1 .1", "0 nan .5 .1 .1", "0 .5", "0 5 5 .1 .1", "0 .5 .5 0 .1")
COCO_FAULTS: tuple[dict[str, object], ...] = (
    {"category_id": 99},
    {"bbox": [1, float("nan"), 3, 4]},
    {"bbox": [1, float("inf"), 3, 4]},
    {"bbox": "hello"},
    {"bbox": [500, 500, 3, 4]},
    {"image_id": 77},
    {"image_id": None},
)


def check_left_out_until_it_is_right(project: FakeProject, wish: Wish, name: str) -> None:
    """Check that nothing is said of an image, and that it is imported once ``wish`` finds it mended."""
    for is_dry_run in (True, False):
        report = ingest_labels(project.context, replace(wish, is_dry_run=is_dry_run))
        assert report.details["images left out for a label"] == 1
        assert report.details["images without objects"] == 0
        (problem,) = [one.problem for one in report.failed if one.item == name]
        assert problem.endswith(LEFT_OUT)
    assert boxes_of(project).get(name) is None


@pytest.mark.parametrize("row", YOLO_FAULTS)
def test_an_image_whose_only_label_cannot_be_used_is_no_negative_and_can_be_imported_later(
    project: FakeProject, tmp_path: Path, row: str
):
    write_picture(tmp_path / "a.png", 1)
    (tmp_path / "data.yaml").write_text("names: [car]\n")
    (tmp_path / "a.txt").write_text(f"{row}\n")
    wish = Wish(tmp_path, tmp_path)
    check_left_out_until_it_is_right(project, wish, "a.png")
    (tmp_path / "a.txt").write_text("0 .5 .5 .5 .5\n")
    assert ingest_labels(project.context, wish).failed == ()
    assert len(boxes_of(project)["a.png"]) == 1


@pytest.mark.parametrize("fault", COCO_FAULTS, ids=str)
def test_an_annotation_that_cannot_be_used_leaves_its_image_out(
    project: FakeProject, tmp_path: Path, fault: dict[str, object]
):
    write_picture(tmp_path / "a.png", 1)
    right = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40]}
    content = {"images": [{"id": 1, "file_name": "a.png"}], "categories": [{"id": 1, "name": "car"}]}
    path = write_json(tmp_path / "labels.json", content | {"annotations": [right | fault]})
    check_left_out_until_it_is_right(project, Wish(tmp_path, path), "a.png")
    write_json(path, content | {"annotations": [right]})
    assert ingest_labels(project.context, Wish(tmp_path, path)).failed == ()
    assert boxes_of(project)["a.png"] == [("car", Box(1, 2, 30, 40))]


def test_one_object_that_cannot_be_read_keeps_the_others_out_too(project: FakeProject, folder: Path):
    text = (folder / "a.xml").read_text()
    broken = text[text.index("<object>") : text.index("</annotation>")].replace("<xmin>1</xmin>", "")
    (folder / "a.xml").write_text(text.replace("</annotation>", f"{broken}</annotation>"))
    check_left_out_until_it_is_right(project, Wish(folder, folder), "a.png")
    assert len(boxes_of(project)["b.png"]) == 1
    (folder / "a.xml").write_text(text)
    assert ingest_labels(project.context, Wish(folder, folder)).details["labelled images"] == 1


def test_an_image_that_two_files_say_different_things_of_is_left_out(project: FakeProject, folder: Path):
    text = (folder / "a.xml").read_text()
    (folder / "z.xml").write_text(text)
    report = ingest_labels(project.context, Wish(folder, folder, is_dry_run=True))
    assert (report.failed, report.details["images that would be labelled"]) == ((), 2)
    (folder / "z.xml").write_text(text.replace("<xmin>1<", "<xmin>9<"))
    report = ingest_labels(project.context, Wish(folder, folder))
    assert [one.problem for one in report.failed] == [f"is named twice with other labels (a.png and a.png){LEFT_OUT}"]
    assert "a.png" not in boxes_of(project)


def test_what_does_not_fit_is_named_and_the_rest_is_taken(project: FakeProject, folder: Path):
    write_voc(folder, "a", box=(-50, 5, 30, 90))
    write_voc(folder, "gone")
    (folder / "c.xml").write_text(XML.format(name="c.png", width=9, height=9, label="car", box=(1, 2, 3, 4)))
    report = ingest_labels(project.context, Wish(folder, folder))
    assert boxes_of(project)["a.png"] == [("car", Box(0, 5, 30, 75))]
    assert report.details["labels cut at the edge of their image"] == 1
    assert [(one.item, one.problem) for one in report.failed] == [
        ("gone.png", "no image of this name is in the folder"),
        ("c.png", "its labels were drawn on 9x9, the image is 120x80"),
    ]


def test_an_imported_label_knows_its_file_and_is_reviewed_once_it_was_sent(project: FakeProject, folder: Path):
    labels = folder / "annotations"
    labels.mkdir()
    for name in ("a.xml", "b.xml"):
        (folder / name).rename(labels / name)
    ingest_labels(project.context, Wish(folder, labels))
    with pytest.raises(LabelingError, match="2 images are not in it: they were labelled in FiftyOne"):
        export(project.context, export_format="coco")
    push(project.context)
    report = export(project.context, export_format="coco")
    assert report.moved == 2
    version = read_version(project.context.home)
    assert {one.source for image in version.images for one in image.labels} == {"annotations"}


def test_a_command_is_read_before_it_is_kept():
    wish = READERS["ingest"]({"folder": "/a", "labels": "/b", "format": "voc", "classes": {"x": "y"}, "dry_run": True})
    assert wish == {"wish": Wish(Path("/a"), Path("/b"), "voc", {"x": "y"}, is_dry_run=True)}
    for wrong in ({"format": "voc"}, {"labels": "/b", "format": "docx"}, {"labels": "/b", "classes": {"x": 1}}):
        with pytest.raises(LabelingError):
            READERS["ingest"]({"folder": "/a"} | wrong)
