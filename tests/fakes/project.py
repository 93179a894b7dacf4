"""A whole project in memory: both tools are fakes, the ledger is a real one."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from labels.config import LabelConfig
from labels.geometry import Box, ImageSize
from labels.results import Label
from sync.catalogue.samples import NewImage, SamplePrediction
from sync.jobs.context import Context, Patience
from sync.ledger import Ledger
from sync.settings import Home, Project
from tests.fakes.backend import FakeBackend
from tests.fakes.clock import FakeClock
from tests.fakes.dataset import FakeDataset
from tests.fakes.label_studio import FakeServer, open_fake
from tests.fakes.model import said_by_labels
from tests.fakes.oracle import View
from tests.fakes.people import Annotator

SIZE = ImageSize(120, 80)
CONFIG = LabelConfig.from_xml(
    """<View><Image name="image" value="$image"/>
    <RectangleLabels name="label" toName="image">
      <Label value="car"/><Label value="dog"/><Label value="bus"/>
    </RectangleLabels>
    <PolygonLabels name="outline" toName="image"><Label value="lake"/></PolygonLabels>
    <Choices name="quality" toName="image"><Choice value="keep"/><Choice value="trash"/></Choices>
    <Rating name="stars" toName="image" maxRating="5"/></View>"""
)
MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class FakeProject:
    """A context on fakes, and the people at both ends."""

    context: Context
    server: FakeServer
    dataset: FakeDataset
    backend: FakeBackend
    annotator: Annotator

    @property
    def sample_ids(self) -> list[str]:
        """The samples in their order."""
        return self.dataset.sample_ids()

    def task_ids(self) -> dict[str, int]:
        """Return the task of each sample."""
        return {ref.sample_id: ref.task_id for ref in self.context.label_studio.fetch_task_refs() if ref.sample_id}

    def add_images(self, number: int, model_version: str) -> list[str]:
        """Add images that nobody has sent, with a predicted box each, and return their sample ids."""
        known = len(self.sample_ids)
        folder = self.context.home.images
        sample_ids = self.dataset.write_images(
            _write_image(folder / f"{known + index:04}.png", SIZE) for index in range(number)
        )
        self.context.dataset.write_predictions(make_single_boxes(sample_ids, known, model_version))
        return sample_ids

    def view(self) -> View:
        """Return what both tools and the ledger hold now."""
        labels = {key: self.dataset.said(key) for key in self.sample_ids}
        return View(
            tasks=[(task_id, task["data"]["sample_id"]) for task_id, task in self.server.tasks.items()],
            annotations=self.server.annotations,
            predictions=[
                (row["task"], row["model_version"])
                for row in self.server.predictions.values()
                if not row.get("by_server")
            ],
            held={key: None if said is None else said_by_labels(said.labels) for key, said in labels.items()},
            label_ids={key: [label.id for label in said.labels] for key, said in labels.items() if said},
            silent={key: None if said is None else said.silent for key, said in labels.items()},
            states={key: sample.state.review_state for key, sample in self.dataset.samples.items()},
            links=self.context.ledger.links(),
            conflicts=self.context.ledger.conflicts(),
            unsized=[key for key, sample in self.dataset.samples.items() if sample.size is None],
        )


def make_single_boxes(sample_ids: Sequence[str], first: int, model_version: str) -> dict[str, SamplePrediction]:
    """Return predictions of one box each, with ids that count from ``first``."""
    boxes = {
        one: Label(f"e{first:011x}{index:012x}", "label", ("dog",), Box(3, 4, 20, 11), confidence=0.5)
        for index, one in enumerate(sample_ids)
    }
    return {one: SamplePrediction(model_version, 0.5, (box,)) for one, box in boxes.items()}


@contextmanager
def open_fake_project(*, images: int, config: LabelConfig = CONFIG, size: ImageSize = SIZE) -> Iterator[FakeProject]:
    """Open a project of as many images, nothing drawn and nothing sent; its files are gone at the end."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as scratch:
        home = Home(Path(scratch))
        home.images.mkdir(parents=True)
        clock = FakeClock()
        server, dataset = FakeServer(clock), FakeDataset(config, clock)
        dataset.write_images(_write_image(home.images / f"{number:04}.png", size) for number in range(images))
        backend = FakeBackend(config, size)
        label_studio: Any = open_fake(server)
        fake: Any = dataset
        with Ledger.open(home.ledger) as ledger:
            context = Context(
                home=home,
                project=Project(name="fake", label_studio_id=1),
                config=config,
                ledger=ledger,
                dataset=fake,
                label_studio=label_studio,
                backend=backend,
                patience=Patience(now=clock.now, sleep=clock.sleep),
            )
            yield FakeProject(context, server, dataset, backend, Annotator(label_studio._sdk, label_studio))


def _write_image(path: Path, size: ImageSize) -> NewImage:
    Image.new("RGB", (size.width, size.height)).save(path)
    return NewImage(path, size, hashlib.sha256(path.name.encode()).hexdigest(), path.stat().st_size, "image/png")
