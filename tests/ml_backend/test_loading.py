"""Loading in the background, and changing the model under running requests."""

import dataclasses
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from labels.errors import LabelingError
from ml_backend.serving.app import create_app
from ml_backend.serving.engine import Engine
from ml_backend.serving.holding import Announce, LoadingError, ModelHolder
from ml_backend.serving.metrics import Metrics
from ml_backend.serving.served import ServedModel
from ml_backend.serving.swapped import read_swapped, record_swapped
from ml_backend.settings import Settings
from tests.ml_backend.conftest import FakeDetector, make_detections

WAIT_S = 10
SaveImage = Callable[..., str]


class Loader:
    """Loads a model when it is let, in two steps: first its version is known, then it is there."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.known, self.loaded = threading.Event(), threading.Event()
        self.announced = threading.Event()
        self.models: dict[str, FakeDetector] = {}

    def add(self, name: str, score: float) -> FakeDetector:
        self.models[name] = FakeDetector(make_detections((10, 20, 50, 60, score, 0)))
        return self.models[name]

    def load(self, name: str, announce: Announce) -> ServedModel:
        assert self.known.wait(WAIT_S)
        if name not in self.models:
            raise LabelingError(f"model {name!r}: no weights")
        announce(f"{name}-1")
        self.announced.set()
        assert self.loaded.wait(WAIT_S)
        return ServedModel(self.settings, self.models[name], version=f"{name}-1", source="models folder")

    def let(self) -> None:
        self.known.set()
        self.loaded.set()


@pytest.fixture
def loader(settings: Settings) -> Loader:
    loader = Loader(settings)
    loader.add("first", 0.75)
    loader.add("second", 0.5)
    return loader


@pytest.fixture
def engine(settings: Settings, loader: Loader) -> Iterator[Engine]:
    quick = dataclasses.replace(settings, load_wait_s=0.0, password="right")
    engine = Engine(quick, ModelHolder(loader.load, metrics=Metrics()), metrics=Metrics())
    engine.holder.start_loading("first")
    yield engine
    loader.let()
    engine.holder.wait(WAIT_S)
    engine.close()


@pytest.fixture
def app(engine: Engine) -> Flask:
    return create_app(engine)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = "Basic bGFiZWxsb29wOnJpZ2h0"
    return client


def make_body(url: str, xml: str) -> dict[str, Any]:
    return {"tasks": [{"id": 1, "data": {"image": url}}], "label_config": xml, "project": "1.1", "params": {}}


def test_while_nobody_knows_the_version_health_and_setup_say_that_it_is_loading(
    client: FlaskClient, config_xml: str
) -> None:
    assert client.get("/health").json == {
        "status": "UP",
        "state": "loading",
        "model_version": None,
        "weights_source": None,
    }
    assert client.post("/setup", json={"schema": config_xml}).json == {
        "model_version": None,
        "state": "loading",
        "unmapped_labels": None,
    }
    assert (client.get("/ready").status_code, client.get("/ready").json) == (503, {"state": "loading"})


def test_the_version_is_told_before_the_model_is_there(client: FlaskClient, loader: Loader, config_xml: str) -> None:
    loader.known.set()
    assert loader.announced.wait(WAIT_S)

    answer = client.post("/setup", json={"schema": config_xml}).get_json()

    assert (answer["model_version"], answer["state"]) == ("first-1", "loading")


def test_a_label_config_that_is_broken_is_refused_while_the_model_is_loading(client: FlaskClient) -> None:
    assert client.post("/setup", json={"schema": '<View toName="x"'}).status_code == 400


def test_a_predict_before_the_model_is_there_is_told_when_to_come_back(
    client: FlaskClient, loader: Loader, config_xml: str, save_image: SaveImage
) -> None:
    for step in (lambda: None, lambda: (loader.known.set(), loader.announced.wait(WAIT_S))):
        step()
        response = client.post("/predict", json=make_body(save_image("a.png"), config_xml))

        assert (response.status_code, response.headers["Retry-After"]) == (503, "5")
        assert list(response.get_json()) == ["error"]


def test_a_predict_waits_a_while_for_the_model(
    engine: Engine, client: FlaskClient, loader: Loader, config_xml: str, save_image: SaveImage
) -> None:
    engine.settings = dataclasses.replace(engine.settings, load_wait_s=WAIT_S)
    loader.known.set()
    assert loader.announced.wait(WAIT_S)
    timer = threading.Timer(0.05, loader.loaded.set)
    timer.start()

    response = client.post("/predict", json=make_body(save_image("a.png"), config_xml))

    assert response.get_json()["results"][0]["model_version"] == "first-1"
    timer.join()


def test_a_model_that_cannot_be_loaded_says_why(settings: Settings, loader: Loader) -> None:
    holder = ModelHolder(loader.load, metrics=Metrics())
    loader.let()
    holder.start_loading("absent")

    assert holder.wait(WAIT_S) == "model 'absent': no weights"
    assert holder.read_state().name == "failed"
    with pytest.raises(LoadingError, match="no model could be loaded"):
        holder.get(wait_s=WAIT_S)


def test_a_library_that_raises_while_it_loads_is_one_line_without_its_words(settings: Settings) -> None:
    def load(name: str, announce: Announce) -> ServedModel:
        raise ZeroDivisionError("at /secret/path")

    holder = ModelHolder(load, metrics=Metrics())
    holder.start_loading("x")

    problem = holder.wait(WAIT_S)
    assert problem is not None
    assert problem.startswith("model 'x': cannot be loaded (ZeroDivisionError at ")
    assert "/secret" not in problem


def test_another_model_takes_over_and_both_versions_are_listed(
    engine: Engine, client: FlaskClient, loader: Loader, config_xml: str, save_image: SaveImage
) -> None:
    loader.let()
    engine.holder.wait(WAIT_S)

    loader.loaded.clear()
    response = client.post("/versions", json={"model": "second"})
    loader.let()
    engine.holder.wait(WAIT_S)

    assert response.status_code == 202
    assert response.get_json()["loading"] == "second"
    answer = client.get("/versions").get_json()
    assert (answer["versions"], answer["model_version"], answer["problem"]) == (
        ["first-1", "second-1"],
        "second-1",
        None,
    )
    predicted = client.post("/predict", json=make_body(save_image("a.png"), config_xml)).get_json()
    assert (predicted["results"][0]["model_version"], predicted["results"][0]["score"]) == ("second-1", 0.5)


def test_a_model_that_cannot_be_loaded_leaves_the_one_before_where_it_is(
    engine: Engine, client: FlaskClient, loader: Loader
) -> None:
    loader.let()
    engine.holder.wait(WAIT_S)

    client.post("/versions", json={"model": "absent"})
    engine.holder.wait(WAIT_S)

    answer = client.get("/versions").get_json()
    assert (answer["model_version"], answer["state"], answer["problem"]) == (
        "first-1",
        "ready",
        "model 'absent': no weights",
    )


def test_one_model_is_loaded_at_a_time(client: FlaskClient) -> None:
    response = client.post("/versions", json={"model": "second"})

    assert response.status_code == 503
    assert "first is being loaded" in response.get_json()["error"]


def test_the_path_of_the_settings_is_loaded_and_no_other(engine: Engine, client: FlaskClient, loader: Loader) -> None:
    loader.add("/weights/mine.pt", 0.5)
    loader.let()
    engine.holder.wait(WAIT_S)
    engine.settings = dataclasses.replace(engine.settings, model="/weights/mine.pt")

    assert client.post("/versions", json={"model": "/weights/other.pt"}).status_code == 400
    assert client.post("/versions", json={"model": "/weights/mine.pt"}).status_code == 202
    assert engine.holder.wait(WAIT_S) is None
    assert engine.holder.read_state().version == "/weights/mine.pt-1"


def test_what_is_served_is_loaded_again_when_it_is_asked_for(
    engine: Engine, client: FlaskClient, loader: Loader
) -> None:
    assert client.post("/versions", json={"reload": True}).status_code == 503
    loader.let()
    engine.holder.wait(WAIT_S)
    before = engine.holder.get()

    loader.loaded.clear()
    response = client.post("/versions", json={"reload": True})
    loader.let()
    engine.holder.wait(WAIT_S)

    assert (response.status_code, response.get_json()["loading"]) == (202, "first")
    assert engine.holder.get() is not before
    assert engine.holder.read_state().versions == ("first-1",)


def test_a_restart_goes_on_with_the_model_that_took_over(settings: Settings, loader: Loader, tmp_path: Path) -> None:
    loader.let()
    holder = ModelHolder(loader.load, metrics=Metrics(), remember=partial(record_swapped, tmp_path, "first"))
    holder.start_loading("first")
    holder.wait(WAIT_S)
    assert read_swapped(tmp_path, "first") is None

    holder.start_loading("second")
    holder.wait(WAIT_S)
    assert read_swapped(tmp_path, "first") == "second"
    assert read_swapped(tmp_path, "another") is None  # somebody configured other weights since

    holder.start_loading("absent")
    holder.wait(WAIT_S)
    assert read_swapped(tmp_path, "first") == "second"

    holder.start_loading("first")
    holder.wait(WAIT_S)
    assert read_swapped(tmp_path, "first") is None


def test_a_model_to_go_on_with_that_is_gone_leaves_the_configured_one_and_says_so(
    settings: Settings, loader: Loader
) -> None:
    loader.let()
    holder = ModelHolder(loader.load, metrics=Metrics())

    holder.start_loading("absent", otherwise="first")

    assert holder.wait(WAIT_S) == "model 'absent': no weights"
    assert (holder.read_state().version, holder.read_state().name) == ("first-1", "ready")


@pytest.mark.parametrize("content", ["", "[]", '{"configured": "first", "model": 7}', "{"])
def test_a_damaged_note_of_the_model_counts_for_none(content: str, tmp_path: Path) -> None:
    (tmp_path / "swapped.json").write_text(content)

    assert read_swapped(tmp_path, "first") is None


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({}, "model is missing"),
        ({"model": 5}, "model is 5 (expected a text)"),
        ({"model": "a,b,a"}, "model 'a' is named twice (expected each member of an ensemble once)"),
    ],
)
def test_what_cannot_be_a_model_is_refused_by_what_is_wrong(
    client: FlaskClient, body: dict[str, object], problem: str
) -> None:
    response = client.post("/versions", json=body)

    assert (response.status_code, response.get_json()) == (400, {"error": problem})


def test_a_problem_of_loading_has_no_path_of_this_machine(
    settings: Settings, client: FlaskClient, engine: Engine, loader: Loader
) -> None:
    def load(name: str, announce: Announce) -> ServedModel:
        raise LabelingError(f"{settings.models_dir} has no a.pt; /opt/weights/b.pt: https://hub/a/b.pt says no")

    loader.let()
    engine.holder.wait(WAIT_S)
    engine.holder._load = load

    client.post("/versions", json={"model": "a"})
    engine.holder.wait(WAIT_S)

    assert client.get("/versions").get_json()["problem"] == (
        "the models folder has no a.pt; b.pt: https://hub/a/b.pt says no"
    )


def test_a_model_that_is_being_loaded_is_named_without_its_path(
    engine: Engine, client: FlaskClient, loader: Loader
) -> None:
    loader.add("/home/me/mine.pt", 0.5)
    loader.let()
    engine.holder.wait(WAIT_S)
    engine.settings = dataclasses.replace(engine.settings, model="/home/me/mine.pt")
    loader.loaded.clear()

    answers = [
        client.post("/versions", json={"model": "/home/me/mine.pt"}),
        client.get("/versions"),
        client.post("/versions", json={"model": "second"}),
    ]

    assert [answer.status_code for answer in answers] == [202, 200, 503]
    assert [answer.get_json()["loading"] for answer in answers[:2]] == ["mine.pt", "mine.pt"]
    assert answers[2].get_json() == {"error": "mine.pt is being loaded, one at a time"}


@pytest.mark.parametrize("name", ["../secret.pt", "/etc/passwd", "a b", "", "a.pt,", 7, None])
def test_only_names_are_loaded_and_never_paths(client: FlaskClient, name: object) -> None:
    assert client.post("/versions", json={"model": name}).status_code == 400


def test_without_a_password_nobody_changes_the_model(engine: Engine, client: FlaskClient) -> None:
    engine.settings = dataclasses.replace(engine.settings, password=None)

    assert client.post("/versions", json={"model": "second"}).status_code == 403


def test_no_request_is_dropped_while_the_model_changes_and_each_ends_with_the_model_it_began_with(
    engine: Engine, client: FlaskClient, app: Flask, loader: Loader, config_xml: str, save_image: SaveImage
) -> None:
    loader.let()
    engine.holder.wait(WAIT_S)
    entered, release = threading.Event(), threading.Event()

    def wait() -> None:
        entered.set()
        assert release.wait(WAIT_S)

    loader.models["first"].before_each = wait
    body = make_body(save_image("a.png"), config_xml)
    early: list[Any] = []
    thread = threading.Thread(target=lambda: early.append(client.post("/predict", json=body)))
    thread.start()
    assert entered.wait(WAIT_S)
    engine.holder.start_loading("second")
    engine.holder.wait(WAIT_S)
    assert engine.holder.read_state().version == "second-1"
    late: list[Any] = []
    second = app.test_client()
    second.environ_base.update(client.environ_base)
    other = threading.Thread(target=lambda: late.append(second.post("/predict", json=body)))
    other.start()
    release.set()
    thread.join(WAIT_S)
    other.join(WAIT_S)

    assert [answer.get_json()["results"][0]["model_version"] for answer in (*early, *late)] == ["first-1", "second-1"]
