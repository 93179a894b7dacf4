"""Fresh projects on the running servers: dataset, Label Studio project and ledger of their own, filled by hand."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import fiftyone as fo
import httpx
from label_studio_sdk import LabelStudio as Sdk
from PIL import Image

from labels.config import LabelConfig
from labels.geometry import Box, ImageSize
from labels.results import Label
from sync.backend import MLBackend
from sync.catalogue.dataset import Dataset
from sync.catalogue.samples import NewImage, SamplePrediction
from sync.jobs.context import Context, Patience
from sync.ledger import Ledger
from sync.media import link_folder
from sync.settings import Project, read_label_config, read_secret
from sync.workbench.connection import connect_sdk
from sync.workbench.label_studio import LabelStudio
from tests.e2e.conftest import RunningStack
from tests.e2e.real_view import read_view
from tests.fakes.oracle import View
from tests.fakes.people import Annotator
from tests.fakes.project import make_single_boxes

SIZE = ImageSize(120, 80)
MODEL_VERSION = "hand-00000001"
BOXES_PER_IMAGE = 3
# Short: most of these jobs that are ended have sent nothing, and it is in vain.
PATIENCE = Patience(lasts_s=2.0)
_numbers = count()


@dataclass(frozen=True)
class FreshProject:
    """A context of its own, and the SDK to do in Label Studio what an annotator does."""

    context: Context
    sdk: Sdk
    fiftyone: Any

    @property
    def project_id(self) -> int:
        """The project in Label Studio."""
        return self.context.label_studio.project_id

    @property
    def annotator(self) -> Annotator:
        """Somebody at work in Label Studio."""
        return Annotator(self.sdk, self.context.label_studio)

    def view(self) -> View:
        """Return what both tools and the ledger hold now."""
        return read_view(self.context, self.sdk, self.project_id)

    def add_images(self, number: int, model_version: str = MODEL_VERSION) -> list[str]:
        """Add images that nobody has sent, with a predicted box each, and return their sample ids."""
        dataset = self.context.dataset
        known = len(dataset.sample_ids())
        folder = next(iter(dataset.images().values())).path.parent
        paths = write_images(folder / f"more-{known}", number)
        sample_ids = dataset.write_images(
            NewImage(path.resolve(), SIZE, f"{known + index:064x}", path.stat().st_size, "image/png")
            for index, path in enumerate(paths)
        )
        dataset.write_predictions(make_single_boxes(sample_ids, known, model_version))
        return sample_ids

    def task_ids(self) -> dict[str, int]:
        """Return the task of each sample."""
        return {ref.sample_id: ref.task_id for ref in self.context.label_studio.fetch_task_refs() if ref.sample_id}

    def submit(self, task_id: int, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> int:
        """Submit a task's prediction after a change to its regions, and return the annotation's id."""
        (task,) = self.context.label_studio.fetch_tasks([task_id])
        shown = task.predictions[-1]
        regions = change([dict(region) for region in json.loads(json.dumps(list(shown.result)))])
        answer = self.sdk.annotations.create(
            id=task_id, result=regions, parent_prediction=shown.prediction_id, was_cancelled=False, lead_time=4.0
        )
        return int(answer.id)

    def skip(self, task_id: int) -> None:
        """Pass a task on without an answer."""
        self.sdk.annotations.create(id=task_id, result=[], was_cancelled=True)

    def snapshot(self) -> dict[str, str]:
        """Return all that the three databases hold of the project, each as one text."""
        tasks = sorted(
            self.context.label_studio.fetch_tasks(list(self.task_ids().values())), key=lambda one: one.task_id
        )
        documents = list(self.fiftyone._sample_collection.find().sort("_id"))
        return {
            "Label Studio": repr((tasks, self.context.label_studio.fetch_model_version())),
            "ledger": json.dumps(self.context.ledger.snapshot(), sort_keys=True),
            "FiftyOne": repr(documents),
        }


def write_images(folder: Path, number: int) -> list[Path]:
    """Write small pictures that differ and are not square."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in range(number):
        path = folder / f"{index:04d}.png"
        Image.new("RGB", (SIZE.width, SIZE.height), (index % 256, index // 256, 77)).save(path)
        paths.append(path)
    return paths


@contextmanager
def open_fresh_project(
    stack: RunningStack,
    folder: Path,
    *,
    images: int,
    config: LabelConfig | None = None,
    backend: MLBackend | None = None,
    draw: bool = True,
    ledger_folder: Path | None = None,
) -> Iterator[FreshProject]:
    """Open a project with as many images, each with an uncertainty and three predicted boxes of its own.

    ``draw`` False: nothing is predicted. ``ledger_folder``: where the ledger lies, if not beside the images.
    """
    config = config or read_label_config(stack.home)
    # The process id: several test runs may share one stack.
    name = f"fresh-{os.getpid()}-{next(_numbers)}"
    paths = write_images(folder / "images", images)
    link_folder(stack.home, (folder / "images").resolve())
    token = read_secret(stack.home, "label_studio_token") or ""
    http = httpx.Client(timeout=60, trust_env=False, follow_redirects=True)
    sdk = connect_sdk(stack.addresses.label_studio, token, http)
    made = sdk.projects.create(title=name, label_config=config.xml)
    dataset = Dataset.open(name, config)
    sample_ids = dataset.write_images(
        NewImage(path.resolve(), SIZE, hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size, "image/png")
        for path in paths
    )
    if draw:
        dataset.write_predictions(make_predictions(sample_ids))
    with (
        closing(http),
        Ledger.open((ledger_folder or folder) / f"{name}.db") as ledger,
        closing(LabelStudio(stack.addresses.label_studio, token, made.id)) as label_studio,
    ):
        context = Context(
            home=stack.home,
            project=Project(name=name, label_studio_id=made.id),
            config=config,
            ledger=ledger,
            dataset=dataset,
            label_studio=label_studio,
            # Most of these projects are filled by hand and ask no detector.
            backend=backend,  # type: ignore[arg-type]
            patience=PATIENCE,
        )
        yield FreshProject(context, sdk, fo.load_dataset(name))


def make_predictions(sample_ids: list[str]) -> dict[str, SamplePrediction]:
    """Return predictions whose ids, places and uncertainties follow from the order of the samples."""
    predictions = {}
    for index, sample_id in enumerate(sample_ids):
        boxes = tuple(
            Label(
                f"{index:012x}{number:012x}",
                "label",
                ("car",),
                Box(5.0 + 30 * number + index / 7, 4.0 + index / 3, 20.0, 11.5),
                confidence=0.5 + number / 10,
            )
            for number in range(BOXES_PER_IMAGE)
        )
        predictions[sample_id] = SamplePrediction(MODEL_VERSION, index / 100, boxes)
    return predictions
