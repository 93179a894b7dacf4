"""What the gate said of models that never were: a detector and a classifier, each with its comparison."""

from __future__ import annotations

from sync.models.answers import AnswerEvaluation, AnswerScore, Reliability
from sync.models.evaluation import ClassScore, Evaluation, SizeScore
from sync.models.gate import ClassChange, Comparison

EVALUATION = Evaluation(
    images=84,
    empty_images=4,
    examples=400,
    found=900,
    map50_95=0.4123,
    map50=0.7,
    map75=0.4,
    precision=0.8,
    recall=0.6,
    calibration_error=0.05,
    sizes=(SizeScore("small", 10, 0.2), SizeScore("medium", 0, None), SizeScore("large", 390, 0.5)),
    classes=(
        ClassScore("<car>", 300, 80, 0.5, 0.8, 0.9, 0.7, 0.35),
        ClassScore("dog", 0, 0, None, None),
    ),
)
ANSWERS = AnswerEvaluation(
    control="weather",
    images=50,
    unanswered=3,
    shown=40,
    top1=0.8123,
    top5=0.94,
    precision=0.9,
    recall=0.72,
    calibration_error=0.07,
    classes=(
        AnswerScore("<sun>", 30, 0.9, 0.96, 0.95, 0.85, 0.41),
        AnswerScore("rain", 20, 0.65, 0.9, 0.8, 0.5, 0.2),
        AnswerScore("snow", 0, None, None),
    ),
    confusion=((27, 2, 0, 1), (5, 13, 0, 2), (0, 0, 0, 0)),
    reliability=(Reliability(0.8, 47, 0.88, 0.85),),
)


def make_comparison(*classes: ClassChange, low: float = 0.012, high: float = 0.09) -> Comparison:
    """Return a candidate that is 0.05 better, by these classes."""
    return Comparison(
        images=100,
        examples=400,
        current=0.4,
        candidate=0.45,
        difference=0.05,
        low=low,
        high=high,
        classes=classes,
    )
