"""The detectors' weights: which ones draw now, and those that are known."""

from __future__ import annotations

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue

from labels.errors import LabelingError
from sync.backend import ServedWeights
from sync.console.parts import Parts


def make_models(parts: Parts) -> Blueprint:
    """Return /models."""
    models = Blueprint("models", __name__, url_prefix="/models")

    @models.get("/")
    def show_models() -> ResponseReturnValue:
        served: ServedWeights | None = None
        problem: str | None = None
        try:
            served = parts.catalogue.fetch_served()
        except LabelingError as error:
            problem = str(error)
        status = parts.status.read_or_problem()
        return render_template(
            "models.html",
            served=served,
            problem=problem,
            shown_version=status.model_version,
            models=parts.catalogue.read_models(),
        )

    return models
