"""Roll back: a model that was current before takes the place of the present one; nothing is measured."""

from __future__ import annotations

from typing import Final, Literal

from labels.errors import LabelingError
from labels.report import OnProgress, Report, ignore_progress
from sync.jobs.context import Context
from sync.jobs.models.changing_model import FINISHED, SOMEBODY, change_alone, change_model, find_begun, finish_begun
from sync.jobs.models.evaluate import read_current
from sync.jobs.models.judging import find_model
from sync.ledger import Promotion
from sync.models.registry import Registry

ROLLED_BACK: Final[Literal["rolled back"]] = "rolled back"


def rollback(
    context: Context,
    *,
    to: str | None = None,
    by: str = SOMEBODY,
    reason: str | None = None,
    dry_run: bool = False,
    on_progress: OnProgress = ignore_progress,
) -> Report:
    """Put the model back that was current before the present one, or another registered one.

    A roll-back that was ended on its way is finished, and goes no further back for it.

    Raises:
        LabelingError: there is none, it is not registered, or its files are not what they were.
        ServiceError: the ML backend cannot load it; the present one stays.
    """
    begun = find_begun(context) if dry_run else finish_begun(context)
    if begun is not None and begun.action == ROLLED_BACK and to in (None, begun.model):
        said = f"{FINISHED}: from {begun.previous} to {begun.model}"
        return Report("rollback", moved=1, notes=(said,), is_dry_run=dry_run)
    current = read_current(context)
    target = to or _find_previous(context, current)
    if to is not None:
        Registry(context.home).read(to)
    find_model(context.home, target)  # it checks the files
    if target == current:
        return Report("rollback", unchanged=1, notes=(f"{target} is the current model already",), is_dry_run=dry_run)
    note = f"from {current} to {target}"
    if dry_run:
        return Report("rollback", moved=1, notes=(note,), is_dry_run=True)
    with change_alone(context):
        notes = change_model(context, Promotion(target, current, ROLLED_BACK, by, reason=reason), on_progress)
    return Report("rollback", moved=1, notes=(note, *notes))


def _find_previous(context: Context, current: str) -> str:
    """Return what was current before; a roll-back is no promotion, so that the next one goes further back."""
    for one in context.ledger.promotions():
        if one.model == current and one.action != ROLLED_BACK and one.previous is not None:
            return one.previous
    registered = ", ".join(Registry(context.home).ids()) or "none"
    raise LabelingError(
        f"{current}: no model was before it; name one of the registered ones with --to (registered: {registered})"
    )
