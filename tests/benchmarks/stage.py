"""What the benchmark of sync plays with: real photos, seeded boxes, a person who annotates, and two ways to sync them.

Nothing here is timed or printed. FiftyOne is imported inside functions only: it reads its settings once, so the address
of the database has to be in the environment before.
"""

from __future__ import annotations

import importlib.util
import os
import random
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import requests
from PIL import Image

from labels import fields
from labels.config import LabelConfig, default_label_config_path
from labels.geometry import Box, ImageSize
from labels.report import Report
from labels.results import Label
from sync.catalogue.samples import SamplePrediction
from sync.jobs.context import Context, connect_backend, open_dataset
from sync.jobs.datasets.ingest import ingest
from sync.ledger import Ledger
from sync.media import link_folder
from sync.services.bootstrap import bootstrap
from sync.services.programs import StackSettings
from sync.services.stack_record import Addresses
from sync.settings import Home, Project
from sync.workbench.label_studio import LabelStudio

PHOTOS: Final = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
SIZES: Final = (ImageSize(240, 160), ImageSize(160, 240), ImageSize(256, 144))
MODEL_VERSION: Final = "seeded-1"
ANNOTATION_KEY: Final = "benchmark"
TIMEOUT_S: Final = 120.0
TASKS_PER_PAGE: Final = 200


@dataclass(frozen=True)
class Material:
    """Images in a folder, and what a detector is made to have said of each, by file name."""

    folder: Path
    sizes: Mapping[str, ImageSize]
    predictions: Mapping[str, SamplePrediction]

    @property
    def names(self) -> list[str]:
        return sorted(self.predictions)

    @property
    def box_count(self) -> int:
        return sum(len(prediction.labels) for prediction in self.predictions.values())


def write_material(folder: Path, config: LabelConfig, *, images: int, seed: int) -> Material:
    """Write windows of packaged photos as JPEG files of a few kilobytes, none of them square; 3 to 7 boxes for each."""
    rng = random.Random(seed)
    spec = importlib.util.find_spec("skimage")
    assert spec is not None
    assert spec.origin is not None
    photos = [Image.open(Path(spec.origin).parent / "data" / name).convert("RGB") for name in PHOTOS]
    folder.mkdir(parents=True)
    sizes, predictions = {}, {}
    for number in range(images):
        name, size, photo = f"photo_{number:06}.jpg", SIZES[number % len(SIZES)], photos[number % len(photos)]
        left, top = rng.randrange(photo.width - size.width), rng.randrange(photo.height - size.height)
        window = photo.crop((left, top, left + size.width, top + size.height))
        window.save(folder / name, quality=80)
        sizes[name] = size
        predictions[name] = _make_prediction(rng, config, size)
    return Material(folder.resolve(), sizes, predictions)


def _make_prediction(rng: random.Random, config: LabelConfig, size: ImageSize) -> SamplePrediction:
    control = config.box_control
    assert control is not None
    labels = []
    for _ in range(rng.randint(3, 7)):
        # To the right and below stays room, so that a person can move each box a little.
        x, y = rng.uniform(0, 0.5), rng.uniform(0, 0.5)
        box = Box.from_relative((x, y, rng.uniform(0.1, 0.4), rng.uniform(0.1, 0.4)), size)
        name = rng.choice(control.classes)
        labels.append(Label(f"{rng.getrandbits(96):024x}", control.name, (name,), box, confidence=rng.uniform(0.2, 1)))
    return SamplePrediction(MODEL_VERSION, rng.random(), tuple(labels))


@dataclass(frozen=True)
class Server:
    """The running Label Studio, and both tokens of its user."""

    home: Home
    settings: StackSettings
    addresses: Addresses
    token: str
    legacy_token: str

    @property
    def url(self) -> str:
        return self.addresses.label_studio


def allow_legacy_token(url: str, token: str) -> str:
    """Turn the old kind of token on in Label Studio, which FiftyOne's integration needs, and return it."""
    with requests.Session() as session:
        session.trust_env = False
        answer = session.post(f"{url}/api/token/refresh/", json={"refresh": token}, timeout=TIMEOUT_S)
        answer.raise_for_status()
        session.headers["Authorization"] = f"Bearer {answer.json()['access']}"
        settings = {"api_tokens_enabled": True, "legacy_api_tokens_enabled": True}
        session.post(f"{url}/api/jwt/settings", json=settings, timeout=TIMEOUT_S).raise_for_status()
        answer = session.get(f"{url}/api/current-user/token", timeout=TIMEOUT_S)
        answer.raise_for_status()
        return str(answer.json()["token"])


@contextmanager
def open_ours(server: Server, material: Material, name: str) -> Iterator[Context]:
    """Make a project, dataset and ledger of this name with all images and predictions in it, nothing sent yet."""
    settings = replace(server.settings, project_title=name)
    workbench = bootstrap(server.home, settings, server.addresses, project_id=None)
    project = Project(name=name, label_studio_id=workbench.project_id)
    config = LabelConfig.read(default_label_config_path())
    with Ledger.open(server.home.path / f"{name}.db") as ledger:
        context = Context(
            home=server.home,
            project=project,
            config=config,
            ledger=ledger,
            dataset=open_dataset(name, config, server.addresses.database_uri),
            label_studio=LabelStudio(server.url, server.token, workbench.project_id),
            backend=connect_backend(server.home, server.addresses.ml_backend),
        )
        ingest(context, material.folder)
        images = context.dataset.images()
        context.dataset.write_predictions(
            {sample_id: material.predictions[image.path.name] for sample_id, image in images.items()}
        )
        yield context


class Peer:
    """FiftyOne's own integration with Label Studio, in its local-files mode: no image travels."""

    def __init__(self, server: Server, material: Material, name: str) -> None:
        import fiftyone as fo

        self._server = server
        self._name = name
        self._classes = list(_box_classes())
        folder = server.home.images / link_folder(server.home, material.folder)
        self._dataset = fo.Dataset(name, persistent=True)
        samples = []
        for file in material.names:
            size = material.sizes[file]
            sample = fo.Sample(
                filepath=str(folder / file),
                metadata=fo.ImageMetadata(width=size.width, height=size.height, mime_type="image/jpeg"),
            )
            detections = [
                fo.Detection(label=one.class_name, bounding_box=_relative(one, size), confidence=one.confidence)
                for one in material.predictions[file].labels
            ]
            sample[fields.PREDICTIONS] = fo.Detections(detections=detections)
            samples.append(sample)
        self._dataset.add_samples(samples, progress=False)
        # Its client decides by these two whether files are uploaded.
        os.environ["LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED"] = "true"
        os.environ["LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT"] = str(server.home.media)

    def upload(self) -> int:
        """Send all samples with their boxes and return the id of the project that was made for them."""
        results = self._dataset.annotate(
            ANNOTATION_KEY,
            backend="labelstudio",
            label_field=fields.PREDICTIONS,
            label_type="detections",
            classes=self._classes,
            project_name=self._name,
            url=self._server.url,
            api_key=self._server.legacy_token,
            launch_editor=False,
        )
        return int(results.project_id)

    def load(self) -> None:
        """Bring back what is in Label Studio now."""
        self._dataset.load_annotations(
            ANNOTATION_KEY, url=self._server.url, api_key=self._server.legacy_token, unexpected="ignore"
        )

    def positions(self) -> dict[str, list[float]]:
        """Return the left edges of all boxes by file name, to see what a load has changed."""
        paths = ["filepath", f"{fields.PREDICTIONS}.detections.bounding_box"]
        names, boxes = self._dataset.values(paths)
        return {Path(name).name: [box[0] for box in found] for name, found in zip(names, boxes, strict=True)}


def _box_classes() -> tuple[str, ...]:
    control = LabelConfig.read(default_label_config_path()).box_control
    assert control is not None
    return control.classes


def _relative(label: Label, size: ImageSize) -> list[float]:
    assert isinstance(label.geometry, Box)
    return list(label.geometry.to_relative(size))


def annotate(server: Server, project_id: int, names: Collection[str]) -> None:
    """Answer the tasks of these files as a person does: submit the prediction, or change the answer that is there.

    Each time the first box lies one percent of the width further to the right.

    Raises:
        requests.HTTPError: Label Studio refused.
    """
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = f"Token {server.legacy_token}"
        for task in list(_fetch_tasks(session, server.url, project_id)):
            if task["data"]["image"].rpartition("/")[2] not in names:
                continue
            if task["annotations"]:
                (present,) = task["annotations"]
                path, change = f"/api/annotations/{present['id']}/", session.patch
                body: dict[str, Any] = {"result": _moved(present["result"])}
            else:
                (shown,) = task["predictions"]
                path, change = f"/api/tasks/{task['id']}/annotations/", session.post
                body = {"result": _moved(shown["result"]), "parent_prediction": shown["id"], "lead_time": 4.2}
            change(server.url + path, json=body, timeout=TIMEOUT_S).raise_for_status()


def accept_rest(server: Server, project_id: int) -> None:
    """Accept the predictions of all tasks without an answer as they are, as an action of Label Studio's list does."""
    headers = {"Authorization": f"Token {server.legacy_token}"}
    with requests.Session() as session:
        session.trust_env = False
        session.post(
            f"{server.url}/api/dm/actions",
            params={"id": "predictions_to_annotations", "project": str(project_id)},
            json={"selectedItems": {"all": True, "excluded": []}},
            headers=headers,
            timeout=TIMEOUT_S,
        ).raise_for_status()


def _fetch_tasks(session: requests.Session, url: str, project_id: int) -> Iterator[dict[str, Any]]:
    page, seen, total = 1, 0, 1
    while seen < total:
        wanted: dict[str, Any] = {"project": project_id, "fields": "all", "page": page, "page_size": TASKS_PER_PAGE}
        answer = session.get(f"{url}/api/tasks", params=wanted, timeout=TIMEOUT_S)
        answer.raise_for_status()
        tasks, total = answer.json()["tasks"], answer.json()["total"]
        yield from tasks
        page, seen = page + 1, seen + len(tasks)


def _moved(result: list[dict[str, Any]]) -> list[dict[str, Any]]:
    first, *others = result
    return [{**first, "value": {**first["value"], "x": first["value"]["x"] + 1}}, *others]


def expect_moved(report: Report, count: int) -> None:
    """Raise unless the job did all of what was asked of it: the speed of a job that failed is no figure."""
    if report.moved != count or report.failed or report.conflicts:
        raise RuntimeError(f"{report.job}: expected {count} moved and no failures, got {report.to_dict()}")
