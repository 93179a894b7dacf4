"""Pictures that no perceptual hash takes for each other, and projects whose images are such."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from labels.config import LabelConfig
from labels.geometry import Box, ImageSize
from labels.results import Label
from sync.jobs.exchange.push import push
from tests.fakes.project import CONFIG, SIZE, FakeProject, open_fake_project

CELLS = 8


def draw_picture(number: int, size: ImageSize = SIZE) -> Image.Image:
    """Return a picture of coarse random patches, another one for each number."""
    cells = np.random.default_rng(number).integers(0, 256, (CELLS, CELLS, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize((size.width, size.height), Image.Resampling.BICUBIC)


def write_picture(path: Path, number: int, size: ImageSize = SIZE, **options: object) -> str:
    """Write a picture and return the SHA-256 of its file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_picture(number, size).save(path, **options)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def box(number: int, name: str = "car") -> Label:
    """Return a box with an id and a place of its own."""
    return Label(f"{number:024x}", "label", (name,), Box(10 + number % 40, 5, 30, 20))


def show(project: FakeProject, number: int, picture: int) -> None:
    """Put a picture in the place of a sample's image."""
    sample = project.dataset.samples[project.sample_ids[number]]
    sha256 = write_picture(sample.image.path, picture)
    byte_count = sample.image.path.stat().st_size
    sample.image = replace(sample.image, sha256=sha256, byte_count=byte_count)


@contextmanager
def open_reviewed(
    labels: Sequence[Sequence[Label]], *, pictures: Sequence[int] | None = None, config: LabelConfig = CONFIG
) -> Iterator[FakeProject]:
    """Open a project with as many images, each with these labels, which count as reviewed."""
    with open_fake_project(images=len(labels), config=config) as project:
        for number in range(len(labels)):
            show(project, number, number if pictures is None else pictures[number])
        said = dict(zip(project.sample_ids, labels, strict=True))
        project.context.dataset.write_labels(said)
        push(project.context)
        yield project
