"""Prints how long exports take beside FiftyOne's own exporters on the same dataset, and reading them back.

    uv run python -m tests.benchmarks.exports --images 10000

Starts a MongoDB of its own in a temporary folder, and fills a dataset with JPEG files of random patches, five reviewed
boxes each. Images are referenced (``--images none``), not copied. Ours is the whole job: choosing what is reviewed,
freezing a version with splits and the search for images that look alike, and writing; the first export looks at every
image once, the later ones do not. FiftyOne exports all labels of the dataset. Boxes that both wrote are compared.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
from PIL import Image

from labels import fields
from labels.config import LabelConfig, default_label_config_path
from labels.geometry import Box, ImageSize
from labels.results import Label
from sync.catalogue.samples import NewImage
from sync.imports.fitting import Classes, fit_labels
from sync.imports.formats import read_labels
from sync.jobs.context import Context, open_dataset
from sync.jobs.datasets.export import export
from sync.ledger import Ledger, Link, Review
from sync.services.mongod import find_mongod, to_database_uri, to_mongod_argv
from sync.services.ports import find_free_port, is_free
from sync.settings import Home, Project

SIZE: Final = ImageSize(320, 240)
BOXES: Final = 5
FORMATS: Final = ("coco", "yolo")
TOLERANCE: Final = 0.001

BoxRow = tuple[str, str, tuple[float, ...]]
"""Image, class and place: pixels of COCO, shares of the image of YOLO."""


@contextmanager
def run_mongod(folder: Path) -> Iterator[str]:
    """Run a MongoDB in a folder, and give its address."""
    port = find_free_port()
    folder.mkdir()
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(to_mongod_argv(find_mongod(), data=folder, port=port, cache_gb=0.5), stdout=log)
    try:
        while is_free(port):
            time.sleep(0.05)
        yield to_database_uri(port)
    finally:
        server.terminate()
        server.wait(30)


def make_images(folder: Path, count: int) -> list[NewImage]:
    """Write pictures that all look different."""
    folder.mkdir(parents=True)
    made = []
    for number in range(count):
        cells = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        path = folder / f"{number:06}.jpg"
        Image.fromarray(cells).resize((SIZE.width, SIZE.height), Image.Resampling.BICUBIC).save(path, quality=80)
        content = path.read_bytes()
        made.append(NewImage(path, SIZE, hashlib.sha256(content).hexdigest(), len(content), "image/jpeg"))
    return made


def make_boxes(number: int, config: LabelConfig) -> list[Label]:
    chance = random.Random(number)
    assert config.box_control is not None
    return [
        Label(
            f"{number:012x}{place:012x}",
            config.box_control.name,
            (chance.choice(config.region_classes),),
            Box(chance.uniform(0, 200), chance.uniform(0, 150), chance.uniform(5, 100), chance.uniform(5, 80)),
        )
        for place in range(BOXES)
    ]


def fill(context: Context, count: int) -> None:
    """Add images whose labels were reviewed, as the ledger and the catalogue know it after a pull."""
    dataset = context.dataset
    images = make_images(context.home.images / "photos", count)
    sample_ids = dataset.write_images(images)
    labels = {key: make_boxes(number, context.config) for number, key in enumerate(sample_ids)}
    dataset.write_labels(labels)
    links = [Link(key, number, images[number].sha256, None, fields.REVIEWED) for number, key in enumerate(sample_ids)]
    context.ledger.record_links(links)
    context.ledger.record_reviews(
        Review(
            key,
            number,
            number,
            "2026-01-02T03:04:05Z",
            "ana@example.org",
            9.5,
            fields.REVIEWED,
            tuple(labels[key]),
            (),
            model_version="seeded-1",
        )
        for number, key in enumerate(sample_ids)
    )


@dataclass(frozen=True)
class Took:
    """Seconds of the clock, and of this process's own work: the latter count where other work runs beside it."""

    wall_s: float
    cpu_s: float

    def __str__(self) -> str:
        return f"{self.wall_s:7.1f} s ({self.cpu_s:6.1f} s of work)"

    def ratio(self, other: Took) -> str:
        """Return how many times as long the other one took."""
        return f"{other.wall_s / self.wall_s:5.1f} x ({other.cpu_s / self.cpu_s:5.1f} x of work)"


def timed(call: Callable[[], Any]) -> tuple[Took, Any]:
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    answer = call()
    return Took(time.perf_counter() - wall_s, time.process_time() - cpu_s), answer


def export_with_fiftyone(context: Context, name: str, folder: Path) -> None:
    import fiftyone as fo

    dataset = fo.load_dataset(context.dataset.name)
    classes = list(context.config.region_classes)
    if name == "coco":
        dataset.export(
            dataset_type=fo.types.COCODetectionDataset,
            labels_path=str(folder / "labels.json"),
            label_field="ground_truth",
            classes=classes,
            abs_paths=True,
        )
        return
    dataset.export(
        export_dir=str(folder),
        dataset_type=fo.types.YOLOv5Dataset,
        label_field="ground_truth",
        classes=classes,
        export_media=False,
        split="train",
    )


def read_with_fiftyone(name: str, folder: Path) -> int:
    from fiftyone.utils.coco import COCODetectionDatasetImporter
    from fiftyone.utils.yolo import YOLOv5DatasetImporter

    if name == "coco":
        importer: Any = COCODetectionDatasetImporter(
            labels_path=str(folder / "labels.json"), label_types="detections", include_annotation_id=False
        )
        with importer:
            return sum(len(label.detections) for _, _, label in importer if label)
    count = 0
    for split in ("train", "val", "test"):
        importer = YOLOv5DatasetImporter(str(folder), yaml_path="data.yaml", split=split)
        with importer:
            count += sum(len(label.detections) for _, _, label in importer if label)
    return count


def read_with_ours(context: Context, name: str, folder: Path) -> int:
    classes, taken = Classes(context.config), set[str]()
    found = read_labels(folder, context.config, name=name)
    return sum(
        len(fit_labels(image, SIZE, classes, image_sha256=image.name, taken=taken).labels) for image in found.images
    )


def read_boxes(name: str, folder: Path) -> list[BoxRow]:
    """Return every box that a folder holds."""
    if name == "coco":
        content = json.loads((folder / "labels.json").read_text())
        images = {one["id"]: Path(one["file_name"]).stem for one in content["images"]}
        names = {one["id"]: one["name"] for one in content["categories"]}
        return [
            (images[one["image_id"]], names[one["category_id"]], tuple(one["bbox"])) for one in content["annotations"]
        ]
    rows: list[BoxRow] = []
    for path in (folder / "labels").rglob("*.txt"):
        for line in path.read_text().splitlines():
            number, *values = line.split()
            # Ours adds digits of the path to a name.
            rows.append((path.stem.partition("-")[0], number, tuple(map(float, values))))
    return rows


def link_images(context: Context, folder: Path) -> None:
    """Put links to the images where a YOLO folder expects them: FiftyOne's importer looks for them."""
    names = {Path(one.path).stem: one.path for one in context.dataset.images().values()}
    for path in (folder / "labels").rglob("*.txt"):
        target = folder / "images" / path.parent.name / f"{path.stem}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(names[path.stem.partition("-")[0]])


def measure(context: Context, scratch: Path, name: str) -> None:
    ours, theirs = scratch / f"ours-{name}", scratch / f"theirs-{name}"
    first, _ = timed(lambda: export(context, export_format=name, out_dir=ours, images_mode="none"))
    again, _ = timed(lambda: export(context, export_format=name, out_dir=ours, images_mode="none"))
    version, _ = timed(lambda: export(context, export_format=name, out_dir=ours, images_mode="none", version="latest"))
    other, _ = timed(lambda: export_with_fiftyone(context, name, theirs))
    click.echo(f"{name}: FiftyOne's exporter      {other}")
    for title, took in (("ours, first", first), ("ours, again", again), ("ours, a version", version)):
        click.echo(f"{name}: {title:24} {took}   {took.ratio(other)}")
    mine, others = read_boxes(name, ours), read_boxes(name, theirs)
    click.echo(f"{name}: boxes {len(mine)} and {len(others)}, {count_same(mine, others)} of them the same")
    if name == "yolo":
        link_images(context, ours)
    back, count = timed(lambda: read_with_ours(context, name, ours))
    other_back, other_count = timed(lambda: read_with_fiftyone(name, ours))
    click.echo(f"{name}: reading, FiftyOne        {other_back} {other_count} boxes")
    click.echo(f"{name}: reading, ours            {back} {count} boxes   {back.ratio(other_back)}")


def count_same(mine: list[BoxRow], others: list[BoxRow]) -> int:
    """Return how many boxes both have, of one image and class, to within the tolerance."""
    return sum(
        a[:2] == b[:2] and max(abs(x - y) for x, y in zip(a[2], b[2], strict=True)) <= TOLERANCE
        for a, b in zip(sorted(mine), sorted(others), strict=False)
    )


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--images", default=10_000, type=click.IntRange(min=10), help="Images, with five boxes each.")
def main(images: int) -> None:
    """Print how long exports take beside FiftyOne's.

    Example: uv run python -m tests.benchmarks.exports --images 10000
    """
    with tempfile.TemporaryDirectory(prefix="labelloop-") as folder:
        scratch = Path(folder)
        with run_mongod(scratch / "mongodb") as uri:
            os.environ["FIFTYONE_DATABASE_URI"] = uri
            config = LabelConfig.read(default_label_config_path())
            home = Home(scratch / "home")
            home.make()
            with Ledger.open(home.ledger) as ledger:
                nothing: Any = None
                context = Context(
                    home,
                    Project(name="exports"),
                    config,
                    ledger,
                    open_dataset("exports", config, uri),
                    nothing,
                    nothing,
                )
                filled, _ = timed(lambda: fill(context, images))
                click.echo(f"{images} images, {images * BOXES} boxes, filled in {filled.wall_s:.0f} s", err=True)
                for name in FORMATS:
                    measure(context, scratch, name)


if __name__ == "__main__":
    main()
