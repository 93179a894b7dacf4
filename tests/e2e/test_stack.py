"""The stack with the real MongoDB, Label Studio and FiftyOne App; stubs stand in for our own ML backend and console."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from label_studio_sdk.client import LabelStudio
from PIL import Image

from labels.config import LabelConfig
from labels.errors import LabelConfigError, ServiceError
from sync.services import programs
from sync.services.bootstrap import BACKEND_TITLE, Workbench, bootstrap, connect, set_model_version
from sync.services.stack_record import Addresses
from sync.settings import Home
from tests.sync.services.stub_server import Handler
from tests.sync.services.stub_stack import StubStack

# Label Studio's SDK still calls pydantic as version 1 wanted it.
pytestmark = pytest.mark.filterwarnings("ignore:The `parse_obj` method is deprecated")

SCORES = (0.9, 0.1, 0.5)


@pytest.fixture(scope="module")
def real_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StubStack]:
    real = frozenset({programs.MONGOD, programs.LABEL_STUDIO, programs.APP})
    stack = StubStack(Home(tmp_path_factory.mktemp("home")), real=real, start_timeout_s=120.0)
    stack.make().start()
    yield stack
    stack.make().stop()


@pytest.fixture
def addresses(real_stack: StubStack) -> Addresses:
    found = real_stack.make().addresses()
    assert found is not None
    return found


@pytest.fixture
def workbench(real_stack: StubStack, addresses: Addresses) -> Workbench:
    return bootstrap(real_stack.home, real_stack.settings, addresses, project_id=None)


@pytest.fixture
def client(real_stack: StubStack, addresses: Addresses, workbench: Workbench) -> Iterator[LabelStudio]:
    with connect(addresses.label_studio, read_token(real_stack)) as client:
        yield client


@pytest.fixture
def tasks(client: LabelStudio, workbench: Workbench) -> list[int]:
    """Three tasks with predictions of the scores above, made once."""
    found = [task.id for task in client.tasks.list(project=workbench.project_id)]
    if found:
        return sorted(found)
    imported = client.projects.import_tasks(
        id=workbench.project_id,
        return_task_ids=True,
        request=[
            {
                "data": {"image": f"/data/local-files/?d=images/shelf/{number}.jpg", "sample_id": str(number)},
                "predictions": [{"model_version": "det-1", "score": score, "result": [to_region("car")]}],
            }
            for number, score in enumerate(SCORES)
        ],
    )
    return list(imported.task_ids)


def to_region(name: str) -> dict[str, Any]:
    value = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0, "rectanglelabels": [name]}
    control = LabelConfig.read(programs.StackSettings().label_config).box_control
    assert control is not None
    named = {"from_name": control.name, "to_name": control.to_name, "type": "rectanglelabels"}
    return {**named, "original_width": 200, "original_height": 100, "value": value}


def read_token(real_stack: StubStack) -> str:
    return (real_stack.home.secrets / "label_studio_token").read_text(encoding="utf-8").strip()


def fetch_header(addresses: Addresses, token: str) -> dict[str, str]:
    answer = requests.post(f"{addresses.label_studio}/api/token/refresh/", json={"refresh": token}, timeout=30)
    return {"Authorization": f"Bearer {answer.json()['access']}"}


def fetch(addresses: Addresses, token: str, path: str) -> requests.Response:
    return requests.get(addresses.label_studio + path, headers=fetch_header(addresses, token), timeout=30)


def fetch_everything(addresses: Addresses, token: str, project_id: int) -> dict[str, Any]:
    """Return what Label Studio holds of a project, less what moves by being looked at."""
    paths = {
        "projects": "/api/projects/",
        "storages": f"/api/storages/localfiles?project={project_id}",
        "backends": f"/api/ml?project={project_id}",
        "webhooks": f"/api/webhooks/?project={project_id}",
        "views": f"/api/dm/views/?project={project_id}",
        "tasks": f"/api/tasks?project={project_id}&fields=all",
    }
    found = {name: fetch(addresses, token, path).json() for name, path in paths.items()}
    for backend in found["backends"]:
        del backend["updated_at"]
    return found


def test_a_second_bootstrap_changes_nothing(
    real_stack: StubStack, addresses: Addresses, workbench: Workbench, tasks: list[int]
) -> None:
    token = read_token(real_stack)
    before = fetch_everything(addresses, token, workbench.project_id)
    again = bootstrap(real_stack.home, real_stack.settings, addresses, project_id=workbench.project_id)
    assert again == replace(workbench, changes=())
    assert read_token(real_stack) == token
    assert fetch_everything(addresses, token, workbench.project_id) == before
    assert [len(before[name]) for name in ("storages", "backends", "webhooks", "views")] == [1, 1, 2, 1]


def test_the_most_uncertain_task_comes_first(
    real_stack: StubStack, addresses: Addresses, workbench: Workbench, tasks: list[int]
) -> None:
    token = read_token(real_stack)
    set_model_version(addresses.label_studio, token, project_id=workbench.project_id, model_version="det-1")
    expected = [task for _score, task in sorted(zip(SCORES, tasks, strict=True))]

    listed = fetch(addresses, token, f"/api/tasks?view={workbench.view_id}&project={workbench.project_id}").json()
    handed_out = fetch(addresses, token, f"/api/projects/{workbench.project_id}/next").json()

    assert [task["id"] for task in listed["tasks"]] == expected
    assert handed_out["id"] == expected[0]
    assert [prediction["model_version"] for prediction in handed_out["predictions"]] == ["det-1"]
    assert workbench.url.startswith(f"{addresses.label_studio}/projects/{workbench.project_id}/data?tab=")


def test_a_model_version_without_predictions_is_refused(
    real_stack: StubStack, addresses: Addresses, workbench: Workbench, tasks: list[int]
) -> None:
    with pytest.raises(ServiceError, match=r"400, .*Model version doesn't exist"):
        set_model_version(
            addresses.label_studio, read_token(real_stack), project_id=workbench.project_id, model_version="never-was"
        )


def test_connecting_a_backend_does_not_leave_its_title_as_the_model_version(
    real_stack: StubStack, addresses: Addresses, workbench: Workbench, client: LabelStudio, tasks: list[int]
) -> None:
    (backend,) = client.ml.list(project=workbench.project_id)
    assert backend.id is not None
    client.ml.delete(id=backend.id)
    client.projects.update(id=workbench.project_id, model_version="")

    again = bootstrap(real_stack.home, real_stack.settings, addresses, project_id=workbench.project_id)

    assert again.changes == ("ML backend", "project's model version")
    assert client.projects.get(id=workbench.project_id).model_version == "det-1"


def test_a_backend_on_another_port_is_followed(
    real_stack: StubStack, addresses: Addresses, workbench: Workbench, client: LabelStudio
) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    moved = replace(addresses, ml_backend=f"http://127.0.0.1:{server.server_port}")
    try:
        again = bootstrap(real_stack.home, real_stack.settings, moved, project_id=workbench.project_id)
        backends = client.ml.list(project=workbench.project_id)
        hooks = client.webhooks.list(project=str(workbench.project_id))
        back = bootstrap(real_stack.home, real_stack.settings, addresses, project_id=workbench.project_id)
    finally:
        server.shutdown()
        server.server_close()

    assert again.changes == back.changes == ("ML backend's address",)
    assert [(backend.title, backend.url, backend.state) for backend in backends] == [
        (BACKEND_TITLE, moved.ml_backend, "CO")
    ]
    assert sorted(hook.url for hook in hooks) == sorted(
        [f"{moved.ml_backend}/webhook", f"{addresses.console}/webhooks/label-studio"]
    )


def test_a_label_config_may_grow_and_may_not_lose_a_class_in_use(
    real_stack: StubStack,
    addresses: Addresses,
    workbench: Workbench,
    tasks: list[int],
    client: LabelStudio,
    tmp_path: Path,
) -> None:
    client.annotations.create(id=tasks[0], result=[to_region("car")])
    text = real_stack.settings.label_config.read_text(encoding="utf-8")
    before = client.projects.get(id=workbench.project_id).label_config

    def try_config(xml: str) -> Workbench:
        path = tmp_path / "label_config.xml"
        path.write_text(xml, encoding="utf-8")
        settings = replace(real_stack.settings, label_config=path)
        return bootstrap(real_stack.home, settings, addresses, project_id=workbench.project_id)

    with pytest.raises(LabelConfigError, match=r"class 'car' of control 'label' \(1 image: 0.jpg\)"):
        try_config(text.replace('value="car"', 'value="motorcar"'))
    assert client.projects.get(id=workbench.project_id).label_config == before

    drafted = requests.post(
        f"{addresses.label_studio}/api/tasks/{tasks[1]}/drafts?project={workbench.project_id}",
        json={"result": [to_region("zebra")], "lead_time": 1.0},
        headers=fetch_header(addresses, read_token(real_stack)),
        timeout=30,
    )
    assert drafted.status_code == 201, drafted.text
    with pytest.raises(LabelConfigError, match=r"class 'zebra' of control 'label' \(in drafts\)"):
        try_config(text.replace('value="zebra"', 'value="quagga"'))

    grown = text.replace("</RectangleLabels>", '<Label value="forklift"/></RectangleLabels>')
    assert try_config(grown).changes == ("project's label_config",)
    assert try_config(grown).changes == ()
    assert try_config(text).changes == ("project's label_config",)


def test_a_lost_token_file_is_replaced_and_the_old_token_revoked(
    real_stack: StubStack, addresses: Addresses, workbench: Workbench
) -> None:
    old = read_token(real_stack)
    (real_stack.home.secrets / "label_studio_token").unlink()
    bootstrap(real_stack.home, real_stack.settings, addresses, project_id=workbench.project_id)
    new = read_token(real_stack)
    assert new != old
    assert fetch(addresses, new, "/api/projects/").status_code == 200
    refused = requests.post(f"{addresses.label_studio}/api/token/refresh/", json={"refresh": old}, timeout=30)
    assert refused.status_code == 401


def test_a_wrong_password_is_told_with_the_way_out(
    real_stack: StubStack, addresses: Addresses, workbench: Workbench, tmp_path: Path
) -> None:
    home = Home(tmp_path)
    home.make()
    (home.secrets / "admin_password").write_text("not this one", encoding="utf-8")
    with pytest.raises(ServiceError, match=r"does not accept the password.*label-studio reset_password"):
        bootstrap(home, real_stack.settings, addresses, project_id=workbench.project_id)


def test_images_are_served_through_the_links_of_the_storage_and_only_to_who_may(
    real_stack: StubStack, addresses: Addresses, workbench: Workbench, tmp_path: Path
) -> None:
    Image.new("RGB", (200, 100)).save(tmp_path / "a b.jpg")
    (real_stack.home.images / "linked").symlink_to(tmp_path)
    path = "/data/local-files/?d=images/linked/a%20b.jpg"
    served = fetch(addresses, read_token(real_stack), path)
    assert (served.status_code, served.content) == (200, (tmp_path / "a b.jpg").read_bytes())
    assert requests.get(addresses.label_studio + path, timeout=30).status_code == 401


def test_no_server_listens_beyond_this_machine_and_no_secret_is_logged(real_stack: StubStack) -> None:
    pids = [entry.pid for entry in real_stack.make().status()]
    listening = [
        entry.laddr.ip
        for pid in pids
        for entry in psutil.Process(pid).net_connections(kind="inet")
        if entry.status == psutil.CONN_LISTEN
    ]
    assert set(listening) == {"127.0.0.1"}
    secrets = [path.read_text(encoding="utf-8").strip() for path in real_stack.home.secrets.iterdir()]
    logs = "".join(path.read_text(encoding="utf-8", errors="replace") for path in real_stack.home.logs.iterdir())
    assert not [secret for secret in secrets if secret in logs]


def test_a_second_curator_has_an_app_of_their_own_on_the_same_database(
    real_stack: StubStack, addresses: Addresses
) -> None:
    url = real_stack.make().start_app("Ana María")
    assert url == real_stack.make().start_app("Ana María") != addresses.app
    found = real_stack.make().addresses()
    assert found is not None
    assert found.curators == {"app-ana-mar-a": url}
    assert requests.get(f"{url}/fiftyone", timeout=30).status_code == 200
    assert json.loads(requests.get(f"{addresses.app}/fiftyone", timeout=30).text)["version"]


def test_stopping_takes_seconds_and_the_next_start_finds_everything_where_it_was(
    real_stack: StubStack, addresses: Addresses, workbench: Workbench
) -> None:
    begun_s = time.monotonic()
    events: list[str] = []
    assert real_stack.make().stop(events.append)
    assert time.monotonic() - begun_s < 15
    assert events[-1] == "mongod is stopped"

    again = real_stack.make().start()

    assert again == replace(addresses, curators={})
    assert bootstrap(real_stack.home, real_stack.settings, again, project_id=workbench.project_id).changes == ()
