"""The real Label Studio connected to a backend of the test's own: what annotators see whatever happens to it.

LABELLOOP_TEST_RETRIEVE says for how many tasks predictions are retrieved in one go.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image

from labels.config import default_label_config_path
from sync.media import link_folder
from sync.services.ports import find_free_port
from sync.settings import read_secret
from tests.e2e.conftest import RunningStack
from tests.fakes.console import TOKEN, serve_fake_console

PASSWORD = "e2e password"
SECRET = "e2e secret"
TASKS = int(os.environ.get("LABELLOOP_TEST_RETRIEVE", "100"))
START_S = 120.0
TIMEOUT_S = 300.0
PATIENCE = 8  # how often many tasks are retrieved
BROKEN = 3  # the task whose image is none


@dataclass
class Backend:
    """A backend process that can be killed, held and started again on its port."""

    environment: dict[str, str]
    port: int
    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [sys.executable, "-P", "-m", "ml_backend"]
            self.process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)

    def wait_until(self, *, is_ready: bool) -> None:
        """Wait for the port, or for the model."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            try:
                status = requests.get(f"{self.url}/ready", timeout=5).status_code
            except requests.ConnectionError:
                time.sleep(0.05)
                continue
            if status == requests.codes.ok or not is_ready:
                return
            time.sleep(0.05)
        raise AssertionError(self.log.read_text()[-2000:])

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> int:
        assert self.process is not None
        self.send(signal.SIGCONT)
        self.process.terminate()
        return self.process.wait(30)

    def ask(self, method: str, path: str, **request: Any) -> requests.Response:
        return requests.request(method, self.url + path, auth=("labelloop", PASSWORD), timeout=60, **request)


class LabelStudio:
    """Label Studio's API as its own pages call it."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self._token = token

    def ask(self, method: str, path: str, **request: Any) -> requests.Response:
        answer = requests.post(f"{self.url}/api/token/refresh/", json={"refresh": self._token}, timeout=60)
        headers = {"Authorization": f"Bearer {answer.json()['access']}"}
        return requests.request(method, self.url + path, headers=headers, timeout=TIMEOUT_S, **request)

    def make_project(self, title: str, urls: list[str]) -> tuple[int, list[int]]:
        """Return a new project with a task for each address, and the tasks in the order of the addresses."""
        xml = default_label_config_path().read_text(encoding="utf-8")
        wanted = {"title": title, "label_config": xml, "show_collab_predictions": True}
        project = int(self.ask("POST", "/api/projects/", json=wanted).json()["id"])
        tasks = [{"data": {"image": url, "number": number}} for number, url in enumerate(urls)]
        assert self.ask("POST", f"/api/projects/{project}/import", json=tasks).status_code == 201
        listed = self.ask("GET", f"/api/tasks?project={project}&page_size={len(urls)}&fields=all").json()["tasks"]
        return project, [task["id"] for task in sorted(listed, key=lambda task: task["data"]["number"])]

    def connect(self, project: int, url: str, password: str, *, is_interactive: bool = False) -> requests.Response:
        wanted = {
            "project": project,
            "url": url,
            "title": "e2e",
            "is_interactive": is_interactive,
            "auth_method": "BASIC_AUTH",
            "basic_auth_user": "labelloop",
            "basic_auth_pass": password,
            "extra_params": {"a": 1},
        }
        return self.ask("POST", "/api/ml", json=wanted)

    def open_task(self, task: int) -> list[dict[str, Any]]:
        """Return the predictions of a task, as the editor gets them when it is opened."""
        answer = self.ask("GET", f"/api/tasks/{task}")
        assert answer.status_code == 200
        predictions: list[dict[str, Any]] = answer.json()["predictions"]
        return predictions

    def retrieve(self, project: int) -> requests.Response:
        everything = {"selectedItems": {"all": True, "excluded": []}, "ordering": []}
        return self.ask("POST", f"/api/dm/actions?id=retrieve_tasks_predictions&project={project}", json=everything)

    def read_predictions(self, project: int) -> dict[int, list[dict[str, Any]]]:
        found: dict[int, list[dict[str, Any]]] = {}
        for one in self.ask("GET", f"/api/predictions?project={project}").json():
            found.setdefault(one["task"], []).append(one)
        return found

    def read_state(self, project: int) -> str:
        """Return the state of the project's backend; asking has Label Studio look."""
        (backend,) = self.ask("GET", f"/api/ml?project={project}").json()
        state: str = backend["readable_state"]
        return state


@pytest.fixture(scope="module")
def label_studio(stack: RunningStack) -> LabelStudio:
    return LabelStudio(stack.addresses.label_studio, read_secret(stack.home, "label_studio_token") or "")


@pytest.fixture(scope="module")
def backend(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    folder, port = tmp_path_factory.mktemp("backend"), find_free_port()
    environment = os.environ | {
        "LABELLOOP_HOME": str(folder),
        "LABELLOOP_MEDIA_ROOT": str(stack.home.media),
        "LABELLOOP_PORT": str(port),
        "LABELLOOP_OFFLINE": "1",
        "LABELLOOP_DEVICE": "cpu",
        "LABELLOOP_ML_BACKEND_PASSWORD": PASSWORD,
        "LABELLOOP_WEBHOOK_SECRET": SECRET,
        "LABEL_STUDIO_URL": stack.addresses.label_studio,
        "LABEL_STUDIO_API_KEY_FILE": str(stack.home.secrets / "label_studio_token"),
        "LABELLOOP_CONSOLE_URL": f"http://127.0.0.1:{find_free_port()}",
        "LABELLOOP_CONSOLE_TOKEN_FILE": str(folder / "token"),
    }
    (folder / "token").write_text(TOKEN)
    backend = Backend(environment, port, folder / "log")
    backend.start()
    yield backend
    assert backend.stop() == 0
    text = backend.log.read_text()
    assert "Traceback" not in text
    assert PASSWORD not in text


@pytest.fixture(scope="module")
def urls(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Put windows of a photo, and one file that is no image, where Label Studio and the backend find them."""
    import ultralytics

    folder = tmp_path_factory.mktemp("photos").resolve()
    link = link_folder(stack.home, folder)
    with Image.open(Path(ultralytics.__file__).parent / "assets" / "bus.jpg") as photo:
        for number in range(TASKS):
            left, top = number % 40 * 4, number // 40 * 4
            photo.crop((left, top, left + 480, top + 640)).save(folder / f"{number}.jpg", quality=80)
    (folder / f"{BROKEN}.jpg").write_bytes(b"not an image")
    return [f"/data/local-files/?d=images/{link}/{number}.jpg" for number in range(TASKS)]


@pytest.fixture
def project(
    label_studio: LabelStudio, urls: list[str], request: pytest.FixtureRequest
) -> Iterator[tuple[int, list[int]]]:
    made = label_studio.make_project(request.node.name[:40], urls[:8])
    yield made
    label_studio.ask("DELETE", f"/api/projects/{made[0]}")


def test_it_connects_while_the_model_is_loading_and_serves_as_soon_as_it_is_there(
    label_studio: LabelStudio, backend: Backend, project: tuple[int, list[int]]
) -> None:
    number, tasks = project
    backend.wait_until(is_ready=False)

    connected = label_studio.connect(number, backend.url, PASSWORD)

    assert connected.status_code == 201, connected.text
    while backend.ask("GET", "/health").json()["model_version"] is None:
        time.sleep(0.01)
    # The page of a task waits a while for the model.
    (prediction,) = label_studio.open_task(tasks[0])
    assert prediction["result"]
    assert prediction["model_version"].startswith("yolo11n-")
    assert 0 < prediction["score"] < 1
    assert label_studio.read_state(number) == "Connected"


def test_a_wrong_password_is_named_when_it_is_connected(
    label_studio: LabelStudio, backend: Backend, project: tuple[int, list[int]]
) -> None:
    backend.wait_until(is_ready=True)

    refused = label_studio.connect(project[0], backend.url, "wrong")

    assert refused.status_code == 400
    assert "authentication parameters were either not provided or are incorrect" in refused.text


def test_predictions_for_many_tasks_are_retrieved_in_one_go_and_a_person_is_not_kept_waiting(
    label_studio: LabelStudio, backend: Backend, urls: list[str]
) -> None:
    backend.wait_until(is_ready=True)
    number, tasks = label_studio.make_project("retrieve", urls)
    other, (lone, *_) = label_studio.make_project("meanwhile", urls[:1])
    try:
        for one in (number, other):
            assert label_studio.connect(one, backend.url, PASSWORD).status_code == 201
        answers: list[requests.Response] = []
        thread = threading.Thread(target=lambda: answers.append(label_studio.retrieve(number)))
        thread.start()
        seen_meanwhile = label_studio.open_task(lone)
        thread.join(TIMEOUT_S)
        assert answers[0].status_code == 200
        # Label Studio gives up after 100 s and stores nothing. What was found is remembered: the next time is shorter.
        while not (stored := label_studio.read_predictions(number)) and len(answers) < PATIENCE:
            answers.append(label_studio.retrieve(number))

        assert len(seen_meanwhile) == 1
        # The image that is none has no prediction, which is not an empty one.
        assert sorted(stored) == [task for index, task in enumerate(tasks) if index != BROKEN]
        assert {len(predictions) for predictions in stored.values()} == {1}
        assert all(predictions[0]["score"] is not None for predictions in stored.values())
        before = backend.ask("GET", "/metrics").text
        # What is there is not asked for again; what failed is.
        label_studio.retrieve(number)
        assert len(label_studio.read_predictions(number)) == TASKS - 1
        assert count_images(backend.ask("GET", "/metrics").text) == count_images(before)
    finally:
        for one in (number, other):
            label_studio.ask("DELETE", f"/api/projects/{one}")


def count_images(metrics: str) -> float:
    (line,) = [line for line in metrics.splitlines() if line.startswith("labelloop_images_total ")]
    return float(line.split()[1])


def test_a_backend_that_was_killed_keeps_no_annotator_from_working_and_is_back_when_it_is_started(
    label_studio: LabelStudio, backend: Backend, project: tuple[int, list[int]]
) -> None:
    number, tasks = project
    backend.wait_until(is_ready=True)
    assert label_studio.connect(number, backend.url, PASSWORD).status_code == 201
    backend.send(signal.SIGKILL)
    assert backend.process is not None
    backend.process.wait(30)
    try:
        assert label_studio.open_task(tasks[0]) == []
        assert label_studio.retrieve(number).status_code == 200
        assert label_studio.read_state(number) == "Disconnected"
    finally:
        backend.start()
        backend.wait_until(is_ready=True)

    assert len(label_studio.open_task(tasks[0])) == 1
    label_studio.retrieve(number)
    assert len(label_studio.read_predictions(number)) == len(tasks) - 1
    assert label_studio.read_state(number) == "Connected"


def test_a_backend_that_hangs_delays_an_annotator_by_seconds_and_no_longer(
    label_studio: LabelStudio, backend: Backend, project: tuple[int, list[int]]
) -> None:
    number, tasks = project
    backend.wait_until(is_ready=True)
    assert label_studio.connect(number, backend.url, PASSWORD).status_code == 201
    backend.send(signal.SIGSTOP)
    try:
        assert label_studio.open_task(tasks[0]) == []
    finally:
        backend.send(signal.SIGCONT)

    assert len(label_studio.open_task(tasks[0])) == 1


def test_an_annotator_who_draws_is_answered(
    label_studio: LabelStudio, backend: Backend, project: tuple[int, list[int]]
) -> None:
    number, tasks = project
    backend.wait_until(is_ready=True)
    connected = label_studio.connect(number, backend.url, PASSWORD, is_interactive=True).json()
    drawn = {
        "id": "drawn",
        "type": "rectanglelabels",
        "from_name": "label",
        "to_name": "image",
        "original_width": 480,
        "original_height": 640,
        "origin": "manual",
        "value": {"x": 10, "y": 40, "width": 30, "height": 40, "rotation": 0, "rectanglelabels": ["person"]},
    }

    answer = label_studio.ask(
        "POST",
        f"/api/ml/{connected['id']}/interactive-annotating",
        json={"task": tasks[0], "context": {"result": [drawn]}},
    )

    assert answer.status_code == 200
    assert "errors" not in answer.json()
    assert set(answer.json()["data"]) >= {"model_version", "score", "result"}


def test_start_training_starts_the_consoles_job_or_says_why_not(
    label_studio: LabelStudio, backend: Backend, project: tuple[int, list[int]]
) -> None:
    number, tasks = project
    backend.wait_until(is_ready=True)
    connected = label_studio.connect(number, backend.url, PASSWORD).json()
    train = f"/api/ml/{connected['id']}/train"

    label_studio.ask("POST", train, json={})
    assert "START_TRAINING: the console did not start the training (no answer" in backend.log.read_text()
    with serve_fake_console(int(backend.environment["LABELLOOP_CONSOLE_URL"].rpartition(":")[2])) as console:
        console.reviewed = 0
        label_studio.ask("POST", train, json={})
        console.reviewed = 1
        started = label_studio.ask("POST", train, json={})

    assert started.status_code == 200
    assert "START_TRAINING: nothing is reviewed yet" in backend.log.read_text()
    assert [body for path, body in console.asked if path == "/api/jobs"] == [{"job": "train", "params": {}}] * 2
    assert len(label_studio.open_task(tasks[0])) == 1


def test_label_studios_own_webhook_is_let_in_by_its_secret(
    label_studio: LabelStudio, backend: Backend, project: tuple[int, list[int]]
) -> None:
    number, tasks = project
    backend.wait_until(is_ready=True)
    label_studio.connect(number, backend.url, PASSWORD)
    (hook,) = label_studio.ask("GET", f"/api/webhooks/?project={number}").json()
    changed = hook | {"headers": {"X-Labelloop-Secret": SECRET}}
    assert label_studio.ask("PATCH", f"/api/webhooks/{hook['id']}/", json=changed).status_code == 200

    label_studio.ask("POST", f"/api/tasks/{tasks[0]}/annotations", json={"result": [], "was_cancelled": False})

    assert 'labelloop_requests_total{route="/webhook",status="200"}' in backend.ask("GET", "/metrics").text
