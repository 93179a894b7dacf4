"""The client of the ML backend against the real server, with a detector that needs no model."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import waitress
from PIL import Image

from labels.errors import LabelingError, ServiceError
from ml_backend.serving.app import create_app
from ml_backend.serving.engine import Engine
from ml_backend.serving.holding import Announce, ModelHolder
from ml_backend.serving.metrics import Metrics
from ml_backend.serving.served import ServedModel
from ml_backend.settings import Settings
from sync.backend import MLBackend
from sync.jobs.context import connect_backend
from sync.settings import Home
from tests.ml_backend.conftest import CONFIG, FakeDetector, make_detections

WAIT_S = 10
PASSWORD = "right"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Serve a detector that finds one car in every image, and return the address."""
    running: list[tuple[Engine, object, threading.Thread]] = []
    images = tmp_path / "media" / "images"
    images.mkdir(parents=True)
    Image.new("RGB", (100, 50), "blue").save(images / "good.png")
    (images / "bad.png").write_bytes(b"not an image")

    def begin(*, gate: threading.Event | None = None) -> str:
        settings = Settings(models_dir=tmp_path / "models", media_root=tmp_path / "media", password=PASSWORD)
        detector = FakeDetector(make_detections((10, 20, 50, 60, 0.75, 0)))

        def load(name: str, announce: Announce) -> ServedModel:
            assert gate is None or gate.wait(WAIT_S)
            if name == "missing":
                raise LabelingError("model 'missing': no weights")
            return ServedModel(settings, detector, version=f"{name}-1", source="models folder")

        holder = ModelHolder(load, metrics=Metrics())
        holder.start_loading("w")
        if gate is None:
            assert holder.wait(WAIT_S) is None
        engine = Engine(dataclasses.replace(settings, load_wait_s=0.0), holder, metrics=Metrics())
        server = waitress.create_server(create_app(engine), host="127.0.0.1", port=0, threads=4)
        thread = threading.Thread(target=server.run)
        thread.start()
        running.append((engine, server, thread))
        return f"http://127.0.0.1:{server.effective_port}"

    yield begin
    for engine, server, thread in running:
        engine.close()
        server.close()  # type: ignore[attr-defined]
        thread.join(WAIT_S)


def make_task(name: str) -> dict[str, object]:
    return {"id": name, "data": {"image": f"/data/local-files/?d=images/{name}.png", "sample_id": name}}


def test_predictions_come_in_order_and_a_failed_task_is_a_problem_and_no_empty_prediction(
    start: Callable[..., str],
) -> None:
    backend = MLBackend(start(), PASSWORD)

    first, failed, last = backend.fetch_predictions([make_task("good"), make_task("bad"), make_task("good")], CONFIG)

    assert (first.model_version, first.score, len(first.result), first.problem) == ("w-1", 0.75, 1, None)
    assert (failed.score, failed.result) == (None, ())
    assert failed.problem is not None
    assert failed.problem.startswith("not an image")
    assert first == last


def test_the_weights_are_named_with_the_place_they_come_from(start: Callable[..., str]) -> None:
    weights = MLBackend(start(), PASSWORD).fetch_weights()

    assert (weights.model_version, weights.source) == ("w-1", "models folder")


@pytest.mark.parametrize("password", [None, "wrong"])
def test_without_the_password_it_says_so(start: Callable[..., str], password: str | None) -> None:
    backend = MLBackend(start(), password)

    with pytest.raises(ServiceError, match="401"):
        backend.fetch_weights()
    with pytest.raises(LabelingError, match=r"401|password"):
        backend.fetch_predictions([make_task("good")], CONFIG)


def test_a_model_that_is_still_being_loaded_has_no_version_yet(start: Callable[..., str]) -> None:
    gate = threading.Event()
    backend = MLBackend(start(gate=gate), PASSWORD)

    with pytest.raises(ServiceError, match="still being loaded"):
        backend.fetch_model_version()
    gate.set()


def test_the_password_is_the_one_of_the_home(
    start: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, home = start(), Home(tmp_path / "home")
    home.make()

    with pytest.raises(ServiceError, match="401"):
        connect_backend(home, url).fetch_weights()
    (home.secrets / "ml_backend_password").write_text(f"{PASSWORD}\n")
    assert connect_backend(home, url).fetch_model_version() == "w-1"
    monkeypatch.setenv("LABELLOOP_ML_BACKEND_PASSWORD", "wrong")
    with pytest.raises(ServiceError, match="401"):
        connect_backend(home, url).fetch_weights()


def test_another_model_is_served_when_loading_it_returns(start: Callable[..., str]) -> None:
    backend = MLBackend(start(), PASSWORD)

    backend.load("better")

    assert backend.fetch_model_version() == "better-1"


def test_a_model_that_cannot_be_loaded_is_an_error_and_the_one_before_stays(start: Callable[..., str]) -> None:
    backend = MLBackend(start(), PASSWORD)

    with pytest.raises(ServiceError, match="no weights"):
        backend.load("missing")

    assert backend.fetch_model_version() == "w-1"
