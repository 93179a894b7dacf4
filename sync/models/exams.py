"""How a look at a frozen split becomes a measurement: one exam for detectors, one for classifiers. Pure.

Both have the same four questions: from which score on to show each class, how good a model is, how two compare, and
what is left when some images could not be looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from labels.config import LabelConfig
from labels.errors import LabelingError
from sync.models.answers import AnswerEvaluation, AnyEvaluation, choose_answer_thresholds, evaluate_answers
from sync.models.bootstrap import OnDraw
from sync.models.evaluation import Evaluation, evaluate_boxes
from sync.models.examples import (
    AnswerExamples,
    Examples,
    list_answerable,
    number_groups,
    read_answer_examples,
    read_examples,
)
from sync.models.gate import Comparison, Rules, compare_answers, compare_models
from sync.models.looks import Look, ModelFacts
from sync.models.thresholds import Threshold, choose_thresholds
from sync.versions.version import VersionImage


class Exam(Protocol):
    """The images of a split with what people drew or said, and the questions."""

    def without(self, sample_ids: Iterable[str]) -> Exam:
        """Return the exam without some images."""

    def choose_thresholds(self, seen: Look, *, precision_floor: float | None = None) -> tuple[Threshold, ...]:
        """Return from which score on each class is shown; to be asked of the validation split alone."""

    def evaluate(self, seen: Look, thresholds: Mapping[str, float]) -> AnyEvaluation:
        """Return how good what was seen is."""

    def compare(
        self, looks: tuple[Look, Look], evaluations: tuple[AnyEvaluation, AnyEvaluation], rules: Rules, on_draw: OnDraw
    ) -> Comparison:
        """Return the second look against the first."""


@dataclass(frozen=True, slots=True)
class ShapeExam:
    """For detectors."""

    examples: Examples

    def without(self, sample_ids: Iterable[str]) -> ShapeExam:
        """Return the exam without some images."""
        overlap = self.examples.truth.overlap
        return replace(self, examples=self.examples.without(sample_ids).by(overlap))

    def choose_thresholds(self, seen: Look, *, precision_floor: float | None = None) -> tuple[Threshold, ...]:
        """Return the thresholds with the best F1, or with the most found at a precision."""
        found = seen.to_boxes(self.examples)
        return choose_thresholds(self.examples.classes, self.examples.truth, found, precision_floor=precision_floor)

    def evaluate(self, seen: Look, thresholds: Mapping[str, float]) -> Evaluation:
        """Return mAP and what goes with it."""
        one = self.examples
        return evaluate_boxes(one.sizes, one.classes, one.truth, seen.to_boxes(one), thresholds=thresholds)

    def compare(
        self, looks: tuple[Look, Look], evaluations: tuple[AnyEvaluation, AnyEvaluation], rules: Rules, on_draw: OnDraw
    ) -> Comparison:
        """Return the difference in mAP50-95."""
        before, after = evaluations
        assert isinstance(before, Evaluation)
        assert isinstance(after, Evaluation)
        found = (looks[0].to_boxes(self.examples), looks[1].to_boxes(self.examples))
        groups = number_groups(self.examples.images)
        return compare_models(before, after, self.examples.truth, found, rules, groups=groups, on_draw=on_draw)


@dataclass(frozen=True, slots=True)
class AnswerExam:
    """For classifiers, by one control."""

    examples: AnswerExamples

    def without(self, sample_ids: Iterable[str]) -> AnswerExam:
        """Return the exam without some images."""
        return replace(self, examples=self.examples.without(sample_ids))

    def choose_thresholds(self, seen: Look, *, precision_floor: float | None = None) -> tuple[Threshold, ...]:
        """Return the thresholds with the best F1, or with the most answered at a precision."""
        one = self.examples
        return choose_answer_thresholds(one.classes, one.truth, seen.to_answers(one), precision_floor=precision_floor)

    def evaluate(self, seen: Look, thresholds: Mapping[str, float]) -> AnswerEvaluation:
        """Return top-1 and what goes with it."""
        one = self.examples
        return evaluate_answers(one.control, one.classes, one.truth, seen.to_answers(one), thresholds=thresholds)

    def compare(
        self, looks: tuple[Look, Look], evaluations: tuple[AnyEvaluation, AnyEvaluation], rules: Rules, on_draw: OnDraw
    ) -> Comparison:
        """Return the difference in top-1."""
        before, after = evaluations
        assert isinstance(before, AnswerEvaluation)
        assert isinstance(after, AnswerEvaluation)
        answers = (looks[0].to_answers(self.examples), looks[1].to_answers(self.examples))
        current = before if looks[0].facts.classes else None
        groups = number_groups(self.examples.images)
        return compare_answers(current, after, self.examples.truth, answers, rules, groups=groups, on_draw=on_draw)


def make_exam(
    images: Sequence[VersionImage], config: LabelConfig, facts: ModelFacts, others: Iterable[ModelFacts] = ()
) -> Exam:
    """Return the exam for a model; ``others`` take it too: it asks for all that any gives, in a way that suits all.

    Raises:
        LabelingError: a classifier that answers nothing of the label config.
    """
    if facts.kind == "answers":
        if facts.control is None:
            known = ", ".join(list_answerable(config)) or "none"
            raise LabelingError(
                f"{facts.version}: none of its classes is a choice of the label config, in a Choices of which one is"
                f" ticked (known: {known}); predicted_values would map them"
            )
        return AnswerExam(read_answer_examples(images, config, control=facts.control))
    # Who gives nothing has nothing that could be lost or overlap.
    tasks = list(dict.fromkeys([facts.task, *(one.task for one in others if one.classes)]))
    examples = read_examples(images, config, tasks=tasks)
    return ShapeExam(examples.by(examples.find_overlap(tasks)))
