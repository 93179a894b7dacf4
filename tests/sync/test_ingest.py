import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from labels.config import LabelConfig, default_label_config_path
from labels.errors import LabelingError
from labels.geometry import ImageSize
from labels.report import Failure
from sync.jobs.context import Context
from sync.jobs.datasets.ingest import complete_images, foresee, ingest
from sync.ledger import Ledger
from sync.settings import Home, Project
from tests.fakes.killing import KilledError, KillSwitch


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.make()
    Project(name="photos").write(home)
    return home


@pytest.fixture
def dataset(mongod_uri: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    from sync.catalogue.dataset import Dataset

    dataset = Dataset.open(request.node.name, LabelConfig.read(default_label_config_path()))
    yield dataset
    dataset._dataset.delete()


@pytest.fixture
def context(home: Home, dataset: Any) -> Iterator[Context]:
    project = Project.read(home)
    assert project is not None
    nothing: Any = None
    with Ledger.open(home.ledger) as ledger:
        yield Context(home, project, LabelConfig.read(default_label_config_path()), ledger, dataset, nothing, nothing)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    for number, name in enumerate(("a.jpg", "below/b.png", "below/c.tif")):
        Image.new("RGB", (50 + number, 30), (number, 0, 0)).save(folder / name)
    (folder / "d.jpg").write_bytes(b"no image")
    return folder


def test_a_bad_file_is_reported_by_name_and_the_others_go_on(context: Context, dataset: Any, folder: Path):
    report = ingest(context, folder)
    assert (report.moved, report.unchanged) == (3, 0)
    assert report.failed == (Failure(str(folder / "d.jpg"), "cannot be read as an image (no known image format)"),)
    assert {image.size.width for image in dataset.images().values()} == {50, 51, 52}


def test_a_second_time_nothing_is_added(context: Context, dataset: Any, folder: Path):
    ingest(context, folder)
    before = dataset.images()
    report = ingest(context, folder)
    assert (report.moved, report.unchanged) == (0, 3)
    assert dataset.images() == before


def test_the_app_shows_a_copy_of_what_browsers_cannot_and_knows_the_source(
    context: Context, dataset: Any, folder: Path
):
    ingest(context, folder)
    (converted,) = [image for image in dataset.images().values() if image.source_path is not None]
    assert converted.source_path == folder / "below" / "c.tif"
    assert converted.path.suffix == ".png"
    assert converted.path.is_file()


def test_a_file_that_changed_is_reported_and_its_sample_stays(context: Context, dataset: Any, folder: Path):
    ingest(context, folder)
    before = dataset.images()
    Image.new("RGB", (99, 30), (9, 9, 9)).save(folder / "a.jpg")
    report = ingest(context, folder)
    assert Failure(str(folder / "a.jpg"), "has changed since it was added; add it under a new name") in report.failed
    assert dataset.images() == before


def test_the_folder_is_remembered_in_the_project(context: Context, home: Home, folder: Path):
    ingest(context, folder)
    project = Project.read(home)
    assert project is not None
    assert list((project.images or {}).values()) == [str(folder)]


def test_samples_that_came_by_another_way_get_what_they_lack(dataset: Any, folder: Path):
    import fiftyone as fo

    samples = [fo.Sample(str(folder / "a.jpg")), fo.Sample(str(folder / "d.jpg"))]
    _, unreadable = dataset._dataset.add_samples(samples, progress=False)
    failed = complete_images(dataset)
    problem = "cannot be read as an image (no known image format)"
    assert failed == [Failure(str(folder / "d.jpg"), problem, unreadable)]
    (image,) = dataset.images().values()
    assert image.size == ImageSize(50, 30)
    assert image.sha256 == hashlib.sha256((folder / "a.jpg").read_bytes()).hexdigest()
    assert list(dataset.incomplete_images().values()) == [folder / "d.jpg"]
    assert dataset.byte_counts(list(dataset.images())) == {image.sample_id: (folder / "a.jpg").stat().st_size}


def test_a_folder_that_holds_the_state_folder_is_refused(context: Context, home: Home, tmp_path: Path):
    for folder in (tmp_path, Path("/"), home.path):
        with pytest.raises(LabelingError, match=r"the state folder .* lies in it"):
            ingest(context, folder)
    with pytest.raises(LabelingError, match="lies in the state folder"):
        ingest(context, home.secrets)
    assert list(home.images.iterdir()) == []


def test_what_labelloop_wrote_itself_is_no_new_image(context: Context, folder: Path):
    for name, file in (("training", "labelloop.json"), ("state", "project.json")):
        (folder / name).mkdir()
        (folder / name / file).write_text("{}", encoding="utf-8")
        Image.new("RGB", (9, 9)).save(folder / name / "copy.png")
    assert ingest(context, folder).moved == 3


def test_what_is_left_out_and_what_is_there_twice_is_said(context: Context, folder: Path):
    ingest(context, folder)
    more = folder.parent / "more"
    (more / "export").mkdir(parents=True)
    (more / "export" / "labelloop.json").write_text("{}")
    twin = next(path for path in sorted(folder.rglob("*.png")) if path.stat().st_size)
    for name in ("a.png", "b.png", "export/c.png"):
        shutil.copy(twin, more / name)

    foreseen, _ = foresee(context, more)
    report = ingest(context, more)

    assert report.moved == 2
    assert (
        report.notes
        == foreseen.notes
        == (
            f"left out, since labelloop wrote them itself: {more / 'export'}",
            "new images with the same bytes as another one: 2; labelloop duplicates finds them",
        )
    )


def test_names_that_are_no_text_and_pipes_are_reported(context: Context, folder: Path):
    os.mkfifo(folder / "pipe.jpg")
    Image.new("RGB", (9, 9)).save(folder / "good.png")
    os.rename(os.fsencode(folder / "good.png"), os.fsencode(folder) + b"/caf\xe9.png")
    report = ingest(context, folder)
    assert report.moved == 3
    assert {(Path(one.item).name, one.problem.partition(";")[0]) for one in report.failed} == {
        ("pipe.jpg", "is no regular file"),
        ("caf\\xe9.png", "its name is not valid UTF-8, which no database holds"),
        ("d.jpg", "cannot be read as an image (no known image format)"),
    }


def test_a_folder_without_permission_is_reported(context: Context, folder: Path, monkeypatch: pytest.MonkeyPatch):
    scan = os.scandir

    def scan_as_somebody_else(place: str) -> Any:
        """Refuse as the system does; it refuses the superuser, who may run this test, nothing."""
        if Path(place).name == "below":
            raise PermissionError(13, "Permission denied", place)
        return scan(place)

    monkeypatch.setattr(os, "scandir", scan_as_somebody_else)
    report = ingest(context, folder)
    assert Failure(str(folder / "below"), "cannot be read (Permission denied)") in report.failed
    assert report.moved == 1


def test_a_folder_without_images_is_an_error(context: Context, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(LabelingError, match=r"empty: no images \(expected jpg"):
        ingest(context, tmp_path / "empty")


def test_what_was_deleted_in_fiftyone_stays_deleted_and_can_be_restored(context: Context, dataset: Any, folder: Path):
    ingest(context, folder)
    deleted = next(key for key, image in dataset.images().items() if image.path.name == "a.jpg")
    dataset._dataset.delete_samples([deleted])
    note = "left out, since they were deleted in FiftyOne: 1; ingest FOLDER --restore adds them as new ones"

    report = ingest(context, folder)
    assert (report.moved, report.unchanged, report.notes) == (0, 2, (note,))
    assert foresee(context, folder)[0].notes == (note,)
    foreseen, added = foresee(context, folder, restore=True)
    assert (foreseen.moved, list(added)) == (1, [folder / "a.jpg"])

    restored = ingest(context, folder, restore=True)
    assert (restored.moved, restored.notes) == (1, ())
    assert ingest(context, folder).unchanged == 3


def test_another_picture_under_the_name_of_a_deleted_one_is_new(context: Context, dataset: Any, folder: Path):
    ingest(context, folder)
    dataset._dataset.delete_samples(list(dataset.images())[:1])
    Image.new("RGB", (99, 30), (9, 9, 9)).save(folder / "a.jpg")
    assert ingest(context, folder).moved == 1


def test_what_a_killed_ingest_did_not_note_is_noted_by_the_next(context: Context, dataset: Any, folder: Path):
    ingest(context, folder)
    with context.ledger._write() as db:
        db.execute("delete from ingested")
    ingest(context, folder)
    dataset._dataset.delete_samples(list(dataset.images())[:1])
    assert ingest(context, folder).moved == 0


def test_a_dataset_that_is_gone_is_filled_again(context: Context, dataset: Any, folder: Path):
    ingest(context, folder)
    dataset._dataset.clear()
    assert ingest(context, folder).moved == 3


def test_a_dataset_that_is_gone_is_filled_again_though_that_is_killed(
    context: Context, dataset: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    ingest(context, folder)
    dataset._dataset.clear()
    monkeypatch.setattr("sync.jobs.datasets.ingest.IMAGES_PER_WRITE", 1)
    # The tools, the ledger's clearing, the first image; then the end.
    with pytest.raises(KilledError):
        ingest(KillSwitch(5).guard(context), folder)
    assert 0 < len(dataset.images()) < 3

    ingest(context, folder)
    assert len(dataset.images()) == 3


def test_a_sample_that_came_by_another_way_is_there(context: Context, dataset: Any, folder: Path):
    import fiftyone as fo

    dataset._dataset.add_sample(fo.Sample(str(folder / "a.jpg")))
    report = ingest(context, folder)
    assert (report.moved, report.unchanged, [Path(one.item).name for one in report.failed]) == (2, 1, ["d.jpg"])
