"""Prelabel: images through the ML backend, predictions and uncertainty into the catalogue."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from more_itertools import chunked

from labels.errors import ItemError
from labels.results import from_result
from sync.backend import BackendPrediction
from sync.jobs.context import Context
from sync.jobs.ingest import complete_images
from sync.media import MediaRoots
from sync.report import Failure, OnProgress, Report, ignore_progress
from sync.samples import SampleImage, SamplePrediction

TASKS_PER_REQUEST: Final = 16
# One request is decoded and converted while the model works on the other.
REQUESTS_AT_ONCE: Final = 2


def prelabel(
    context: Context,
    *,
    sample_ids: Sequence[str] | None = None,
    everything: bool = False,
    on_progress: OnProgress = ignore_progress,
) -> Report:
    """Write the detector's labels and uncertainty on the samples, or on all, that this model version has not seen.

    ``everything`` draws on those it has seen too, as is needed after the label config got other classes.

    An image the backend cannot use is reported by name and the others go on. What was written stays when the job is
    stopped; the next run goes on from there.

    Raises:
        ServiceError: the backend does not answer.
    """
    version = context.backend.fetch_model_version()
    unreadable = complete_images(context.dataset, sample_ids)
    seen = context.dataset.predictions(sample_ids)
    images = context.dataset.images(sample_ids)
    waiting = [image for image in images.values() if everything or _version_of(seen.get(image.sample_id)) != version]
    tasks, failed = _to_tasks(context, waiting)
    failed += unreadable
    moved = 0
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        for chunk in chunked(tasks, TASKS_PER_REQUEST * REQUESTS_AT_ONCE * 4):
            on_progress(moved / len(tasks), f"pre-labelling with {version}, {moved}/{len(tasks)}")
            requests = list(chunked(chunk, TASKS_PER_REQUEST))
            answers = pool.map(lambda part: context.backend.fetch_predictions(part, context.config.xml), requests)
            pairs = [
                pair for part, answer in zip(requests, answers, strict=True) for pair in zip(part, answer, strict=True)
            ]
            predictions, problems = _to_predictions(context, pairs)
            context.dataset.write_predictions(predictions)
            failed += problems
            moved += len(predictions)
    return Report(
        "prelabel",
        moved=moved,
        unchanged=len(images) - len(waiting),
        failed=tuple(failed),
        notes=(f"model {version}",),
    )


def _version_of(prediction: SamplePrediction | ItemError | None) -> str | None:
    return prediction.model_version if isinstance(prediction, SamplePrediction) else None


def _to_tasks(context: Context, images: Iterable[SampleImage]) -> tuple[list[dict[str, Any]], list[Failure]]:
    tasks: list[dict[str, Any]] = []
    failed: list[Failure] = []
    roots = MediaRoots.read(context.home)
    for image in images:
        try:
            url = roots.to_url(image.path)
        except ItemError as error:
            failed.append(Failure(error.item, error.problem))
            continue
        data = {context.config.image_key: url, "sample_id": image.sample_id, "image_sha256": image.sha256}
        tasks.append({"id": image.sample_id, "data": data, "path": str(image.path)})
    return tasks, failed


def _to_predictions(
    context: Context, pairs: Iterable[tuple[dict[str, Any], BackendPrediction]]
) -> tuple[dict[str, SamplePrediction], list[Failure]]:
    predictions: dict[str, SamplePrediction] = {}
    failed: list[Failure] = []
    for task, answer in pairs:
        # «Nothing found» is an empty result with a score; without a score there is no answer at all.
        if answer.problem is not None or answer.score is None:
            failed.append(Failure(task["path"], answer.problem or "the ML backend gave no score"))
            continue
        try:
            labels = from_result(answer.result, context.config, item=task["path"])
        except ItemError as error:
            failed.append(Failure(error.item, error.problem))
            continue
        predictions[task["id"]] = SamplePrediction(answer.model_version, 1 - answer.score, tuple(labels))
    return predictions, failed
