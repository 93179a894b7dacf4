"""Curves of a model as SVG files for its card: precision against recall, or for a classifier how often it is right by
how sure it is, and the scores of each epoch."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sync.models.answers import AnswerEvaluation, AnyEvaluation
from sync.models.evaluation import Evaluation

SIZE_INCHES: Final = (6.2, 4.2)
PRECISION_RECALL: Final = "precision-recall.svg"
CALIBRATION: Final = "calibration.svg"
TRAINING: Final = "training.svg"

Line = tuple[Sequence[float], Sequence[float | None]]
"""Where along, and how high; None: not known there."""


def draw_curves(
    evaluation: AnyEvaluation, before: AnyEvaluation | None, epochs: Sequence[Mapping[str, Any]]
) -> dict[str, bytes]:
    """Return the drawings by file name; what is not known is not drawn. The same numbers give the same bytes."""
    drawn: dict[str, bytes] = {}
    if isinstance(evaluation, Evaluation) and evaluation.curve:
        lines = {"this model": evaluation.curve}
        if isinstance(before, Evaluation):
            lines["the model before"] = before.curve
        recalls = [number / (len(evaluation.curve) - 1) for number in range(len(evaluation.curve))]
        title = f"IoU 0.5, mean over classes, {evaluation.images} images"
        drawn[PRECISION_RECALL] = _draw(
            title, "recall", "precision", {name: (recalls, values) for name, values in lines.items()}
        )
    elif isinstance(evaluation, AnswerEvaluation) and evaluation.reliability:
        answered: dict[str, Line] = {"as it should be": ([0, 1], [0, 1]), "this model": _to_line(evaluation)}
        if isinstance(before, AnswerEvaluation) and before.reliability:
            answered["the model before"] = _to_line(before)
        title = f"how often the surest class is right, {evaluation.images} images"
        drawn[CALIBRATION] = _draw(title, "score", "share that is right", answered)
    scored = [epoch for epoch in epochs if epoch.get("scores")]
    if scored:
        scores = {name: [epoch["scores"].get(name) for epoch in scored] for name in scored[-1]["scores"]}
        numbers = [epoch["epoch"] for epoch in scored]
        drawn[TRAINING] = _draw(
            "by epoch, on val", "epoch", "score", {name: (numbers, values) for name, values in scores.items()}
        )
    return drawn


def _to_line(evaluation: AnswerEvaluation) -> Line:
    rows = evaluation.reliability
    return [one.confidence for one in rows], [one.right for one in rows]


def _draw(title: str, x: str, y: str, lines: Mapping[str, Line]) -> bytes:
    import matplotlib as mpl  # half a second, and only for this
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    axes = figure.subplots()
    for name, (places, values) in lines.items():
        known = [(place, value) for place, value in zip(places, values, strict=False) if value is not None]
        axes.plot([place for place, _ in known], [value for _, value in known], label=name, linewidth=1.5)
    axes.set(title=title, xlabel=x, ylabel=y, ylim=(0, 1.02))
    axes.grid(color="#dddddd")
    axes.legend(frameon=False)
    written = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "labelloop"}):
        figure.savefig(written, format="svg", metadata={"Date": None})
    return written.getvalue()
