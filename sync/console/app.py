"""The console's Flask app: what every request meets before and after its view; the views are in api and pages."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from flask import Flask, Response, jsonify
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from labels.errors import LabelingError
from sync.console.api import make_api, make_webhooks
from sync.console.health import Health, fetch_health
from sync.console.pages import make_pages
from sync.console.settings import ConsoleSettings
from sync.console.status import CachedStatus, ReadStatus, Tool
from sync.jobs.runner import JobRunner

logger = logging.getLogger(__name__)

# 500,000 sample ids take 14 MB.
MAX_BODY_BYTES = 32 * 1024 * 1024
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def create_app(
    settings: ConsoleSettings,
    runner: JobRunner,
    read_status: ReadStatus,
    *,
    fetch_health: Callable[[Sequence[Tool] | None], Mapping[str, Health]] = fetch_health,
) -> Flask:
    """Return the console over a runner and a way to read the project's state; starts nothing."""
    app = Flask(__name__)
    # A web page that makes its own name point to 127.0.0.1 reaches us under that name, and is turned away by it.
    app.config["TRUSTED_HOSTS"] = settings.trusted_hosts
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.json.sort_keys = False  # type: ignore[attr-defined]  # the default provider has it, the base class does not
    status = CachedStatus(read_status)
    app.register_blueprint(make_api(settings.token, runner, status))
    app.register_blueprint(make_webhooks(settings.webhook_secret, runner))
    app.register_blueprint(make_pages(runner, status, fetch_health))
    app.register_error_handler(Exception, _answer_error)
    app.after_request(_add_security_headers)
    return app


def _answer_error(error: Exception) -> ResponseReturnValue:
    """Answer any error in the one shape; what we did not foresee goes to the log, not to the caller."""
    if isinstance(error, HTTPException):
        code = error.code or 500
        return jsonify(error=error.description or error.name), code, _kept_headers(error)
    if isinstance(error, LabelingError):
        return jsonify(error=str(error)), 503
    logger.error("request failed", exc_info=error)
    return jsonify(error="internal error; the console's log has the details"), 500


def _kept_headers(error: HTTPException) -> dict[str, str]:
    """Return what a client needs of an error's headers: how to log in, which methods there are."""
    kept = ("WWW-Authenticate", "Allow")
    return {name: value for name, value in error.get_headers() if name in kept}


def _add_security_headers(response: Response) -> Response:
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    return response
