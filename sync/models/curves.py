"""Curves of a model as SVG files for its card: precision against recall, and the scores of each epoch."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sync.models.evaluation import Evaluation

SIZE_INCHES: Final = (6.2, 4.2)
PRECISION_RECALL: Final = "precision-recall.svg"
TRAINING: Final = "training.svg"


def draw_curves(
    evaluation: Evaluation, before: Evaluation | None, epochs: Sequence[Mapping[str, Any]]
) -> dict[str, bytes]:
    """Return the drawings by file name; what is not known is not drawn. The same numbers give the same bytes."""
    drawn: dict[str, bytes] = {}
    lines = {"this model": evaluation.curve} | ({} if before is None else {"the model before": before.curve})
    if evaluation.curve:
        recalls = [number / (len(evaluation.curve) - 1) for number in range(len(evaluation.curve))]
        title = f"IoU 0.5, mean over classes, {evaluation.images} images"
        drawn[PRECISION_RECALL] = _draw(title, "recall", "precision", recalls, lines)
    scored = [epoch for epoch in epochs if epoch.get("scores")]
    if scored:
        scores = {name: [epoch["scores"].get(name) for epoch in scored] for name in scored[-1]["scores"]}
        drawn[TRAINING] = _draw("by epoch, on val", "epoch", "score", [epoch["epoch"] for epoch in scored], scores)
    return drawn


def _draw(title: str, x: str, y: str, places: Sequence[float], lines: Mapping[str, Sequence[float | None]]) -> bytes:
    import matplotlib as mpl  # half a second, and only for this
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    axes = figure.subplots()
    for name, values in lines.items():
        known = [(place, value) for place, value in zip(places, values, strict=False) if value is not None]
        axes.plot([place for place, _ in known], [value for _, value in known], label=name, linewidth=1.5)
    axes.set(title=title, xlabel=x, ylabel=y, ylim=(0, 1.02))
    axes.grid(color="#dddddd")
    axes.legend(frameon=False)
    written = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "labelloop"}):
        figure.savefig(written, format="svg", metadata={"Date": None})
    return written.getvalue()
