"""What the ML backend's tests share: a tiny label config, a detector that needs no model, and the real one."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image as PillowImage

from ml_backend.detectors import Detections, Detector, Image
from ml_backend.models.building import build_detector
from ml_backend.models.weights import Weights, resolve_weights
from ml_backend.serving.app import create_app
from ml_backend.serving.engine import Engine
from ml_backend.serving.holding import ModelHolder
from ml_backend.serving.metrics import Metrics
from ml_backend.serving.served import ServedModel
from ml_backend.settings import Settings

CONFIG = """
<View>
  <RectangleLabels name="label" toName="image">
    <Label value="Car" predicted_values="truck,van"/>
    <Label value="Person"/>
    <Label value="Forklift"/>
  </RectangleLabels>
  <Image name="image" value="$image"/>
</View>
"""


class FakeDetector:
    """Finds the same in every image; fails on an image whose first pixel is pure red."""

    names: Mapping[int, str] = {0: "car", 1: "truck", 2: "zebra", 3: "PERSON"}
    task = "detect"
    licence = "none"

    def __init__(self, found: Detections) -> None:
        self.found = found
        self.batches: list[int] = []
        self.before_each: Callable[[], object] = lambda: None

    def detect(self, images: Sequence[Image], *, score_floor: float) -> list[Detections]:
        self.before_each()
        self.batches.append(len(images))
        if any(tuple(image[0, 0]) == (255, 0, 0) for image in images):
            raise RuntimeError("broken at /secret/path")
        return [self.found.select(self.found.scores > score_floor) for _ in images]


def make_detections(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    """Rows are x1, y1, x2, y2, score, class id."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(table[:, :4].astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(np.int64))


@pytest.fixture
def detections() -> Callable[..., Detections]:
    return make_detections


@pytest.fixture
def config_xml() -> str:
    return CONFIG


@pytest.fixture
def fake() -> FakeDetector:
    return FakeDetector(
        make_detections(
            (10, 20, 50, 60, 0.75, 0),  # a car
            (0, 0, 30, 40, 0.5, 1),  # a truck, which the config takes for a car
            (5, 5, 9, 9, 0.5, 2),  # a zebra, which the config does not know
            (60, 10, 80, 90, 0.25, 3),  # a person
            (60, 10, 70, 20, 0.125, 3),  # below the default threshold
        )
    )


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    media_root = tmp_path / "media"
    (media_root / "images").mkdir(parents=True)
    return Settings(models_dir=tmp_path / "models", media_root=media_root, batch_size=4)


@pytest.fixture
def save_image(settings: Settings) -> Callable[..., str]:
    """Save an image under the media root and return the address its task carries."""

    def save(name: str, image: PillowImage.Image | bytes | None = None) -> str:
        content = image if isinstance(image, bytes) else encode(image or PillowImage.new("RGB", (100, 50), "blue"))
        path = settings.media_root / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return f"/data/local-files/?d=images/{name}"

    return save


def encode(image: PillowImage.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def make_holder(settings: Settings, detector: Detector) -> ModelHolder:
    """Hold a detector as the model "w-12345678", which is there at once."""
    holder = ModelHolder(
        lambda name, announce: ServedModel(settings, detector, version="w-12345678", source="path"), metrics=Metrics()
    )
    holder.start_loading("w")
    assert holder.wait(10) is None
    return holder


@pytest.fixture
def make_engine(settings: Settings) -> Iterator[Callable[..., Engine]]:
    engines: list[Engine] = []

    def make(detector: Detector, changed: Settings | None = None) -> Engine:
        engine = Engine(changed or settings, make_holder(changed or settings, detector), metrics=Metrics())
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        engine.close()


@pytest.fixture
def make_app(make_engine: Callable[..., Engine]) -> Callable[..., Flask]:
    def make(detector: Detector, changed: Settings | None = None) -> Flask:
        engine = make_engine(detector, changed)
        app = create_app(engine)
        app.extensions["engine"] = engine
        return app

    return make


@pytest.fixture
def client(make_app: Callable[..., Flask], fake: FakeDetector) -> FlaskClient:
    return make_app(fake).test_client()


@pytest.fixture(scope="session")
def photos() -> Path:
    """The folder with Ultralytics' two photos: bus.jpg (810 x 1080) and zidane.jpg (1280 x 720)."""
    spec = importlib.util.find_spec("ultralytics")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "assets"


@pytest.fixture(scope="session")
def real_weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    return resolve_weights("yolo11n", models_dir=tmp_path_factory.mktemp("models"), is_offline=True)


@pytest.fixture(scope="session")
def real_detector(real_weights: Weights) -> Detector:
    return build_detector(real_weights.path, device="cpu")
