"""Runs the console as one process: the web server in the main thread, the jobs in another."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from types import FrameType

import waitress

from labels.errors import LabelingError
from sync.console.app import create_app
from sync.console.catalogue import Catalogue
from sync.console.charts import draw_columns
from sync.console.settings import ConsoleSettings
from sync.runs.runner import Runner

logger = logging.getLogger(__name__)

THREADS = 8
SWITCH_INTERVAL_S = 0.001
# The supervisor waits for eight.
WARM_UP_END_S = 6.0


def serve(settings: ConsoleSettings, runner: Runner, catalogue: Catalogue) -> None:
    """Serve until SIGTERM or SIGINT, then stop the running job at its next step. Main thread only.

    Raises:
        LabelingError: the address cannot be had, or another console runs on this home folder.
    """
    signal.signal(signal.SIGTERM, _exit)
    app = create_app(settings, runner, catalogue)
    try:
        server = waitress.create_server(app, host=settings.host, port=settings.port, threads=THREADS, ident="labelloop")
    except OSError as error:
        raise LabelingError(f"{settings.host}:{settings.port}: the console cannot listen there ({error})") from error
    # A job that computes hands over to a waiting request sooner: Label Studio waits for its webhook.
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    # FiftyOne and matplotlib take seconds to be imported: no visitor should wait for it.
    warming = threading.Thread(target=_warm_up, args=[catalogue], daemon=True)
    # All of it inside: the process may be asked to end at any line, also while the jobs are taken up.
    try:
        warming.start()
        runner.start()
        logger.info("console on http://%s:%s", settings.host, server.effective_port)
        server.run()
    finally:
        server.close()
        runner.stop()
        # Libraries of C++ abort the process when the interpreter goes while a thread imports them.
        if warming.ident is not None:
            warming.join(WARM_UP_END_S)


def _warm_up(catalogue: Catalogue) -> None:
    draw_columns("", [], {})
    try:
        catalogue.read_status()
    except LabelingError as error:
        # The page says it too, as long as it is so.
        logger.warning("%s", error)


def _exit(signum: int, frame: FrameType | None) -> None:
    # Waitress ends its loop on SystemExit, as it does on Ctrl-C.
    raise SystemExit(0)
