"""Images inside shards of anybody: where they may go, what is written over, and what a half-read shard gives."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import sync.imports.reading
from labels.errors import LabelingError
from sync.catalogue.samples import SampleLabels
from sync.exports.formats import FORMATS
from sync.jobs.datasets.export import export
from sync.jobs.datasets.import_labels import Wish, ingest_labels
from sync.jobs.datasets.unpacking import PART_NAME
from sync.jobs.parameters import check_params
from tests.fakes.pictures import box, draw_picture, open_reviewed, write_picture
from tests.fakes.project import SIZE, FakeProject, open_fake_project

Entry = tuple[str, str, bytes]
"""Key in the archive, the image's name as its JSON says it, and the image's bytes."""
BOX = {"kind": "box", "class_name": "car", "x": 1, "y": 2, "width": 29, "height": 38}


@pytest.fixture
def project() -> Iterator[FakeProject]:
    """A project without images."""
    with open_fake_project(images=0) as project:
        yield project


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """The folder that images are unpacked to; it is not there yet."""
    return tmp_path / "room" / "photos"


def picture(number: int) -> bytes:
    file = io.BytesIO()
    draw_picture(number).save(file, "PNG")
    return file.getvalue()


def write_shard(path: Path, *entries: Entry) -> Path:
    with tarfile.open(path, "w") as archive:
        for key, name, content in entries:
            said = {"image": name, "width": SIZE.width, "height": SIZE.height, "objects": [BOX]}
            for suffix, part in ((".json", json.dumps(said).encode()), (".png", content)):
                member = tarfile.TarInfo(key + suffix)
                member.size = len(part)
                archive.addfile(member, io.BytesIO(part))
    return path


def unpack(project: FakeProject, photos: Path, shard: Path) -> list[tuple[str, str]]:
    """Import a shard with its images and return what failed; a dry run before it says the same and writes nothing."""
    before = files_of(photos.parent)
    wish = Wish(photos, shard, unpacks=True)
    foreseen = ingest_labels(project.context, replace(wish, is_dry_run=True))
    assert files_of(photos.parent) == before
    report = ingest_labels(project.context, wish)
    assert (foreseen.moved, foreseen.failed) == (report.moved, report.failed)
    # In the same order, said of what would be.
    assert [*foreseen.details.values()] == [*report.details.values()]
    return [(one.item, one.problem) for one in report.failed]


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def labels_of(project: FakeProject) -> dict[str, int]:
    """Return how many labels each image has, by the name of its file; one of which nothing is said is not in it."""
    said = project.context.dataset.labels()
    return {
        sample.image.path.name: len(found.labels)
        for key, sample in project.dataset.samples.items()
        if isinstance(found := said.get(key), SampleLabels)
    }


@pytest.mark.parametrize(
    "name", ["../../harm.png", "/harm.png", "..\\harm.png", "C:\\harm.png", "a/../../harm.png", "away/harm.png"]
)
def test_a_name_that_leads_out_of_the_folder_is_named_and_the_others_go_on(
    project: FakeProject, photos: Path, tmp_path: Path, name: str
):
    photos.mkdir(parents=True)
    (photos / "away").symlink_to(tmp_path, target_is_directory=True)
    shard = write_shard(tmp_path / "a.tar", ("harm", name, picture(1)), ("good", "deep/good.png", picture(2)))
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    ((item, problem),) = unpack(project, photos, shard)
    assert (item, "its name leads out of the folder" in problem) == (name, True)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} - before == {photos / "deep/good.png"}
    assert labels_of(project) == {"good.png": 1}


def test_a_link_under_the_name_that_an_image_is_first_written_to_is_not_followed(
    project: FakeProject, photos: Path, tmp_path: Path
):
    photos.mkdir(parents=True)
    (tmp_path / "precious").write_text("mine")
    (photos / PART_NAME).symlink_to(tmp_path / "precious")
    assert unpack(project, photos, write_shard(tmp_path / "a.tar", ("a", "a.png", picture(1)))) == []
    assert (tmp_path / "precious").read_text() == "mine"
    assert [(path.name, path.is_symlink()) for path in photos.iterdir()] == [("a.png", False)]
    assert labels_of(project) == {"a.png": 1}


@pytest.mark.parametrize(
    "name", [".hidden.png", "a/.git/x.png", "a\n.png", "a.exe", "a" * 300 + ".png", "_converted/a.png"]
)
def test_a_name_under_which_nobody_would_look_for_an_image_is_named(
    project: FakeProject, photos: Path, tmp_path: Path, name: str
):
    ((_, problem),) = unpack(project, photos, write_shard(tmp_path / "a.tar", ("a", name, picture(1))))
    assert problem == "its name is none for an image's file"
    assert files_of(tmp_path).keys() == {"a.tar"}


def test_nothing_is_written_over_and_of_two_images_of_one_name_the_first_is_taken(
    project: FakeProject, photos: Path, tmp_path: Path
):
    write_picture(photos / "mine.png", 7)
    mine = (photos / "mine.png").read_bytes()
    entries = [("1", "twin.png", picture(1)), ("2", "twin.png", picture(2)), ("3", "mine.png", picture(3))]
    failed = unpack(project, photos, write_shard(tmp_path / "a.tar", *entries))
    problem = "another image of this name is in the folder; nothing was written over"
    assert failed == [("twin.png", problem), ("mine.png", problem)]
    assert files_of(photos) == {"mine.png": mine, "twin.png": picture(1)}
    assert labels_of(project) == {"twin.png": 1}


def test_the_same_image_twice_in_the_shards_is_one_file(project: FakeProject, photos: Path, tmp_path: Path):
    shard = write_shard(tmp_path / "a.tar", ("1", "a.png", picture(1)), ("2", "a.png", picture(1)))
    assert unpack(project, photos, shard) == []
    assert (files_of(photos), labels_of(project)) == ({"a.png": picture(1)}, {"a.png": 1})


def test_an_image_that_the_catalogue_has_under_another_name_gets_the_labels_and_is_not_written(
    project: FakeProject, photos: Path, tmp_path: Path
):
    write_picture(tmp_path / "elsewhere" / "old.png", 1)
    empty = tmp_path / "elsewhere" / "labels.json"
    empty.write_text('{"images": [], "annotations": [], "categories": []}')
    ingest_labels(project.context, Wish(tmp_path / "elsewhere", empty))
    shard = write_shard(tmp_path / "a.tar", ("1", "new-name.png", picture(1)))
    assert unpack(project, photos, shard) == []
    assert (photos.exists(), labels_of(project)) == (False, {"old.png": 1})


def claim_pixels(width: int, height: int) -> bytes:
    """Return a PNG whose head says so many pixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    sum_ = struct.pack(">I", zlib.crc32(head))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + sum_ + struct.pack(">I", 20) + b"IDAT" + bytes(24)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "cannot be read as an image"),
        (b"<html>", "cannot be read as an image"),
        (picture(1)[:-200], "cannot be read as an image"),
        (claim_pixels(9_000, 9_000), "pixels (expected at most"),
        (claim_pixels(90_000, 90_000), "exceeds limit"),
    ],
    ids=["nothing", "page", "broken off", "too many pixels", "absurdly many pixels"],
)
def test_what_is_no_image_is_named_and_leaves_no_file(
    project: FakeProject, photos: Path, tmp_path: Path, content: bytes, problem: str
):
    ((item, said),) = unpack(project, photos, write_shard(tmp_path / "a.tar", ("a", "a.png", content)))
    assert item == "a.png"
    assert problem in said
    assert files_of(tmp_path).keys() == {"a.tar"}


def test_an_image_of_absurd_size_is_not_even_read(
    project: FakeProject, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sync.imports.reading, "MAX_IMAGE_BYTES", 100)
    failed = unpack(project, photos, write_shard(tmp_path / "a.tar", ("a", "a.png", picture(1))))
    assert failed == [("a.png", f"has {len(picture(1))} bytes (expected at most 100)")]


@pytest.mark.parametrize(("part", "whole"), [(0.2, 1), (0.5, 2), (0.9, 5), (0.99, 5)])
@pytest.mark.parametrize("name", ["webdataset", "tfrecord"])
def test_of_a_shard_that_is_broken_off_what_is_whole_is_taken_and_the_shard_is_named(
    project: FakeProject, photos: Path, tmp_path: Path, name: str, part: float, whole: int
):
    with open_reviewed([[box(number)] for number in range(6)]) as source:
        export(source.context, export_format=name, out_dir=tmp_path / "out", ratios=(100, 0, 0))
        pictures = {one.image.sha256: one.image.path.read_bytes() for one in source.dataset.samples.values()}
    (shard,) = (path for path in (tmp_path / "out").iterdir() if path.name.startswith("train-"))
    content = shard.read_bytes().rstrip(b"\0")
    shard.write_bytes(content[: int(len(content) * part)])
    failed = unpack(project, photos, tmp_path / "out")
    assert any(item == shard.name and "broken off" in problem for item, problem in failed)
    taken = {one.image.sha256: one.image.path.read_bytes() for one in project.dataset.samples.values()}
    assert taken.items() <= pictures.items()
    assert len(taken) == len(labels_of(project)) == whole


def test_a_shard_that_is_no_archive_does_not_keep_the_others_out(project: FakeProject, photos: Path, tmp_path: Path):
    shards = tmp_path / "shards"
    shards.mkdir()
    write_shard(shards / "b.tar", ("b", "b.png", picture(1)))
    (shards / "a.tar").write_bytes(b"no archive" * 100)
    ((item, problem),) = unpack(project, photos, shards)
    assert (item, "is no tar archive" in problem) == ("a.tar", True)
    assert labels_of(project) == {"b.png": 1}


class StoppedError(Exception):
    """Somebody ended the job."""


def test_a_job_that_is_ended_leaves_no_half_image_and_goes_on_from_there(
    project: FakeProject, photos: Path, tmp_path: Path
):
    shard = write_shard(tmp_path / "a.tar", *((str(one), f"{one}.png", picture(one)) for one in range(120)))

    def stop_later(_done: float | None, message: str) -> None:
        if message == "unpacking images, 50/120":
            raise StoppedError

    wish = Wish(photos, shard, unpacks=True)
    with pytest.raises(StoppedError):
        ingest_labels(project.context, wish, stop_later)
    assert files_of(photos) == {f"{one}.png": picture(one) for one in range(50)}
    report = ingest_labels(project.context, wish)
    assert (report.failed, report.moved, report.details["images unpacked"]) == ((), 120, 70)
    assert labels_of(project) == {f"{one}.png": 1 for one in range(120)}


def test_without_a_folder_images_go_to_one_of_the_home_where_label_studio_finds_them(
    project: FakeProject, tmp_path: Path
):
    shard = write_shard(tmp_path / "a.tar", ("a", "a.png", picture(1)))
    ingest_labels(project.context, Wish(None, shard, unpacks=True))
    ((name, content),) = files_of(project.context.home.images / "unpacked").items()
    assert (name.startswith("a.tar-"), name.endswith("/a.png"), content) == (True, True, picture(1))


def test_images_inside_are_left_there_unless_asked_for_and_the_report_says_how(
    project: FakeProject, photos: Path, tmp_path: Path
):
    write_picture(photos / "b.png", 2)
    report = ingest_labels(project.context, Wish(photos, write_shard(tmp_path / "a.tar", ("a", "a.png", picture(1)))))
    assert files_of(photos).keys() == {"b.png"}
    assert [(one.item, one.problem.endswith("is taken from there with --unpack")) for one in report.failed] == [
        ("a.png", True)
    ]


@pytest.mark.parametrize("name", ["coco", "webdataset", "tfrecord", "parquet"])
def test_labels_without_images_inside_cannot_be_unpacked(project: FakeProject, photos: Path, tmp_path: Path, name: str):
    assert name in FORMATS
    with open_reviewed([[box(1)]]) as source:
        export(source.context, export_format=name, out_dir=tmp_path / "out", images_mode="none")
    with pytest.raises(LabelingError, match="has no images inside"):
        ingest_labels(project.context, Wish(photos, tmp_path / "out", unpacks=True))
    assert not photos.exists()


def test_who_asks_from_elsewhere_does_not_choose_where_images_are_unpacked():
    check_params("ingest", {"labels": "/a.tar", "unpack": True})
    with pytest.raises(LabelingError, match="only the command line may choose a folder"):
        check_params("ingest", {"labels": "/a.tar", "unpack": True, "folder": "/etc"})
