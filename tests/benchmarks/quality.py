"""Which check finds which defect, planted in real photos, beside cleanvision in the same run; and images a second.

    uv run --with cleanvision python -m tests.benchmarks.quality FOLDER [--images 128] [--seed 0]

For each defect and strength, half of the photos get it; the AUROC is of telling these from the others by the check's
score. All are written as JPEG of a quality that is drawn for each, so that the writing gives nothing away. Without
cleanvision its columns are left out. Asserts nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import numpy as np
from PIL import Image, ImageEnhance, ImageFilter
from sklearn.metrics import roc_auc_score

from fiftyone_plugins.quality.measuring import compute_scores
from fiftyone_plugins.quality.reading import read_picture
from fiftyone_plugins.quality.scanning import THREADS

Spoil = Callable[[Image.Image], Image.Image]

DEFECTS: dict[str, tuple[str, str | None, Spoil]] = {
    "blur sigma 1": ("blurry", "blurry", lambda image: image.filter(ImageFilter.GaussianBlur(1))),
    "blur sigma 2": ("blurry", "blurry", lambda image: image.filter(ImageFilter.GaussianBlur(2))),
    "blur sigma 6": ("blurry", "blurry", lambda image: image.filter(ImageFilter.GaussianBlur(6))),
    "blur sigma 12": ("blurry", "blurry", lambda image: image.filter(ImageFilter.GaussianBlur(12))),
    "motion blur 9 px": ("blurry", "blurry", lambda image: move(image, 9)),
    "brightness x 0.5": ("dark", "dark", lambda image: ImageEnhance.Brightness(image).enhance(0.5)),
    "brightness x 0.25": ("dark", "dark", lambda image: ImageEnhance.Brightness(image).enhance(0.25)),
    "60 % towards white": ("bright", "light", lambda image: fade(image, "white", 0.6)),
    "80 % towards white": ("bright", "light", lambda image: fade(image, "white", 0.8)),
    "contrast x 0.4": ("low_contrast", "low_information", lambda image: ImageEnhance.Contrast(image).enhance(0.4)),
    "contrast x 0.2": ("low_contrast", "low_information", lambda image: ImageEnhance.Contrast(image).enhance(0.2)),
    "90 % one colour": ("uniform", "low_information", lambda image: cover(image, 0.9)),
    "a fifth of the size": ("low_resolution", "odd_size", lambda image: shrink(image, 5)),
    "a strip of a third": ("odd_aspect", "odd_aspect_ratio", lambda image: cut(image, 3)),
    "grey": ("grayscale", "grayscale", lambda image: image.convert("L")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    paths = sorted(path for path in options.folder.rglob("*.jpg") if path.is_file())[: options.images]
    click.echo(f"{len(paths)} photos of {options.folder}, AUROC of each defect (half of the photos have it)")
    click.echo(f"{'planted':22}{'check':16}{'labelloop':>10}   {'cleanvision':24}")
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, (check, issue, spoil)) in enumerate(DEFECTS.items()):
            target = Path(folder, str(number))
            is_spoilt = write(paths, target, spoil, options.seed)
            files = sorted(target.iterdir())
            ours = [compute_scores(read_picture(file))[check] for file in files]
            # What has no detail at all has no score; such a photo would be looked at first.
            score = roc_auc_score(is_spoilt, [1.0 if one is None else one for one in ours])
            theirs = score_with_cleanvision(target, files, issue)
            told = "" if theirs is None else f"{roc_auc_score(is_spoilt, theirs):.3f} ({issue})"
            click.echo(f"{name:22}{check:16}{score:10.3f}   {told}")
        print_corrupt(paths, Path(folder, "corrupt"), options.seed)
    print_speed(paths)


def write(paths: Sequence[Path], target: Path, spoil: Spoil, seed: int) -> list[bool]:
    """Write the photos, half of them spoilt; return which, in the order of the names."""
    target.mkdir()
    generator = random.Random(seed)
    spoilt = set(generator.sample(range(len(paths)), len(paths) // 2))
    for number, path in enumerate(paths):
        with Image.open(path) as image:
            picture = image.convert("RGB")
        if number in spoilt:
            picture = spoil(picture)
        picture.save(target / f"{number:05}.jpg", quality=generator.randint(75, 95))
    return [number in spoilt for number in range(len(paths))]


def print_corrupt(paths: Sequence[Path], target: Path, seed: int) -> None:
    """Print how many broken files are found, and how many sound ones are called broken."""
    target.mkdir()
    generator = random.Random(seed)
    found = {"cut off": 0, "bytes damaged": 0, "sound": 0}
    for number, path in enumerate(paths):
        content = bytearray(path.read_bytes())
        middle = generator.randrange(len(content) // 3, 2 * len(content) // 3)
        damaged = content[:middle] + generator.randbytes(64) + content[middle + 64 :]
        for kind, written in (("cut off", content[:middle]), ("bytes damaged", damaged), ("sound", content)):
            file = target / f"{number}.jpg"
            file.write_bytes(bytes(written))
            found[kind] += (compute_scores(read_picture(file))["corrupt"] or 0) >= 0.5
    click.echo("corrupt, found of all: " + ", ".join(f"{kind} {count}/{len(paths)}" for kind, count in found.items()))


def score_with_cleanvision(folder: Path, files: Sequence[Path], issue: str | None) -> list[float] | None:
    """Return 1 - cleanvision's score, in the order of the files; None: it is not installed or has no such check."""
    try:
        from cleanvision import Imagelab  # type: ignore[import-not-found]  # only here: no dependency of labelloop
    except ImportError:
        return None
    if issue is None:
        return None
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        lab = Imagelab(data_path=str(folder))
        lab.find_issues({issue: {}}, n_jobs=1)
    scores = lab.issues[f"{issue}_score"]
    return [1 - float(scores[str(file)]) for file in files]


def print_speed(paths: Sequence[Path]) -> None:
    """Print images a second, all checks together, beside cleanvision with as many jobs."""
    for path in paths:
        path.read_bytes()
    started = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda path: compute_scores(read_picture(path)), paths))
    ours = len(paths) / (time.perf_counter() - started)
    click.echo(
        f"images a second, files in memory: labelloop {ours:.0f} ({THREADS} threads, {os.cpu_count()} cores)", nl=False
    )
    try:
        from cleanvision import Imagelab
    except ImportError:
        click.echo("")
        return
    issues: dict[str, dict[str, object]] = {
        name: {} for name in ("blurry", "dark", "light", "grayscale", "odd_aspect_ratio", "low_information", "odd_size")
    }
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        Imagelab(filepaths=[str(path) for path in paths]).find_issues(issues, n_jobs=os.cpu_count())
    click.echo(
        f", cleanvision {len(paths) / (time.perf_counter() - started):.0f} (seven checks, {os.cpu_count()} processes)"
    )


def move(image: Image.Image, length: int) -> Image.Image:
    """Return a picture as a camera sees it that moves sideways."""
    pixels = np.asarray(image, dtype=np.float32)
    moved = np.mean([np.roll(pixels, shift - length // 2, axis=1) for shift in range(length)], axis=0)
    return Image.fromarray(moved.astype(np.uint8))


def fade(image: Image.Image, colour: str, part: float) -> Image.Image:
    return Image.blend(image, Image.new("RGB", image.size, colour), part)


def cover(image: Image.Image, part: float) -> Image.Image:
    """Return a plain picture that shows a corner of a photo."""
    plain = Image.new("RGB", image.size, image.resize((1, 1)).getpixel((0, 0)))
    side = (1 - part) ** 0.5
    plain.paste(image.resize((round(image.width * side), round(image.height * side))), (7, 5))
    return plain


def shrink(image: Image.Image, times: int) -> Image.Image:
    return image.resize((image.width // times, image.height // times))


def cut(image: Image.Image, parts: int) -> Image.Image:
    width, height = image.size
    return image.crop((0, 0, width, height // parts) if width >= height else (0, 0, width // parts, height))


if __name__ == "__main__":
    main()
