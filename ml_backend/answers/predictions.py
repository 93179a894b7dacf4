"""The prediction Label Studio gets for one image: its regions, its score, and every uncertainty beside it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labels.results import to_result
from ml_backend.answers.label_plans import LabelPlan
from ml_backend.answers.regions import PredictedItem, to_candidates, to_labels, to_views
from ml_backend.answers.uncertainty import (
    DEFAULT_SCORE,
    Uncertainties,
    compute_disagreement,
    compute_uncertainties,
    to_score,
)
from ml_backend.detectors import Detections


def to_prediction(
    item: PredictedItem,
    found: Detections,
    plan: LabelPlan,
    *,
    model_version: str,
    served: str = DEFAULT_SCORE,
    label_counts: Mapping[str, int] | None = None,
    is_calibrated: bool = False,
) -> dict[str, Any]:
    """Return the prediction of one image: the regions shown, best first, and 1 - the served uncertainty as its score.

    ``served`` is one of ``SCORE_NAMES``; an image it was not computed for gets ``u_mean``, as ``served_score`` tells.
    Label Studio keeps the regions and the score; ``prediction_meta`` is for those who ask us directly.
    """
    labels = to_labels(item, found, plan, model_version=model_version)
    counts = None if label_counts is None else _fill(label_counts, plan)
    views, thresholds = to_views(found, plan, item.size)
    scores = compute_uncertainties(
        to_candidates(found, plan, item.size),
        disagreement=compute_disagreement(views, thresholds=thresholds),
        label_counts=counts,
    )
    name, uncertainty = scores.choose(served)
    return {
        "model_version": model_version,
        "score": to_score(uncertainty),
        "result": to_result(labels, plan.config, item.size),
        "prediction_meta": to_meta(scores, served_score=name, is_calibrated=is_calibrated),
    }


def to_failed_prediction(model_version: str) -> dict[str, Any]:
    """Return the prediction of a task that has none: valid for Label Studio, without a region and without a score."""
    return {"model_version": model_version, "score": None, "result": [], "prediction_meta": None}


def to_meta(scores: Uncertainties, *, served_score: str, is_calibrated: bool) -> dict[str, Any]:
    """Return every score by its name; null: not computed."""
    return {
        "served_score": served_score,
        "u_mean": scores.u_mean,
        "u_sum": scores.u_sum,
        "u_disagree": scores.u_disagree,
        "u_rare": scores.u_rare,
        "effort": scores.corrections,
        "comparison": {"least_confidence": scores.least_confidence, "mean_entropy": scores.mean_entropy},
        "calibrated": is_calibrated,
    }


def _fill(label_counts: Mapping[str, int], plan: LabelPlan) -> dict[str, int]:
    """Return the count of every label the model can draw: one that is not mentioned was never reviewed."""
    return {target.label: max(label_counts.get(target.label, 0), 0) for target in plan.classes.values()}
