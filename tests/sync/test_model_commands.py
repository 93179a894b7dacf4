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
