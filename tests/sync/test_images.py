from pathlib import Path

import pytest
from PIL import Image

from labels.errors import ItemError, LabelingError
from labels.geometry import ImageSize
from labels.limits import MAX_IMAGE_BYTES, MAX_PIXELS
from ml_backend.imaging import decoding
from ml_backend.settings import Settings
from sync import images
from sync.demo import write_demo_images
from sync.images import find_images, read_facts, write_copy
from sync.media import MediaRoots, link_folder, to_copy_path
from sync.settings import Home

LYING = 6


def save(path: Path, *, mode: str = "RGB", size: tuple[int, int] = (40, 30), orientation: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    picture = Image.new(mode, size)
    picture.putpixel((0, 0), picture.getpixel((0, 0)))
    picture.save(path, exif=exif) if orientation else picture.save(path)
    return path


def test_images_are_found_in_every_folder_by_their_ending_whatever_its_case(tmp_path: Path):
    wanted = [save(tmp_path / name) for name in ("a.JPG", "b/c.jpeg", "b/d.png", "b/e/f.webp", "g.bmp", "h.tif")]
    save(tmp_path / ".hidden" / "x.png")
    save(tmp_path / "_converted" / "x.png")
    (tmp_path / "notes.txt").write_text("no image", encoding="utf-8")
    assert sorted(find_images(tmp_path)) == sorted(wanted)


def test_a_missing_folder_is_named(tmp_path: Path):
    with pytest.raises(LabelingError, match="no such folder"):
        list(find_images(tmp_path / "absent"))


def test_the_size_is_that_of_the_upright_image(tmp_path: Path):
    upright, lying = save(tmp_path / "a.jpg"), save(tmp_path / "b.jpg", orientation=LYING)
    assert read_facts(upright).size == ImageSize(40, 30)
    assert read_facts(lying).size == ImageSize(30, 40)


@pytest.mark.parametrize(
    ("name", "orientation", "needs_copy"),
    [
        ("a.jpg", None, False),
        ("a.jpg", LYING, False),
        ("a.png", None, False),
        ("a.png", LYING, True),
        ("a.webp", LYING, True),
        ("a.bmp", None, False),
        ("a.tif", None, True),
    ],
)
def test_what_browsers_show_wrongly_needs_a_copy(name: str, orientation: int | None, needs_copy: bool, tmp_path: Path):
    assert read_facts(save(tmp_path / name, orientation=orientation)).needs_copy is needs_copy


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
def test_a_copy_of_any_mode_is_an_upright_picture_that_browsers_show(mode: str, tmp_path: Path):
    source = save(tmp_path / "a.tif", mode=mode)
    write_copy(source, tmp_path / "copies" / "a.png")
    with Image.open(tmp_path / "copies" / "a.png") as copy:
        assert (copy.format, copy.size) == ("PNG", (40, 30))
        assert copy.mode in ("1", "L", "LA", "P", "RGB", "RGBA")


def test_sixteen_bits_are_stretched_to_eight_and_not_cut_off(tmp_path: Path):
    picture = Image.new("I;16", (3, 1))
    for x, value in enumerate((1000, 2000, 3000)):
        picture.putpixel((x, 0), value)
    picture.save(tmp_path / "a.tif")
    write_copy(tmp_path / "a.tif", tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as copy:
        assert [copy.getpixel((x, 0)) for x in range(3)] == pytest.approx([0, 127, 255], abs=1)


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_orientation_that_is_none_turns_nothing(orientation: int, tmp_path: Path):
    assert read_facts(save(tmp_path / "a.jpg", orientation=orientation)).size == ImageSize(40, 30)


def test_sixteen_bits_need_a_copy_in_a_png_too(tmp_path: Path):
    assert read_facts(save(tmp_path / "a.png", mode="I;16")).needs_copy


def test_a_file_that_is_broken_off_empty_or_no_image_is_refused_by_name(tmp_path: Path):
    whole = save(tmp_path / "whole.jpg", size=(400, 300)).read_bytes()
    for name, content in (("cut.jpg", whole[: len(whole) // 2]), ("empty.png", b""), ("text.jpg", b"hello")):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ItemError, match=f"{name}: cannot be read as an image"):
            read_facts(path)


def test_a_photo_with_a_second_picture_behind_it_is_a_jpeg_as_browsers_show_it(tmp_path: Path):
    photo = Image.new("RGB", (40, 30))
    photo.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[Image.new("RGB", (40, 30), "white")])
    facts = read_facts(tmp_path / "a.jpg")
    assert (facts.mime_type, facts.needs_copy, facts.size) == ("image/jpeg", False, ImageSize(40, 30))


def test_a_jpeg_that_would_take_minutes_is_refused(tmp_path: Path):
    path = tmp_path / "a.jpg"
    Image.effect_noise((64, 64), 50).convert("RGB").save(path, progressive=True)
    whole = path.read_bytes()
    path.write_bytes(whole[:-2] + whole[whole.rindex(b"\xff\xda") : -2] * 100 + whole[-2:])
    with pytest.raises(ItemError, match=r"a\.jpg: the JPEG has more than 100 scans"):
        read_facts(path)


def test_a_file_of_a_format_that_runs_programs_is_no_image_whatever_its_name(tmp_path: Path):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.jpg", "EPS")
    with pytest.raises(ItemError, match="no known image format"):
        read_facts(tmp_path / "a.jpg")


def test_two_folders_of_one_name_have_addresses_of_their_own(tmp_path: Path):
    home = Home(tmp_path / "home")
    urls = set()
    for place in ("one", "two"):
        path = save(tmp_path / place / "My photos" / "über & co.jpg")
        link_folder(home, path.parent)
        url = MediaRoots.read(home).to_url(path)
        assert url.startswith("/data/local-files/?d=images/My_photos-")
        assert url.endswith("/%C3%BCber%20%26%20co.jpg")
        urls.add(url)
    assert len(urls) == 2


def test_linking_a_second_time_changes_nothing(tmp_path: Path):
    home, folder = Home(tmp_path / "home"), tmp_path / "photos"
    folder.mkdir()
    assert link_folder(home, folder) == link_folder(home, folder)
    assert len(list(home.images.iterdir())) == 1


def test_images_that_lie_under_the_document_root_need_no_link(tmp_path: Path):
    home = Home(tmp_path / "home")
    path = save(home.images / "mounted" / "a.jpg")
    link_folder(home, home.images / "mounted")
    assert [one for one in home.images.iterdir() if one.is_symlink()] == []
    assert MediaRoots.read(home).to_url(path) == "/data/local-files/?d=images/mounted/a.jpg"
    assert MediaRoots.read(home).to_url(to_copy_path(home, "ab")) == "/data/local-files/?d=images/_converted/ab.png"


def test_an_image_of_no_linked_folder_has_no_address(tmp_path: Path):
    with pytest.raises(ItemError, match="in no folder that Label Studio may serve"):
        MediaRoots.read(Home(tmp_path / "home")).to_url(tmp_path / "a.jpg")


def test_the_demo_has_something_for_every_part_to_find(tmp_path: Path):
    paths = write_demo_images(tmp_path)
    contents = [path.read_bytes() for path in paths]
    assert len(paths) == 23
    assert len(set(contents)) == 22, "one is byte-identical to another"
    unreadable = []
    for path in paths:
        try:
            read_facts(path)
        except ItemError:
            unreadable.append(path.name)
    assert unreadable == ["broken.jpg"]
    assert read_facts(tmp_path / "derived" / "zidane_on_its_side.jpg").size == ImageSize(1280, 720)


def test_the_demo_writes_the_same_bytes_again_and_leaves_what_is_there(tmp_path: Path):
    first = {path.name: path.read_bytes() for path in write_demo_images(tmp_path / "a")}
    assert {path.name: path.read_bytes() for path in write_demo_images(tmp_path / "b")} == first
    stamps = {path: path.stat().st_mtime_ns for path in write_demo_images(tmp_path / "a")}
    assert {path: path.stat().st_mtime_ns for path in write_demo_images(tmp_path / "a")} == stamps


def test_an_image_that_the_ml_backend_would_refuse_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = save(tmp_path / "wall.jpg")
    width, height = read_facts(path).size.width, read_facts(path).size.height
    monkeypatch.setattr(images, "MAX_PIXELS", width * height - 1)
    with pytest.raises(ItemError, match=rf"wall.jpg: has {width} x {height} pixels \(expected at most"):
        read_facts(path)
    monkeypatch.setattr(images, "MAX_IMAGE_BYTES", 10)
    with pytest.raises(ItemError, match=r"wall.jpg: has \d+ bytes \(expected at most 10\)"):
        read_facts(path)
    assert (decoding.MAX_PIXELS, Settings(tmp_path, tmp_path).max_image_bytes) == (MAX_PIXELS, MAX_IMAGE_BYTES)
