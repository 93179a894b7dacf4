"""Boxes of people and of better or worse detectors, made by chance from a seed, and pycocotools' word on them."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np

from labels.geometry import ImageSize
from sync.models.boxes import Boxes

SIZE = ImageSize(640, 480)
CLASSES = ("car", "dog", "bus", "never drawn")


def make_truth(images: int, *, seed: int = 1, classes: int = 3) -> Boxes:
    """Return up to eight boxes of any size on each image, and on some none."""
    random = np.random.default_rng(seed)
    rows = []
    for image in range(images):
        for _ in range(random.integers(0, 9)):
            width, height = np.exp(random.uniform(np.log(8), np.log(300), 2))
            x, y = random.uniform(0, SIZE.width - width), random.uniform(0, SIZE.height - height)
            rows.append((image, int(random.integers(classes)), (x, y, x + width, y + height)))
    return Boxes.from_rows(rows)


def make_found(truth: Boxes, *, seed: int, off_px: float, missed: float = 0.2, classes: int = 4) -> Boxes:
    """Return what a detector finds that is off by some pixels, misses some, and sees things that are not there."""
    random = np.random.default_rng(seed)
    rows, scores = [], []
    for image, number, xyxy in zip(truth.images, truth.classes, truth.xyxy, strict=True):
        if random.uniform() > missed:
            rows.append((int(image), int(number), _move(random, xyxy, off_px)))
            scores.append(random.uniform(0.3, 1.0))
        if random.uniform() < 0.4:
            rows.append((int(image), int(random.integers(classes)), _move(random, xyxy, 25.0)))
            scores.append(random.uniform(0.0, 0.7))
    found = Boxes.from_rows(rows)
    return Boxes(found.images, found.classes, found.xyxy, np.array(scores))


def _move(random: np.random.Generator, xyxy: Any, by_px: float) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = xyxy + random.normal(0, by_px, 4)
    return x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)


def ask_pycocotools(truth: Boxes, found: Boxes, images: int) -> Any:
    """Return pycocotools' evaluation, accumulated and summed up."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        drawn = COCO()
        drawn.dataset = {
            "images": [{"id": number + 1, "width": SIZE.width, "height": SIZE.height} for number in range(images)],
            "categories": [{"id": number + 1, "name": name} for number, name in enumerate(CLASSES)],
            "annotations": [_to_annotation(truth, row) | {"iscrowd": 0} for row in range(len(truth))],
        }
        drawn.createIndex()
        assert found.scores is not None
        results = [_to_annotation(found, row) | {"score": float(found.scores[row])} for row in range(len(found))]
        evaluation = COCOeval(drawn, drawn.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def _to_annotation(boxes: Boxes, row: int) -> dict[str, Any]:
    x1, y1, x2, y2 = (float(side) for side in boxes.xyxy[row])
    return {
        "id": row + 1,
        "image_id": int(boxes.images[row]) + 1,
        "category_id": int(boxes.classes[row]) + 1,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
    }
