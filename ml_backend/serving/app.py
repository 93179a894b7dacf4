"""The routes Label Studio calls. A view reads, calls once, answers; every error has the shape ``{"error": text}``."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import (
    BadRequest,
    Forbidden,
    HTTPException,
    MethodNotAllowed,
    NotFound,
    RequestEntityTooLarge,
)

from labels.config import LabelConfig
from labels.errors import LabelConfigError, LabelingError
from ml_backend.answers.predictions import to_failed_prediction
from ml_backend.imaging.images import to_line
from ml_backend.models.registered import ID
from ml_backend.serving.access import guard
from ml_backend.serving.bodies import (
    read_context,
    read_label_counts,
    read_object,
    read_score_threshold,
    read_tasks,
    read_text,
    write_answer,
)
from ml_backend.serving.engine import Answer as TaskAnswer
from ml_backend.serving.engine import BusyError, CancelledError, Engine
from ml_backend.serving.holding import LoadingError
from ml_backend.serving.metrics import CONTENT_TYPE
from ml_backend.serving.tasks import choose_lane, explain_failure, hide_paths, locate_bug, read_task_id
from ml_backend.serving.training_request import ask_for_training
from ml_backend.settings import MEGABYTE

logger = logging.getLogger(__name__)

START_TRAINING: Final = "START_TRAINING"
LONGEST_STATUS: Final = 300
PRIORITY_HEADER: Final = "X-Labelloop-Priority"
MODEL_NAME: Final = re.compile(rf"{ID.pattern}(,{ID.pattern})*")
Answer = Response | tuple[Response, int]


def create_app(engine: Engine) -> Flask:
    """Return the app that serves an engine, whose model may still be loading."""
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = engine.settings.max_body_bytes
    guard(app, engine.settings, engine.metrics)
    _add_status_routes(app, engine)
    _add_setup(app, engine)
    _add_predict(app, engine)
    _add_webhook(app, engine)
    _add_error_handlers(app, engine)

    @app.after_request
    def count_request(response: Response) -> Response:
        route = request.url_rule.rule if request.url_rule is not None else "unknown"
        engine.metrics.requests.labels(route, str(response.status_code)).inc()
        return response

    return app


def _add_status_routes(app: Flask, engine: Engine) -> None:
    @app.get("/")
    @app.get("/health")
    def health() -> Answer:
        """Say that we are here, also while the model is not: a 503 would be «Disconnected» in Label Studio."""
        state = engine.holder.read_state()
        return jsonify(
            status="UP",
            state=state.name,
            model_version=state.version,
            weights_source=engine.holder.get().source if state.is_ready else None,
        )

    @app.get("/ready")
    def ready() -> Answer:
        state = engine.holder.read_state()
        if not engine.is_alive:
            return jsonify(state="broken"), 503
        return jsonify(state=state.name), 200 if state.is_ready else 503

    @app.get("/versions")
    def versions() -> Answer:
        return jsonify(_describe_versions(engine))

    @app.post("/versions")
    def load_version() -> Answer:
        """Load other weights in the background; requests are answered by the old ones until these are ready."""
        if engine.settings.password is None:
            raise Forbidden("set LABELLOOP_ML_BACKEND_PASSWORD to change the model of a running server")
        body = read_object(request.stream)
        if body.get("reload") is True:
            engine.holder.start_reloading()
        else:
            engine.holder.start_loading(_read_model(body, configured=engine.settings.model))
        return jsonify(_describe_versions(engine)), 202

    @app.get("/metrics")
    def metrics() -> Answer:
        return Response(engine.metrics.render(), content_type=CONTENT_TYPE)


def _read_model(body: Mapping[str, Any], *, configured: str) -> str:
    """Return the model that is asked for, a name or several; a path only where it is the one of the settings."""
    name = read_text(body, "model")
    if name == configured:
        return name
    # Any path would let a caller have any file of this machine read.
    if not MODEL_NAME.fullmatch(name):
        raise BadRequest("model is not a name (or several, with commas between), nor the path in LABELLOOP_MODEL")
    members = name.split(",")
    doubled = next((member for member in members if members.count(member) > 1), None)
    if doubled is not None:
        raise BadRequest(f"model {doubled!r} is named twice (expected each member of an ensemble once)")
    return name


def _describe_versions(engine: Engine) -> dict[str, Any]:
    state = engine.holder.read_state()
    return {
        # Label Studio reads this list; all that were served since the start, the one that is now last.
        "versions": list(state.versions),
        "model_version": state.version,
        "state": state.name,
        "loading": None if state.loading is None else hide_paths(state.loading, engine.settings),
        "problem": None if state.problem is None else hide_paths(state.problem, engine.settings),
        "calibration": engine.holder.get().calibration if state.is_ready else None,
    }


def _add_setup(app: Flask, engine: Engine) -> None:
    @app.post("/setup")
    def setup() -> Answer:
        """Answer the model version at once: Label Studio calls this before every predict, and waits three seconds."""
        schema = read_object(request.stream).get("schema")
        state = engine.holder.read_state()
        answer: dict[str, Any] = {"model_version": state.version, "state": state.name, "unmapped_labels": None}
        if not isinstance(schema, str) or "toName" not in schema:
            # A new project has an empty config; refusing it would forbid to connect first and to configure then.
            answer["problem"] = "the project has no label config yet, nothing can be predicted"
            return jsonify(answer)
        config = LabelConfig.from_xml(schema)
        if state.is_ready:
            model = engine.holder.get()
            answer["calibration"] = model.calibration
            try:
                answer["unmapped_labels"] = list(model.find_unmapped_labels(schema))
            except LabelConfigError as error:
                # Another model may be for this config: a classifier is trained in a project that a detector serves.
                answer["unmapped_labels"] = [name for control in config.controls for name in control.classes]
                answer["problem"] = str(error)
        return jsonify(answer)


def _add_predict(app: Flask, engine: Engine) -> None:
    @app.post("/predict")
    def predict() -> Answer:
        """Answer one prediction for each task, in order; an annotator who draws (params.context) reads the first."""
        body = read_object(request.stream)
        tasks = read_tasks(body, max_tasks=engine.settings.max_tasks)
        # Who draws has one task open.
        xml, context = read_text(body, "label_config"), read_context(body) if len(tasks) == 1 else []
        is_batch = request.headers.get(PRIORITY_HEADER, "").lower() == "batch"
        lane = choose_lane(tasks, is_batch=is_batch)
        if engine.holder.read_state().version is None:
            # Label Studio could not tell which tasks have this version's predictions, and would store them twice.
            raise LoadingError("the model is being looked for, come back in a moment")
        with engine.admit(lane):
            ask = engine.prepare(
                xml, lane=lane, label_counts=read_label_counts(body), score_threshold=read_score_threshold(body)
            )
            if context and ask.model.assistant is not None:
                return _suggest(engine, tasks[0], lambda: engine.suggest(tasks[0], ask, context), ask.model.version)
            started = time.monotonic()
            failed = to_failed_prediction(ask.model.version) if context else []
            results, errors = _collect(engine.predict(tasks, ask, is_cancelled=_read_cancelled()), failed)
        seconds = time.monotonic() - started
        logger.info("predicted %d tasks, %d failed, in %.2f s (%s)", len(tasks), len(errors), seconds, lane.value)
        return Response(write_answer(results, errors), content_type="application/json")


def _add_webhook(app: Flask, engine: Engine) -> None:
    @app.post("/webhook")
    def webhook() -> Answer:
        """Take any event and act on START_TRAINING alone: what people draw is pulled by sync, not pushed here."""
        if read_object(request.stream).get("action") != START_TRAINING:
            return jsonify(status="ignored")
        asked = ask_for_training(engine.settings)
        if asked.run is None:
            logger.warning("%s: %s", START_TRAINING, asked.message)
            answer = jsonify(error=asked.message)
            # Label Studio shows people the status line, and nothing of the body.
            answer.status = (
                f"{asked.status} {to_line(asked.message, LONGEST_STATUS).encode('ascii', 'replace').decode()}"
            )
            return answer
        logger.info("%s: %s", START_TRAINING, asked.message)
        # Label Studio keeps the job's name.
        return jsonify(status="started", job=str(asked.run), message=asked.message)


def _collect(answers: Any, failed: Any) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the results as JSON, each made as soon as it is there, and what went wrong.

    A failed task has no prediction, which is not the same as an empty one: Label Studio would store that, show it as
    «nothing here», and never ask again. An empty list stores nothing.
    """
    results: list[str] = []
    errors: list[dict[str, Any]] = []
    answer: TaskAnswer
    for index, answer in enumerate(answers):
        results.append(json.dumps(failed if answer.prediction is None else answer.prediction))
        if answer.prediction is None:
            errors.append({"task": answer.task_id, "index": index, "error": answer.problem})
    return results, errors


def _suggest(engine: Engine, task: Any, suggest: Callable[[], dict[str, Any]], version: str) -> Answer:
    try:
        return jsonify(results=[suggest()], errors=[])
    except Exception as error:  # noqa: BLE001 - an annotator's click must not look like a broken server
        kind, problem = explain_failure(error, engine.settings)
        if not isinstance(error, LabelingError):
            logger.error("/predict: %s", locate_bug(error))
        engine.metrics.errors.labels(kind).inc()
        entry = {"task": read_task_id(task), "index": 0, "error": problem}
        return jsonify(results=[to_failed_prediction(version)], errors=[entry])


def _add_error_handlers(app: Flask, engine: Engine) -> None:
    metrics = engine.metrics

    @app.errorhandler(BusyError)
    @app.errorhandler(LoadingError)
    def come_back(error: BusyError | LoadingError) -> Answer:
        if isinstance(error, LoadingError):
            metrics.errors.labels("loading").inc()
        response = jsonify(error=hide_paths(str(error), engine.settings))
        response.headers["Retry-After"] = str(error.retry_after_s)
        return response, 503

    @app.errorhandler(CancelledError)
    def cancelled(error: CancelledError) -> Answer:
        # Nobody reads this; the status is for logs in between.
        return jsonify(error=str(error)), 503

    @app.errorhandler(LabelingError)
    def labeling_error(error: LabelingError) -> Answer:
        metrics.errors.labels("refused").inc()
        problem = hide_paths(str(error), engine.settings)
        logger.warning("%s: %s", request.path, problem)
        return jsonify(error=problem), 400 if isinstance(error, LabelConfigError) else 503

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Answer:
        metrics.errors.labels("refused").inc()
        return jsonify(error=_describe_refusal(error)), error.code or 500

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> Answer:
        metrics.errors.labels("unexpected").inc()
        logger.error("%s: %s", request.path, locate_bug(error))
        return jsonify(error="internal error, see the ML backend's log"), 500


def _describe_refusal(error: HTTPException) -> str:
    """Return what is said of a request that is refused: our own words, or ours for the framework's."""
    if isinstance(error, NotFound):
        return f"{to_line(request.path, 80)}: no such route"
    if isinstance(error, MethodNotAllowed):
        expected = " or ".join(sorted(set(error.valid_methods or ()) - {"HEAD", "OPTIONS"}))
        return f"{request.method} {to_line(request.path, 80)}: not allowed (expected {expected})"
    if isinstance(error, RequestEntityTooLarge):
        return f"the body is too large (expected at most {(request.max_content_length or 0) // MEGABYTE} MiB)"
    return error.description or error.name


def _read_cancelled() -> Callable[[], bool]:
    """Return the server's way to tell whether the caller hung up; without one, callers are taken to stay."""
    is_gone: Callable[[], bool] = request.environ.get("waitress.client_disconnected", lambda: False)
    return is_gone
