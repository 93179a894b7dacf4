"""What Label Studio 1.23.2 really sent, word for word but for tokens, names and addresses, replayed on every route."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image as PillowImage
from werkzeug.test import TestResponse

from ml_backend.settings import Settings

RECORDED: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent / "recorded_requests.json").read_text(encoding="utf-8")
)
WEBHOOKS = sorted(name for name in RECORDED if name.startswith("webhook_") and name != "webhook_start_training")
SECRET = RECORDED["webhook_annotation_created"]["headers"]["X-Labelloop-Secret"]
AUTH = {"Authorization": "Basic bGFiZWxsb29wOnB3"}  # labelloop:pw


@pytest.fixture
def client(make_app: Callable[..., Flask], fake: Any, settings: Settings) -> FlaskClient:
    return make_app(fake, dataclasses.replace(settings, password="pw", webhook_secret=SECRET)).test_client()


@pytest.fixture
def photos(save_image: Callable[..., str]) -> None:
    """Put an image where each of the recorded tasks says there is one."""
    tasks = [task for entry in RECORDED.values() for task in (entry["body"] or {}).get("tasks") or () if "data" in task]
    for task in tasks:
        name = task["data"]["image"].partition("?d=images/")[2]
        save_image(name, PillowImage.new("RGB", (640, 480), "blue"))


def replay(client: FlaskClient, name: str) -> TestResponse:
    entry = RECORDED[name]
    headers = entry["headers"] | (AUTH if entry["has_auth"] else {})
    return client.open(entry["path"], method=entry["method"], headers=headers, json=entry["body"])


def test_every_request_is_answered(client: FlaskClient) -> None:
    assert {name: replay(client, name).status_code for name in RECORDED} == {
        name: 501 if name == "webhook_start_training" else 200 for name in RECORDED
    }


def test_connecting_gets_what_label_studio_looks_for(client: FlaskClient) -> None:
    assert replay(client, "health").get_json()["status"] == "UP"
    # Label Studio sends extra parameters as an object, and keeps the version for its own questions.
    assert RECORDED["setup"]["body"]["extra_params"] == {"a": 1}
    assert replay(client, "setup").get_json()["model_version"] == "w-12345678"
    assert replay(client, "versions").get_json()["versions"] == ["w-12345678"]


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize("name", ["predict_open", "predict_retrieve"])
def test_every_task_gets_one_prediction_that_label_studio_can_store(client: FlaskClient, name: str) -> None:
    answer = replay(client, name).get_json()

    assert len(answer["results"]) == len(RECORDED[name]["body"]["tasks"])
    assert answer["errors"] == []
    for prediction in answer["results"]:
        assert 0 <= prediction["score"] <= 1
        assert prediction["model_version"] == "w-12345678"
        for region in prediction["result"]:
            assert (region["from_name"], region["to_name"]) == ("label", "image")
            assert (region["original_width"], region["original_height"]) == (640, 480)
            assert region["value"]["rectanglelabels"][0] in {"person", "car"}
            assert region["id"]


@pytest.mark.usefixtures("photos")
def test_an_annotator_who_draws_gets_an_object_in_the_first_place(client: FlaskClient) -> None:
    (first,) = replay(client, "predict_drawing").get_json()["results"]

    assert set(first) >= {"model_version", "score", "result"}


def test_images_that_are_not_there_are_errors_and_nothing_is_stored_for_them(client: FlaskClient) -> None:
    answer = replay(client, "predict_retrieve").get_json()

    assert answer["results"] == [[]] * len(RECORDED["predict_retrieve"]["body"]["tasks"])
    assert [error["task"] for error in answer["errors"]] == [
        task["id"] for task in RECORDED["predict_retrieve"]["body"]["tasks"]
    ]


@pytest.mark.parametrize("name", WEBHOOKS)
def test_label_studios_webhook_needs_its_secret_since_it_never_carries_the_password(
    client: FlaskClient, name: str
) -> None:
    entry = RECORDED[name]

    assert not entry["has_auth"]
    assert client.post("/webhook", json=entry["body"]).status_code == 401
    assert replay(client, name).get_json() == {"status": "ignored"}


def test_no_token_of_a_request_comes_back_or_is_logged(client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    token = RECORDED["setup"]["body"]["access_token"]

    said = "".join(replay(client, name).get_data(as_text=True) for name in RECORDED)

    assert token not in said + caplog.text
    assert SECRET not in said + caplog.text


@pytest.mark.usefixtures("photos")
def test_a_request_is_one_line_of_the_log_and_nothing_of_bodies_is_in_it(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    answer = replay(client, "predict_retrieve").get_json()
    body = RECORDED["predict_retrieve"]["body"]

    (line,) = [record.getMessage() for record in caplog.records]

    assert line.startswith(f"predicted {len(body['tasks'])} tasks, 0 failed, in ")
    images = [task["data"]["image"] for task in body["tasks"]]
    ids = [region["id"] for prediction in answer["results"] for region in prediction["result"]]
    assert images
    assert ids
    assert not [text for text in (*images, *ids, body["label_config"], "w-12345678") if text in caplog.text]
