"""Starting a training: on which version, from which model, for how long. How it goes is on its run's page."""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from labels.errors import LabelingError
from sync.console.parts import Parts
from sync.console.training_view import JOB
from sync.jobs.models.train import read_last
from sync.versions.manifest import list_versions

TRAININGS_SHOWN: Final = 25
MODELS: Final = (
    "yolo11n.pt",
    "yolo11s.pt",
    "yolo26n.pt",
    "yolov8n.pt",
    "fasterrcnn_resnet50_fpn_v2",
    "maskrcnn_resnet50_fpn_v2",
    "ssdlite320_mobilenet_v3_large",
    "timm:efficientnet_b2",
    "timm:efficientnet_b3",
    "timm:resnet50",
    "timm:convnext_tiny",
)
"""What is proposed; any other may be typed."""
TEXTS: Final = ("version", "model", "control")
NUMBERS: Final = ("epochs", "imgsz", "batch", "seed")


def make_training(parts: Parts) -> Blueprint:
    """Return /training."""
    training = Blueprint("training", __name__, url_prefix="/training")

    @training.get("/")
    def show_training() -> ResponseReturnValue:
        return render_template(
            "train.html",
            versions=list(reversed(list_versions(parts.settings.home))),
            models=MODELS,
            last=read_last(parts.settings.home),
            runs=parts.runner.read_runs(TRAININGS_SHOWN, job=JOB),
        )

    @training.post("/")
    def start_training() -> ResponseReturnValue:
        try:
            run = parts.runner.submit(JOB, _read_form(request.form), started_by="console")
        except LabelingError as error:
            flash(str(error), "bad")
            return redirect(url_for("training.show_training"), 303)
        return redirect(url_for("runs.show_run", run_id=run.id), 303)

    return training


def _read_form(form: Any) -> dict[str, Any]:
    """Return what was filled in; what was left empty is as in the last training, or the usual."""
    params: dict[str, Any] = {name: form[name].strip() for name in TEXTS if form.get(name, "").strip()}
    for name in NUMBERS:
        text = form.get(name, "").strip()
        if text:
            params[name] = _to_number(name, text)
    weight = form.get("corrections_weight", "").strip()
    if weight:
        try:
            params["corrections_weight"] = float(weight)
        except ValueError:
            raise LabelingError(f"corrections_weight {weight!r}: expected a number above 0") from None
    return params


def _to_number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise LabelingError(f"{name} {text!r}: expected a whole number")
    return int(text)
