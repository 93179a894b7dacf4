"""Runs the console as one process: the web server in the main thread, the jobs in another."""

from __future__ import annotations

import logging
import signal
from types import FrameType

import waitress

from labels.errors import LabelingError
from sync.console.app import create_app
from sync.console.settings import ConsoleSettings
from sync.console.status import ReadStatus
from sync.jobs.runner import Runner

logger = logging.getLogger(__name__)

THREADS = 8


def serve(settings: ConsoleSettings, runner: Runner, read_status: ReadStatus) -> None:
    """Serve until SIGTERM or SIGINT, then stop the running job at its next step. Main thread only.

    Raises:
        LabelingError: the address cannot be had, or another console runs on this home folder.
    """
    app = create_app(settings, runner, read_status)
    try:
        server = waitress.create_server(app, host=settings.host, port=settings.port, threads=THREADS, ident="labelloop")
    except OSError as error:
        raise LabelingError(f"{settings.host}:{settings.port}: the console cannot listen there ({error})") from error
    signal.signal(signal.SIGTERM, _exit)
    runner.start()
    try:
        logger.info("console on http://%s:%s", settings.host, server.effective_port)
        server.run()
    finally:
        server.close()
        runner.stop()


def _exit(signum: int, frame: FrameType | None) -> None:
    # Waitress ends its loop on SystemExit, as it does on Ctrl-C.
    raise SystemExit(0)
