"""The console over a fake runner and a fake state: who gets in, what is answered, what is shown."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from labels.errors import LabelingError, ServiceError
from sync.console.app import create_app
from sync.console.health import Health
from sync.console.settings import ConsoleSettings
from sync.console.status import CachedStatus, Counts, Status, Tool
from sync.jobs.state import JobState
from sync.ledger_rows import Run
from sync.report import Failure, Report
from sync.settings import Home

AUTH = {"Authorization": "Bearer the-token"}
SECRET = {"X-Labelloop-Secret": "the-secret"}
JOB = JobState("j1", "push", "running", "2026-01-02T03:04:05+00:00", progress=0.5, message="sent 3 of 6")
TOOLS = (
    Tool("label_studio", "Label Studio", "http://127.0.0.1:8080/projects/1/data", "most uncertain first"),
    Tool("app", "FiftyOne App", "http://127.0.0.1:5151/datasets/photos"),
)
PUSHED = Report("push", moved=2, failed=(Failure("street/b.jpg", "is <b>truncated</b>"),), conflicts=("65f0aa",))
STATUS = Status(
    counts=Counts(not_sent=1204, queued=96, reviewed=32, skipped=0, conflicts=2, failed=1),
    dataset="photos",
    model_version="yolo11n-c130b90b",
    runs=(
        Run(2, "push", {}, "done", "2026-01-02T03:04:05+00:00", "2026-01-02T03:04:06+00:00", PUSHED.to_dict()),
        Run(1, "pull", {}, "interrupted", "2026-01-01T03:04:05+00:00", None, None),
    ),
    tools=TOOLS,
)


@dataclass
class FakeRunner:
    """Keeps what it is asked."""

    jobs: list[JobState] = field(default_factory=list)
    submitted: list[tuple[str, Mapping[str, Any] | None]] = field(default_factory=list)
    wakes: int = 0

    def submit(self, job: str, params: Mapping[str, Any] | None = None) -> JobState:
        if job != "push":
            raise LabelingError(f"job '{job}' is not known (known: push)")
        self.submitted.append((job, params))
        return JOB

    def wake(self) -> None:
        self.wakes += 1

    def read_job(self, job_id: str) -> JobState | None:
        return next((job for job in self.jobs if job.id == job_id), None)

    def read_jobs(self) -> list[JobState]:
        return self.jobs


@pytest.fixture
def runner() -> FakeRunner:
    return FakeRunner()


MakeClient = Callable[..., FlaskClient]


@pytest.fixture
def make_client(runner: FakeRunner, tmp_path: Path) -> MakeClient:
    def make(read_status: Callable[[], Status] = lambda: STATUS, hosts: tuple[str, ...] = ()) -> FlaskClient:
        settings = ConsoleSettings(Home(tmp_path), "the-token", "the-secret", hosts=hosts)
        health = {"label_studio": Health("up"), "app": Health("down", "does not answer")}
        return create_app(settings, runner, read_status, fetch_health=lambda tools: health).test_client()

    return make


@pytest.fixture
def client(make_client: MakeClient) -> FlaskClient:
    return make_client()


def fail_with(error: Exception) -> Callable[[], Status]:
    def read_status() -> Status:
        raise error

    return read_status


# The job API


def test_a_job_is_started_with_its_parameters(client: FlaskClient, runner: FakeRunner) -> None:
    answer = client.post("/api/jobs", json={"job": "push", "params": {"sample_ids": ["a"]}}, headers=AUTH)

    assert (answer.status_code, answer.json) == (202, {"id": "j1"})
    assert runner.submitted == [("push", {"sample_ids": ["a"]})]


def test_a_job_without_parameters_is_started_with_none(client: FlaskClient, runner: FakeRunner) -> None:
    client.post("/api/jobs", json={"job": "push"}, headers=AUTH)

    assert runner.submitted == [("push", {})]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"job": "drop"}, "job 'drop' is not known (known: push)"),
        ({}, 'expected {"job": name, "params": {...}}'),
        ([], 'expected {"job": name, "params": {...}}'),
        ({"job": 3}, 'expected {"job": name, "params": {...}}'),
        ({"job": "push", "params": []}, "params: expected an object"),
    ],
)
def test_what_cannot_be_started_is_refused_in_one_line(
    client: FlaskClient, runner: FakeRunner, body: object, error: str
) -> None:
    answer = client.post("/api/jobs", json=body, headers=AUTH)

    assert (answer.status_code, answer.json) == (400, {"error": error})
    assert runner.submitted == []


def test_a_job_is_read_with_its_progress_and_later_its_report(client: FlaskClient, runner: FakeRunner) -> None:
    runner.jobs = [JOB, replace(JOB, id="j2", state="done", progress=1.0, report=PUSHED.to_dict())]

    running, done = client.get("/api/jobs/j1", headers=AUTH).json, client.get("/api/jobs/j2", headers=AUTH).json

    assert running is not None
    assert done is not None
    assert {key: running[key] for key in ("id", "job", "state", "progress", "message", "report", "error")} == {
        "id": "j1",
        "job": "push",
        "state": "running",
        "progress": 0.5,
        "message": "sent 3 of 6",
        "report": None,
        "error": None,
    }
    assert done["report"] == json.loads(json.dumps(PUSHED.to_dict()))


def test_the_status_holds_counts_model_links_and_runs(client: FlaskClient) -> None:
    answer = client.get("/api/status", headers=AUTH).json

    assert answer is not None
    assert answer["counts"] == {
        "not_sent": 1204,
        "queued": 96,
        "reviewed": 32,
        "skipped": 0,
        "conflicts": 2,
        "failed": 1,
    }
    assert (answer["model_version"], answer["dataset"]) == ("yolo11n-c130b90b", "photos")
    assert answer["links"] == {
        "label_studio": "http://127.0.0.1:8080/projects/1/data",
        "app": "http://127.0.0.1:5151/datasets/photos",
    }
    assert [run["job"] for run in answer["runs"]] == ["push", "pull"]


def test_a_status_that_cannot_be_read_is_an_error_not_zeros(make_client: MakeClient) -> None:
    answer = make_client(fail_with(ServiceError("MongoDB does not answer"))).get("/api/status", headers=AUTH)

    assert (answer.status_code, answer.json) == (503, {"error": "MongoDB does not answer"})


# Who gets in


@pytest.mark.parametrize("given", [None, "", "Bearer", "Bearer wrong", "Basic the-token", "the-token", "Bearer ü"])
@pytest.mark.parametrize(("method", "path"), [("POST", "/api/jobs"), ("GET", "/api/jobs/j1"), ("GET", "/api/status")])
def test_the_api_is_closed_without_its_token(
    client: FlaskClient, runner: FakeRunner, given: str | None, method: str, path: str
) -> None:
    headers = {} if given is None else {"Authorization": given}
    answer = client.open(path, method=method, json={"job": "push"}, headers=headers)

    assert (answer.status_code, answer.json) == (401, {"error": "the token is missing or wrong"})
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert runner.submitted == []


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "127.0.0.2:9091", "user@localhost"])
@pytest.mark.parametrize("path", ["/", "/status.json", "/static/console.css", "/api/status"])
def test_a_foreign_name_for_this_machine_is_turned_away(client: FlaskClient, host: str, path: str) -> None:
    answer = client.get(path, headers={"Host": host, **AUTH})

    assert answer.status_code == 400
    assert b"photos" not in answer.data


@pytest.mark.parametrize("host", ["127.0.0.1:9091", "localhost:9091"])
def test_the_loopback_names_are_answered(client: FlaskClient, host: str) -> None:
    assert client.get("/", headers={"Host": host}).status_code == 200


def test_further_names_are_answered_when_the_settings_say_so(make_client: MakeClient) -> None:
    assert make_client(hosts=("console",)).get("/", headers={"Host": "console:9091"}).status_code == 200


def test_no_page_may_load_or_send_anything_elsewhere(client: FlaskClient) -> None:
    policy = client.get("/").headers["Content-Security-Policy"]

    assert policy.startswith("default-src 'none';")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


# Errors


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [("GET", "/nope", 404), ("GET", "/api/jobs/zz", 404), ("PUT", "/api/jobs", 405), ("GET", "/webhooks/x", 404)],
)
def test_every_error_has_the_one_shape(client: FlaskClient, method: str, path: str, code: int) -> None:
    answer = client.open(path, method=method, headers=AUTH)

    assert answer.status_code == code
    assert answer.json is not None
    assert list(answer.json) == ["error"]
    assert "\n" not in answer.json["error"]


@pytest.mark.parametrize(("data", "kind", "code"), [(b"{", "application/json", 400), (b"x", "text/plain", 415)])
def test_a_body_that_is_no_json_is_an_error_of_the_caller(
    client: FlaskClient, data: bytes, kind: str, code: int
) -> None:
    answer = client.post("/api/jobs", data=data, content_type=kind, headers=AUTH)

    assert answer.status_code == code
    assert list(answer.json or {}) == ["error"]


def test_no_traceback_leaves_the_process(make_client: MakeClient, caplog: pytest.LogCaptureFixture) -> None:
    client = make_client(fail_with(RuntimeError("secret detail")))
    with caplog.at_level(logging.ERROR):
        answer = client.get("/api/status", headers=AUTH)

    assert (answer.status_code, answer.json) == (500, {"error": "internal error; the console's log has the details"})
    assert "secret detail" in caplog.text


# Webhooks


def test_a_webhook_wakes_a_pull_and_is_answered_at_once(client: FlaskClient, runner: FakeRunner) -> None:
    begin_s = time.perf_counter()
    answer = client.post("/webhooks/label-studio", json={"action": "ANNOTATION_CREATED"}, headers=SECRET)

    assert (answer.status_code, answer.data, runner.wakes) == (204, b"", 1)
    assert time.perf_counter() - begin_s < 0.1


@pytest.mark.parametrize("headers", [{}, {"X-Labelloop-Secret": ""}, {"X-Labelloop-Secret": "wrong"}, AUTH])
def test_a_webhook_without_the_secret_wakes_nobody(
    client: FlaskClient, runner: FakeRunner, headers: dict[str, str]
) -> None:
    answer = client.post("/webhooks/label-studio", json={}, headers=headers)

    assert (answer.status_code, runner.wakes) == (401, 0)


# The page


def test_the_page_shows_counts_model_runs_and_links(client: FlaskClient) -> None:
    page = client.get("/").text

    for shown in ("<b>1,204</b>", "<b>96</b>", "<b>32</b>", "yolo11n-c130b90b", "push: 2 sent", "pull: interrupted"):
        assert shown in page
    assert 'href="http://127.0.0.1:8080/projects/1/data"' in page
    assert "does not answer" in page


def test_the_page_names_what_failed_and_what_waits_for_a_decision(client: FlaskClient) -> None:
    page = client.get("/").text

    assert "<code>street/b.jpg</code> is &lt;b&gt;truncated&lt;/b&gt;" in page
    assert "<code>65f0aa</code>" in page


def test_an_empty_project_is_told_what_to_do(make_client: MakeClient) -> None:
    page = make_client(lambda: Status(counts=Counts(0, 0, 0, 0, 0, 0))).get("/").text

    assert "The dataset holds no images yet." in page
    assert "No job has run yet." in page
    assert "No tool is known yet." in page


def test_images_that_were_never_sent_are_told_how_to_be(make_client: MakeClient) -> None:
    assert "Nothing was sent yet." in make_client(lambda: Status(counts=Counts(5, 0, 0, 0, 0, 0))).get("/").text


def test_a_state_that_cannot_be_read_is_not_shown_as_empty(make_client: MakeClient) -> None:
    page = make_client(fail_with(ServiceError("MongoDB does not answer"))).get("/").text

    assert "MongoDB does not answer" in page
    assert page.count("not known") == 6
    assert "No job has run yet" not in page
    assert "No tool is known yet" not in page
    assert "<b>0</b>" not in page


def test_a_running_job_is_shown_with_its_progress(client: FlaskClient, runner: FakeRunner) -> None:
    runner.jobs = [JOB]

    assert "sent 3 of 6" in client.get("/").text
    assert client.get("/status.json").json["active"] == [  # type: ignore[index]  # the test fails on None as it should
        {"id": "j1", "job": "push", "state": "running", "progress": 0.5, "message": "sent 3 of 6"}
    ]


def test_the_last_job_that_failed_is_an_alert_until_one_succeeds(client: FlaskClient, runner: FakeRunner) -> None:
    runner.jobs = [replace(JOB, state="failed", error="GET /api/projects/3: 401")]
    failed = client.get("/").text
    runner.jobs.append(replace(JOB, id="j2", state="done"))

    assert "The last push failed." in failed
    assert "GET /api/projects/3: 401" in failed
    assert "The last push failed." not in client.get("/").text


def test_the_page_is_fetched_again_only_when_it_looks_different(make_client: MakeClient, runner: FakeRunner) -> None:
    def read_revision(status: Status) -> str:
        return str(make_client(lambda: status).get("/status.json").json["revision"])  # type: ignore[index]  # see above

    runner.jobs = [JOB]
    before = read_revision(STATUS)
    runner.jobs = [replace(JOB, progress=0.75)]
    assert read_revision(STATUS) == before
    assert f'data-revision="{before}"' in make_client().get("/").text

    assert read_revision(replace(STATUS, counts=replace(STATUS.counts, queued=97))) != before
    runner.jobs = [replace(JOB, state="done")]
    assert read_revision(STATUS) != before


def test_many_pages_at_once_read_the_state_once() -> None:
    reads: list[Status] = []

    def read_status() -> Status:
        reads.append(STATUS)
        return STATUS

    cached = CachedStatus(read_status, max_age_s=60)

    assert [cached.read() for _ in range(5)] == [STATUS] * 5
    assert len(reads) == 1


def test_a_failure_to_read_the_state_is_not_kept() -> None:
    failures = [ServiceError("down")]

    def read_status() -> Status:
        if failures:
            raise failures.pop()
        return STATUS

    cached = CachedStatus(read_status, max_age_s=60)

    assert cached.read_or_problem() == Status(runs=None, tools=None, problem="down")
    assert cached.read() == STATUS
