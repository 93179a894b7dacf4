"""Marks: what is likely wrong on a task is shown in Label Studio, beside what people drew there.

A mark is a prediction of a version of its own, so it is a tab of its own on the task. It holds all that the annotation
says, region for region, and whoever makes an annotation from it loses nothing; the suspicious regions come first, with
a score and the reason, and boxes that are likely missing are added. No annotation is touched. The project never shows
marks as pre-labels, and what became of them is no feedback on a model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from label_studio_sdk.label_interface.interface import LabelInterface
from more_itertools import chunked

from fiftyone_plugins.mistakes.decisions import Decisions
from fiftyone_plugins.mistakes.ranking import BOX_KINDS, KINDS, MISSING, Finding, list_findings
from fiftyone_plugins.mistakes.work import THRESHOLD
from labels import fields
from labels.config import LabelConfig
from labels.errors import ItemError, LabelingError
from labels.geometry import Box, ImageSize
from labels.report import Failure, OnProgress, ignore_progress
from labels.results import Label, to_label_id, to_result
from sync.jobs.context import Context
from sync.jobs.exchange.rewriting import fetch_tasks
from sync.jobs.exchange.sending import announce_predictions
from sync.workbench.label_studio import Prediction, Task

SAMPLES_PER_CHUNK: Final = 200
OF_A_PREDICTION: Final = ("score", "origin")
"""What a region says of the prediction that it came from."""

MARKED: Final = "tasks with marked mistakes"
"""What a report counts them as."""

Region = Mapping[str, Any]


@dataclass(slots=True)
class Marked:
    """What became of marks: ``sent`` are new or changed, ``unchanged`` were there, ``without``: nothing to mark."""

    sent: int = 0
    unchanged: int = 0
    without: int = 0
    failed: list[Failure] = field(default_factory=list)


def read_suspected(context: Context, sample_ids: Sequence[str] | None) -> dict[str, list[Finding]]:
    """Return what is likely wrong in samples and nobody has kept, the likeliest first; None: in all that are tagged so.

    A sample in which nothing is has an empty list.
    """
    from fiftyone_plugins.mistakes.storing import read_documents, read_judged

    dataset = context.dataset.select({})
    if sample_ids is None:
        sample_ids = [str(one) for one in dataset.match_tags(fields.MISTAKE_TAG).values("id")]
    names, kept = read_judged(dataset), Decisions(context.home.curation, context.dataset.name).kept()
    return {
        str(one["_id"]): list_findings([one], names, kept, kinds=(*BOX_KINDS, MISSING))
        for chunk in chunked(sample_ids, SAMPLES_PER_CHUNK)
        for one in read_documents(dataset, chunk, names)
    }


def send_marks(
    context: Context, suspected: Mapping[str, Sequence[Finding]], on_progress: OnProgress = ignore_progress
) -> Marked:
    """Mark findings, by sample, on the samples' tasks; a second time changes nothing.

    A task that nobody has answered has nothing that could be wrong.
    """
    outcome = Marked()
    interface = LabelInterface(context.config.xml)
    for done, chunk in enumerate(chunked(suspected, SAMPLES_PER_CHUNK)):
        on_progress(done * SAMPLES_PER_CHUNK / len(suspected), "marking what is likely wrong")
        wanted = _make_marks(context, {key: suspected[key] for key in chunk}, interface, outcome)
        _send(context, wanted, outcome)
    outcome.without = len(suspected) - outcome.sent - outcome.unchanged - len(outcome.failed)
    return outcome


def _make_marks(
    context: Context, suspected: Mapping[str, Sequence[Finding]], interface: LabelInterface, outcome: Marked
) -> list[tuple[Task, dict[str, Any]]]:
    links = {key: link for key, link in context.ledger.links(list(suspected)).items() if not link.is_gone}
    tasks = {task.task_id: task for task in fetch_tasks(context, [link.task_id for link in links.values()])}
    images = context.dataset.images(list(links))
    made: list[tuple[Task, dict[str, Any]]] = []
    for sample_id, link in links.items():
        task, image = tasks.get(link.task_id), images.get(sample_id)
        if task is None or image is None:
            continue
        try:
            marked = to_marked(task, suspected[sample_id], context.config, image.size)
            if marked is not None:
                _check(marked, interface, image.path.name)
                made.append((task, marked))
        except LabelingError as error:
            problem = error.problem if isinstance(error, ItemError) else str(error)
            outcome.failed.append(Failure(image.path.name, problem, sample_id))
    return made


def _send(context: Context, wanted: Sequence[tuple[Task, dict[str, Any]]], outcome: Marked) -> None:
    """Send marks where there are none, and change those that say something else."""
    new: list[dict[str, Any]] = []
    for task, marked in wanted:
        held = find_mark(task)
        if held is None:
            new.append(marked | {"task": task.task_id})
        elif list(held.result) == marked["result"]:
            outcome.unchanged += 1
        else:
            # In its place: an annotation may have been made from it, and knows it by its number.
            send = context.label_studio.send_prediction_result
            send(held.prediction_id, task.task_id, marked["result"], score=marked["score"])
            outcome.sent += 1
    if new:
        with announce_predictions(context, {one["task"]: one["model_version"] for one in new}):
            context.label_studio.send_predictions(new)
        outcome.sent += len(new)


def to_marked(task: Task, findings: Sequence[Finding], config: LabelConfig, size: ImageSize) -> dict[str, Any] | None:
    """Return the prediction that marks findings on what people say now; None: nobody says anything, or not that.

    Marked are the findings from the threshold of the tag on, and in any case the likeliest. One about a label that the
    annotation does not have, or no more, is left out.

    Raises:
        LabelConfigError: the class of a missing box is not in the config.
    """
    review = task.review
    if review is None or review.is_skip:
        return None
    regions = [_copy(one) for one in review.result if isinstance(one, Mapping)]
    by_label = {to_label_id(str(region["id"])): region for region in regions if "id" in region}
    marks: list[tuple[float, dict[str, Any]]] = []
    for finding in findings:
        if marks and finding.score < THRESHOLD:
            break
        if finding.kind == MISSING:
            marks += [(finding.score, _to_mark(region, finding)) for region in _propose(finding, config, size)]
        elif finding.label_id in by_label:
            marks.append((finding.score, _to_mark(by_label.pop(finding.label_id), finding)))
    if not marks:
        return None
    marked_ids = {region["id"] for _, region in marks}
    others = [region for region in regions if region.get("id") not in marked_ids or "value" not in region]
    return {
        "model_version": fields.MISTAKES_VERSION,
        "score": round(marks[0][0], 4),
        "result": [*(region for _, region in marks), *others],
    }


def find_mark(task: Task) -> Prediction | None:
    """Return the task's mark; None: it has none."""
    return next((one for one in task.predictions if one.model_version == fields.MISTAKES_VERSION), None)


def clear_marks(context: Context, *, before: str) -> int:
    """Delete marks that somebody has answered since they were made, and return how many.

    Left are those younger than ``before``, those that an annotation was made from, and those of tasks that somebody has
    begun to work on: what is made from a prediction that is gone cannot be submitted.
    """
    ids = list(context.label_studio.fetch_task_ids_with(fields.MISTAKES_VERSION))
    begun = set(context.label_studio.fetch_draft_task_ids(among=ids)) if ids else set[int]()
    past = [one for task in fetch_tasks(context, ids) if task.task_id not in begun for one in _find_past(task, before)]
    for prediction_id in past:
        context.label_studio.send_prediction_deletion(prediction_id)
    return len(past)


def _find_past(task: Task, before: str) -> Iterator[int]:
    used = {annotation.prediction_id for annotation in task.annotations}
    answered = max((annotation.updated_at for annotation in task.annotations), default="")
    for one in task.predictions:
        is_unused_mark = one.model_version == fields.MISTAKES_VERSION and one.prediction_id not in used
        if is_unused_mark and one.updated_at < min(answered, before):
            yield one.prediction_id


def _copy(region: Region) -> dict[str, Any]:
    return {name: value for name, value in region.items() if name not in OF_A_PREDICTION}


def _to_mark(region: Region, finding: Finding) -> dict[str, Any]:
    about = region.get("meta") or {}
    # What a person wrote there stays.
    said = about.get("text") or []
    reason = f"{KINDS[finding.kind]}: {finding.reason}"
    text = [*(said if isinstance(said, list) else [said]), reason]
    return {**region, "score": round(finding.score, 4), "meta": {**about, "text": text}}


def _propose(finding: Finding, config: LabelConfig, size: ImageSize) -> Iterator[dict[str, Any]]:
    control = config.box_control
    if control is None or finding.box is None or finding.label is None or finding.label_id is None:
        return
    left, top, width, height = finding.box
    x, y = max(left, 0.0) * size.width, max(top, 0.0) * size.height
    right, bottom = min(left + width, 1.0) * size.width, min(top + height, 1.0) * size.height
    label = Label(finding.label_id, control.name, (finding.label,), Box(x, y, right - x, bottom - y))
    yield from to_result([label], config, size)


def _check(prediction: Mapping[str, Any], interface: LabelInterface, item: str) -> None:
    # Label Studio drops what it does not like without a word, or refuses all that was sent with it.
    problems = interface.validate_prediction(dict(prediction), return_errors=True)  # type: ignore[no-untyped-call]
    if problems:
        raise ItemError(item, f"cannot be marked ({'; '.join(map(str, problems))})")
