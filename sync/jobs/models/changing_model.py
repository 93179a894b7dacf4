"""What promoting and rolling back do to the running project: one at a time, another model is served and remembered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from filelock import FileLock, Timeout

from labels.errors import LabelingError, ServiceError
from labels.report import OnProgress
from sync.jobs.context import Context
from sync.settings import Project

LOCK_NAME: Final = "promotion.lock"
PRELABEL: Final[dict[str, Any]] = {"unreviewed": True}
SOMEBODY: Final = "somebody"


@contextmanager
def change_alone(context: Context) -> Iterator[None]:
    """Keep others from changing the model meanwhile.

    Raises:
        LabelingError: somebody does.
    """
    context.home.run.mkdir(parents=True, exist_ok=True)
    lock = FileLock(context.home.run / LOCK_NAME, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise LabelingError("another promotion is under way; try again when it has ended") from None
    try:
        yield
    finally:
        lock.release()


def serve_model(context: Context, model: str, on_progress: OnProgress) -> list[str]:
    """Have the ML backend serve a model, and remember it as the project's; twice is once."""
    on_progress(None, f"the ML backend loads {model}")
    # No step in between can be cancelled: the backend takes the model over whoever waits for it.
    if not _is_version(context.backend.fetch_model_version(), model):
        context.backend.load(model)
        served = context.backend.fetch_model_version()
        if not _is_version(served, model) and "," not in model:
            raise ServiceError(
                f"the ML backend serves {served}, not {model}: its models folder is not {context.home.models}"
            )
    project = Project.read(context.home) or context.project
    if project.model != model:
        replace(project, model=model).write(context.home)
    return [f"the ML backend serves {model}, without a restart"]


def _is_version(served: str, model: str) -> bool:
    """Return whether a served version is this model, whatever options and calibration it runs with."""
    return served == model or served.startswith((f"{model}-", f"{model}+"))


def queue_prelabel(context: Context) -> str:
    """Have the console draw anew what nobody has reviewed; it looks once a minute for what waits."""
    run_id = context.ledger.record_run_queued("prelabel", PRELABEL, started_by="promote", unless="waiting")
    if run_id is None:
        return "a prelabel waits already: it draws anew what is not reviewed"
    return f"prelabel waits as run {run_id}: the console starts it within a minute"
