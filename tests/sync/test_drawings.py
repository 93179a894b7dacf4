"""What ``labelloop predict`` may write over, and which images of a folder it looks at."""

import os
from pathlib import Path

import pytest
from PIL import Image as PillowImage

from labels.errors import LabelingError
from sync.cli.drawings import check_lines_file, choose_targets, find_images, is_drawing, save_drawing


def make_photo(path: Path, colour: str = "green") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.new("RGB", (30, 20), colour).save(path)
    return path


def make_drawing(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_drawing(PillowImage.new("RGB", (30, 20)), path, is_replacing=False)
    return path


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
@pytest.mark.parametrize("is_replacing", [False, True])
def test_an_image_that_is_looked_at_is_never_a_target(name: str, is_replacing: bool, tmp_path: Path) -> None:
    photo = make_photo(tmp_path / name)

    with pytest.raises(LabelingError, match=f"{name}: is one of the images"):
        choose_targets([photo], tmp_path, is_replacing=is_replacing)


def test_an_image_under_another_name_of_its_file_is_no_target_either(tmp_path: Path) -> None:
    photo = make_photo(tmp_path / "photos" / "a.jpg")
    (tmp_path / "out").mkdir()
    os.link(photo, tmp_path / "out" / "a.jpg")

    with pytest.raises(LabelingError, match="is one of the images"):
        choose_targets([photo], tmp_path / "out", is_replacing=True)


@pytest.mark.parametrize("is_replacing", [False, True])
def test_a_file_that_predict_did_not_write_is_no_target(is_replacing: bool, tmp_path: Path) -> None:
    photo = make_photo(tmp_path / "photos" / "a.tif")
    other = make_photo(tmp_path / "out" / "a.jpg")
    before = other.read_bytes()

    with pytest.raises(LabelingError, match=r"a\.jpg: is there already and no drawing of labelloop predict"):
        choose_targets([photo], tmp_path / "out", is_replacing=is_replacing)
    with pytest.raises(LabelingError, match="is there already"):
        save_drawing(PillowImage.new("RGB", (3, 2)), other, is_replacing=is_replacing)
    assert other.read_bytes() == before
    assert os.listdir(tmp_path / "out") == ["a.jpg"]


def test_a_link_is_no_target_wherever_it_leads(tmp_path: Path) -> None:
    drawing = make_drawing(tmp_path / "elsewhere.jpg")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.jpg").symlink_to(drawing)
    (tmp_path / "out" / "b.jpg").symlink_to(tmp_path / "nowhere.jpg")

    for name in ("a.jpg", "b.jpg"):
        with pytest.raises(LabelingError, match="is there already"):
            choose_targets([make_photo(tmp_path / "photos" / name)], tmp_path / "out", is_replacing=True)


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_a_drawing_is_replaced_only_when_told(name: str, tmp_path: Path) -> None:
    photo = make_photo(tmp_path / "photos" / name)
    drawing = make_drawing(tmp_path / "out" / name)

    with pytest.raises(LabelingError, match=r"is drawn already \(--overwrite"):
        choose_targets([photo], tmp_path / "out", is_replacing=False)

    assert choose_targets([photo], tmp_path / "out", is_replacing=True) == {photo: drawing}
    save_drawing(PillowImage.new("RGB", (7, 5)), drawing, is_replacing=True)
    with PillowImage.open(drawing) as image:
        assert image.size == (7, 5)
    assert is_drawing(drawing)
    assert not is_drawing(photo)


def test_json_lines_are_never_written_into_an_image(tmp_path: Path) -> None:
    photo = make_photo(tmp_path / "a.jpg")

    with pytest.raises(LabelingError, match="is one of the images"):
        check_lines_file(photo, [photo])


def test_hidden_files_exports_and_drawings_of_a_folder_are_not_looked_at(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for name in ("b.jpg", "a.gif", ".hidden.jpg", ".thumbs/c.jpg", "export/d.jpg"):
        make_photo(photos / name)
    (photos / "export" / "labelloop.json").write_text("{}")
    make_drawing(photos / "predicted" / "b.jpg")
    mine = make_photo(photos / "predicted" / "mine.jpg")

    found = find_images([photos, photos / "b.jpg"], photos / "predicted")

    assert found == [photos / "a.gif", photos / "b.jpg", mine]
