"""Choosing what people see next: a strategy and a number, a look at the images it would send, and the button."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from labels.errors import LabelingError
from sync.console.drawing import Shape, to_shape
from sync.console.parts import Parts

DEFAULT_COUNT: Final = 50
MAX_COUNT: Final = 10_000
SHOWN: Final = 48
FIELD: Final = "field"
STRATEGIES: Final[Mapping[str, str]] = {
    "uncertainty": "The detector is least sure",
    "mistake": "The label is most likely wrong",
    "diversity": "As different from one another as can be",
    "random": "By chance",
    FIELD: "Highest value of a field",
}


def make_queue(parts: Parts) -> Blueprint:
    """Return /queue."""
    queue = Blueprint("queue", __name__, url_prefix="/queue")

    @queue.get("/")
    def show_queue() -> ResponseReturnValue:
        asked = _read_form(request.args)
        shown: dict[str, Any] = {"choice": None, "problem": None, "images": {}, "shapes": {}}
        if "by" in request.args:
            try:
                shown |= _preview(parts, asked["by"], asked["count"])
            except LabelingError as error:
                shown["problem"] = str(error)
        return render_template(
            "queue.html", strategies=STRATEGIES, shown=SHOWN, max_count=MAX_COUNT, preview=shown, **asked
        )

    @queue.post("/")
    def send() -> ResponseReturnValue:
        asked = _read_form(request.form)
        params = {"by": asked["by"], "count": asked["count"]}
        view = request.form.get("view", "").strip()
        try:
            run = parts.runner.submit("queue", params | ({"view": view} if view else {}), started_by="console")
        except LabelingError as error:
            flash(str(error), "bad")
            return redirect(url_for("queue.show_queue"), 303)
        return redirect(url_for("runs.show_run", run_id=run.id), 303)

    return queue


def _read_form(form: Any) -> dict[str, Any]:
    """Return the strategy as the job knows it, the number, and what the form shows again."""
    strategy = form.get("by", "uncertainty")
    field = form.get("field", "").strip()
    count = form.get("count", DEFAULT_COUNT, type=int)
    by = field if strategy == FIELD else strategy
    return {"strategy": strategy, "field": field, "by": by, "count": min(max(count, 1), MAX_COUNT)}


def _preview(parts: Parts, by: str, count: int) -> dict[str, Any]:
    """Return what would be sent, with the images and the detector's shapes of the first ones."""
    if not by:
        raise LabelingError("name the field whose highest values are sent first, such as uncertainty")
    choice = parts.catalogue.choose(by, count)
    ids = [one.sample_id for one in choice.chosen[:SHOWN]]
    predictions = parts.catalogue.read_predictions(ids)
    shapes: dict[str, list[tuple[str, Shape]]] = {
        sample_id: [
            (", ".join(label.classes), shape) for label in found.labels if (shape := to_shape(label)) is not None
        ]
        for sample_id, found in predictions.items()
    }
    return {"choice": choice, "images": parts.catalogue.find_images(ids), "shapes": shapes}
