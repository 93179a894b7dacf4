"""Who may ask. Label Studio's checks, setup, predict and START_TRAINING carry basic auth, its webhooks do not."""

import base64
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from ml_backend.settings import Settings

PASSWORD = "pass:wörd"
SECRET = "s3cret"
ROUTES = [
    ("GET", "/"),
    ("GET", "/health"),
    ("GET", "/versions"),
    ("POST", "/versions"),
    ("GET", "/metrics"),
    ("POST", "/setup"),
    ("POST", "/predict"),
    ("POST", "/webhook"),
    ("GET", "/absent"),
]


def to_header(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.fixture
def client(make_app: Callable[..., Flask], fake: Any, settings: Settings) -> FlaskClient:
    return make_app(fake, dataclasses.replace(settings, password=PASSWORD, webhook_secret=SECRET)).test_client()


def test_every_route_of_the_app_is_in_this_test(client: FlaskClient) -> None:
    rules = {
        (method, rule.rule)
        for rule in client.application.url_map.iter_rules()
        for method in rule.methods or ()
        if method in {"GET", "POST"} and rule.endpoint != "static"
    }

    assert rules == {*ROUTES, ("GET", "/ready")} - {("GET", "/absent")}


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        to_header("labelloop", "wrong"),
        to_header("labelloop", ""),
        to_header("admin", PASSWORD),
        {"Authorization": "Basic %%%"},
        {"Authorization": f"Bearer {PASSWORD}"},
        {"X-Labelloop-Secret": "wrong"},
    ],
)
def test_nobody_is_answered_without_the_password(
    client: FlaskClient, method: str, path: str, headers: dict[str, str]
) -> None:
    response = client.open(path, method=method, headers=headers, json={} if method == "POST" else None)

    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Basic ")
    assert list(response.get_json()) == ["error"]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_with_the_password_every_route_is_reached(client: FlaskClient, method: str, path: str) -> None:
    response = client.open(
        path, method=method, headers=to_header("labelloop", PASSWORD), json={} if method == "POST" else None
    )

    assert response.status_code in {200, 400, 404}


def test_the_webhook_takes_the_secret_in_place_of_the_password_and_no_other_route_does(client: FlaskClient) -> None:
    headers = {"X-Labelloop-Secret": SECRET}

    assert client.post("/webhook", json={"action": "ANNOTATION_CREATED"}, headers=headers).status_code == 200
    assert client.post("/predict", json={}, headers=headers).status_code == 401


def test_start_training_comes_with_the_password(client: FlaskClient) -> None:
    response = client.post("/webhook", json={"action": "START_TRAINING"}, headers=to_header("labelloop", PASSWORD))

    # Label Studio shows people this line, and nothing of the body.
    assert response.status.startswith("501 training is started by the console, and this ML backend was told of none")


def test_who_watches_over_processes_needs_no_password_and_learns_nothing(client: FlaskClient) -> None:
    assert client.get("/ready").json == {"state": "ready"}


def test_the_password_is_in_no_log_and_no_answer(client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")

    response = client.get("/health", headers=to_header("labelloop", PASSWORD + "x"))

    assert PASSWORD not in caplog.text + response.get_data(as_text=True)


def test_who_was_refused_is_counted(client: FlaskClient) -> None:
    client.get("/health")

    metrics = client.get("/metrics", headers=to_header("labelloop", PASSWORD)).get_data(as_text=True)
    assert 'labelloop_errors_total{kind="unauthorized"} 1.0' in metrics
    assert 'labelloop_requests_total{route="/health",status="401"} 1.0' in metrics
