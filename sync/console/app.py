"""The console's Flask app: what every request meets before and after its view; the views are in their own modules."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from flask import Flask, Response, jsonify, render_template, request
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import (
    BadRequest,
    HTTPException,
    MethodNotAllowed,
    NotFound,
    RequestEntityTooLarge,
    SecurityError,
)

from labels.errors import LabelingError
from sync.console.access import guard
from sync.console.api import make_api, make_webhooks
from sync.console.catalogue import Catalogue
from sync.console.health import fetch_health, make_health
from sync.console.layout import add_layout
from sync.console.metrics import Metrics, make_metrics
from sync.console.pages import PAGES
from sync.console.parts import FetchHealth, Parts
from sync.console.previews import Previews
from sync.console.sessions import Sessions
from sync.console.settings import ConsoleSettings
from sync.console.status import CachedStatus
from sync.runs.job_runner import JobRunner

logger = logging.getLogger(__name__)

# 500,000 sample ids take 14 MB.
MAX_BODY_BYTES = 32 * 1024 * 1024
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # The forms' check asks for it where the console is reached by https; nobody else is told.
    "Referrer-Policy": "same-origin",
    # What the pages show belongs to whoever is logged in.
    "Cache-Control": "no-store",
}
JSON_BLUEPRINTS = ("api", "webhooks", "metrics", "health", "images", "live")
JSON_PREFIXES = ("/api/", "/webhooks/")
ENDED_SESSIONS_NAME = "console_logouts.json"


def create_app(
    settings: ConsoleSettings,
    runner: JobRunner,
    catalogue: Catalogue,
    *,
    fetch_health: FetchHealth = fetch_health,
    clock: Callable[[], float] = time.time,
) -> Flask:
    """Return the console over a runner and what is known of the project; starts nothing."""
    app = Flask(__name__)
    # A web page that makes its own name point to 127.0.0.1 reaches us under that name, and is turned away by it.
    app.config["TRUSTED_HOSTS"] = settings.trusted_hosts
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.json.sort_keys = False  # type: ignore[attr-defined]  # the default provider has it, the base class does not
    status = CachedStatus(catalogue.read_status)
    parts = Parts(settings, runner, catalogue, status, Previews(), fetch_health)
    sessions = Sessions(settings.password_file, settings.home.run / ENDED_SESSIONS_NAME, clock)
    metrics = Metrics(parts)
    metrics.watch(app)
    csrf = guard(app, settings, sessions)
    for blueprint in (
        make_api(parts),
        make_webhooks(settings.webhook_secret, runner, metrics),
        make_metrics(metrics, settings.token, sessions),
    ):
        csrf.exempt(blueprint)
        app.register_blueprint(blueprint)
    app.register_blueprint(make_health())
    for make_page in PAGES:
        app.register_blueprint(make_page(parts))
    add_layout(app, parts, sessions)
    app.register_error_handler(Exception, _answer_error)
    app.after_request(_add_security_headers)
    return app


def _answer_error(error: Exception) -> ResponseReturnValue:
    """Answer any error: JSON of one shape to a program, a page to a person; what we did not foresee goes to the log."""
    if isinstance(error, CSRFError):
        code, text, headers = 400, f"{error.description} Load the page again and repeat what you did.", {}
    elif isinstance(error, HTTPException):
        code, text, headers = error.code or 500, _describe(error), _kept_headers(error)
    elif isinstance(error, LabelingError):
        code, text, headers = 503, str(error), {}
    else:
        logger.error("request failed", exc_info=error)
        code, text, headers = 500, "internal error; the console's log has the details", {}
    if _is_for_a_program() or isinstance(error, SecurityError):
        return jsonify(error=" ".join(text.split())), code, headers
    return render_template("error.html", code=code, text=text), code, headers


def _describe(error: HTTPException) -> str:
    """Return an error in our words: the framework's speak of browsers, proxies and spelling."""
    if error.description != type(error).description:
        return error.description or error.name
    match error:
        case NotFound():
            return f"{request.path}: there is no such page or call"
        case MethodNotAllowed():
            allowed = ", ".join(sorted(error.valid_methods or ()))
            return f"{request.path}: {request.method} is not allowed (allowed: {allowed})"
        case RequestEntityTooLarge():
            return f"the body is too large (at most {MAX_BODY_BYTES // 2**20} MB)"
        case SecurityError():
            return "this is no name of the console; LABELLOOP_CONSOLE_HOSTS lists those it answers to"
        case BadRequest():
            return "the request cannot be read"
        case _:
            return error.name.lower()


def _is_for_a_program() -> bool:
    asks_for_json = request.blueprint in JSON_BLUEPRINTS or request.path.endswith(".json")
    return asks_for_json or request.path.startswith(JSON_PREFIXES)


def _kept_headers(error: HTTPException) -> dict[str, str]:
    """Return what a client needs of an error's headers: how to log in, which methods there are."""
    kept = ("WWW-Authenticate", "Allow", "Retry-After")
    return {name: value for name, value in error.get_headers() if name in kept}


def _add_security_headers(response: Response) -> Response:
    for name, value in SECURITY_HEADERS.items():
        if not (name == "Cache-Control" and request.endpoint == "static"):
            response.headers.setdefault(name, value)
    return response
