"""One label out of the labels several people gave the same object, or the whole image. Pure."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from labels.geometry import Box, Geometry, Keypoint, Mask, compute_iou
from labels.results import Label, is_same


def fuse_shapes(labels: Sequence[Label]) -> Geometry:
    """Return one shape for an object; the last label's own where all are the same.

    Upright boxes are averaged (weighted boxes fusion with equal weights; Solovyev et al. 2021), points go to the
    median, a pixel of a mask is painted where at least half of the masks are. Turned boxes and polygons are not
    averaged, since their corners do not correspond: the one that overlaps the others best is taken as it was drawn, the
    last of equals.
    """
    shapes = [label.geometry for label in labels if label.geometry is not None]
    last = labels[-1]
    if all(is_same(replace(label, classes=last.classes), last) for label in labels):
        return shapes[-1]
    boxes = [shape for shape in shapes if isinstance(shape, Box) and shape.rotation_deg == 0 and shape.area > 0]
    if len(boxes) == len(shapes):
        return _fuse_boxes(boxes)
    points = [shape for shape in shapes if isinstance(shape, Keypoint)]
    if len(points) == len(shapes):
        return Keypoint(*(statistics.median(values) for values in zip(*map(_to_numbers, points), strict=True)))
    masks = [shape.pixels for shape in shapes if isinstance(shape, Mask)]
    if len(masks) == len(shapes):
        return _fuse_masks(masks)
    return _choose_central(shapes)


def _fuse_boxes(boxes: Sequence[Box]) -> Box:
    # It compiles code when it is imported, which takes a second.
    from ensemble_boxes import weighted_boxes_fusion

    corners = np.array([box.to_xyxy() for box in boxes])
    # The fusion works in 0..1 and with 32 bits: measured from the boxes' own hull, nothing is cut off and little lost.
    low, high = corners.min(axis=0)[:2], corners.max(axis=0)[2:]
    span = np.tile(high - low, 2)
    relative = (corners - np.tile(low, 2)) / span
    ones = [[1.0]] * len(boxes)
    # Who means what is settled: an overlap of -1 keeps them all in one cluster.
    fused, _, _ = weighted_boxes_fusion([[row.tolist()] for row in relative], ones, [[0]] * len(boxes), iou_thr=-1.0)
    return Box.from_xyxy(*(float(value) for value in fused[0] * span + np.tile(low, 2)))


def _to_numbers(point: Keypoint) -> tuple[float, float, float]:
    return point.x, point.y, point.diameter


def _fuse_masks(masks: Sequence[npt.NDArray[np.bool_]]) -> Mask:
    votes = np.sum(np.stack(masks), axis=0)
    return Mask(votes * 2 >= len(masks))


def _choose_central(shapes: Sequence[Geometry]) -> Geometry:
    def overlap(position: int) -> float:
        return sum(compute_iou(shapes[position], other) for n, other in enumerate(shapes) if n != position)

    return shapes[max(range(len(shapes)), key=lambda position: (overlap(position), position))]


def choose_class(labels: Sequence[Label], leading: Label | None) -> tuple[str, ...]:
    """Return the classes most people gave; of equals the leading answer's, else that of the last label.

    >>> car, bus = Label("1", "label", ("car",)), Label("2", "label", ("bus",))
    >>> choose_class([car, bus], car)
    ('car',)
    """
    counts = Counter(label.classes for label in labels)
    most = max(counts.values())
    if leading is not None and counts[leading.classes] == most:
        return leading.classes
    return next(label.classes for label in reversed(labels) if counts[label.classes] == most)


def fuse_choice(answers: Sequence[Label | None], leading: Label | None) -> str | None:
    """Return the choice most people made; None for one is a person who did not choose, and for the result a minority.

    Of equals the leading answer's counts. At least half of the people must have chosen something at all.
    """
    given = [answer.class_name for answer in answers if answer is not None]
    if len(given) * 2 < len(answers):
        return None
    if len(set(given)) == 1:
        return given[0]
    # Importing it takes longer than everything else here, and people mostly agree.
    from cleanlab.multiannotator import get_majority_vote_label

    classes = sorted(set(given))
    votes = [np.nan if answer is None else float(classes.index(answer.class_name)) for answer in answers]
    if leading is not None and _is_tied(given):
        # Cleanlab breaks the tie of a single image by chance, which would give another answer at each pull.
        votes.append(float(classes.index(leading.class_name)))
    if leading is None and _is_tied(given):
        return given[-1]
    return classes[int(get_majority_vote_label(np.array([votes]), verbose=False)[0])]


def _is_tied(given: Sequence[str]) -> bool:
    counts = [count for _, count in Counter(given).most_common(2)]
    return len(counts) == 2 and counts[0] == counts[1]


def fuse_ticks(answers: Sequence[Label | None]) -> tuple[str, ...]:
    """Return the choices that at least half of the people ticked, in the order they first occur."""
    counts = Counter(name for answer in answers if answer is not None for name in answer.classes)
    return tuple(name for name, count in counts.items() if count * 2 >= len(answers))


def fuse_rating(answers: Sequence[Label | None]) -> int | None:
    """Return the median rating, the lower of two; None where fewer than half of the people rated."""
    given = [answer.rating for answer in answers if answer is not None and answer.rating is not None]
    return statistics.median_low(given) if given and len(given) * 2 >= len(answers) else None
