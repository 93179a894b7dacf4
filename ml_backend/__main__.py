"""Starts the ML backend: ``python -m ml_backend``, set up by environment variables (``ml_backend/settings.py``).

The model is loaded and warmed up before the port opens, so whoever gets an answer from /health gets predictions too.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from types import FrameType
from typing import Final

import waitress

from labels.errors import LabelingError
from ml_backend.app import create_app
from ml_backend.detectors import build_detector
from ml_backend.settings import Settings
from ml_backend.weights import resolve_weights

# Threads that no prediction ever takes: Label Studio gives /health one second, however busy the model is.
SPARE_THREADS: Final = 4


def main() -> None:
    """Load the model, then serve until stopped; what a person can fix is one line on stderr and exit code 1."""
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
        LabelingError: no weights, weights that cannot be loaded, or a port that is taken.
    """
    weights = resolve_weights(settings.model, models_dir=settings.models_dir, is_offline=settings.is_offline)
    app = create_app(settings, build_detector(weights.path, device=settings.device), weights)
    try:
        server = waitress.create_server(
            app,
            host=settings.host,
            port=settings.port,
            threads=settings.max_requests + SPARE_THREADS,
            max_request_body_size=settings.max_body_bytes,
            # Read ahead by one request, which is how a caller that hung up is noticed.
            channel_request_lookahead=1,
            ident=None,
        )
    except OSError as error:
        raise LabelingError(f"{settings.host}:{settings.port}: cannot listen ({error.strerror})") from error
    logging.getLogger("ml_backend").info("serving %s on %s:%d", weights.version, settings.host, settings.port)
    try:
        server.run()
    finally:
        app.extensions["engine"].close()


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    main()
