"""Newer predictions for tasks that are there, and which version annotators see. Annotations are not touched."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from label_studio_sdk.label_interface.interface import LabelInterface
from more_itertools import chunked

from labels import fields
from labels.errors import LabelingError
from labels.report import Failure, OnProgress, ignore_progress
from labels.results import Label
from sync.jobs.context import Context
from sync.jobs.exchange.parcels import Parcel, has_same_labels, make_parcels, to_failure, to_prediction, to_pushed
from sync.jobs.exchange.sending import announce_predictions
from sync.ledger import Link, Replaced
from sync.workbench.label_studio import RefusedError, to_timestamp

TASKS_PER_IMPORT: Final = 500
UNKNOWN_VERSION_STATUS: Final = 400
"""Label Studio's answer where no task has a prediction of the version that it is to show."""


@dataclass(slots=True)
class SentPredictions:
    """What became of predictions. ``unchanged`` tasks had theirs; ``newest_version`` None: none was sent."""

    sent: int = 0
    unchanged: int = 0
    failed: list[Failure] = field(default_factory=list)
    newest_version: str | None = None


def send_predictions_to(
    context: Context,
    sample_ids: Sequence[str],
    *,
    drawn_anew: Collection[str] = (),
    on_progress: OnProgress = ignore_progress,
) -> SentPredictions:
    """Send the samples' predictions to their tasks where that version is not there yet; a second time does nothing.

    A sample without a task, or whose task was deleted, is left alone. Of those of ``drawn_anew`` that wait for people,
    what the same version drew before gives way to what it draws now. Label Studio first, then the ledger.
    """
    outcome = SentPredictions()
    for done, chunk in enumerate(chunked(sample_ids, TASKS_PER_IMPORT)):
        on_progress(done * TASKS_PER_IMPORT / len(sample_ids), "sending predictions")
        links = {key: link for key, link in context.ledger.links(chunk).items() if not link.is_gone}
        versions = context.dataset.prediction_versions(list(links))
        outdated = {
            key: links[key]
            for key, version in versions.items()
            if version is not None and version != links[key].model_version
        }
        anew = {
            key: link
            for key, link in links.items()
            if key in drawn_anew and key not in outdated and link.state == fields.QUEUED
        }
        outcome.unchanged += len(links) - len(outdated) - len(anew)
        if outdated or anew:
            _send_newer(context, outdated | anew, drawn_anew, outcome)
    return outcome


def _send_newer(
    context: Context, links: Mapping[str, Link], drawn_anew: Collection[str], outcome: SentPredictions
) -> None:
    interface = LabelInterface(context.config.xml)
    parcels, unsendable = make_parcels(context, list(links))
    outcome.failed += unsendable
    tasks = {links[parcel.image.sample_id].task_id: parcel for parcel in parcels if parcel.prediction is not None}
    found = {one.task_id: one.versions for one in context.label_studio.fetch_predictions(list(tasks))}
    context.ledger.record_gone([task_id for task_id in tasks if task_id not in found])
    pushed = context.ledger.pushed_versions([parcel.image.sample_id for parcel in tasks.values()])
    new, changed, good = list[Mapping[str, Any]](), list[_Change](), list[Parcel]()
    for task_id, versions in found.items():
        parcel = tasks[task_id]
        try:
            prediction = to_prediction(context, parcel, interface) | {"task": task_id}
        except LabelingError as error:
            outcome.failed.append(to_failure(parcel.image, error))
            continue
        good.append(parcel)
        there = [prediction_id for prediction_id, version in versions.items() if version == parcel.model_version]
        before = pushed.get(parcel.image.sample_id, {}).get(str(parcel.model_version))
        if not there:
            new.append(prediction)
        elif parcel.image.sample_id in drawn_anew and before is not None and _is_other(parcel, before):
            changed.append(_Change(parcel, before, there, prediction))
    if new:
        with announce_predictions(context, {one["task"]: one["model_version"] for one in new}):
            context.label_studio.send_predictions(new)
    _replace(context, changed)
    context.ledger.record_pushed(to_pushed(good))
    context.ledger.record_model_versions({one.image.sample_id: str(one.model_version) for one in good})
    outcome.sent += len(new) + len(changed)
    outcome.unchanged += len(good) - len(new) - len(changed)
    outcome.newest_version = good[-1].model_version if good else outcome.newest_version


@dataclass(frozen=True, slots=True)
class _Change:
    """A prediction that is to take the place of what its version had drawn ``before``; ``there`` are its numbers."""

    parcel: Parcel
    before: tuple[Label, ...]
    there: Sequence[int]
    prediction: Mapping[str, Any]


def _is_other(parcel: Parcel, before: Sequence[Label]) -> bool:
    return parcel.prediction is not None and not has_same_labels(parcel.prediction.labels, before)


def _replace(context: Context, changes: Sequence[_Change]) -> None:
    """Put what was drawn anew in the place of what was there.

    In its place: somebody may have the task open, and what is made from a prediction that is gone cannot be submitted.
    The ledger keeps what they were shown.
    """
    if not changes:
        return
    until = to_timestamp(context.patience.now())
    context.ledger.record_replaced(
        Replaced(change.parcel.image.sample_id, str(change.parcel.model_version), until, change.before)
        for change in changes
    )
    for change in changes:
        for prediction_id in change.there:
            context.label_studio.send_prediction_result(
                prediction_id,
                change.prediction["task"],
                change.prediction["result"],
                score=change.prediction["score"],
            )


def show_version(context: Context, version: str | None) -> None:
    """Make annotators see this version's predictions: until the project names it, none is shown.

    None: the version shown stays, or where it is no task's, the most frequent one takes its place.
    """
    shown = context.label_studio.fetch_model_version()
    if version is None:
        counted = context.ledger.model_versions()
        version = shown if shown in counted else next(iter(counted), None)
    if version is None or version == shown:
        return
    try:
        context.label_studio.send_model_version(version)
    except RefusedError as error:
        # Somebody has deleted all predictions of that version, or their tasks: there is nothing to show.
        if error.status_code != UNKNOWN_VERSION_STATUS:
            raise
