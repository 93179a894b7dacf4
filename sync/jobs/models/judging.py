"""What evaluating and promoting share: which model is meant, what it finds on a frozen split, what that is worth."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from labels.errors import LabelingError
from labels.report import Failure, OnProgress
from ml_backend.environment import Environment
from ml_backend.models.weights import Weights, compute_version, resolve_weights
from sync.models.answers import AnswerEvaluation, AnyEvaluation
from sync.models.candidate import Candidate, find_candidate, list_candidates
from sync.models.exams import Exam, make_exam
from sync.models.gate import Comparison, Rules, Verdict, decide
from sync.models.looking import look
from sync.models.looks import Kind, Look
from sync.models.registry import Card, Registry
from sync.models.thresholds import Threshold
from sync.settings import Home
from sync.versions.manifest import list_versions, read_version
from sync.versions.version import Split, Version

DRAWING: Final = "comparing on images drawn anew"


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model somebody named: its weights, and what was known of it; None: it was not trained here, not registered."""

    name: str
    weights: Weights
    candidate: Candidate | None
    card: Card | None

    @property
    def trained_on(self) -> str | None:
        """The dataset version it learned from; None: not known, or none of ours."""
        if self.candidate is not None:
            return self.candidate.version_id
        return None if self.card is None else self.card.trained_on

    @property
    def licence(self) -> str | None:
        """The licence its training said."""
        return None if self.candidate is None else self.candidate.licence


def find_model(home: Home, name: str) -> ModelFile:
    """Return the model of a name: a candidate, a registered one, a known name, or a path.

    Raises:
        LabelingError: there is none, or it is a candidate that is not trained yet.
    """
    registry = Registry(home)
    if registry.has(name):
        card = registry.read(name)
        return ModelFile(name, _resolve(home, name), None, card)
    exact = [one for one in list_candidates(home) if name in (one.id, one.model_version)]
    if exact:
        return _from_candidate(exact[-1])
    try:
        return ModelFile(name, _resolve(home, name), None, None)
    except LabelingError as error:
        try:
            return _from_candidate(find_candidate(home, name))
        except LabelingError:
            raise error from None


def _resolve(home: Home, name: str) -> Weights:
    is_offline = Environment(os.environ).flag("LABELLOOP_OFFLINE")
    return resolve_weights(name, models_dir=home.models, is_offline=is_offline)


def _from_candidate(candidate: Candidate) -> ModelFile:
    path = candidate.weights_path
    if path is None or not path.exists():
        raise LabelingError(f"candidate {candidate.id!r} is not trained yet; the same labelloop train goes on with it")
    return ModelFile(candidate.id, Weights(path, "trained here", compute_version(path)), candidate, None)


def read_split(home: Home, file: ModelFile, version: str | None) -> Version:
    """Return the dataset version a model is judged on: the one asked for, the one it learned from, or the newest.

    Raises:
        LabelingError: there is none.
    """
    own = file.trained_on if file.trained_on in list_versions(home) else None
    return read_version(home, version or own or "latest")


def check_not_learned(
    home: Home, file: ModelFile, frozen: Version, split: Split, *, parts: Sequence[Split] = ("train", "val")
) -> int:
    """Return how many images of a split a model learned from, by their content; 0: none, or nobody can tell.

    ``parts`` are the splits that count as learned from: its weights come of train, on val its best epoch was chosen.
    """
    if file.trained_on is None or file.trained_on not in list_versions(home):
        return 0
    learned = frozen if file.trained_on == frozen.id else read_version(home, file.trained_on)
    known = {image.sha256 for image in learned.images if image.split in parts}
    judged = [image for image in frozen.in_split(split) if image.has_regions or image.answers]
    return sum(image.sha256 in known for image in judged)


@dataclass(frozen=True, slots=True)
class Measured:
    """What a model is worth on one split. ``thresholds`` were chosen on val, or are those of its card."""

    look: Look
    evaluation: AnyEvaluation
    thresholds: tuple[Threshold, ...]

    @property
    def failed(self) -> tuple[Failure, ...]:
        """The images that it could not be shown."""
        return tuple(self.look.failed.values())


def look_at(
    home: Home,
    file: ModelFile,
    frozen: Version,
    split: Split,
    on_progress: OnProgress,
    *,
    kind: Kind | None = None,
    is_trusted: bool = False,
) -> Look:
    """Return what a model finds on the images of a split that say something of what it gives.

    Raises:
        LabelingError: the split has no such image, a classifier answers another control than it was trained for, or
            what ``look`` raises.
    """
    images = [image for image in frozen.in_split(split) if image.has_regions or image.answers]
    if not images:
        raise LabelingError(
            f"version {frozen.id}: its split {split} has no image on which people looked for objects or gave an answer"
        )
    seen = look(home, file.weights, images, frozen.config, on_progress=on_progress, kind=kind, is_trusted=is_trusted)
    meant = None if file.candidate is None else file.candidate.control
    if seen.facts.control is not None and meant not in (None, seen.facts.control):
        raise LabelingError(
            f"{file.name}: learned the classes of {meant!r}, and would answer {seen.facts.control!r}, which has them"
            " too; give the classes of one of them other names"
        )
    return seen


def choose_on_val(
    home: Home,
    file: ModelFile,
    frozen: Version,
    on_progress: OnProgress,
    *,
    precision_floor: float | None = None,
    kind: Kind | None = None,
    is_trusted: bool = False,
) -> tuple[Threshold, ...]:
    """Return the thresholds of a model: those of its card, or chosen on val; none where val has no image."""
    if file.card is not None and precision_floor is None:
        return tuple(Threshold(name, value, 0) for name, value in file.card.thresholds.items())
    images = frozen.in_split("val")
    if not any(image.has_regions or image.answers for image in images):
        return ()
    seen = look_at(home, file, frozen, "val", on_progress, kind=kind, is_trusted=is_trusted)
    exam = make_exam(images, frozen.config, seen.facts).without(seen.failed)
    return exam.choose_thresholds(seen, precision_floor=precision_floor)


def to_values(thresholds: tuple[Threshold, ...]) -> dict[str, float]:
    """Return the thresholds that were found, by label."""
    return {one.name: one.value for one in thresholds if one.value is not None}


def measure(frozen: Version, split: Split, seen: Look, thresholds: tuple[Threshold, ...]) -> Measured:
    """Return what a look is worth.

    Raises:
        LabelingError: there is nothing to measure it by.
    """
    exam = make_exam(frozen.in_split(split), frozen.config, seen.facts).without(seen.failed)
    return Measured(seen, _evaluate(frozen, split, exam, seen, thresholds), thresholds)


def _evaluate(
    frozen: Version, split: Split, exam: Exam, seen: Look, thresholds: tuple[Threshold, ...]
) -> AnyEvaluation:
    evaluation = exam.evaluate(seen, to_values(thresholds))
    if evaluation.images or seen.failed:
        return evaluation
    wanted = "on which people looked for objects"
    if isinstance(evaluation, AnswerEvaluation):
        wanted = f"with an answer of {evaluation.control!r}"
    raise LabelingError(f"version {frozen.id}: its split {split} has no image {wanted}")


@dataclass(frozen=True, slots=True)
class Judged:
    """A candidate beside the current model on the same images of the frozen test split."""

    current: Measured
    candidate: Measured
    comparison: Comparison
    verdict: Verdict


def judge(
    frozen: Version,
    looks: tuple[Look, Look],
    thresholds: tuple[tuple[Threshold, ...], tuple[Threshold, ...]],
    rules: Rules,
    on_progress: OnProgress,
) -> Judged:
    """Return what the gate says of two looks at the test split, the current model's first.

    Images one of them could not be shown count for neither. Both are judged by the classes that either can draw or
    say; what a model does not give it did not find.
    """
    current, candidate = looks
    exam = make_exam(frozen.in_split("test"), frozen.config, candidate.facts, [current.facts])
    exam = exam.without([*current.failed, *candidate.failed])
    before, after = (
        _evaluate(frozen, "test", exam, seen, chosen) for seen, chosen in zip(looks, thresholds, strict=True)
    )

    def on_draw(done: int) -> None:
        on_progress(done / rules.resamples, f"{DRAWING}, {done}/{rules.resamples}")

    comparison = exam.compare(looks, (before, after), rules, on_draw)
    return Judged(
        Measured(current, before, thresholds[0]),
        Measured(candidate, after, thresholds[1]),
        comparison,
        _keep_points(decide(comparison, rules), looks, frozen),
    )


def _keep_points(verdict: Verdict, looks: tuple[Look, Look], frozen: Version) -> Verdict:
    """Return the verdict; undecided where the current model's key points, which nothing is judged by, would be lost."""
    old, new = (one.facts for one in looks)
    has_points = any(control.kind == "KeyPointLabels" for control in frozen.config.controls)
    if not (has_points and old.classes and old.task == "pose" and new.task != "pose"):
        return verdict
    lost = f"{old.version} draws key points by this label config, and {new.version} none: key points are not judged"
    return Verdict("undecided", (lost, *verdict.reasons)) if verdict.is_pass else verdict


def check_same_kind(new: Look, old: Look) -> None:
    """Refuse that a model which gives something goes for one that gives something else: one is served at a time.

    Raises:
        LabelingError: the old one draws and the new one answers, or the other way round, or they answer two controls.
    """
    if (old.facts.kind, old.facts.control) == (new.facts.kind, new.facts.control) or not old.facts.classes:
        return
    does, did = (
        "draws objects" if one.facts.kind == "shapes" else f"answers {one.facts.control!r}" for one in (new, old)
    )
    raise LabelingError(
        f"{new.facts.version} {does}, and the current model {old.facts.version} {did} by this label config: one model"
        " is served, so one of the two would be lost. To change from one to the other: labelloop down, then"
        " labelloop up --model with it; or keep a project for each"
    )


def describe(evaluation: AnyEvaluation) -> str:
    """Return the numbers for people.

    >>> from sync.models.evaluation import Evaluation
    >>> describe(Evaluation(3, 3, 0, 0, None, None, None, None, None, None, (), ()))
    'mAP50-95 not known, mAP50 not known, precision not known, recall not known (3 images, 0 examples)'
    """
    numbers: Mapping[str, float | None]
    if isinstance(evaluation, AnswerEvaluation):
        numbers = {"top-1": evaluation.top1, "top-5": evaluation.top5}
        counted = f"({evaluation.images} images, {evaluation.unanswered} without a prediction)"
    else:
        numbers = {evaluation.metric: evaluation.map50_95, "mAP50": evaluation.map50}
        counted = f"({evaluation.images} images, {evaluation.examples} examples)"
    numbers = {**numbers, "precision": evaluation.precision, "recall": evaluation.recall}
    said = ", ".join(f"{name} {'not known' if value is None else f'{value:.4f}'}" for name, value in numbers.items())
    return f"{said} {counted}"
