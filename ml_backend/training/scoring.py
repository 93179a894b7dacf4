"""How good a model is on labelled images: mAP by COCO's rules (hotcoco), and a classifier's hits and calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from hotcoco.metrics import calibration_error

from ml_backend.detectors import Detections
from ml_backend.training import TrainingItem

CALIBRATION_BINS: Final = 15


def compute_map(items: Sequence[TrainingItem], found: Sequence[Detections], classes: Sequence[str]) -> dict[str, float]:
    """Return ``map50_95`` and ``map50`` in 0..1 of what was found in labelled images; class ids count from 0.

    Empty where the images have no object at all: nothing can be measured on them.
    """
    annotations: list[dict[str, Any]] = []
    for number, item in enumerate(items, 1):
        for box in item.boxes:
            x1, y1, x2, y2 = box.xyxy
            width, height = max(x2 - x1, 0.0), max(y2 - y1, 0.0)
            row = {"id": len(annotations) + 1, "image_id": number, "category_id": box.class_id, "iscrowd": 0}
            annotations.append(row | {"bbox": [x1, y1, width, height], "area": width * height})
    if not annotations:
        return {}
    results = [row for number, one in enumerate(found, 1) for row in _to_rows(number, one)]
    if not results:
        return {"map50_95": 0.0, "map50": 0.0}
    from hotcoco import COCO, COCOeval

    images = [
        {"id": number, "width": item.size.width, "height": item.size.height} for number, item in enumerate(items, 1)
    ]
    categories = [{"id": number, "name": name} for number, name in enumerate(classes)]
    truth = COCO({"images": images, "annotations": annotations, "categories": categories})
    evaluation = COCOeval(truth, truth.load_res(results), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    stats = [float(value) for value in evaluation.stats]
    return {"map50_95": max(stats[0], 0.0), "map50": max(stats[1], 0.0)}


def _to_rows(number: int, found: Detections) -> list[dict[str, Any]]:
    rows = []
    # All of them: how many count is COCO's rule, by class.
    for place in range(len(found)):
        x1, y1, x2, y2 = (float(value) for value in found.xyxy[place])
        rows.append(
            {
                "image_id": number,
                "category_id": int(found.class_ids[place]),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "score": float(found.scores[place]),
            }
        )
    return rows


def compute_hits(probabilities: npt.NDArray[np.float32], truth: Sequence[int]) -> dict[str, float]:
    """Return ``top1``, ``top5`` (both 0..1) and ``ece`` of (images, classes) probabilities; empty without images.

    With five classes or fewer, top-5 is 1 by itself.

    >>> compute_hits(np.array([[0.9, 0.1], [0.6, 0.4]], np.float32), [0, 1])["top1"]
    0.5
    """
    if not len(truth):
        return {}
    order = np.argsort(-probabilities, axis=1, kind="stable")
    is_hit = order == np.asarray(truth)[:, None]
    return {
        "top1": float(is_hit[:, 0].mean()),
        "top5": float(is_hit[:, :5].any(axis=1).mean()),
        "ece": compute_calibration_error(probabilities.max(axis=1), is_hit[:, 0]),
    }


def compute_calibration_error(confidence: npt.NDArray[np.float32], is_right: npt.NDArray[np.bool_]) -> float:
    """Return the expected calibration error: how far confidence and hits lie apart, in bins of equal width.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks.

    >>> round(compute_calibration_error(np.array([1.0, 1.0], np.float32), np.array([True, False])), 3)
    0.5
    """
    return calibration_error(confidence.astype(np.float64), is_right, CALIBRATION_BINS)[0]


def compute_confusion(truth: Sequence[int], guessed: Sequence[int], classes: int) -> list[list[int]]:
    """Return how often each class (row) was taken for each (column).

    >>> compute_confusion([0, 0, 1], [0, 1, 1], 2)
    [[1, 1], [0, 1]]
    """
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (np.asarray(truth, int), np.asarray(guessed, int)), 1)
    return [[int(value) for value in row] for row in table]
