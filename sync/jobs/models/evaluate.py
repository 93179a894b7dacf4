"""Evaluate: a model on a frozen split, a detector by COCO's rules, a classifier by its top-1; nothing of the project
changes.

What it found is kept beside the weights. With ``fields`` its boxes go into FiftyOne as well, each marked as right or
wrong, with a view of the images that have most that is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from labels.errors import LabelingError
from labels.report import OnProgress, Report, ignore_progress
from sync.jobs.context import Context
from sync.jobs.models.judging import (
    Measured,
    ModelFile,
    check_not_learned,
    choose_on_val,
    describe,
    find_model,
    look_at,
    measure,
    read_split,
    to_values,
)
from sync.models.answers import NOTHING, AnswerEvaluation, AnswerScore
from sync.models.evaluation import DEFAULT_THRESHOLD, ClassScore
from sync.models.examples import read_answer_examples, read_examples
from sync.models.results import Result, write_result
from sync.settings import Project
from sync.versions.version import Split, Version

if TYPE_CHECKING:
    from sync.catalogue.evaluated import Written

CLASSES_SHOWN: Final = 15
MIXED_SHOWN: Final = 5


def evaluate(
    context: Context,
    *,
    model: str | None = None,
    version: str | None = None,
    split: Split = "test",
    with_fields: bool = False,
    precision_floor: float | None = None,
    on_progress: OnProgress = ignore_progress,
) -> Report:
    """Return how good a model is on a split of a dataset version: None is the current model, and its own version.

    A second run with the same weights on the same images looks at none of them again.

    Raises:
        LabelingError: no such model or version, or a split without images that say something of what it gives.
    """
    file = find_model(context.home, model or read_current(context))
    frozen = read_split(context.home, file, version)
    thresholds = choose_on_val(context.home, file, frozen, on_progress, precision_floor=precision_floor)
    measured = measure(frozen, split, look_at(context.home, file, frozen, split, on_progress), thresholds)
    kept = write_result(context.home, to_result(file, frozen, split, measured))
    notes = [*_explain(file, frozen, split, measured), f"kept as {kept}"]
    notes[:0] = _explain_seen(context, file, frozen, split)
    if with_fields:
        notes += _write_fields(context, frozen, split, measured, on_progress)
    evaluation = measured.evaluation
    details = {"examples": evaluation.examples}
    if isinstance(evaluation, AnswerEvaluation):
        details["images without a prediction"] = evaluation.unanswered
    else:
        details["images without boxes"] = evaluation.empty_images
    return Report("evaluate", moved=evaluation.images, failed=measured.failed, notes=tuple(notes), details=details)


def read_current(context: Context) -> str:
    """Return the name of the model that draws the project's pre-labels; read now, since a promotion changes it."""
    return (Project.read(context.home) or context.project).model


def to_result(file: ModelFile, frozen: Version, split: Split, measured: Measured) -> Result:
    """Return what is kept of an evaluation."""
    return Result(
        model_version=file.weights.version,
        version_id=frozen.id,
        split=split,
        evaluated_at=datetime.now(UTC).isoformat(timespec="seconds"),
        evaluation=measured.evaluation,
        thresholds=to_values(measured.thresholds),
    )


def _explain(file: ModelFile, frozen: Version, split: Split, measured: Measured) -> Iterator[str]:
    evaluation = measured.evaluation
    yield f"{file.weights.version} on {frozen.id}, {split}: {describe(evaluation)}"
    if isinstance(evaluation, AnswerEvaluation):
        yield from _explain_answers(evaluation)
    else:
        sizes = ", ".join(f"{one.name} {_show(one.map50_95)} ({one.examples})" for one in evaluation.sizes)
        yield f"by size, {evaluation.metric} (examples): {sizes}"
    classes: Sequence[ClassScore | AnswerScore] = evaluation.classes
    known = sorted((one for one in classes if one.examples), key=lambda one: one.score or 0.0)
    for one in known[:CLASSES_SHOWN]:
        yield _describe_class(evaluation.metric, one)
    if len(known) > CLASSES_SHOWN:
        yield f"{len(known) - CLASSES_SHOWN} better classes are in the file"
    unknown = len(evaluation.classes) - len(known)
    if unknown:
        yield f"{unknown} classes have no example there: nothing is known of them"
    chosen = to_values(measured.thresholds)
    if chosen:
        yield "shown from: " + ", ".join(f"{name} {value:g}" for name, value in sorted(chosen.items()))
    if len(chosen) < len(evaluation.classes):
        yield f"{len(evaluation.classes) - len(chosen)} classes keep the default threshold: val has too few of them"


def _explain_seen(context: Context, file: ModelFile, frozen: Version, split: Split) -> Iterator[str]:
    """Yield what training did with the images that the model is judged by."""
    learned, chosen = (check_not_learned(context.home, file, frozen, split, parts=[part]) for part in ("train", "val"))
    if learned:
        yield f"the model learned from {learned} of these images: the numbers are too good"
    if chosen:
        yield f"the model's best epoch was chosen on {chosen} of these images: the numbers are a little too good"


def _explain_answers(evaluation: AnswerEvaluation) -> Iterator[str]:
    yield f"{evaluation.shown} of {evaluation.images} images would be shown an answer"
    yield f"calibration error {_show(evaluation.calibration_error)} (0 is best)"
    names = [one.name for one in evaluation.classes]
    mixed = [
        (count, name, names[column])
        for name, row in zip(names, evaluation.confusion, strict=True)
        for column, count in enumerate(row[:-1])
        if count and names[column] != name
    ]
    # The most frequent first; of equally frequent ones in the order of the label config.
    told = [f"{name} for {other} ({count})" for count, name, other in sorted(mixed, key=lambda one: -one[0])]
    if told:
        yield f"taken for another: {', '.join(told[:MIXED_SHOWN])}"


def _describe_class(metric: str, one: ClassScore | AnswerScore) -> str:
    at = "" if one.threshold is None else f" from {one.threshold:g}"
    precision = "not known" if one.precision is None else f"{one.precision:.2f}"
    recall = "not known" if one.recall is None else f"{one.recall:.2f}"
    return (
        f"{one.name}: {metric} {one.score or 0.0:.4f}, precision {precision}, recall {recall}{at}"
        f" ({one.examples} examples)"
    )


def _show(number: float | None) -> str:
    return "not known" if number is None else f"{number:.4f}"


def _write_fields(
    context: Context, frozen: Version, split: Split, measured: Measured, on_progress: OnProgress
) -> list[str]:
    # FiftyOne, whose database must be named first.
    from sync.catalogue.evaluated import EvaluatedAnswer, EvaluatedBox, write_answer_evaluation, write_evaluation

    on_progress(None, "writing what is right and wrong into FiftyOne")
    seen = measured.look
    chosen = to_values(measured.thresholds)
    name, version = context.dataset.name, seen.facts.version
    if seen.facts.control is not None:
        answered = read_answer_examples(frozen.in_split(split), frozen.config, control=seen.facts.control)
        answered = answered.without(seen.failed)
        answers = seen.to_answers(answered)
        said: dict[str, EvaluatedAnswer] = {}
        for image, best, score in zip(answered.images, answers.best, answers.surest, strict=True):
            label = answered.classes[best] if best != NOTHING else None
            is_shown = label is not None and score >= chosen.get(label, DEFAULT_THRESHOLD)
            said[image.sample_id] = EvaluatedAnswer(label if is_shown else None, float(score) if is_shown else 0.0)
        return _tell(write_answer_evaluation(name, said, control=seen.facts.control, version=version))
    examples = read_examples(frozen.in_split(split), frozen.config, tasks=[seen.facts.task]).without(seen.failed)
    boxes = seen.to_boxes(examples)
    assert boxes.scores is not None
    drawn: dict[str, list[EvaluatedBox]] = {image.sample_id: [] for image in examples.images}
    for place, number, xyxy, score in zip(boxes.images, boxes.classes, boxes.xyxy, boxes.scores, strict=True):
        image, label = examples.images[place], examples.classes[number]
        if score >= chosen.get(label, DEFAULT_THRESHOLD):
            drawn[image.sample_id].append(EvaluatedBox.from_xyxy(label, xyxy.tolist(), image.size, float(score)))
    if not any(drawn.values()) and not len(examples.truth):
        raise LabelingError("nothing was drawn and nothing found on these images: there is nothing to write")
    return _tell(write_evaluation(name, drawn, version=version))


def _tell(wrong: Written) -> list[str]:
    return [
        f"in FiftyOne: field {wrong.field!r}, evaluation {wrong.key!r}, view {wrong.view!r} ({wrong.images} images)"
    ]
