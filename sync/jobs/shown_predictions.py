"""Newer predictions for tasks that are there, and which version annotators see. Annotations are not touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from label_studio_sdk.label_interface.interface import LabelInterface
from more_itertools import chunked

from labels.errors import LabelingError
from labels.report import Failure, OnProgress, ignore_progress
from sync.jobs.context import Context
from sync.jobs.parcels import Parcel, make_parcels, to_failure, to_prediction, to_pushed
from sync.jobs.sending import announce_predictions
from sync.ledger import Link

TASKS_PER_IMPORT: Final = 500


@dataclass(slots=True)
class SentPredictions:
    """What became of predictions. ``unchanged`` tasks had theirs; ``newest_version`` None: none was sent."""

    sent: int = 0
    unchanged: int = 0
    failed: list[Failure] = field(default_factory=list)
    newest_version: str | None = None


def send_predictions_to(
    context: Context, sample_ids: Sequence[str], *, on_progress: OnProgress = ignore_progress
) -> SentPredictions:
    """Send the samples' predictions to their tasks where that version is not there yet; a second time does nothing.

    A sample without a task, or whose task was deleted, is left alone. Label Studio first, then the ledger.
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
        outcome.unchanged += len(links) - len(outdated)
        if outdated:
            _send_newer(context, outdated, outcome)
    return outcome


def _send_newer(context: Context, links: Mapping[str, Link], outcome: SentPredictions) -> None:
    interface = LabelInterface(context.config.xml)
    parcels, unsendable = make_parcels(context, list(links))
    outcome.failed += unsendable
    tasks = {links[parcel.image.sample_id].task_id: parcel for parcel in parcels if parcel.prediction is not None}
    found = {one.task_id: set(one.versions.values()) for one in context.label_studio.fetch_predictions(list(tasks))}
    context.ledger.record_gone([task_id for task_id in tasks if task_id not in found])
    predictions, good = [], list[Parcel]()
    for task_id, versions in found.items():
        parcel = tasks[task_id]
        try:
            prediction = to_prediction(context, parcel, interface) | {"task": task_id}
        except LabelingError as error:
            outcome.failed.append(to_failure(parcel.image, error))
            continue
        good.append(parcel)
        if parcel.model_version not in versions:
            predictions.append(prediction)
    if predictions:
        with announce_predictions(context, {one["task"]: one["model_version"] for one in predictions}):
            context.label_studio.send_predictions(predictions)
    context.ledger.record_pushed(to_pushed(good))
    context.ledger.record_model_versions({one.image.sample_id: str(one.model_version) for one in good})
    outcome.sent += len(predictions)
    outcome.unchanged += len(good) - len(predictions)
    outcome.newest_version = good[-1].model_version if good else outcome.newest_version


def show_version(context: Context, version: str | None) -> None:
    """Make annotators see this version's predictions: until the project names it, none is shown.

    None: the version shown stays, or where it is no task's, the most frequent one takes its place.
    """
    shown = context.label_studio.fetch_model_version()
    if version is None:
        counted = context.ledger.model_versions()
        version = shown if shown in counted else next(iter(counted), None)
    if version is not None and version != shown:
        context.label_studio.send_model_version(version)
