"""What a training's page shows: its curves as far as it is, each epoch in numbers, and what it was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from markupsafe import Markup

from sync.console.charts import draw_lines
from sync.models.candidate import Candidate, find_of_run
from sync.settings import Home

JOB: Final = "train"
SCORE_WORDS: Final = {"map50_95": "mAP50-95", "map50": "mAP50", "top1": "top-1", "top5": "top-5"}
"""What is drawn: high is good."""
COLUMN_WORDS: Final = SCORE_WORDS | {"ece": "calibration error"}


@dataclass(frozen=True, slots=True)
class Curve:
    """A picture with the names of its lines."""

    title: str
    picture: Markup
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TrainingView:
    """A candidate with its curves; ``rows`` has a line an epoch, the newest first, under ``columns``."""

    candidate: Candidate
    curves: tuple[Curve, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[int, tuple[float | None, ...]], ...]
    epochs: int


def describe_training(home: Home, run_id: int) -> TrainingView | None:
    """Return what is known of the training of a run; None: it has not begun, or is none."""
    candidate = find_of_run(home, run_id)
    if candidate is None:
        return None
    history = candidate.history()
    scores = [name for name in SCORE_WORDS if any(name in epoch["scores"] for epoch in history)]
    losses = sorted({name for epoch in history for name in epoch["losses"]} - {"loss"})
    curves = []
    if history:
        labels = [str(epoch["epoch"]) for epoch in history]
        curves.append(_draw("Loss on the train split", labels, {"loss": _values(history, "losses", "loss")}))
        if scores:
            lines = {SCORE_WORDS[name]: _values(history, "scores", name) for name in scores}
            curves.append(_draw("Score on the val split", labels, lines))
    shown = [name for name in COLUMN_WORDS if any(name in epoch["scores"] for epoch in history)]
    columns = ("loss", *losses, *(COLUMN_WORDS[name] for name in shown), "learning rate", "seconds")
    rows = tuple(
        (
            int(epoch["epoch"]),
            (
                *(epoch["losses"].get(name) for name in ("loss", *losses)),
                *(epoch["scores"].get(name) for name in shown),
                epoch["lr"],
                epoch["seconds"],
            ),
        )
        for epoch in reversed(history)
    )
    return TrainingView(candidate, tuple(curves), columns, rows, int(candidate.settings.get("epochs", len(history))))


def count_epochs(home: Home, run_id: int) -> int:
    """Return how many epochs the training of a run has behind it."""
    candidate = find_of_run(home, run_id)
    return 0 if candidate is None else len(candidate.history())


def _values(history: Sequence[Mapping[str, Any]], kind: str, name: str) -> list[float | None]:
    return [epoch[kind].get(name) for epoch in history]


def _draw(title: str, labels: Sequence[str], lines: Mapping[str, Sequence[float | None]]) -> Curve:
    said = f"{title}, epoch {labels[0]} to {labels[-1]}"
    return Curve(title, draw_lines(said, labels, lines), tuple(lines))
