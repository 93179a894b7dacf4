"""Calibrate: what people made of a model's boxes tells how far its scores can be believed; the ML backend is told.

Reads reviewed samples and predictions, writes one file beside the weights. Nothing in FiftyOne or Label Studio changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from labels import fields
from labels.config import LabelConfig
from labels.errors import ItemError, LabelingError, ServiceError
from labels.geometry import compute_iou
from labels.report import Failure, OnProgress, Report, ignore_progress
from labels.results import Label, from_result
from ml_backend.models.calibration import Calibration, find_base_version, load_calibration, path_of, write_calibration
from ml_backend.models.calibration_fit import METHODS, Example, fit_calibration
from sync.catalogue.samples import SampleLabels, SamplePrediction
from sync.jobs.context import Context
from sync.jobs.exchange.drawing import Drawer
from sync.media import MediaRoots
from sync.review.reliability import draw_reliability

MATCH_IOU: Final = 0.5
# What is looked for when the model looks again: all that counts for an uncertainty, shown or not.
LOWEST_SCORE: Final = 0.05

Drawn = Mapping[str, Sequence[Label]]


def calibrate(
    context: Context,
    *,
    method: str = "platt",
    look_again: bool = False,
    on_progress: OnProgress = ignore_progress,
) -> Report:
    """Fit the served weights' calibration to the reviewed samples, and keep it where it makes the error smaller.

    The boxes are those of the predictions in FiftyOne, which are the ones that were shown; with ``look_again`` the ML
    backend looks at the reviewed images once more, and the boxes that were too doubtful to show count as well. A box is
    right when it overlaps one of its class that a person drew or kept, by IoU 0.5. A second run with the same reviews
    writes the same.

    Raises:
        LabelingError: too few reviews, or a method that is not known.
        ServiceError: the backend does not answer.
    """
    if method not in METHODS:
        raise LabelingError(f"method {method!r} is not known (known: {', '.join(METHODS)})")
    version = find_base_version(context.backend.fetch_model_version())
    reviewed, failed = _read_reviewed(context)
    if look_again:
        drawn, problems = _look_again(context, version, list(reviewed), on_progress)
    else:
        drawn, problems = _read_drawn(context, version, list(reviewed))
    examples = [
        example
        for sample_id, labels in drawn.items()
        for example in to_examples(sample_id, labels, reviewed[sample_id].labels)
    ]
    on_progress(None, f"fitting to {len(examples)} boxes")
    fit = fit_calibration(
        examples,
        model_version=version,
        method=method,
        aliases=_read_aliases(context.config),
        label_counts=context.dataset.label_counts(),
    )
    plot = path_of(context.home.models, version).with_suffix(".svg")
    plot.parent.mkdir(parents=True, exist_ok=True)
    plot.write_bytes(draw_reliability(fit.before, fit.after, title=f"{version}, {method}, {len(drawn)} images"))
    found = fit.calibration
    notes = [
        f"calibration error on images held back: {found.error_before:.4f} before, {found.error_after:.4f} after",
        f"{len(examples)} boxes on {len(drawn)} reviewed images, {sum(one.is_right for one in examples)} of them right",
        f"drawn: {plot}",
    ]
    is_better = found.error_after < found.error_before
    if is_better:
        notes += [f"kept as {write_calibration(context.home.models, found)}"]
        on_progress(None, f"the ML backend loads {found.version}")
        notes += [_serve(context, version, found.version)]
    else:
        notes += ["not kept: it would make the error no smaller; what was in use stays"]
    return Report(
        "calibrate",
        moved=int(is_better),
        unchanged=int(not is_better),
        failed=(*failed, *problems),
        notes=tuple(notes),
        details={"boxes": len(examples), "images": len(drawn), "classes of their own": len(found.groups) - 1},
    )


def _serve(context: Context, base_version: str, version: str) -> str:
    """Have the running backend serve the calibrated version, and return a line that says whether it does."""
    backend = context.backend
    try:
        if find_base_version(backend.fetch_model_version()) != base_version:
            return f"the ML backend serves other weights by now: with those of {base_version} again it is {version}"
        backend.reload()
        served = backend.fetch_model_version()
    except ServiceError as error:
        return (
            f"not served yet ({error}); to serve {version}: labelloop down, labelloop up, or POST"
            ' {"reload": true} to /versions of the ML backend; then: labelloop prelabel'
        )
    if served == version:
        return f"the ML backend serves {version} now; next: labelloop prelabel"
    return (
        f"the ML backend still serves {served}: its models folder is not {context.home.models};"
        " put the file there, in calibration/, and start it again"
    )


def to_examples(sample_id: str, drawn: Iterable[Label], reviewed: Iterable[Label]) -> list[Example]:
    """Return one example for each label that was drawn: right when it is the best one left for a label of a person.

    Matched within a control and class, the surest first, as COCO's evaluation does.
    """
    left = list(reviewed)
    examples = []
    for label in sorted(drawn, key=lambda one: -(one.confidence or 0.0)):
        if label.confidence is None or not label.classes:
            continue
        best = max(left, key=lambda other: _compute_match(label, other), default=None)
        is_right = best is not None and _compute_match(label, best) >= MATCH_IOU
        if is_right and best is not None:
            left.remove(best)
        examples.append(Example(sample_id, label.classes[0], label.confidence, is_right))
    return examples


def _compute_match(label: Label, other: Label) -> float:
    if label.classes[0] not in other.classes:
        return 0.0
    if label.geometry is None or other.geometry is None:
        return float(label.control == other.control)
    try:
        return compute_iou(label.geometry, other.geometry)
    except ValueError:
        return 0.0


def _read_reviewed(context: Context) -> tuple[dict[str, SampleLabels], list[Failure]]:
    states = context.dataset.states()
    sample_ids = [sample_id for sample_id, state in states.items() if state.review_state == fields.REVIEWED]
    found = context.dataset.labels(sample_ids)
    failed = [Failure(one.item, one.problem) for one in found.values() if isinstance(one, ItemError)]
    return {key: one for key, one in found.items() if isinstance(one, SampleLabels)}, failed


def _read_drawn(context: Context, version: str, sample_ids: Sequence[str]) -> tuple[Drawn, list[Failure]]:
    drawn: dict[str, Sequence[Label]] = {}
    failed: list[Failure] = []
    calibrations: dict[str, Calibration | None] = {}
    for sample_id, prediction in context.dataset.predictions(sample_ids).items():
        if isinstance(prediction, ItemError):
            failed.append(Failure(prediction.item, prediction.problem))
            continue
        raw = _to_raw(context, prediction, version, calibrations)
        if raw is not None:
            drawn[sample_id] = raw
    if sample_ids and not drawn and not failed:
        raise LabelingError(
            f"none of the {len(sample_ids)} reviewed samples has predictions of {version}, which is served now;"
            " let it look at them again: labelloop calibrate --look-again"
        )
    return drawn, failed


def _to_raw(
    context: Context, prediction: SamplePrediction, version: str, calibrations: dict[str, Calibration | None]
) -> list[Label] | None:
    """Return the labels with the scores the weights gave; None when other weights drew them, or nobody can tell."""
    if find_base_version(prediction.model_version) != version:
        return None
    if prediction.model_version == version:
        return list(prediction.labels)
    if prediction.model_version not in calibrations:
        calibrations[prediction.model_version] = load_calibration(context.home.models, prediction.model_version)
    calibration = calibrations[prediction.model_version]
    if calibration is None:
        return None
    return [
        label
        if label.confidence is None or not label.classes
        else replace(label, confidence=float(calibration.curve_for(label.classes[0]).invert(label.confidence)))
        for label in prediction.labels
    ]


def _look_again(
    context: Context, version: str, sample_ids: Sequence[str], on_progress: OnProgress
) -> tuple[Drawn, list[Failure]]:
    images = context.dataset.images(sample_ids)
    drawn: dict[str, Sequence[Label]] = {}
    failed: list[Failure] = []
    tasks = []
    roots = MediaRoots.read(context.home)
    for image in images.values():
        try:
            data = {context.config.image_key: roots.to_url(image.path), "sample_id": image.sample_id}
        except ItemError as error:
            failed.append(Failure(error.item, error.problem, image.sample_id))
            continue
        tasks.append({"id": image.sample_id, "data": data})

    def tick(waits_for: str | None) -> None:
        done = len(drawn) + len(failed)
        on_progress(done / len(images), waits_for or f"looking again with {version}, {done}/{len(images)}")

    for task, answer in Drawer(context.backend, context.config.xml, score_threshold=LOWEST_SCORE).draw(tasks, tick):
        sample_id = str(task["id"])
        if answer.problem is not None or answer.score is None:
            problem = answer.problem or "the ML backend gave no score"
            failed.append(Failure(str(images[sample_id].path), problem, sample_id))
            continue
        labels = from_result(answer.result, context.config, item=str(images[sample_id].path))
        raw = _to_raw(context, SamplePrediction(answer.model_version, 1 - answer.score, tuple(labels)), version, {})
        if raw is None:
            raise LabelingError(f"the ML backend serves {answer.model_version} now, not {version}; try again")
        drawn[sample_id] = raw
    return drawn, failed


def _read_aliases(config: LabelConfig) -> dict[str, list[str]]:
    aliases: dict[str, list[str]] = {}
    for control in config.controls:
        for alias, label in control.aliases.items():
            aliases.setdefault(label, []).append(alias)
    return aliases
