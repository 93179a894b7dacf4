"""Which rows of a network's raw answer are objects: thresholds, non-maximum suppression, and the best of a set.

Pure torch, on whatever device the answer lies. Nothing here knows the image's size.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
import torchvision  # type: ignore[import-untyped]

NMS_IOU: Final = 0.7  # Ultralytics' own default for predict
MAX_BOXES: Final = 300  # likewise
MAX_CANDIDATES: Final = 30_000
# Boxes of different classes are moved apart by more than any image is wide, so that one NMS serves all classes.
CLASS_OFFSET: Final = 7680


class Rows(NamedTuple):
    """Objects in the units of the network, best first; ``probabilities`` is None where the network keeps them."""

    boxes: torch.Tensor
    scores: torch.Tensor
    class_ids: torch.Tensor
    probabilities: torch.Tensor | None
    extra: torch.Tensor


def choose_from_anchors(
    answer: torch.Tensor, classes: int, score_floor: float, *, iou: float = NMS_IOU, is_turned: bool = False
) -> Rows:
    """Return the objects among anchors, (4 + classes + extra, anchors), by NMS within each class.

    Boxes come as centre and size; they leave as corners, or unchanged when ``is_turned`` (the last extra is the angle).
    """
    scores = answer[4 : 4 + classes].amax(0)
    candidates = (scores > score_floor).nonzero().squeeze(1)
    rows = answer[:, candidates].T
    best, class_ids = rows[:, 4 : 4 + classes].max(1)
    if len(best) > MAX_CANDIDATES:
        order = best.argsort(descending=True)[:MAX_CANDIDATES]
        rows, best, class_ids = rows[order], best[order], class_ids[order]
    boxes = rows[:, :4] if is_turned else to_corners(rows[:, :4])
    offset = class_ids[:, None] * CLASS_OFFSET
    if is_turned:
        turned = torch.cat([boxes[:, :2] + offset, boxes[:, 2:], rows[:, -1:]], 1)
        keep = suppress_turned(turned, best, iou)
    else:
        keep = torchvision.ops.nms(boxes + offset, best, iou)
    keep = keep[:MAX_BOXES]
    return Rows(boxes[keep], best[keep], class_ids[keep], rows[keep, 4 : 4 + classes], rows[keep, 4 + classes :])


def choose_top(answer: torch.Tensor, classes: int, score_floor: float, *, count: int = MAX_BOXES) -> Rows:
    """Return the best of (anchors, 4 + classes + extra): a network without NMS sees each object once.

    The best anchors first, then the best classes among them: an anchor can stand for two classes.
    """
    count = min(count, len(answer))
    anchors = answer[:, 4 : 4 + classes].amax(1).topk(count).indices
    return _choose_pairs(answer[anchors], classes, score_floor, count)


def choose_from_queries(answer: torch.Tensor, classes: int, score_floor: float, *, top: int | None = None) -> Rows:
    """Return the best ``top`` pairs of query and class of (queries, 4 + classes); None: as many as there are queries.

    Boxes become corners, still in 0..1.
    """
    count = min(len(answer) if top is None else top, len(answer) * classes)
    rows = _choose_pairs(answer, classes, score_floor, count)
    return rows._replace(boxes=to_corners(rows.boxes))


def choose_best(answer: torch.Tensor, classes: int, score_floor: float) -> Rows:
    """Return each of (queries, 4 + classes) as its best class, best first; boxes become corners, still in 0..1."""
    scores, class_ids = answer[:, 4 : 4 + classes].max(1)
    order = scores.argsort(descending=True, stable=True)
    order = order[scores[order] > score_floor]
    rows = answer[order]
    return Rows(
        to_corners(rows[:, :4]), scores[order], class_ids[order], rows[:, 4 : 4 + classes], rows[:, 4 + classes :]
    )


def _choose_pairs(rows: torch.Tensor, classes: int, score_floor: float, count: int) -> Rows:
    scores, places = rows[:, 4 : 4 + classes].flatten().topk(count)
    scores, places = scores[:MAX_BOXES], places[:MAX_BOXES]
    is_shown = scores > score_floor
    scores, places = scores[is_shown], places[is_shown]
    picked = rows[places // classes]
    extra = picked[:, 4 + classes :]
    return Rows(picked[:, :4], scores, places % classes, picked[:, 4 : 4 + classes], extra)


def to_corners(boxes: torch.Tensor) -> torch.Tensor:
    """Return boxes given by centre and size as their corners."""
    half = boxes[:, 2:] / 2
    return torch.cat([boxes[:, :2] - half, boxes[:, :2] + half], 1)


def suppress_turned(boxes: torch.Tensor, scores: torch.Tensor, iou: float) -> torch.Tensor:
    """Return the places of the turned boxes (x, y, width, height, radians) that no better one covers, best first.

    Fast NMS (Bolya et al. 2019) on the probabilistic IoU of Llerena et al. 2021 (arXiv 2106.06072).
    """
    order = scores.argsort(descending=True)
    overlaps = _compute_probabilistic_iou(boxes[order]).triu_(diagonal=1)
    is_covered = (overlaps > iou).any(0)
    return order[~is_covered]


def _compute_probabilistic_iou(boxes: torch.Tensor, eps: float = 1e-7) -> torch.Tensor:
    """Return the overlap (n, n) of turned boxes taken as Gaussians: 1 - their Hellinger distance."""
    a, b, c = _compute_covariances(boxes)
    x, y = boxes[:, 0], boxes[:, 1]
    sum_a, sum_b, sum_c = a[:, None] + a, b[:, None] + b, c[:, None] + c
    dx, dy = x[:, None] - x, y[:, None] - y
    determinant = sum_a * sum_b - sum_c**2
    distance = (sum_a * dy**2 + sum_b * dx**2) / (determinant + eps) / 4
    distance += sum_c * -dx * dy / (determinant + eps) / 2
    own = (a * b - c**2).clamp(min=0)
    distance += (determinant / (4 * (own[:, None] * own).sqrt() + eps) + eps).log() / 2
    distance = distance.clamp(eps, 100)
    return 1 - (1 - (-distance).exp() + eps).sqrt()


def _compute_covariances(boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return a, b, c of each box's covariance matrix [[a, c], [c, b]]."""
    wide, high = boxes[:, 2] ** 2 / 12, boxes[:, 3] ** 2 / 12
    cos, sin = boxes[:, 4].cos(), boxes[:, 4].sin()
    return wide * cos**2 + high * sin**2, wide * sin**2 + high * cos**2, (wide - high) * cos * sin
