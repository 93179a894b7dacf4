"""Starts the ML backend: ``python -m ml_backend``, set up by environment variables (``ml_backend/settings.py``).

The port opens at once and the model is loaded in the background; when the first one cannot be, the program ends.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from functools import partial
from types import FrameType
from typing import Any, Final

import waitress

from labels.errors import LabelingError
from ml_backend.models.building import import_libraries
from ml_backend.serving.app import create_app
from ml_backend.serving.engine import Engine
from ml_backend.serving.holding import LoadState, ModelHolder
from ml_backend.serving.loading import load_model
from ml_backend.serving.metrics import Metrics
from ml_backend.serving.process import keep_answering, spare_the_cores
from ml_backend.serving.swapped import read_swapped, record_swapped
from ml_backend.settings import Settings

# Threads that no prediction ever takes: Label Studio gives /health one second, however busy the model is.
SPARE_THREADS: Final = 4


def main() -> None:
    """Serve until stopped; what a person can fix is one line on stderr and exit code 1."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.captureWarnings(True)
    signal.signal(signal.SIGTERM, _stop)
    try:
        serve(Settings.from_environment(os.environ))
    except LabelingError as error:
        sys.exit(f"ml_backend: {error}")


def serve(settings: Settings) -> None:
    """Serve until interrupted.

    Raises:
        LabelingError: a port that is taken, no weights, or weights that cannot be loaded.
    """
    spare_the_cores()
    swapped = read_swapped(settings.models_dir, settings.model)
    import_libraries(swapped or settings.model)
    with keep_answering():
        state = _serve(settings, swapped)
    if not state.is_ready and state.problem is not None:
        raise LabelingError(state.problem)
    if state.loading is not None:
        # The libraries do not like it when the interpreter goes while they load a model.
        logging.shutdown()
        os._exit(0)


def _serve(settings: Settings, swapped: str | None) -> LoadState:
    """Serve until interrupted, and return where loading stood then."""
    metrics = Metrics()
    remember = partial(record_swapped, settings.models_dir, settings.model)
    holder = ModelHolder(partial(load_model, settings), metrics=metrics, remember=remember)
    engine = Engine(settings, holder, metrics=metrics)
    server = _listen(settings, engine)
    logging.getLogger("ml_backend").info("listening on %s:%d", settings.host, settings.port)
    if swapped is not None:
        logging.getLogger("ml_backend").info("going on with %s, not with %s: it was changed", swapped, settings.model)
    holder.start_loading(swapped or settings.model, otherwise=None if swapped is None else settings.model)
    try:
        # The end without a model may come before the server runs, whose own way to stop is to raise nothing.
        with contextlib.suppress(SystemExit):
            threading.Thread(target=_end_without_model, args=(holder,), daemon=True).start()
            server.run()
    finally:
        engine.close()
        server.close()
    return holder.read_state()


def _listen(settings: Settings, engine: Engine) -> Any:
    try:
        return waitress.create_server(
            create_app(engine),
            host=settings.host,
            port=settings.port,
            threads=settings.max_requests + settings.max_batch_jobs + SPARE_THREADS,
            max_request_body_size=settings.max_body_bytes,
            # Read ahead by one request, which is how a caller that hung up is noticed.
            channel_request_lookahead=1,
            ident=None,
        )
    except OSError as error:
        raise LabelingError(f"{settings.host}:{settings.port}: cannot listen ({error.strerror})") from error


def _end_without_model(holder: ModelHolder) -> None:
    holder.wait()
    if not holder.read_state().is_ready:
        os.kill(os.getpid(), signal.SIGTERM)


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    main()
