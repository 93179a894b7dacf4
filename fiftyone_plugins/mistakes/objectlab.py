"""ObjectLab's label quality (cleanlab) of images with boxes, for those who want to see it beside ours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fiftyone_plugins.mistakes.boxes import Floats, ImageBoxes


def score_with_objectlab(images: Sequence[ImageBoxes]) -> list[float | None]:
    """Return 1 - ObjectLab's quality of each image, 0..1; None: an image without labels, of which it says nothing.

    Source: Tkachenko et al. 2023, ObjectLab.
    """
    from cleanlab.object_detection.rank import get_label_quality_scores

    rows = [number for number, image in enumerate(images) if len(image.labels)]
    if not rows:
        return [None] * len(images)
    count = 1 + max(max([*image.label_classes, *image.found_classes], default=0) for image in images)
    labels = [{"bboxes": images[row].labels, "labels": images[row].label_classes} for row in rows]
    found = [_by_class(images[row], int(count)) for row in rows]
    quality = get_label_quality_scores(labels, found, verbose=False)
    scores: list[float | None] = [None] * len(images)
    for row, one in zip(rows, quality, strict=True):
        # An image in which the detector found nothing has no quality in ObjectLab's eyes.
        scores[row] = float(1 - one) if np.isfinite(one) else None
    return scores


def _by_class(image: ImageBoxes, count: int) -> NDArray[np.object_]:
    rows: Floats = np.column_stack([image.found, image.scores]) if len(image.scores) else np.zeros((0, 5))
    parts = np.empty(count, dtype=object)
    for number in range(count):
        parts[number] = rows[image.found_classes == number]
    return parts
