import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image as PillowImage

from sync.cli import main


@pytest.fixture
def images(tmp_path: Path) -> Path:
    import ultralytics

    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("bus.jpg", "zidane.jpg"):
        shutil.copy(Path(ultralytics.__file__).parent / "assets" / name, folder)
    return folder


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABELLOOP_OFFLINE", "1")
    monkeypatch.setenv("LABELLOOP_DEVICE", "cpu")
    monkeypatch.setenv("LABELLOOP_RUNTIME", "torch")


def run(home: Path, *words: str | Path) -> Result:
    return CliRunner().invoke(main, ["--home", str(home), *map(str, words)])


def test_predict_draws_what_is_found_and_needs_no_stack(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    result = run(tmp_path / "home", "predict", images / "bus.jpg", images / "zidane.jpg", "--out", out)

    assert result.exit_code == 0, result.output
    assert "bus.jpg: 4 person, 1 bus\n" in result.output
    with PillowImage.open(out / "bus.jpg") as drawn, PillowImage.open(images / "bus.jpg") as image:
        assert drawn.size == image.size


def test_a_damaged_image_is_named_and_the_others_are_drawn(images: Path, tmp_path: Path) -> None:
    (images / "damaged.jpg").write_bytes(b"no image")

    result = run(tmp_path / "home", "predict", images, "--out", tmp_path / "out")

    assert result.exit_code == 1
    assert "damaged.jpg" in result.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["bus.jpg", "zidane.jpg"]


def test_json_lines_go_on_where_they_were(images: Path, tmp_path: Path) -> None:
    lines, home = tmp_path / "found.jsonl", tmp_path / "home"
    first = run(home, "predict", images, "--jsonl", lines)
    whole = lines.read_text()
    # As if the machine had stopped in the middle of the second image's line.
    lines.write_text(whole[: len(whole) - 20])

    second = run(home, "predict", images, "--jsonl", lines)

    assert (first.exit_code, second.exit_code) == (0, 0), first.output + second.output
    assert "1 images written, 1 there already, 0 failed" in second.output
    assert lines.read_text() == whole
    assert [Path(json.loads(line)["path"]).name for line in whole.splitlines()] == ["bus.jpg", "zidane.jpg"]


@pytest.mark.parametrize("words", [(), ("--dataset", "images")])
def test_predict_needs_images_or_the_dataset(words: tuple[str, ...], images: Path, tmp_path: Path) -> None:
    given = [images if word == "images" else word for word in words]

    result = run(tmp_path / "home", "predict", *given)

    assert result.exit_code == 2
    assert "give images or folders, or --dataset" in result.output


def test_a_folder_without_images_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    result = run(tmp_path / "home", "predict", tmp_path / "empty")

    assert (result.exit_code, result.output) == (1, "Error: there is no image to look at\n")


def test_a_model_that_is_not_there_is_one_line(images: Path, tmp_path: Path) -> None:
    result = run(tmp_path / "home", "predict", images, "--model", "nobody")

    assert result.exit_code == 1
    assert result.output.startswith("Error: model 'nobody': no weights")
    assert len(result.output.splitlines()) == 1


@pytest.mark.parametrize("words", [(), ("--overwrite",)])
def test_the_photo_itself_is_never_drawn_on(words: tuple[str, ...], images: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in images.iterdir()}

    for given in (images, images / "bus.jpg"):
        result = run(tmp_path / "home", "predict", given, "--out", images, *words)

        assert result.exit_code == 1
        assert "bus.jpg: is one of the images to look at, and is never written over" in result.output
    assert {path.name: path.read_bytes() for path in images.iterdir()} == before


def test_a_second_run_leaves_the_drawings_unless_it_is_told(images: Path, tmp_path: Path) -> None:
    words = ("predict", images / "bus.jpg", "--out", tmp_path / "out")
    first = run(tmp_path / "home", *words)
    drawing = (tmp_path / "out" / "bus.jpg").read_bytes()

    again = run(tmp_path / "home", *words)
    told = run(tmp_path / "home", *words, "--overwrite")

    assert (first.exit_code, again.exit_code, told.exit_code) == (0, 1, 0)
    assert "is drawn already (--overwrite" in again.output
    assert (tmp_path / "out" / "bus.jpg").read_bytes() == drawing


def test_json_lines_are_not_written_into_a_photo(images: Path, tmp_path: Path) -> None:
    before = (images / "bus.jpg").read_bytes()

    result = run(tmp_path / "home", "predict", images, "--jsonl", images / "bus.jpg")

    assert result.exit_code == 1
    assert (images / "bus.jpg").read_bytes() == before


def test_a_threshold_of_a_class_counts_and_one_of_no_class_is_named(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABELLOOP_CLASS_THRESHOLDS", "person=0.99,lorry=0.3")

    drawn = run(tmp_path / "home", "predict", images / "bus.jpg", "--out", tmp_path / "out")
    written = run(tmp_path / "home", "predict", images / "bus.jpg", "--jsonl", tmp_path / "x.jsonl")

    assert "LABELLOOP_CLASS_THRESHOLDS: the model has no class lorry (known: person, bicycle, car" in drawn.output
    assert "bus.jpg: 1 bus\n" in drawn.output
    assert "1 of 1" in written.output
    (line,) = map(json.loads, (tmp_path / "x.jsonl").read_text().splitlines())
    assert [found["label"] for found in line["detections"]] == ["bus"]
    assert line["class_thresholds"] == {"person": 0.99, "lorry": 0.3}


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [
        (("--model", ""), 2, "--model: names no model"),
        (("--classes", " ,"), 2, "--classes: names no class"),
        (("--classes", "vase"), 1, "classes vase: only an open-vocabulary model looks for the classes it is told"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(
    words: tuple[str, ...], code: int, problem: str, images: Path, tmp_path: Path
) -> None:
    result = run(tmp_path / "home", "predict", images, "--out", tmp_path / "out", *words)

    assert (result.exit_code, (tmp_path / "out").exists()) == (code, False)
    assert problem in result.output


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("LABELLOOP_MIN_VOTES", "2", "LABELLOOP_MIN_VOTES"),
        ("LABELLOOP_MEMBER_WEIGHTS", "2,1", "LABELLOOP_MEMBER_WEIGHTS"),
        ("LABELLOOP_CLASS_THRESHOLDS", "person", "'person' is not label=number"),
        ("LABELLOOP_FUSION", "soft-nms", "expected one of wbf, nms"),
    ],
)
def test_a_setting_that_would_do_nothing_is_refused(
    key: str, value: str, problem: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(key, value)

    result = run(tmp_path / "home", "predict", images, "--out", tmp_path / "out")

    assert result.exit_code == 1
    assert problem in result.output


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("text.pt", b"hello, this is text", "is no weights file of torch, although its name ends in .pt"),
        ("empty.pt", b"", "the file is empty"),
        ("cut.pt", b"PK\x03\x04 and no end", "the file is broken off, fetch it again"),
        ("bad.xml", b"junk", "is no model of OpenVINO: no XML"),
        ("net.xml", b"<net></net>", "net.bin, which has its numbers, is not beside it"),
        ("foo.txt", b"hello", "no file of weights, by its name"),
        ("folder", None, "a folder without config.json"),
    ],
)
def test_a_file_that_is_no_model_is_one_line_that_says_so(
    name: str, content: bytes | None, problem: str, images: Path, tmp_path: Path
) -> None:
    model = tmp_path / name
    if content is None:
        model.mkdir()
    else:
        model.write_bytes(content)

    result = run(tmp_path / "home", "predict", images, "--out", tmp_path / "out", "--model", model)

    assert result.exit_code == 1
    assert problem in result.output
    assert str(model) in result.output
    assert len(result.output.splitlines()) == 1


def test_the_list_tells_broken_files_and_an_unknown_task_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home" / "models").mkdir(parents=True)
    (tmp_path / "home" / "models" / "mine.pt").write_bytes(b"")

    listed = run(tmp_path / "home", "models", "--task", "unknown")
    refused = run(tmp_path / "home", "models", "--task", "foo")

    assert listed.output.splitlines()[1].endswith("the file is empty")
    assert refused.exit_code == 2
    assert "'foo': expected one of detect, segment, pose, obb, classify, zero_shot, unknown" in refused.output
