"""The description of the job API as OpenAPI 3.1; the tests call the API by it and compare every answer with it."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, Final

from sync.jobs.param_schemas import PARAM_SCHEMAS
from sync.jobs.parameters import READERS
from sync.ledger.run_rows import ENDS, STARTERS

MAX_NUMBER: Final = 2**53
"""Largest number of a run: what any JSON reader takes without rounding."""
STATES: Final = ("queued", "running", *sorted(ENDS))

Schema = dict[str, Any]


def make_document() -> Schema:
    """Return the document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "labelloop",
            "version": version("labelloop"),
            "description": "Starts the jobs that move labels, and tells how far they are.",
            "license": {"name": "AGPL-3.0-only", "identifier": "AGPL-3.0-only"},
        },
        "security": [{"token": []}],
        "paths": {
            "/api/jobs": {"get": _list_jobs(), "post": _submit_job()},
            "/api/jobs/{id}": {"parameters": [_ID], "get": _read_job()},
            "/api/jobs/{id}/cancel": {"parameters": [_ID], "post": _cancel_job()},
            "/api/jobs/{id}/retry": {"parameters": [_ID], "post": _retry_job()},
            "/api/status": {"get": _read_status()},
            "/api/openapi.json": {"get": _read_document()},
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Error": _ERROR, "Job": _JOB, "Started": _STARTED, "Status": _STATUS},
        },
    }


def _list_jobs() -> Schema:
    return {
        "operationId": "list_jobs",
        "summary": "The jobs, the newest first; long reports are left out",
        "parameters": [
            _query("limit", {"type": "integer", "minimum": 0, "maximum": 200, "default": 25}),
            _query("offset", {"type": "integer", "minimum": 0, "maximum": MAX_NUMBER, "default": 0}),
            _query("job", {"enum": sorted(READERS), "description": "Only jobs of this name"}),
        ],
        "responses": _answers(
            200,
            {
                "type": "object",
                "required": ["total", "jobs"],
                "properties": {"total": _count(), "jobs": {"type": "array", "items": _ref("Job")}},
                "additionalProperties": False,
            },
            400,
        ),
    }


def _submit_job() -> Schema:
    body = {"oneOf": [_submission(job) for job in sorted(READERS)]}
    return {
        "operationId": "submit_job",
        "summary": "Start a job: it waits for its turn, and its number comes back at once",
        "requestBody": _body(body),
        "responses": _answers(202, _ref("Started"), 400, 413, 415),
    }


def _submission(job: str) -> Schema:
    params = PARAM_SCHEMAS[job]
    needs_some = "required" in params or "else" in params
    return {
        "title": job,
        "type": "object",
        "required": ["job", *(["params"] if needs_some else [])],
        "properties": {
            "job": {"const": job},
            "params": params,
            "started_by": {"enum": ["api", "app"], "default": "api"},
        },
        "additionalProperties": False,
    }


def _read_job() -> Schema:
    return {
        "operationId": "read_job",
        "summary": "One job with its progress, later with its report",
        "responses": _answers(200, _ref("Job"), 404),
    }


def _cancel_job() -> Schema:
    return {
        "operationId": "cancel_job",
        "summary": "Cancel a job: one that waits at once, one that runs at its next step; one that is over stays",
        "responses": _answers(200, _ref("Job"), 400, 404),
    }


def _retry_job() -> Schema:
    body = {
        "type": "object",
        "properties": {"only_failed": {"type": "boolean", "default": False}},
        "additionalProperties": False,
    }
    return {
        "operationId": "retry_job",
        "summary": "Start a job again, or only for the samples that failed",
        "requestBody": _body(body),
        "responses": _answers(202, _ref("Started"), 400, 404, 413, 415),
    }


def _read_status() -> Schema:
    return {
        "operationId": "read_status",
        "summary": "Where the project stands",
        "responses": _answers(200, _ref("Status")),
    }


def _read_document() -> Schema:
    return {
        "operationId": "read_document",
        "summary": "This document",
        "responses": _answers(200, {"type": "object", "required": ["openapi", "paths"]}),
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _query(name: str, schema: Schema) -> Schema:
    return {"name": name, "in": "query", "required": False, "schema": schema}


def _body(schema: Schema) -> Schema:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _answers(code: int, schema: Schema, *errors: int) -> Schema:
    """Return the answer of a call that went well, and the errors, which all have one shape."""
    answers = {str(code): _answer("done", schema)}
    for error in sorted({*errors, 401, 503}):
        answers[str(error)] = _answer(_ERROR_TEXTS[error], _ref("Error"))
    return answers


def _answer(description: str, schema: Schema) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _count(*, can_be_null: bool = False) -> Schema:
    return {"type": ["integer", "null"] if can_be_null else "integer", "minimum": 0}


def _maybe(kind: str) -> Schema:
    return {"type": [kind, "null"]}


_ERROR_TEXTS: Final = {
    400: "what was asked for cannot be done",
    401: "the token is missing or wrong",
    404: "there is no such job",
    413: "the body is too large",
    415: "the body is no JSON",
    503: "a tool does not answer",
}
_ID: Final[Schema] = {
    "name": "id",
    "in": "path",
    "required": True,
    "schema": {"type": "integer", "minimum": 1, "maximum": MAX_NUMBER},
}
_ERROR: Final[Schema] = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string", "pattern": "^[^\\n]+$"}},
    "additionalProperties": False,
}
_STARTED: Final[Schema] = {
    "type": "object",
    "required": ["id"],
    "properties": {"id": {"type": "integer"}},
    "additionalProperties": False,
}
_JOB: Final[Schema] = {
    "type": "object",
    "required": ["id", "job", "params", "state", "progress", "message", "report", "error", "created_at"],
    "properties": {
        "id": {"type": "integer"},
        "job": {"type": "string"},
        "params": {"type": "object"},
        "state": {"enum": list(STATES)},
        "started_by": {"enum": [*STARTERS, None]},
        "created_at": {"type": "string"},
        "started_at": _maybe("string"),
        "ended_at": _maybe("string"),
        "progress": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        "message": {"type": "string"},
        "cancel_requested": {"type": "boolean"},
        "can_retry_failed": {"type": "boolean"},
        "attempt": {"type": "integer", "minimum": 1},
        "retry_of": _maybe("integer"),
        "error": _maybe("string"),
        "summary": _maybe("string"),
        "failed": _count(can_be_null=True),
        "conflicts": _count(can_be_null=True),
        "report": _maybe("object"),
    },
}
_STATUS: Final[Schema] = {
    "type": "object",
    "required": ["counts", "dataset", "model_version", "served_version", "links", "runs", "problem"],
    "properties": {
        "counts": {"type": "object", "additionalProperties": _count(can_be_null=True)},
        "dataset": _maybe("string"),
        "model_version": _maybe("string"),
        "served_version": _maybe("string"),
        "links": {"type": "object", "additionalProperties": {"type": "string"}},
        "runs": {"type": ["array", "null"]},
        "problem": _maybe("string"),
    },
}
