"""The job API for programs (bearer token) and the receiver of Label Studio's webhooks (shared secret)."""

from __future__ import annotations

import hmac
from typing import Any

from flask import Blueprint, Response, jsonify, request
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import BadRequest, NotFound, Unauthorized

from labels.errors import LabelingError
from sync.console.status import CachedStatus
from sync.jobs.runner import JobRunner

WEBHOOK_HEADER = "X-Labelloop-Secret"


def make_api(token: str, runner: JobRunner, status: CachedStatus) -> Blueprint:
    """Return /api: start a job, read it, read the status. Every call needs the token."""
    api = Blueprint("api", __name__, url_prefix="/api")

    @api.before_request
    def check_token() -> None:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not _is_same(given.strip(), token):
            raise Unauthorized("the token is missing or wrong", www_authenticate=WWWAuthenticate("bearer"))

    @api.post("/jobs")
    def submit_job() -> ResponseReturnValue:
        job, params = _read_submission(request.get_json())
        try:
            state = runner.submit(job, params)
        except LabelingError as error:
            raise BadRequest(str(error)) from error
        return jsonify(id=state.id), 202

    @api.get("/jobs/<job_id>")
    def show_job(job_id: str) -> ResponseReturnValue:
        state = runner.read_job(job_id)
        if state is None:
            raise NotFound(f"job {job_id} is not known")
        return jsonify(state.to_dict())

    @api.get("/status")
    def show_status() -> ResponseReturnValue:
        return jsonify(status.read().to_dict())

    return api


def make_webhooks(secret: str, runner: JobRunner) -> Blueprint:
    """Return /webhooks: each event is only a hint to pull soon."""
    webhooks = Blueprint("webhooks", __name__, url_prefix="/webhooks")

    @webhooks.post("/label-studio")
    def receive() -> ResponseReturnValue:
        # Label Studio sends this inside the annotator's request and gives up after a second: nothing here may wait.
        if not _is_same(request.headers.get(WEBHOOK_HEADER, ""), secret):
            raise Unauthorized("the secret is missing or wrong")
        runner.wake()
        return Response(status=204)

    return webhooks


def _is_same(given: str, expected: str) -> bool:
    """Compare in a time that tells nothing of the secret; bytes, since a header may hold more than ASCII."""
    return hmac.compare_digest(given.encode(), expected.encode())


def _read_submission(body: Any) -> tuple[str, dict[str, Any]]:
    if not isinstance(body, dict) or not isinstance(body.get("job"), str):
        raise BadRequest('expected {"job": name, "params": {...}}')
    params = body.get("params", {})
    if not isinstance(params, dict):
        raise BadRequest("params: expected an object")
    return body["job"], params
