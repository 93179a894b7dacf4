"""``python -m sync.console``: the console of one home, with every job and what its page shows."""

from __future__ import annotations

import logging
import os
import sys
from functools import partial

from labels.errors import LabelingError
from sync.console.catalogue import ProjectCatalogue
from sync.console.server import serve
from sync.console.settings import ConsoleSettings
from sync.jobs.context import Services, has_project, open_context
from sync.jobs.parameters import check_params
from sync.jobs.registry import LONG_JOBS, make_callables
from sync.runs.runner import Runner


def main() -> int:
    """Serve until told to end; return the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # One line a request, or a message of the queue, says nothing that the jobs' reports do not.
    for name in ("httpx", "huey"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        settings = ConsoleSettings.from_environ(os.environ)
        services = Services.from_environ(os.environ)
        runner = Runner(
            settings.home,
            make_callables(),
            open_context=partial(open_context, settings.home, services),
            redis_url=settings.redis_url,
            schedule=settings.schedule,
            check_params=check_params,
            long_jobs=LONG_JOBS,
            is_ready=partial(has_project, settings.home),
        )
        serve(settings, runner, ProjectCatalogue(settings.home, services))
    except LabelingError as error:
        logging.getLogger(__name__).error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
