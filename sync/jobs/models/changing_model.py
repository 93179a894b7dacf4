"""What promoting and rolling back do to the running project: one at a time, another model is served and remembered.

Order of writes: the ML backend serves the model, the ledger notes the change as one under way, ``project.json`` names
the model, a ``prelabel`` waits, and last the ledger has the change. What was killed before ``project.json`` did not
happen and is begun anew; what was killed after it is finished by the next promotion or roll-back, whatever that is for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from filelock import FileLock, Timeout

from labels.errors import LabelingError, ServiceError
from labels.report import OnProgress
from sync.jobs.context import Context
from sync.jobs.models.evaluate import read_current
from sync.ledger import Promotion
from sync.settings import Project

LOCK_NAME: Final = "promotion.lock"
PRELABEL: Final[dict[str, Any]] = {"unreviewed": True}
SOMEBODY: Final = "somebody"
FINISHED: Final = "finished what was begun"


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


def change_model(context: Context, change: Promotion, on_progress: OnProgress) -> list[str]:
    """Put a model in the place of another, for the ML backend, the project and the ledger.

    Raises:
        ServiceError: the ML backend cannot load it; all stays as it is.
    """
    _serve(context, change.model, on_progress)
    context.ledger.record_changing(change)
    project = Project.read(context.home) or context.project
    if project.model != change.model:
        replace(project, model=change.model).write(context.home)
    return [f"the ML backend serves {change.model}, without a restart", _note(context, change)]


def _note(context: Context, change: Promotion) -> str:
    """Have what nobody reviewed drawn anew, then note the change; say what waits."""
    waiting = _queue_prelabel(context)
    context.ledger.record_promotion(change)
    return waiting


def find_begun(context: Context) -> Promotion | None:
    """Return the change that was ended after the project had the model and before the ledger knew; None: none was."""
    change = context.ledger.changing()
    return change if change is not None and change.model == read_current(context) else None


def finish_begun(context: Context) -> Promotion | None:
    """Finish a change that was ended on its way, and return it; None: none was.

    The ML backend is not asked: it had the model before the project did.

    Raises:
        LabelingError: somebody changes the model now.
    """
    with change_alone(context):
        change = find_begun(context)
        if change is not None:
            _note(context, change)
        return change


def _serve(context: Context, model: str, on_progress: OnProgress) -> None:
    on_progress(None, f"the ML backend loads {model}")
    # No step in between can be cancelled: the backend takes the model over whoever waits for it.
    if not _is_version(context.backend.fetch_model_version(), model):
        context.backend.load(model)
        served = context.backend.fetch_model_version()
        if not _is_version(served, model) and "," not in model:
            raise ServiceError(
                f"the ML backend serves {served}, not {model}: its models folder is not {context.home.models}"
            )


def _is_version(served: str, model: str) -> bool:
    """Return whether a served version is this model, whatever options and calibration it runs with."""
    return served == model or served.startswith((f"{model}-", f"{model}+"))


def _queue_prelabel(context: Context) -> str:
    """Have the console draw anew what nobody has reviewed; it looks once a minute for what waits."""
    run_id = context.ledger.record_run_queued("prelabel", PRELABEL, started_by="promote", unless="waiting")
    if run_id is None:
        return "a prelabel waits already: it draws anew what is not reviewed"
    return f"prelabel waits as run {run_id}: the console starts it within a minute"
