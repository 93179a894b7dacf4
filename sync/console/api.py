"""The job API for programs (bearer token) and the receiver of Label Studio's webhooks (shared secret)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from flask import Blueprint, Response, jsonify, request
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import BadRequest, NotFound, Unauthorized, UnsupportedMediaType

from labels.errors import LabelingError, ServiceError
from sync.console.access import has_token, is_same_secret
from sync.console.metrics import Metrics
from sync.console.openapi import MAX_NUMBER, make_document
from sync.console.parts import Parts
from sync.ledger.runs import Run
from sync.runs.job_runner import JobRunner

WEBHOOK_HEADER = "X-Labelloop-Secret"
STARTERS: Final = ("api", "app")
MAX_LISTED: Final = 200


def make_api(parts: Parts) -> Blueprint:
    """Return /api: start, read, cancel and repeat jobs, read the status. Every call needs the token."""
    api = Blueprint("api", __name__, url_prefix="/api")
    runner = parts.runner

    @api.before_request
    def check_token() -> None:
        if not has_token(parts.settings.token):
            raise Unauthorized("the token is missing or wrong", www_authenticate=WWWAuthenticate("bearer"))

    @api.get("/openapi.json")
    def show_document() -> ResponseReturnValue:
        return jsonify(make_document())

    @api.post("/jobs")
    def submit_job() -> ResponseReturnValue:
        job, params, started_by = _read_submission(_read_body())
        run = _or_refuse(lambda: runner.submit(job, params, started_by=started_by))
        return jsonify(id=run.id), 202

    @api.get("/jobs")
    def list_jobs() -> ResponseReturnValue:
        _refuse_others("limit", "offset", "job")
        limit, offset = _read_number("limit", 25, MAX_LISTED), _read_number("offset", 0, MAX_NUMBER)
        job = _read_job_name(runner)
        runs = runner.read_runs(limit, offset, job=job)
        return jsonify(total=runner.count_runs(job=job), jobs=[run.to_dict() for run in runs])

    @api.get("/jobs/<job_id>")
    def show_job(job_id: str) -> ResponseReturnValue:
        return jsonify(_find(runner, job_id).to_dict())

    @api.post("/jobs/<job_id>/cancel")
    def cancel_job(job_id: str) -> ResponseReturnValue:
        run = _find(runner, job_id)
        return jsonify(_or_refuse(lambda: runner.cancel(run.id)).to_dict())

    @api.post("/jobs/<job_id>/retry")
    def retry_job(job_id: str) -> ResponseReturnValue:
        run = _find(runner, job_id)
        only_failed = _read_only_failed(_read_body())
        again = _or_refuse(lambda: runner.retry(run.id, only_failed=only_failed, started_by="api"))
        return jsonify(id=again.id), 202

    @api.get("/status")
    def show_status() -> ResponseReturnValue:
        return jsonify(parts.status.read().to_dict())

    return api


def make_webhooks(secret: str, runner: JobRunner, metrics: Metrics) -> Blueprint:
    """Return /webhooks: each event is only a hint to pull soon."""
    webhooks = Blueprint("webhooks", __name__, url_prefix="/webhooks")

    @webhooks.post("/label-studio")
    def receive() -> ResponseReturnValue:
        # Label Studio sends this inside the annotator's request and gives up after a second: nothing here may wait.
        if not is_same_secret(request.headers.get(WEBHOOK_HEADER, ""), secret):
            metrics.webhooks.labels("refused").inc()
            raise Unauthorized("the secret is missing or wrong")
        metrics.webhooks.labels("taken").inc()
        runner.wake()
        return Response(status=204)

    return webhooks


def _or_refuse(start: Callable[[], Run]) -> Run:
    try:
        return start()
    except ServiceError:
        # The queue cannot be written: no fault of what was asked for.
        raise
    except LabelingError as error:
        raise BadRequest(str(error)) from error


def _find(runner: JobRunner, job_id: str) -> Run:
    # What no ledger can have counted to is no number of a run.
    is_number = job_id.isascii() and job_id.isdecimal() and int(job_id) <= MAX_NUMBER
    run = runner.read_run(int(job_id)) if is_number else None
    if run is None:
        raise NotFound(f"job {job_id} is not known")
    return run


def _refuse_others(*known: str) -> None:
    """Refuse what would be ignored: somebody misspelt it and takes the answer for another one."""
    unknown = sorted(set(request.args) - set(known))
    if unknown:
        raise BadRequest(f"{unknown[0]}: is not known (known: {', '.join(known)})")


def _read_job_name(runner: JobRunner) -> str | None:
    job = request.args.get("job")
    if job is not None and job not in runner.job_names:
        raise BadRequest(f"job {job!r} is not known (known: {', '.join(runner.job_names)})")
    return job


def _read_body() -> Any:
    """Return the JSON of the request; the framework's own words for what is none speak of browsers and proxies."""
    try:
        return request.get_json()
    except UnsupportedMediaType as error:
        raise UnsupportedMediaType("the body is no JSON: expected Content-Type: application/json") from error
    except BadRequest as error:
        raise BadRequest("the body is not valid JSON") from error


def _read_number(name: str, default: int, highest: int) -> int:
    text = request.args.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal()) or int(text) > highest:
        raise BadRequest(f"{name}: expected a whole number from 0 to {highest}")
    return int(text)


def _read_submission(body: Any) -> tuple[str, dict[str, Any], str]:
    if not isinstance(body, dict) or not isinstance(body.get("job"), str):
        raise BadRequest('expected {"job": name, "params": {...}}')
    unknown = sorted(body.keys() - {"job", "params", "started_by"})
    if unknown:
        raise BadRequest(f"{unknown[0]}: is not known (known: job, params, started_by)")
    params = body.get("params", {})
    if not isinstance(params, dict):
        raise BadRequest("params: expected an object")
    started_by = body.get("started_by", STARTERS[0])
    if started_by not in STARTERS:
        raise BadRequest(f"started_by: expected one of {', '.join(STARTERS)}")
    return body["job"], params, started_by


def _read_only_failed(body: Any) -> bool:
    if not isinstance(body, dict) or body.keys() - {"only_failed"}:
        raise BadRequest('expected {"only_failed": true or false}')
    only_failed = body.get("only_failed", False)
    if not isinstance(only_failed, bool):
        raise BadRequest("only_failed: expected true or false")
    return only_failed
