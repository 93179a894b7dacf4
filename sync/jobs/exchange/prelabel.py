"""Prelabel: images through the ML backend, predictions and uncertainty into the catalogue and to the waiting tasks.

Order of writes: what was drawn on a sample, last of all the version that drew it, then Label Studio. Killed at any
moment, the next run draws on the samples that do not name the version, and sends what was not sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Final

from more_itertools import chunked

from labels import fields
from labels.errors import ItemError, ServiceError
from labels.report import Failure, OnProgress, Report, ignore_progress
from labels.results import from_result
from sync.backend import BackendPrediction, ServedWeights
from sync.catalogue.samples import SamplePrediction
from sync.jobs.context import Context
from sync.jobs.datasets.ingest import complete_images
from sync.jobs.exchange.drawing import Drawer, Limits
from sync.jobs.exchange.sending import await_sent
from sync.jobs.exchange.shown_predictions import send_predictions_to, show_version
from sync.ledger import Model
from sync.media import MediaRoots

IMAGES_PER_READ: Final = 500
PREDICTIONS_PER_WRITE: Final = 32
# Weights may be swapped while a long job runs; swapped this often, somebody plays with them.
MOST_PASSES: Final = 3
LABELS_NAMED: Final = 10


@dataclass(slots=True)
class _Outcome:
    """What the job has done so far, by sample id."""

    drawn: set[str] = field(default_factory=set)
    failed: dict[str, Failure] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def prelabel(
    context: Context,
    *,
    sample_ids: Sequence[str] | None = None,
    everything: bool = False,
    unreviewed: bool = False,
    limits: Limits | None = None,
    on_progress: OnProgress = ignore_progress,
) -> Report:
    """Write the detector's labels and uncertainty on the samples, or on all, that this model version has not seen.

    ``everything`` draws on those it has seen too, as is needed after the label config got other classes. Tasks that
    wait in Label Studio get the new predictions and show them, in place of what the same version drew before; what
    people drew stays as it is, and is compared with what they were shown. ``unreviewed`` leaves
    samples alone that were reviewed: what a person saw then stays beside what he made of it.

    An image the backend cannot use is reported by name and the others go on. What was written stays when the job is
    stopped; the next run goes on from there. Every prediction carries the version that drew it: where the backend gets
    other weights meanwhile, the rest is drawn by those, and then what the old ones had drawn.

    Raises:
        ServiceError: the backend does not answer for long, or fails on every image.
        LabelingError: it refuses, as it does a label config it cannot read.
    """
    outcome = _Outcome()
    sample_ids = _without_reviewed(context, sample_ids) if unreviewed else sample_ids
    for failure in complete_images(context.dataset, sample_ids, on_progress):
        outcome.failed[failure.sample_id or failure.item] = failure
    weights = context.backend.fetch_weights()
    problem = _find_problem(context)
    if problem is not None:
        # The images are there all the same, to be answered by people, and a model of theirs comes later.
        return _report_nothing(context, sample_ids, weights, problem, outcome)
    for _ in range(MOST_PASSES):
        _record_weights(context, weights)
        # The second time only what other weights drew: these are newer than any wish to draw anew.
        ids = _find_waiting(context, weights.model_version, sample_ids, everything=everything and not outcome.drawn)
        _draw_all(context, ids, weights.model_version, outcome, limits or Limits(), on_progress)
        before, weights = weights, context.backend.fetch_weights()
        if weights.model_version == before.model_version:
            break
        outcome.notes.append(f"the model changed meanwhile, from {before.model_version} to {weights.model_version}")
    else:
        outcome.notes.append("the model changed again: run prelabel once more")
    anew = outcome.drawn if everything else set[str]()
    sent = _send_to_tasks(context, weights.model_version, sample_ids, anew, outcome, on_progress)
    total = context.dataset.count() if sample_ids is None else len(set(sample_ids))
    return Report(
        "prelabel",
        moved=len(outcome.drawn),
        unchanged=max(total - len(outcome.drawn) - len(outcome.failed), 0),
        failed=tuple(outcome.failed.values()),
        notes=(f"model {weights.model_version}", *_note_unmapped(context), *outcome.notes),
        details={"predictions sent": sent} if sent else {},
    )


def _find_problem(context: Context) -> str | None:
    try:
        return context.backend.fetch_problem(context.config.xml)
    except ServiceError:
        # It may be away for a moment, which drawing lives through; what it refuses then is told then.
        return None


def _report_nothing(
    context: Context, sample_ids: Sequence[str] | None, weights: ServedWeights, problem: str, outcome: _Outcome
) -> Report:
    """Report that nothing was drawn, since the served model gives nothing by this label config."""
    _record_weights(context, weights)
    total = context.dataset.count() if sample_ids is None else len(set(sample_ids))
    note = f"nothing is pre-drawn: {problem}; labelloop train makes a model of what people say"
    failed = tuple(outcome.failed.values())
    return Report(
        "prelabel", unchanged=total - len(failed), failed=failed, notes=(f"model {weights.model_version}", note)
    )


def _without_reviewed(context: Context, sample_ids: Sequence[str] | None) -> list[str]:
    states = context.dataset.states(sample_ids)
    return [one for one, state in states.items() if state.review_state not in (fields.REVIEWED, fields.CONFLICT)]


def _record_weights(context: Context, weights: ServedWeights) -> None:
    """Remember weights at first sight; what is known of them besides was measured, and stays."""
    if weights.model_version not in {model.model_version for model in context.ledger.models()}:
        context.ledger.record_model(Model(weights.model_version, None, None, weights.source))


def _note_unmapped(context: Context) -> list[str]:
    """Return a line on the labels that the model never pre-draws, a typo in ``predicted_values`` among them."""
    try:
        labels = context.backend.fetch_unmapped_labels(context.config.xml)
    except ServiceError:
        # Everything else is done; what it does not say now it says the next time.
        return []
    if not labels:
        return []
    more = f" and {len(labels) - LABELS_NAMED} more" if len(labels) > LABELS_NAMED else ""
    named = ", ".join(labels[:LABELS_NAMED]) + more
    return [f"never pre-drawn, no class of the model stands for them (predicted_values would map them): {named}"]


def _find_waiting(context: Context, version: str, sample_ids: Sequence[str] | None, *, everything: bool) -> list[str]:
    if everything:
        return list(context.dataset.sample_ids() if sample_ids is None else dict.fromkeys(sample_ids))
    undrawn = context.dataset.undrawn_ids(version)
    if sample_ids is None:
        return list(undrawn)
    wanted = set(sample_ids)
    return [sample_id for sample_id in undrawn if sample_id in wanted]


def _draw_all(
    context: Context,
    sample_ids: Sequence[str],
    version: str,
    outcome: _Outcome,
    limits: Limits,
    on_progress: OnProgress,
) -> None:
    if not sample_ids:
        return
    pace = _Pace(len(sample_ids))
    drawer = Drawer(context.backend, context.config.xml, context.dataset.label_counts() or None, limits)
    predictions: dict[str, SamplePrediction] = {}

    def on_tick(waits_for: str | None) -> None:
        told = f"waiting: {waits_for}" if waits_for else f"pre-labelling with {version}, {pace.describe()}"
        on_progress(pace.done / pace.total, told)

    on_tick(None)
    answers = drawer.draw(_read_tasks(context, sample_ids, outcome, pace.skip), on_tick)
    try:
        for task, answer in answers:
            pace.done += 1
            found = _to_prediction(context, task, answer)
            if isinstance(found, Failure):
                outcome.failed[task["id"]] = found
                continue
            predictions[task["id"]] = found
            if len(predictions) >= PREDICTIONS_PER_WRITE:
                _write(context, predictions, outcome)
    finally:
        # Also when the job is stopped: what was drawn was paid for.
        answers.close()
        _write(context, predictions, outcome)


def _write(context: Context, predictions: dict[str, SamplePrediction], outcome: _Outcome) -> None:
    context.dataset.write_predictions(predictions)
    outcome.drawn.update(predictions)
    for sample_id in predictions:
        outcome.failed.pop(sample_id, None)
    predictions.clear()


def _read_tasks(
    context: Context, sample_ids: Iterable[str], outcome: _Outcome, skip: Callable[[], None]
) -> Iterator[dict[str, Any]]:
    """Yield the images as the backend is asked for them, read as they are needed."""
    roots = MediaRoots.read(context.home)
    for chunk in chunked(sample_ids, IMAGES_PER_READ):
        images = context.dataset.images(chunk)
        for sample_id in chunk:
            image = images.get(sample_id)
            if image is None:
                skip()
                outcome.failed.setdefault(sample_id, Failure(f"sample {sample_id}", "is gone", sample_id))
                continue
            try:
                url = roots.to_url(image.path)
            except ItemError as error:
                skip()
                outcome.failed[sample_id] = Failure(error.item, error.problem, sample_id)
                continue
            data = {context.config.image_key: url, "sample_id": sample_id, "image_sha256": image.sha256}
            yield {"id": sample_id, "data": data, "path": str(image.source_path or image.path)}


def _to_prediction(context: Context, task: Any, answer: BackendPrediction) -> SamplePrediction | Failure:
    # «Nothing found» is an empty result with a score; without a score there is no answer at all.
    if answer.problem is not None or answer.score is None:
        return Failure(task["path"], answer.problem or "the ML backend gave no score", task["id"])
    try:
        labels = from_result(answer.result, context.config, item=task["path"])
    except ItemError as error:
        return Failure(error.item, error.problem, task["id"])
    return SamplePrediction(answer.model_version, 1 - answer.score, tuple(labels), answer.scores)


def _send_to_tasks(
    context: Context,
    version: str,
    sample_ids: Sequence[str] | None,
    drawn_anew: AbstractSet[str],
    outcome: _Outcome,
    on_progress: OnProgress,
) -> int:
    """Give the tasks that wait for people what was drawn, and show it; return how many predictions were sent."""
    await_sent(context, on_progress)
    wanted = None if sample_ids is None else set(sample_ids)
    behind = [one for one in context.ledger.ids_behind(version) if wanted is None or one in wanted]
    waiting = [*behind, *sorted(drawn_anew - set(behind))]
    sent = send_predictions_to(context, waiting, drawn_anew=drawn_anew, on_progress=on_progress)
    for failure in sent.failed:
        outcome.failed.setdefault(failure.sample_id or failure.item, failure)
    current, outdated = context.ledger.model_versions().get(version, 0), len(context.ledger.ids_behind(version))
    if current > outdated:
        show_version(context, version)
    elif sent.sent:
        # Label Studio shows one version at a time: most of the waiting tasks would show nothing.
        outcome.notes.append(
            f"shown once most tasks have it: {outdated} of those that wait have only older predictions"
        )
    return sent.sent


class _Pace:
    """How far a job is and how fast."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self._started_s = time.monotonic()

    def skip(self) -> None:
        """Count an image that nobody is asked for."""
        self.done += 1

    def describe(self) -> str:
        """Return the numbers for people."""
        seconds = time.monotonic() - self._started_s
        if not self.done or not seconds:
            return f"{self.done}/{self.total}"
        rate = self.done / seconds
        left = (self.total - self.done) / rate
        return f"{self.done}/{self.total}, {rate:.1f} images/s, {to_words(left)} left"


def to_words(seconds: float) -> str:
    """Return a length of time as people say it.

    >>> [to_words(seconds) for seconds in (20, 70, 4000)]
    ['less than a minute', '2 min', '1 h 7 min']
    """
    if seconds < 60:
        return "less than a minute"
    minutes = -(-int(seconds) // 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
