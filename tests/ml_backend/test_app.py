"""The routes, asked as Label Studio 1.23.2 asks them: the bodies are recorded ones, shortened."""

import dataclasses
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from labels.errors import LabelingError
from ml_backend.settings import Settings

SaveImage = Callable[..., str]
MakeApp = Callable[..., Flask]
WAIT_S = 10


def make_task(number: int, url: object, **data: object) -> dict[str, Any]:
    return {
        "id": number,
        "data": {"image": url, **data},
        "meta": {},
        "created_at": "2026-11-20T07:00:00Z",
        "is_labeled": False,
        "overlap": 1,
        "inner_id": 1,
        "total_annotations": 0,
        "cancelled_annotations": 0,
        "total_predictions": 0,
        "project": 9,
        "file_upload": None,
        "annotations": [],
        "predictions": [],
    }


def make_body(tasks: list[Any], xml: str, context: object = None) -> dict[str, Any]:
    return {
        "tasks": tasks,
        "project": "9.1795149571",
        "label_config": xml,
        "params": {"login": None, "password": None, "context": context},
    }


def make_setup(xml: str, extra_params: object = None) -> dict[str, Any]:
    return {
        "project": "9.1795149571",
        "schema": xml,
        "hostname": "http://localhost:8080",
        "access_token": "0123456789abcdef0123456789abcdef01234567",
        "extra_params": extra_params,
    }


def predict(client: FlaskClient, body: dict[str, Any]) -> dict[str, Any]:
    response = client.post("/predict", json=body)
    assert response.status_code == 200
    answer: dict[str, Any] = response.get_json()
    return answer


def count(app: Flask | FlaskClient, name: str, **labels: str) -> float:
    engine = getattr(app, "application", app).extensions["engine"]
    value: float = engine.metrics.read_value(name, **labels)
    return value


def test_health_says_up_and_which_model_and_not_where_it_lies(client: FlaskClient) -> None:
    assert client.get("/health").json == {
        "status": "UP",
        "state": "ready",
        "model_version": "w-12345678",
        "weights_source": "path",
    }


def test_ready_says_no_more_than_that(client: FlaskClient) -> None:
    assert client.get("/ready").json == {"state": "ready"}


def test_a_server_whose_model_thread_has_ended_is_not_ready_and_stays_connected(client: FlaskClient) -> None:
    client.application.extensions["engine"].close()

    ready = client.get("/ready")

    assert (ready.status_code, ready.get_json()) == (503, {"state": "broken"})
    assert client.get("/health").status_code == 200


def test_versions_lists_the_model(client: FlaskClient) -> None:
    assert client.get("/versions", json={"project": "9.1795149571"}).json == {
        "versions": ["w-12345678"],
        "model_version": "w-12345678",
        "state": "ready",
        "loading": None,
        "problem": None,
        "calibration": None,
    }


@pytest.mark.parametrize("extra_params", [None, {"a": 1}, '{"a": 1}', "", [], [1], 3, True, {"deep": {"er": [None]}}])
def test_setup_answers_the_model_version_whatever_the_extra_params_are(
    client: FlaskClient, config_xml: str, extra_params: object
) -> None:
    assert client.post("/setup", json=make_setup(config_xml, extra_params)).json == {
        "model_version": "w-12345678",
        "state": "ready",
        "unmapped_labels": ["Forklift"],
        "calibration": None,
    }


def test_setup_twice_changes_nothing(client: FlaskClient, config_xml: str) -> None:
    answers = [client.post("/setup", json=make_setup(config_xml)).json for _ in range(2)]

    assert answers[0] == answers[1]


@pytest.mark.parametrize("xml", ["<View></View>", "", None])
def test_a_project_without_a_config_may_connect_and_is_told(client: FlaskClient, xml: str) -> None:
    response = client.post("/setup", json=make_setup(xml))

    assert response.status_code == 200
    assert response.get_json()["model_version"] == "w-12345678"
    assert "no label config" in response.get_json()["problem"]


def test_a_project_whose_config_is_for_another_kind_of_model_may_connect_and_is_told(client: FlaskClient) -> None:
    xml = '<View><Image name="i" value="$i"/><Choices name="c" toName="i"><Choice value="sun"/></Choices></View>'

    response = client.post("/setup", json=make_setup(xml))

    assert response.status_code == 200
    answer = response.get_json()
    assert answer["problem"] == "the label config has no <RectangleLabels>, which a model for 'detect' needs"
    assert answer["unmapped_labels"] == ["sun"]


def test_a_config_that_cannot_be_read_is_refused_at_setup(client: FlaskClient) -> None:
    response = client.post("/setup", json=make_setup('<View><Text name="t" toName="i"/></View>'))

    assert response.status_code == 400


def test_the_token_of_setup_is_in_no_log(
    client: FlaskClient, config_xml: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")

    client.post("/setup", json=make_setup(config_xml))

    assert "0123456789abcdef" not in caplog.text


def test_a_task_gets_its_boxes(client: FlaskClient, save_image: SaveImage, config_xml: str) -> None:
    answer = predict(client, make_body([make_task(41, save_image("a.png"))], config_xml))

    (result,) = answer["results"]
    assert answer["errors"] == []
    assert result["model_version"] == "w-12345678"
    assert result["score"] == pytest.approx((0.75 + 0.5 + 0.25) / 3)
    assert [
        (region["value"]["rectanglelabels"], region["score"], region["original_width"], region["original_height"])
        for region in result["result"]
    ] == [(["Car"], 0.75, 100, 50), (["Car"], 0.5, 100, 50), (["Person"], 0.25, 100, 50)]


def test_results_have_the_order_and_length_of_the_tasks(
    client: FlaskClient, save_image: SaveImage, config_xml: str
) -> None:
    urls = [save_image(f"{number}.png", PillowImage.new("RGB", (100 + number, 50))) for number in range(30)]
    tasks: list[Any] = [make_task(number, url) for number, url in enumerate(urls)]
    tasks[3] = make_task(3, "/data/local-files/?d=images/absent.png")
    tasks[17] = make_task(17, save_image("broken.png", b"not an image"))

    answer = predict(client, make_body(tasks, config_xml))

    widths = [result["result"][0]["original_width"] if result else None for result in answer["results"]]
    expected: list[int | None] = [100 + number for number in range(30)]
    expected[3] = expected[17] = None
    assert widths == expected


def test_a_bad_task_is_reported_and_the_others_still_get_their_boxes(
    client: FlaskClient, save_image: SaveImage, config_xml: str, caplog: pytest.LogCaptureFixture
) -> None:
    good = save_image("good.png")
    tasks = [
        make_task(1, good),
        make_task(2, save_image("broken.png", b"not an image")),
        make_task(3, "http://169.254.169.254/latest/meta-data"),
        make_task(4, "/data/local-files/?d=../../etc/passwd"),
        make_task(5, None),
        {"id": 6},
        "hello",
        None,
        make_task(9, good),
    ]

    answer = predict(client, make_body(tasks, config_xml))

    # An empty prediction would be stored and shown as «nothing here»; an empty list stores nothing.
    assert [result == [] for result in answer["results"]] == [False] + [True] * 7 + [False]
    assert [error["index"] for error in answer["errors"]] == [1, 2, 3, 4, 5, 6, 7]
    assert [error["task"] for error in answer["errors"]] == [2, 3, 4, 5, 6, None, None]
    assert all(error["error"] for error in answer["errors"])
    assert count(client, "tasks_total", outcome="failed") == count(client, "errors_total", kind="image") == 7
    assert "task 2: not an image" in caplog.text


def test_an_image_the_model_fails_on_fails_alone_and_tells_no_secrets(
    client: FlaskClient, save_image: SaveImage, config_xml: str
) -> None:
    red = PillowImage.new("RGB", (30, 20), (255, 0, 0))
    tasks = [
        make_task(1, save_image("a.png")),
        make_task(2, save_image("b.png", red)),
        make_task(3, save_image("c.png")),
    ]

    answer = predict(client, make_body(tasks, config_xml))

    assert [len(result["result"]) if result else None for result in answer["results"]] == [3, None, 3]
    assert answer["errors"] == [{"task": 2, "index": 1, "error": "the detector failed (RuntimeError)"}]


def test_nothing_found_is_not_an_error(
    client: FlaskClient, save_image: SaveImage, config_xml: str, fake: Any, detections: Any
) -> None:
    fake.found = detections()

    answer = predict(client, make_body([make_task(1, save_image("a.png"))], config_xml))

    (result,) = answer["results"]
    assert answer["errors"] == []
    assert (result["model_version"], result["score"], result["result"]) == ("w-12345678", 0.5, [])


def test_no_tasks_are_no_results(client: FlaskClient, config_xml: str) -> None:
    assert predict(client, make_body([], config_xml)) == {"results": [], "errors": []}


def test_images_of_one_request_run_in_batches(
    client: FlaskClient, save_image: SaveImage, config_xml: str, fake: Any
) -> None:
    urls = [save_image(f"{number}.png", PillowImage.new("RGB", (100 + number, 50))) for number in range(20)]
    predict(client, make_body([make_task(number, url) for number, url in enumerate(urls)], config_xml))

    assert sum(fake.batches) == 20
    assert max(fake.batches) <= 4
    assert count(client, "images_total") == 20


def test_the_same_image_and_model_give_the_same_ids_and_two_samples_share_none(
    client: FlaskClient, save_image: SaveImage, config_xml: str
) -> None:
    url = save_image("a.png")
    tasks = [make_task(1, url, sample_id="s1"), make_task(2, url, sample_id="s2"), make_task(3, url), make_task(4, url)]

    answers = [predict(client, make_body(tasks, config_xml)) for _ in range(2)]

    ids = [region["id"] for result in answers[0]["results"] for region in result["result"]]
    assert answers[0] == answers[1]
    assert len(ids) == len(set(ids)) == 12


def test_a_sample_keeps_its_ids_when_its_task_is_made_anew(
    client: FlaskClient, save_image: SaveImage, config_xml: str
) -> None:
    url = save_image("a.png")
    first = predict(client, make_body([make_task(1, url, sample_id="s1")], config_xml))
    second = predict(client, make_body([make_task(99, url, sample_id="s1")], config_xml))

    assert first == second


def test_an_annotator_who_draws_reads_the_first_result(
    client: FlaskClient, save_image: SaveImage, config_xml: str
) -> None:
    context = {"result": [{"id": "x", "type": "rectanglelabels", "value": {"x": 1, "y": 1, "width": 2, "height": 2}}]}
    task = make_task(1, save_image("a.png")) | {"drafts": [], "allow_skip": True}

    answer = predict(client, make_body([task], config_xml, context))

    assert len(answer["results"]) == 1
    assert len(answer["results"][0]["result"]) == 3


@pytest.mark.parametrize(
    "action",
    [
        "ANNOTATION_CREATED",
        "ANNOTATION_UPDATED",
        "ANNOTATIONS_CREATED",
        "ANNOTATIONS_DELETED",
        "TASKS_CREATED",
        "TASKS_DELETED",
        "PROJECT_UPDATED",
        "SOMETHING_NEW",
        None,
        {"odd": 1},
    ],
)
def test_every_webhook_event_is_taken(client: FlaskClient, action: object) -> None:
    assert client.post("/webhook", json={"action": action, "annotation": [{}], "project": {}}).status_code == 200


def test_start_training_is_answered_honestly(client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    response = client.post("/webhook", json={"action": "START_TRAINING", "project": {"id": 9}})

    assert response.status_code == 501
    assert "LABELLOOP_CONSOLE_URL" in response.json["error"]
    assert "START_TRAINING" in caplog.text


@pytest.mark.parametrize("path", ["/predict", "/setup", "/webhook"])
@pytest.mark.parametrize("body", ["", "hello", "[]", "3", "null", '{"tasks":', "[" * 100_000])
def test_a_body_that_is_no_object_is_a_400_in_json(client: FlaskClient, path: str, body: str) -> None:
    response = client.post(path, data=body, content_type="application/json")

    assert response.status_code == 400
    assert list(response.get_json()) == ["error"]


@pytest.mark.parametrize(
    "change", [{"tasks": None}, {"tasks": {}}, {"label_config": None}, {"label_config": "<View"}, {"label_config": 3}]
)
def test_a_request_with_a_wrong_part_is_a_400_in_json(
    client: FlaskClient, config_xml: str, change: dict[str, Any]
) -> None:
    response = client.post("/predict", json=make_body([], config_xml) | change)

    assert response.status_code == 400
    assert list(response.get_json()) == ["error"]


def test_an_entity_in_the_label_config_is_not_expanded(client: FlaskClient, config_xml: str) -> None:
    xml = '<!DOCTYPE v [<!ENTITY a "aaaa">]>' + config_xml.replace("Forklift", "&a;")

    assert client.post("/predict", json=make_body([], xml)).status_code == 400


def test_too_many_tasks_are_refused_as_a_whole(
    make_app: MakeApp, fake: Any, settings: Settings, config_xml: str
) -> None:
    client = make_app(fake, dataclasses.replace(settings, max_tasks=2)).test_client()

    response = client.post("/predict", json=make_body([{}] * 3, config_xml))

    assert response.status_code == 400
    assert response.json == {"error": "3 tasks in one request (expected at most 2)"}


def test_too_large_a_body_is_a_413_in_json(make_app: MakeApp, fake: Any, settings: Settings) -> None:
    client = make_app(fake, dataclasses.replace(settings, max_body_bytes=100)).test_client()

    response = client.post("/predict", json={"tasks": ["x" * 200]})

    assert response.status_code == 413
    assert list(response.get_json()) == ["error"]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nope", 404), ("GET", "/predict", 405)])
def test_an_unknown_route_or_method_is_answered_in_json(
    client: FlaskClient, method: str, path: str, status: int
) -> None:
    response = client.open(path, method=method)

    assert response.status_code == status
    assert list(response.get_json()) == ["error"]


def test_a_busy_server_says_when_to_come_back_and_stays_healthy(
    make_app: MakeApp, fake: Any, settings: Settings, save_image: SaveImage, config_xml: str
) -> None:
    app = make_app(fake, dataclasses.replace(settings, max_requests=1))
    entered, release = threading.Event(), threading.Event()

    def wait() -> None:
        entered.set()
        release.wait(WAIT_S)

    fake.before_each = wait
    body = make_body([make_task(1, save_image("a.png"))], config_xml)
    first: list[int] = []
    thread = threading.Thread(target=lambda: first.append(app.test_client().post("/predict", json=body).status_code))
    thread.start()
    assert entered.wait(WAIT_S)

    second = app.test_client().post("/predict", json=body)
    health = app.test_client().get("/health")

    release.set()
    thread.join()
    assert (first, second.status_code, health.status_code) == ([200], 503, 200)
    assert int(second.headers["Retry-After"]) >= 1
    assert list(second.get_json()) == ["error"]


def test_a_caller_that_hung_up_is_not_worked_for(
    client: FlaskClient, save_image: SaveImage, config_xml: str, fake: Any
) -> None:
    body = make_body([make_task(1, save_image("a.png"))], config_xml)

    response = client.post("/predict", json=body, environ_base={"waitress.client_disconnected": lambda: True})

    assert response.status_code == 503
    assert fake.batches == []
    assert count(client, "errors_total", kind="cancelled") == 1


def test_a_bug_is_a_500_in_json_without_its_traceback(
    make_app: MakeApp, fake: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(fake)

    @app.get("/bug")
    def bug() -> str:
        raise ZeroDivisionError("at /secret/path")

    response = app.test_client().get("/bug")

    assert response.status_code == 500
    assert response.json == {"error": "internal error, see the ML backend's log"}
    assert count(app, "errors_total", kind="unexpected") == 1
    assert "/bug: ZeroDivisionError at test_app.py:" in caplog.text
    assert "/secret/path" not in caplog.text
    assert "Traceback" not in caplog.text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@hypothesis_settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(tasks=json_values | st.lists(st.fixed_dictionaries({}, optional={"id": json_values, "data": json_values})))
def test_whatever_the_tasks_are_each_gets_an_answer(client: FlaskClient, config_xml: str, tasks: object) -> None:
    response = client.post("/predict", data=json.dumps(make_body([], config_xml) | {"tasks": tasks}))

    if isinstance(tasks, list):
        assert response.status_code == 200
        assert len(response.get_json()["results"]) == len(response.get_json()["errors"]) == len(tasks)
    else:
        assert response.status_code == 400


def test_importing_the_backend_loads_nothing_heavy() -> None:
    heavy = ("torch", "torchvision", "ultralytics", "onnxruntime", "cv2", "fiftyone")
    code = f"import sys, ml_backend.serving.app, ml_backend.__main__; print([n for n in {heavy} if n in sys.modules])"

    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert run.stdout.strip() == "[]"


def test_what_is_not_there_is_said_in_our_own_words(client: FlaskClient) -> None:
    absent, wrong = client.get("/nowhere"), client.get("/predict")

    assert (absent.status_code, absent.get_json()) == (404, {"error": "/nowhere: no such route"})
    assert (wrong.status_code, wrong.get_json()) == (405, {"error": "GET /predict: not allowed (expected POST)"})


def test_a_threshold_of_the_request_shows_what_the_settings_hide(
    client: FlaskClient, config_xml: str, save_image: Callable[..., str]
) -> None:
    body = {"tasks": [{"id": 1, "data": {"image": save_image("a.png")}}], "label_config": config_xml}

    usual = client.post("/predict", json=body).get_json()["results"][0]["result"]
    low = client.post("/predict", json={**body, "params": {"score_threshold": 0.05}}).get_json()["results"][0]["result"]
    refused = client.post("/predict", json={**body, "params": {"score_threshold": "low"}})

    assert (len(usual), len(low)) == (3, 4)
    assert (refused.status_code, refused.get_json()) == (
        400,
        {"error": 'params.score_threshold is "low" (expected a number in 0..1)'},
    )


@pytest.mark.parametrize("task_id", ["[" * 200 + "]" * 200, "1e999", "-1e999", '{"a": 1}'])
def test_an_id_that_cannot_be_sent_back_is_answered_without_it(
    client: FlaskClient, config_xml: str, save_image: SaveImage, task_id: str
) -> None:
    url = json.dumps(save_image("a.png"))
    tasks = f'[{{"id": {task_id}, "data": {{"image": "gone"}}}}, {{"id": {task_id}, "data": {{"image": {url}}}}}]'

    response = client.post("/predict", data=f'{{"tasks": {tasks}, "label_config": {json.dumps(config_xml)}}}')

    assert response.status_code == 200
    answer = json.loads(response.text, parse_constant=pytest.fail)
    assert [(error["task"], error["index"]) for error in answer["errors"]] == [(None, 0)]
    assert len(answer["results"][1]["result"]) == 3


def test_an_id_however_deeply_it_is_nested_is_no_error_of_ours(client: FlaskClient, config_xml: str) -> None:
    bodies = [
        f'{{"tasks": [{{"id": {"[" * depth + "]" * depth}}}], "label_config": {json.dumps(config_xml)}}}'
        for depth in range(500, 1000, 10)
    ]

    assert {client.post("/predict", data=body).status_code for body in bodies} <= {200, 400}


def test_a_task_the_model_fails_on_is_one_error_and_one_warning_of_the_log(
    client: FlaskClient, save_image: SaveImage, config_xml: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    red = save_image("red.png", PillowImage.new("RGB", (100, 50), "red"))

    predict(client, make_body([make_task(2, red)], config_xml))

    lines = [record for record in caplog.records if "task" in record.message]
    assert [(line.levelname, line.message.partition(" at ")[0].partition(", in ")[0]) for line in lines] == [
        ("ERROR", "task 2: RuntimeError"),
        ("WARNING", "task 2: the detector failed (RuntimeError)"),
        ("INFO", "predicted 1 tasks, 1 failed"),
    ]


class Unarmed:
    """An assistant whose weights are not there."""

    def suggest(self, *_: object, **__: object) -> Any:
        raise LabelingError("model '/home/me/sam.pt': no weights under /home/me/models")


def test_a_click_that_cannot_be_answered_tells_no_path_of_this_machine(
    client: FlaskClient, save_image: SaveImage, config_xml: str, caplog: pytest.LogCaptureFixture
) -> None:
    client.application.extensions["engine"].holder.get().assistant = Unarmed()

    answer = predict(client, make_body([make_task(1, save_image("a.png"))], config_xml, {"result": [{"id": "x"}]}))

    assert answer["errors"] == [{"task": 1, "index": 0, "error": "model 'sam.pt': no weights under models"}]
    assert "/home" not in json.dumps(answer) + caplog.text
