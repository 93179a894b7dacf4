"""The job API, the webhook and the metrics: who gets in, and that every answer is what the OpenAPI document says."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from itertools import product

import pytest
import schemathesis
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis import GenerationMode
from schemathesis.checks import negative_data_rejection, positive_data_acceptance

from fiftyone_plugins.app.work import WORKS
from labels.errors import LabelingError, ServiceError
from sync.console.openapi import make_document
from sync.console.status import CachedStatus, Status
from sync.exports.formats import FORMATS
from sync.jobs.param_schemas import PARAM_SCHEMAS
from sync.jobs.parameters import FROM_THE_COMMAND_LINE, READERS, check_params
from sync.jobs.registry import JOBS
from tests.sync.console.conftest import AUTH, DONE, PUSHED, RUNNING, SECRET, STATUS, FakeCatalogue, FakeRunner, MakeApp

CALLS = (
    ("GET", "/api/jobs"),
    ("POST", "/api/jobs"),
    ("GET", "/api/jobs/7"),
    ("POST", "/api/jobs/7/cancel"),
    ("POST", "/api/jobs/6/retry"),
    ("GET", "/api/status"),
    ("GET", "/api/openapi.json"),
)
OPERATIONS = ("list_jobs", "submit_job", "read_job", "cancel_job", "retry_job", "read_status", "read_document")
# More than a schema can say: that shares make 100, that a file or a home is there, that one number is the smaller.
NOT_SAYABLE = {
    "export": {"splits"},
    "embed": {"weights", "model"},
    "zeroshot": {"weights", "model", "classes"},
    "clean": {"unsure_from", "to"},
    "quality_examples": {"votes"},
    "quality_learn": {"votes"},
}
# Names the samples: the dataset says whether there are such, when the job runs.
NOT_SAYABLE |= {job: {*NOT_SAYABLE.get(job, ()), "sample_ids", "view"} for job in WORKS}
BASES: dict[str, list[dict[str, object]]] = {
    "ingest": [{"folder": "a"}, {"folder": "a", "labels": "b"}, {"labels": "b", "unpack": True}],
    "queue": [{"by": "random", "count": 1}],
    "relabel": [{"old": "a", "new": "b"}],
    "resolve": [{"decisions": {}}],
    "promote": [{"candidate": "a"}, {"candidate": "a", "force": True, "reason": "b"}],
    "similarity": [{}, {"backend": "qdrant", "url": "http://127.0.0.1:6333"}],
    "quality_learn": [{"votes": "a"}],
    "clean": [{"classes": ["a"]}, {"classes": ["a"], "dry_run": True, "action": "copy"}],
}
VALUES = (
    *(True, False, 0, 1, 2, 3.0, 33, -1, 0.5, 0.99, 1.5, 10, 10.5, 100, 101, 10**6),
    *("", " ", "\x1f", "a", "a b", "a/b", "/a", "~a", ".", "cpu", "cuda:1", "folder", "tag:a", "field:a=", "v1"),
    *([], ["a"], ["a", "b"], ["a", "a"], [" "], [1], ["exact"], ["a {}"], ["{}{}"]),
    *({}, {"a": "b"}, {"a": 1}, {"dark": 0.5}, {"dark": None}, {"dark": 2}, {"a": "reviewed"}),
)
ONLY_THE_COMMAND_LINE = {"train": {"weights"}, "promote": {"trust"}}


@pytest.fixture(autouse=True)
def _two_runs(runner: FakeRunner) -> None:
    runner.runs = [RUNNING, DONE]


def test_the_document_is_valid_openapi() -> None:
    assert [*OpenAPIV31SpecValidator(make_document()).iter_errors()] == []


def test_the_document_names_every_route_of_the_api_and_no_other(make_app: MakeApp) -> None:
    rules = [rule for rule in make_app().url_map.iter_rules() if rule.rule.startswith("/api/")]
    routes = {
        (method.lower(), rule.rule.replace("<job_id>", "{id}"))
        for rule in rules
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    described = {
        (method, path)
        for path, operations in make_document()["paths"].items()
        for method in operations
        if method != "parameters"
    }

    assert described == routes


def test_the_document_is_served_to_programs(client: FlaskClient) -> None:
    answer = client.get("/api/openapi.json", headers=AUTH).json

    assert answer == json.loads(json.dumps(make_document()))


def test_every_job_is_described() -> None:
    assert PARAM_SCHEMAS.keys() == JOBS.keys()


@pytest.mark.parametrize("job", sorted(JOBS))
def test_the_document_names_what_a_job_takes_and_nothing_else(job: str) -> None:
    with pytest.raises(LabelingError, match="is not known") as refused:
        READERS[job]({"~": 1})

    _, _, known = str(refused.value).partition("(known: ")
    left_out = {"none", FROM_THE_COMMAND_LINE.get(job), *ONLY_THE_COMMAND_LINE.get(job, ())}
    of_samples = {"sample_ids", "view"} if job in WORKS else set()
    assert PARAM_SCHEMAS[job]["properties"].keys() - of_samples == {*known.rstrip(")").split(", ")} - left_out
    assert of_samples <= PARAM_SCHEMAS[job]["properties"].keys()


@pytest.mark.parametrize("job", sorted(JOBS))
def test_the_document_names_what_a_job_needs(job: str) -> None:
    enough = {"folder": "a", "by": "random", "count": 1, "old": "a", "new": "b", "decisions": {}}
    enough |= {"candidate": "a", "votes": "a", "classes": ["car"]}
    schema = PARAM_SCHEMAS[job]
    needed = schema.get("required") or schema.get("else", {}).get("required", [])

    READERS[job]({name: enough[name] for name in needed})
    for left_out in needed:
        with pytest.raises(LabelingError, match=left_out.removesuffix("es")):
            READERS[job]({name: enough[name] for name in needed if name != left_out})


@pytest.mark.parametrize("job", sorted(JOBS))
def test_the_document_and_the_reader_of_a_job_allow_the_same(job: str) -> None:
    schema = PARAM_SCHEMAS[job]
    validator = Draft202012Validator(schema)
    bases = BASES.get(job, [{}])
    assert all(validator.is_valid(base) for base in bases)

    differing = []
    for base, (name, said) in product(bases, schema["properties"].items()):
        if name in NOT_SAYABLE.get(job, ()):
            continue
        for value in (*VALUES, *said.get("enum", ())):
            params = base | {name: value}
            is_allowed = validator.is_valid(params)
            if is_allowed != is_taken(job, params):
                differing.append((params, is_allowed))
    assert differing == []


def is_taken(job: str, params: dict[str, object]) -> bool:
    """Return whether a job can be started with these parameters from elsewhere."""
    try:
        check_params(job, params)
    except LabelingError:
        return False
    return True


# Generated calls


@pytest.mark.filterwarnings("ignore")  # of the tool that makes the calls
@pytest.mark.parametrize(
    ("operation_id", "mode"),
    [
        *((name, GenerationMode.POSITIVE) for name in OPERATIONS),
        # Those that take something take something wrong.
        *((name, GenerationMode.NEGATIVE) for name in OPERATIONS[:5]),
    ],
)
def test_every_generated_call_is_answered_as_the_document_says(
    make_app: MakeApp, runner: FakeRunner, operation_id: str, mode: GenerationMode
) -> None:
    runner.runs = [replace(DONE, id=number) for number in range(1, 4)]
    schema = schemathesis.openapi.from_wsgi("/api/openapi.json", make_app(), headers=AUTH)
    operation = schema.find_operation_by_id(operation_id)

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=40, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    def call(case: schemathesis.Case) -> None:
        # A call whose only fault is that it lacks the token gets it here, and may be answered well.
        job = str(case.body.get("job")) if operation_id == "submit_job" and isinstance(case.body, dict) else None
        left_out = [positive_data_acceptance] if job in NOT_SAYABLE else []
        answer = case.call_and_validate(headers=AUTH, excluded_checks=[negative_data_rejection, *left_out])
        statuses.add(answer.status_code)

    statuses = set[int]()
    call()

    assert statuses
    assert max(statuses) < 500
    # What is described as right is taken at least once, and what is described as wrong refused at least once.
    assert min(statuses) < 400 if mode is GenerationMode.POSITIVE else max(statuses) >= 400


# Jobs


def test_a_job_is_started_with_its_parameters(client: FlaskClient, runner: FakeRunner) -> None:
    answer = client.post("/api/jobs", json={"job": "push", "params": {"sample_ids": ["a"]}}, headers=AUTH)

    assert (answer.status_code, answer.json) == (202, {"id": 7})
    assert runner.submitted == [("push", {"sample_ids": ["a"]}, "api")]


def test_a_job_without_parameters_is_started_with_none(client: FlaskClient, runner: FakeRunner) -> None:
    client.post("/api/jobs", json={"job": "push", "started_by": "app"}, headers=AUTH)

    assert runner.submitted == [("push", {}, "app")]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"job": "drop"}, "job 'drop' is not known (known: push)"),
        ({}, 'expected {"job": name, "params": {...}}'),
        ([], 'expected {"job": name, "params": {...}}'),
        ({"job": 3}, 'expected {"job": name, "params": {...}}'),
        ({"job": "push", "params": []}, "params: expected an object"),
        ({"job": "push", "started_by": "cli"}, "started_by: expected one of api, app"),
        ({"job": "push", "started_by": []}, "started_by: expected one of api, app"),
        ({"job": "push", "parms": {}}, "parms: is not known (known: job, params, started_by)"),
        ({"job": "pull", "params": {"x": 1}}, "parameter 'x' is not known (known: prefer, everything, annotators)"),
        ({"job": "push", "params": {"sample_ids": "abc"}}, "parameter 'sample_ids': expected a list of sample ids"),
        (
            {"job": "export", "params": {"format": "nosuch"}},
            f"format 'nosuch' is not known (known: {', '.join(FORMATS)})",
        ),
        (
            {"job": "export", "params": {"out": "/etc"}},
            "parameter 'out': only the command line may choose a folder; without, it goes into the state folder",
        ),
        ({"job": "relabel"}, "parameter 'old': expected a text"),
        ({"job": "queue", "params": {"by": "random", "count": -1}}, "count -1: expected a whole number above 0"),
    ],
)
def test_what_cannot_be_started_is_refused_in_one_line(
    client: FlaskClient, runner: FakeRunner, body: object, error: str
) -> None:
    answer = client.post("/api/jobs", json=body, headers=AUTH)

    assert (answer.status_code, answer.json) == (400, {"error": error})
    assert runner.submitted == []


def test_a_queue_that_cannot_be_written_is_no_fault_of_the_caller(client: FlaskClient, runner: FakeRunner) -> None:
    runner.problem = ServiceError("jobs.db: the disk is full")
    answer = client.post("/api/jobs", json={"job": "push"}, headers=AUTH)

    assert (answer.status_code, answer.json) == (503, {"error": "jobs.db: the disk is full"})


def test_a_job_is_read_with_its_progress_and_later_its_report(client: FlaskClient) -> None:
    running, done = client.get("/api/jobs/7", headers=AUTH).json, client.get("/api/jobs/6", headers=AUTH).json

    assert running is not None
    assert done is not None
    assert {key: running[key] for key in ("id", "job", "state", "progress", "message", "report", "error")} == {
        "id": 7,
        "job": "push",
        "state": "running",
        "progress": 0.5,
        "message": "sent 3 of 6",
        "report": None,
        "error": None,
    }
    assert done["report"] == json.loads(json.dumps(PUSHED.to_dict()))
    assert done["can_retry_failed"] is True


def test_jobs_are_listed_the_newest_first_page_by_page(client: FlaskClient) -> None:
    answer = client.get("/api/jobs?limit=1&offset=1&job=push", headers=AUTH).json

    assert answer is not None
    assert answer["total"] == 2
    assert [job["id"] for job in answer["jobs"]] == [6]


@pytest.mark.parametrize("query", ["lmit=1", "limit=-1", "limit=x", "limit=201", "offset=1e3", "limit=", "offset=٣"])
def test_a_number_that_is_none_is_refused_by_its_name(client: FlaskClient, query: str) -> None:
    answer = client.get(f"/api/jobs?{query}", headers=AUTH)

    assert answer.status_code == 400
    assert answer.json is not None
    assert answer.json["error"].startswith(query.partition("=")[0])


def test_a_job_is_cancelled_and_another_one_repeated_for_what_failed(client: FlaskClient, runner: FakeRunner) -> None:
    cancelled = client.post("/api/jobs/7/cancel", headers=AUTH)
    retried = client.post("/api/jobs/6/retry", json={"only_failed": True}, headers=AUTH)

    assert cancelled.json is not None
    assert (cancelled.status_code, cancelled.json["cancel_requested"]) == (200, True)
    assert (retried.status_code, retried.json) == (202, {"id": 99})
    assert (runner.cancelled, runner.retried) == ([7], [(6, True, "api")])


def test_a_job_that_still_runs_is_not_repeated(client: FlaskClient) -> None:
    answer = client.post("/api/jobs/7/retry", json={}, headers=AUTH)

    assert (answer.status_code, answer.json) == (400, {"error": "run 7 is not over yet"})


@pytest.mark.parametrize("number", ["zz", "0", "8", "-1", "7.0", "99999999999999999999999", "٧"])
@pytest.mark.parametrize(("method", "call"), [("GET", ""), ("POST", "/cancel"), ("POST", "/retry")])
def test_a_job_that_is_not_there_is_no_other_one(client: FlaskClient, number: str, method: str, call: str) -> None:
    answer = client.open(f"/api/jobs/{number}{call}", method=method, json={}, headers=AUTH)

    assert (answer.status_code, answer.json) == (404, {"error": f"job {number} is not known"})


def test_the_status_holds_counts_model_and_links(client: FlaskClient) -> None:
    answer = client.get("/api/status", headers=AUTH).json

    assert answer is not None
    assert answer["counts"] == {
        "not_sent": 1204,
        "queued": 96,
        "reviewed": 32,
        "skipped": 0,
        "conflicts": 2,
        "failed": 1,
        "task_deleted": 0,
    }
    assert (answer["model_version"], answer["dataset"]) == ("yolo11n-c130b90b", "photos")
    assert answer["links"] == {
        "label_studio": "http://127.0.0.1:8080/projects/1/data",
        "app": "http://127.0.0.1:5151/datasets/photos",
    }


def test_a_status_that_cannot_be_read_is_an_error_not_zeros(client: FlaskClient, catalogue: FakeCatalogue) -> None:
    catalogue.status = ServiceError("MongoDB does not answer")
    answer = client.get("/api/status", headers=AUTH)

    assert (answer.status_code, answer.json) == (503, {"error": "MongoDB does not answer"})


# Who gets in


@pytest.mark.parametrize("given", [None, "", "Bearer", "Bearer wrong", "Basic the-token", "the-token", "Bearer ü"])
@pytest.mark.parametrize(("method", "path"), CALLS)
def test_the_api_is_closed_without_its_token(
    client: FlaskClient, runner: FakeRunner, given: str | None, method: str, path: str
) -> None:
    headers = {} if given is None else {"Authorization": given}
    answer = client.open(path, method=method, json={"job": "push"}, headers=headers)

    assert (answer.status_code, answer.json) == (401, {"error": "the token is missing or wrong"})
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert (runner.submitted, runner.cancelled, runner.retried) == ([], [], [])


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_the_admins_session_is_no_token_of_the_api(admin: FlaskClient, method: str, path: str) -> None:
    assert admin.open(path, method=method, json={"job": "push"}).status_code == 401


# Errors


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [("GET", "/api/nope", 404), ("GET", "/api/jobs/zz", 404), ("PUT", "/api/jobs", 405), ("GET", "/webhooks/x", 404)],
)
def test_every_error_has_the_one_shape(client: FlaskClient, method: str, path: str, code: int) -> None:
    answer = client.open(path, method=method, headers=AUTH)

    assert answer.status_code == code
    assert answer.json is not None
    assert list(answer.json) == ["error"]
    assert "\n" not in answer.json["error"]


@pytest.mark.parametrize(
    ("data", "kind", "code", "error"),
    [
        (b"{", "application/json", 400, "the body is not valid JSON"),
        (b"x", "text/plain", 415, "the body is no JSON: expected Content-Type: application/json"),
    ],
)
def test_a_body_that_is_no_json_is_an_error_of_the_caller(
    client: FlaskClient, data: bytes, kind: str, code: int, error: str
) -> None:
    answer = client.post("/api/jobs", data=data, content_type=kind, headers=AUTH)

    assert (answer.status_code, answer.json) == (code, {"error": error})


@pytest.mark.parametrize(
    ("method", "path", "error"),
    [
        ("GET", "/api/nope", "/api/nope: there is no such page or call"),
        ("PUT", "/api/jobs", "/api/jobs: PUT is not allowed (allowed: GET, HEAD, OPTIONS, POST)"),
        ("GET", "/api/jobs?job=pul", f"job 'pul' is not known (known: {', '.join(sorted(JOBS))})"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_said_in_our_own_words(client: FlaskClient, method: str, path: str, error: str) -> None:
    assert client.open(path, method=method, headers=AUTH).json == {"error": error}


def test_no_traceback_leaves_the_process(
    client: FlaskClient, catalogue: FakeCatalogue, caplog: pytest.LogCaptureFixture
) -> None:
    catalogue.status = RuntimeError("secret detail")
    with caplog.at_level(logging.ERROR):
        answer = client.get("/api/status", headers=AUTH)

    assert (answer.status_code, answer.json) == (500, {"error": "internal error; the console's log has the details"})
    assert "secret detail" in caplog.text


# Webhooks


def test_a_webhook_wakes_a_pull_and_needs_no_session(client: FlaskClient, runner: FakeRunner) -> None:
    answer = client.post("/webhooks/label-studio", json={"action": "ANNOTATION_CREATED"}, headers=SECRET)

    assert (answer.status_code, answer.data, runner.wakes) == (204, b"", 1)
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("headers", [{}, {"X-Labelloop-Secret": ""}, {"X-Labelloop-Secret": "wrong"}, AUTH])
def test_a_webhook_without_the_secret_wakes_nobody(
    client: FlaskClient, runner: FakeRunner, headers: dict[str, str]
) -> None:
    answer = client.post("/webhooks/label-studio", json={}, headers=headers)

    assert (answer.status_code, runner.wakes) == (401, 0)


# Metrics


def test_metrics_count_jobs_samples_webhooks_and_answers(client: FlaskClient) -> None:
    client.post("/webhooks/label-studio", json={}, headers=SECRET)
    client.post("/webhooks/label-studio", json={})
    client.get("/nope")
    text = client.get("/metrics", headers=AUTH).text

    for line in (
        'labelloop_jobs{job="push",state="running"} 1.0',
        'labelloop_jobs{job="push",state="done"} 1.0',
        'labelloop_samples{state="not_sent"} 1204.0',
        'labelloop_samples{state="skipped"} 0.0',
        'labelloop_webhooks_total{outcome="taken"} 1.0',
        'labelloop_webhooks_total{outcome="refused"} 1.0',
        'labelloop_request_duration_seconds_count{endpoint="webhooks.receive",method="POST",status="204"} 1.0',
        'labelloop_request_duration_seconds_count{endpoint="none",method="GET",status="404"} 1.0',
    ):
        assert f"{line}\n" in text


def test_a_number_that_is_not_known_is_left_out_of_the_metrics(client: FlaskClient, catalogue: FakeCatalogue) -> None:
    catalogue.status = ServiceError("MongoDB does not answer")

    assert "labelloop_samples{" not in client.get("/metrics", headers=AUTH).text


def test_metrics_need_the_token_or_a_login(client: FlaskClient, admin: FlaskClient, make_app: MakeApp) -> None:
    assert make_app().test_client().get("/metrics").status_code == 401
    assert admin.get("/metrics").status_code == 200


# The state


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
