"""Finds what looks like an example box in the same image. Pure: works on what ``features.py`` made of the image.

Where the network sees something in the example, whatever it takes it for, the boxes it proposes are compared: by the
features of their cells in a small grid, and by what the network takes them for. Where it sees nothing, windows of the
example's size are compared by their features alone. Likeness is the cosine; features are less the mean of the whole
image, so that what all places share counts for nothing. Source: exemplar matching as in few-shot counting (FamNet,
Ranjan et al. 2021), without training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from labels.geometry import Box
from ml_backend.answers.uncertainty import compute_iou_matrix
from ml_backend.interactive.features import FeatureMap, ImageFeatures

MIN_LIKENESS: Final = 0.5
MIN_WINDOW_LIKENESS: Final = 0.7
MAX_FOUND: Final = 50
# The network sees something in the example when it proposes a box that is about the same.
SAME_IOU: Final = 0.6
SEEN_FLOOR: Final = 0.05
WINDOW_GRID: Final = 3
PROPOSAL_GRID: Final = 2
# Windows are the example's size and somewhat smaller and larger.
SCALES: Final = (0.75, 1.0, 1.33)
STEPS_PER_SIDE: Final = 4
MAX_WINDOWS: Final = 10_000
OVERLAP_IOU: Final = 0.3
Floats = npt.NDArray[np.float64]


def find_lookalikes(features: ImageFeatures, example: Box, drawn: Sequence[Box]) -> list[tuple[Box, float]]:
    """Return boxes like the example with their likeness in 0..1, best first.

    Boxes overlap neither each other nor what is drawn already; a turned example is taken for the upright box round it.
    """
    width, height = features.size
    corners = np.clip(np.array(example.to_xyxy()), 0, [width, height, width, height])
    if corners[2] - corners[0] < 1 or corners[3] - corners[1] < 1:
        return []
    seen = _describe_seen(features, corners)
    if seen is None:
        boxes = np.concatenate([_make_windows(corners, features.size, scale) for scale in SCALES])
        likeness = _compute_cosine(features.map, corners, boxes, WINDOW_GRID)
        lowest = MIN_WINDOW_LIKENESS
    else:
        boxes = features.proposals.boxes.astype(np.float64)
        by_look = _compute_cosine(features.map, corners, boxes, PROPOSAL_GRID)
        likeness = (by_look + _to_cosines(features.proposals.probabilities.astype(np.float64), seen)) / 2
        lowest = MIN_LIKENESS
    taken = np.array([corners, *(box.to_xyxy() for box in drawn)])
    return _pick(boxes, likeness, taken, lowest)


def _pick(boxes: Floats, likeness: Floats, taken: Floats, lowest: float) -> list[tuple[Box, float]]:
    found: list[tuple[Box, float]] = []
    for row in np.argsort(-likeness, kind="stable"):
        if likeness[row] < lowest or len(found) >= MAX_FOUND:
            break
        box = boxes[row]
        if compute_iou_matrix(box[None], taken).max() <= OVERLAP_IOU:
            taken = np.concatenate([taken, box[None]])
            found.append((Box.from_xyxy(*map(float, box)), min(float(likeness[row]), 1.0)))
    return found


def _describe_seen(features: ImageFeatures, example: Floats) -> Floats | None:
    """Return the highest probability of each class at the example; None where the network sees nothing there."""
    overlap = compute_iou_matrix(example[None], features.places.boxes)[0]
    rows = np.flatnonzero(overlap > SAME_IOU)
    if rows.size == 0:
        return None
    seen = (features.places.probabilities[rows].astype(np.float64) * overlap[rows, None]).max(axis=0)
    return np.asarray(seen) if seen.max() > SEEN_FLOOR else None


def _to_cosines(rows: Floats, example: Floats) -> Floats:
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(example)
    dots = rows @ example
    return np.asarray(np.divide(dots, lengths, out=np.zeros_like(dots), where=lengths > 0))


def _compute_cosine(features: FeatureMap, example: Floats, boxes: Floats, grid: int) -> Floats:
    described = _describe(features.sums, np.concatenate([example[None], boxes]) / features.cell_px, grid)
    return _to_cosines(described[1:], described[0])


def _describe(sums: Floats, boxes: Floats, grid: int) -> Floats:
    """Return the mean features of each box's grid cells, (n, grid² x channels); boxes are in cells of the map."""
    rows, columns = sums.shape[0] - 1, sums.shape[1] - 1
    parts = []
    for down in range(grid):
        for across in range(grid):
            left = boxes[:, 0] + (boxes[:, 2] - boxes[:, 0]) * across / grid
            right = boxes[:, 0] + (boxes[:, 2] - boxes[:, 0]) * (across + 1) / grid
            top = boxes[:, 1] + (boxes[:, 3] - boxes[:, 1]) * down / grid
            bottom = boxes[:, 1] + (boxes[:, 3] - boxes[:, 1]) * (down + 1) / grid
            # At least one cell, whatever the box.
            x1 = np.clip(np.floor(left), 0, columns - 1).astype(int)
            y1 = np.clip(np.floor(top), 0, rows - 1).astype(int)
            x2 = np.clip(np.ceil(right), x1 + 1, columns).astype(int)
            y2 = np.clip(np.ceil(bottom), y1 + 1, rows).astype(int)
            area = ((x2 - x1) * (y2 - y1))[:, None]
            parts.append((sums[y2, x2] - sums[y1, x2] - sums[y2, x1] + sums[y1, x1]) / area)
    return np.concatenate(parts, axis=1)


def _make_windows(example: Floats, size: tuple[int, int], scale: float) -> Floats:
    width, height = (example[2] - example[0]) * scale, (example[3] - example[1]) * scale
    if width > size[0] or height > size[1]:
        return np.zeros((0, 4))
    step_x, step_y = max(width / STEPS_PER_SIDE, 1.0), max(height / STEPS_PER_SIDE, 1.0)
    # Tiny examples in a large image: steps grow until the windows can be counted.
    count = ((size[0] - width) / step_x + 1) * ((size[1] - height) / step_y + 1) * len(SCALES)
    if count > MAX_WINDOWS:
        step_x, step_y = step_x * (count / MAX_WINDOWS) ** 0.5, step_y * (count / MAX_WINDOWS) ** 0.5
    lefts, tops = np.arange(0, size[0] - width + 1e-9, step_x), np.arange(0, size[1] - height + 1e-9, step_y)
    left, top = (grid.ravel() for grid in np.meshgrid(lefts, tops))
    return np.stack([left, top, left + width, top + height], axis=1)
