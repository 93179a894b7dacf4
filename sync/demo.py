"""The demo's pictures: photos that come inside installed packages, and some made from them.

Nothing is downloaded. The derived ones are there so that every part of labelloop has something to find: crops, a
blurred one, a dark one, a resized one, a byte-identical one, one stored lying on its side, one in a format browsers
do not show, and a broken file. The same packages give the same files.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from PIL import Image, ImageEnhance, ImageFilter

from labels.errors import LabelingError

PHOTOS: Final[Mapping[str, tuple[str, ...]]] = {
    "ultralytics/assets": ("bus.jpg", "zidane.jpg"),
    "skimage/data": (
        "astronaut.png",
        "chelsea.png",
        "coffee.png",
        "motorcycle_left.png",
        "motorcycle_right.png",
        "rocket.jpg",
        "camera.png",
    ),
    "sklearn/datasets/images": ("china.jpg", "flower.jpg"),
}
ORIENTATION_TAG: Final = 0x0112
TURNED_LEFT: Final = 8


def write_demo_images(folder: Path) -> list[Path]:
    """Write the demo's pictures and return their paths; files that are there stay as they are.

    Raises:
        LabelingError: a package that should hold a photo does not.
    """
    photos = folder / "photos"
    photos.mkdir(parents=True, exist_ok=True)
    for place, names in PHOTOS.items():
        for name in names:
            _copy(_find(place, name), photos / name)
    derived = folder / "derived"
    derived.mkdir(exist_ok=True)
    for name, write in DERIVED.items():
        target = derived / name
        if not target.exists():
            part = target.with_name(f".{name}.part")
            write(photos, part)
            part.replace(target)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _find(place: str, name: str) -> Path:
    package, _, inside = place.partition("/")
    found = importlib.util.find_spec(package)
    for root in (found.submodule_search_locations or ()) if found is not None else ():
        path = Path(root, inside, name)
        if path.is_file():
            return path
    raise LabelingError(f"the demo's photo {name} is not in the package {package}; run: uv sync")


def _copy(source: Path, target: Path) -> None:
    if not target.exists():
        part = target.with_name(f".{target.name}.part")
        shutil.copyfile(source, part)
        part.replace(target)


def _save_jpeg(picture: Image.Image, target: Path, orientation: int | None = None) -> None:
    exif = Image.Exif()
    if orientation is not None:
        exif[ORIENTATION_TAG] = orientation
    picture.convert("RGB").save(target, "JPEG", quality=90, exif=exif)


def _crop(name: str, left: float, top: float, right: float, bottom: float) -> Callable[[Path, Path], None]:
    def write(photos: Path, target: Path) -> None:
        with Image.open(photos / name) as photo:
            width, height = photo.size
            box = (round(left * width), round(top * height), round(right * width), round(bottom * height))
            _save_jpeg(photo.crop(box), target)

    return write


def _blur(photos: Path, target: Path) -> None:
    with Image.open(photos / "bus.jpg") as photo:
        _save_jpeg(photo.filter(ImageFilter.GaussianBlur(8)), target)


def _darken(photos: Path, target: Path) -> None:
    with Image.open(photos / "motorcycle_left.png") as photo:
        _save_jpeg(ImageEnhance.Brightness(photo.convert("RGB")).enhance(0.2), target)


def _resize(photos: Path, target: Path) -> None:
    with Image.open(photos / "zidane.jpg") as photo:
        _save_jpeg(photo.resize((photo.width // 2, photo.height // 2)), target)


def _lay_on_side(photos: Path, target: Path) -> None:
    # Stored as a camera held upright stores it: pixels on their side, and a tag that says how to turn them.
    with Image.open(photos / "zidane.jpg") as photo:
        _save_jpeg(photo.transpose(Image.Transpose.ROTATE_270), target, orientation=TURNED_LEFT)


def _convert_to_tiff(photos: Path, target: Path) -> None:
    with Image.open(photos / "chelsea.png") as photo:
        photo.save(target, "TIFF")


def _break_off(photos: Path, target: Path) -> None:
    content = (photos / "bus.jpg").read_bytes()
    target.write_bytes(content[: len(content) // 3])


DERIVED: Final[Mapping[str, Callable[[Path, Path], None]]] = {
    "bus_left_half.jpg": _crop("bus.jpg", 0, 0.1, 0.6, 1),
    "bus_right_half.jpg": _crop("bus.jpg", 0.4, 0.1, 1, 1),
    "astronaut_portrait.jpg": _crop("astronaut.png", 0.1, 0, 0.75, 0.6),
    "coffee_cup.jpg": _crop("coffee.png", 0.1, 0.1, 0.8, 1),
    "zidane_pair.jpg": _crop("zidane.jpg", 0.3, 0, 1, 1),
    "bus_blurred.jpg": _blur,
    "motorcycle_dark.jpg": _darken,
    "zidane_small.jpg": _resize,
    "zidane_on_its_side.jpg": _lay_on_side,
    "bus_again.jpg": lambda photos, target: _copy(photos / "bus.jpg", target),
    "chelsea.tif": _convert_to_tiff,
    "broken.jpg": _break_off,
}
