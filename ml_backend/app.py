"""The routes Label Studio calls. A view reads, calls once, answers; every error has the shape ``{"error": text}``."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Final

from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import BadRequest, HTTPException

from labels.errors import LabelConfigError, LabelingError
from ml_backend.batching import BusyError
from ml_backend.detectors import Detector
from ml_backend.engine import CancelledError, Engine
from ml_backend.metrics import Metrics
from ml_backend.settings import Settings
from ml_backend.weights import Weights

logger = logging.getLogger(__name__)

NO_TRAINING: Final = "training is not available in this version of the ML backend"
Answer = Response | tuple[Response, int]


def create_app(settings: Settings, detector: Detector, weights: Weights) -> Flask:
    """Return the app that serves a loaded detector; ``app.extensions["engine"]`` is to be closed after it.

    Its thread for the model starts here, so a process that forks must do so before.
    """
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    engine = Engine(settings, detector, model_version=weights.version, metrics=Metrics())
    app.extensions["engine"] = engine
    _add_status_routes(app, engine, settings, weights)
    _add_work_routes(app, engine, settings)
    _add_error_handlers(app, engine.metrics)

    @app.before_request
    def count_request() -> None:
        engine.metrics.count("requests")

    return app


def _add_status_routes(app: Flask, engine: Engine, settings: Settings, weights: Weights) -> None:
    @app.get("/")
    @app.get("/health")
    def health() -> Answer:
        return jsonify(
            status="UP",
            model_version=engine.model_version,
            model_dir=str(settings.models_dir),
            weights_source=weights.source,
        )

    @app.get("/versions")
    def versions() -> Answer:
        return jsonify(versions=[engine.model_version])

    @app.get("/metrics")
    def metrics() -> Answer:
        return jsonify(engine.metrics.to_dict())


def _add_work_routes(app: Flask, engine: Engine, settings: Settings) -> None:
    @app.post("/setup")
    def setup() -> Answer:
        """Answer the model version at once: Label Studio calls this before every predict, and waits three seconds."""
        schema = _read_object().get("schema")
        answer: dict[str, Any] = {"model_version": engine.model_version, "unmapped_labels": []}
        if not isinstance(schema, str) or "toName" not in schema:
            # A new project has an empty config; refusing it would forbid to connect first and to configure then.
            answer["problem"] = "the project has no label config yet, nothing can be predicted"
        else:
            answer["unmapped_labels"] = list(engine.plans.get(schema).unmapped_labels)
        return jsonify(answer)

    @app.post("/predict")
    def predict() -> Answer:
        """Answer one prediction for each task, in order; an annotator who draws (params.context) reads the first."""
        body = _read_object()
        tasks = _read_tasks(body, max_tasks=settings.max_tasks)
        plan = engine.plans.get(_read_text(body, "label_config"))
        started = time.monotonic()
        outcome = engine.predict(tasks, plan, is_cancelled=_read_cancelled())
        seconds = time.monotonic() - started
        logger.info("predicted %d tasks, %d failed, in %.2f s", len(tasks), len(outcome.errors), seconds)
        return jsonify(results=outcome.results, errors=outcome.errors)

    @app.post("/webhook")
    def webhook() -> Answer:
        """Take any event. There is nothing to do for one yet: what people draw is pulled by sync, not pushed here."""
        action = _read_object().get("action")
        engine.metrics.count("webhooks")
        if action == "START_TRAINING":
            logger.warning("START_TRAINING: %s", NO_TRAINING)
            return jsonify(error=NO_TRAINING), 501
        logger.debug("webhook: %.40s", action)
        return jsonify(status="ignored")


def _add_error_handlers(app: Flask, metrics: Metrics) -> None:
    @app.errorhandler(BusyError)
    def busy(error: BusyError) -> Answer:
        response = jsonify(error=str(error))
        response.headers["Retry-After"] = str(error.retry_after_s)
        return response, 503

    @app.errorhandler(CancelledError)
    def cancelled(error: CancelledError) -> Answer:
        # Nobody reads this; the status is for logs in between.
        return jsonify(error=str(error)), 503

    @app.errorhandler(LabelingError)
    def labeling_error(error: LabelingError) -> Answer:
        metrics.count("refused_requests")
        logger.warning("%s: %s", request.path, error)
        return jsonify(error=str(error)), 400 if isinstance(error, LabelConfigError) else 503

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Answer:
        metrics.count("refused_requests")
        return jsonify(error=error.description or error.name), error.code or 500

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> Answer:
        metrics.count("internal_errors")
        logger.error("%s: unexpected", request.path, exc_info=error)
        return jsonify(error="internal error, see the ML backend's log"), 500


def _read_object() -> dict[str, Any]:
    try:
        body = request.get_json(force=True)
    except RecursionError as error:
        raise BadRequest("the body is nested too deeply") from error
    if not isinstance(body, dict):
        raise BadRequest("the body is not a JSON object")
    return body


def _read_tasks(body: dict[str, Any], *, max_tasks: int) -> list[Any]:
    tasks = body.get("tasks")
    if not isinstance(tasks, list):
        raise BadRequest("tasks is not a list")
    if len(tasks) > max_tasks:
        raise BadRequest(f"{len(tasks)} tasks in one request (expected at most {max_tasks})")
    return tasks


def _read_text(body: dict[str, Any], key: str) -> str:
    text = body.get(key)
    if not isinstance(text, str):
        raise BadRequest(f"{key} is missing")
    return text


def _read_cancelled() -> Callable[[], bool]:
    """Return the server's way to tell whether the caller hung up; without one, callers are taken to stay."""
    is_gone: Callable[[], bool] = request.environ.get("waitress.client_disconnected", lambda: False)
    return is_gone
