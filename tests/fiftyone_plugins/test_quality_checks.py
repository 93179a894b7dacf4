"""The checks on pictures whose defect is known, in files of every kind the catalogue takes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from fiftyone_plugins.quality.checks import CHECKS, find_check
from fiftyone_plugins.quality.measuring import compute_scores
from fiftyone_plugins.quality.reading import LONGEST_PX, read_picture
from labels.errors import ItemError, LabelingError

WIDTH, HEIGHT = 320, 200


def make_photo(seed: int = 0) -> Image.Image:
    """Return something with edges, areas, shades and colours, and not square."""
    generator = np.random.default_rng(seed)
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[:] = np.linspace(20, 235, WIDTH)[None, :, None]
    for _ in range(60):
        x, y = generator.integers(0, WIDTH - 40), generator.integers(0, HEIGHT - 30)
        pixels[y : y + generator.integers(8, 30), x : x + generator.integers(8, 40)] = generator.integers(0, 256, 3)
    return Image.fromarray(pixels)


def make_large_photo() -> Image.Image:
    """Return such a photo at the size of a camera's, with the grain that every camera leaves."""
    pixels = np.asarray(make_photo().resize((1200, 750), Image.Resampling.NEAREST)).astype(np.int16)
    grain = np.random.default_rng(7).integers(-25, 26, pixels.shape[:2])
    return Image.fromarray((pixels + grain[:, :, None]).clip(0, 255).astype(np.uint8))


def measure(image: Image.Image, folder: Path, name: str = "photo.jpg", **options: object) -> dict[str, float | None]:
    path = folder / name
    image.save(path, **options)  # type: ignore[arg-type]  # whatever Pillow takes
    return compute_scores(read_picture(path))


def test_every_score_of_a_photo_is_between_0_and_1(tmp_path: Path) -> None:
    scores = measure(make_photo(), tmp_path, quality=92)

    assert list(scores) == list(CHECKS)
    assert all(score is not None and 0 <= score <= 1 for score in scores.values())
    assert (scores["corrupt"], scores["exif_turned"]) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("check", "spoil"),
    [
        ("blurry", lambda image: image.filter(ImageFilter.GaussianBlur(2))),
        ("dark", lambda image: ImageEnhance.Brightness(image).enhance(0.2)),
        ("bright", lambda image: Image.blend(image, Image.new("RGB", image.size, "white"), 0.85)),
        ("low_contrast", lambda image: ImageEnhance.Contrast(image).enhance(0.1)),
        ("low_resolution", lambda image: image.resize((WIDTH // 5, HEIGHT // 5))),
        ("odd_aspect", lambda image: image.crop((0, 0, WIDTH, HEIGHT // 10))),
        ("uniform", lambda image: Image.blend(image, Image.new("RGB", image.size, "navy"), 0.97)),
        ("grayscale", lambda image: image.convert("L")),
    ],
)
def test_a_defect_is_seen_by_its_own_check(tmp_path: Path, check: str, spoil: object) -> None:
    before, after = [], []
    for seed in range(3):
        photo = make_photo(seed)
        before.append(measure(photo, tmp_path, quality=92)[check])
        after.append(measure(spoil(photo), tmp_path, quality=92)[check])  # type: ignore[operator]  # a function

    threshold = find_check(check).threshold or 0.9
    assert all(score is not None and score < threshold for score in before), before
    assert all(score is not None and score >= threshold for score in after), after


@pytest.mark.parametrize("sigma_px", [6, 12])
def test_blur_that_left_only_the_grain_of_the_jpeg_is_blur(tmp_path: Path, sigma_px: int) -> None:
    blurred = make_photo().resize((640, 400)).filter(ImageFilter.GaussianBlur(sigma_px))
    score = measure(blurred, tmp_path, quality=85)["blurry"]

    assert score is not None
    assert score > 0.6


def test_a_plain_colour_has_nothing_that_could_be_sharp(tmp_path: Path) -> None:
    scores = measure(Image.new("RGB", (60, 40), "teal"), tmp_path, "plain.png")

    assert scores["blurry"] is None
    assert scores["uniform"] == 1.0


@pytest.mark.parametrize("name", ["photo.jpg", "photo.png", "photo.webp", "photo.bmp", "photo.tif"])
def test_a_broken_file_is_corrupt_and_nothing_else_is_known_of_it(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    make_photo().save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    assert compute_scores(read_picture(path)) == dict.fromkeys(CHECKS) | {"corrupt": 1.0}


def test_bytes_that_are_damaged_inside_are_half_as_bad_as_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    make_photo().save(path, quality=95)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 40] = np.random.default_rng(1).bytes(40)
    path.write_bytes(bytes(content))

    with Image.open(path) as shown:
        shown.load()  # Pillow shows it as if nothing were wrong
    assert compute_scores(read_picture(path))["corrupt"] == 0.5


def test_a_file_that_is_not_there_is_no_corrupt_image(tmp_path: Path) -> None:
    with pytest.raises(ItemError, match="is no file"):
        read_picture(tmp_path / "gone.jpg")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_only_a_picture_that_exif_turns_is_turned(tmp_path: Path, orientation: int) -> None:
    photo = make_photo()
    exif = photo.getexif()
    exif[0x0112] = orientation
    scores = measure(photo, tmp_path, exif=exif)

    assert scores["exif_turned"] == (0.0 if orientation == 1 else 1.0)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "I", "F"])
def test_pictures_of_every_mode_are_measured(tmp_path: Path, mode: str) -> None:
    pixels: NDArray[np.uint8] = np.asarray(make_photo().convert("L"))
    if mode in ("I;16", "I", "F"):
        kind = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
        image = Image.fromarray(pixels.astype(kind) * 16)
    else:
        image = make_photo().convert(mode)
    scores = measure(image, tmp_path, "odd.tif")

    assert scores["corrupt"] == 0.0
    assert scores["dark"] is not None
    assert scores["dark"] < 0.5


def test_what_is_transparent_shows_white(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (50, 30), (0, 0, 0, 0))

    assert measure(clear, tmp_path, "clear.png")["bright"] == 1.0


def test_a_large_photo_is_measured_at_the_size_of_a_screen(tmp_path: Path) -> None:
    large = make_photo().resize((2400, 1500))
    large.save(tmp_path / "large.jpg", quality=90)
    picture = read_picture(tmp_path / "large.jpg")

    assert picture is not None
    assert (picture.width, picture.height) == (2400, 1500)
    assert picture.rgb.shape == (400, LONGEST_PX, 3)


def test_a_jpeg_of_an_unknown_size_is_decoded_as_pillow_does(tmp_path: Path) -> None:
    written = io.BytesIO()
    make_photo().save(written, "JPEG", quality=95)
    (tmp_path / "photo.jpg").write_bytes(written.getvalue())
    picture = read_picture(tmp_path / "photo.jpg")

    assert picture is not None
    with Image.open(written) as image:
        apart = np.abs(picture.rgb.astype(int) - np.asarray(image.convert("RGB")).astype(int))
    assert apart.mean() < 2


def test_a_check_that_is_not_known_is_refused_with_those_that_are() -> None:
    with pytest.raises(LabelingError, match="check 'fuzzy' is not known \\(known: blurry, dark, "):
        find_check("fuzzy")
