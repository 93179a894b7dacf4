"""From what a detector found to labels: which are shown, as what shape, under which id. Pure: no network, no model."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from labels.geometry import Box, Geometry, ImageSize, Keypoint, Mask, Polygon
from labels.results import Label
from ml_backend.answers.label_plans import LabelPlan, Target
from ml_backend.answers.uncertainty import CANDIDATE_FLOOR, Candidate, compute_iou_matrix
from ml_backend.detectors import Detections, MaskCrop, to_box

ID_LENGTH: Final = 24  # FiftyOne's label ids are ObjectIds: 24 hexadecimal digits
# Two boxes of different model classes that one label stands for are one object from this overlap on.
SAME_OBJECT_IOU: Final = 0.7
# What an outline may be away from the mask's edge: nobody sees it, and it leaves few points to drag.
OUTLINE_TOLERANCE_PX: Final = 0.25
OUTLINE_TOLERANCE: Final = 0.002  # of the object's longer side, where that is more
KEYPOINT_DIAMETER: Final = 0.01  # of the image's width, as Label Studio's own tools draw


@dataclass(frozen=True)
class PredictedItem:
    """What names an image in its region ids: the task or sample it belongs to, and the sha256 of its file."""

    identity: str
    sha256: str
    size: ImageSize


def to_labels(item: PredictedItem, found: Detections, plan: LabelPlan, *, model_version: str) -> list[Label]:
    """Return the labels shown to an annotator: of every drawable row at or above its threshold at least one."""
    if found.image_probabilities is not None:
        return _to_choices(item, found.image_probabilities, plan, model_version)
    ids = _RegionIds(item, model_version)
    labels: list[Label] = []
    for row in find_drawable(found, plan, item.size):
        if found.scores[row] < _find_threshold(found, row, plan):
            continue
        target = plan.classes.get(int(found.class_ids[row]))
        if target is not None:
            labels += _to_shapes(ids, found, row, target, item.size)
        if found.keypoints is not None:
            labels += _to_keypoints(ids, found.keypoints[row], plan, item.size)
    return labels


def to_candidates(found: Detections, plan: LabelPlan, size: ImageSize) -> list[Candidate]:
    """Return all that counts for the uncertainty: what is shown, and what might be there without being shown."""
    if found.image_probabilities is not None:
        chosen = _choose_classes(found.image_probabilities, plan)
        return [
            Candidate(target.label, float(found.image_probabilities[class_id]), class_id in chosen)
            for class_id, target in plan.classes.items()
            if class_id in chosen or found.image_probabilities[class_id] > CANDIDATE_FLOOR
        ]
    candidates = []
    for row in find_drawable(found, plan, size):
        target = plan.classes.get(int(found.class_ids[row])) or next(iter(plan.keypoints.values()))
        is_shown = bool(found.scores[row] >= _find_threshold(found, row, plan))
        candidates.append(Candidate(target.label, min(float(found.scores[row]), 1.0), is_shown))
    return candidates


def to_views(found: Detections, plan: LabelPlan, size: ImageSize) -> tuple[list[Detections], dict[int, float]]:
    """Return what each look at the image would draw by itself, its classes numbered by label, and their thresholds."""
    numbers: dict[tuple[str, str], int] = {}
    for target in plan.classes.values():
        numbers.setdefault((target.control.name, target.label), len(numbers))
    by_class = {class_id: numbers[target.control.name, target.label] for class_id, target in plan.classes.items()}
    views = []
    for view in found.views or ():
        kept = view.take(np.array(find_drawable(view, plan, size), np.int64))
        labels = np.array([by_class[int(class_id)] for class_id in kept.class_ids], np.int64)
        views.append(replace(kept, class_ids=labels))
    return views, {by_class[class_id]: target.threshold for class_id, target in plan.classes.items()}


def find_drawable(found: Detections, plan: LabelPlan, size: ImageSize) -> list[int]:
    """Return the rows of which something can be drawn and that are the best of their object, in order.

    That is a shape with an area in the image, or a key point that is seen, of what the config has a place for.
    """
    xyxy = found.xyxy.astype(np.float64)
    has_area = (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1]) & np.isfinite(xyxy).all(axis=1)
    # A class the config does not know is drawn by its key points alone, where it has some.
    has_place = np.isin(found.class_ids, list(plan.classes)) | (found.keypoints is not None and bool(plan.keypoints))
    rows = [int(row) for row in np.flatnonzero(has_area & has_place) if _has_region(found, int(row), plan, size)]
    # The detector's own suppression is by class: a van found as car and as truck comes twice, and both are a «Car».
    is_doubled = len(plan.classes) > len({target.label for target in plan.classes.values()})
    return _drop_doubled(found, rows, plan) if is_doubled and found.rotations_deg is None else rows


def _has_region(found: Detections, row: int, plan: LabelPlan, size: ImageSize) -> bool:
    target = plan.classes.get(int(found.class_ids[row]))
    if target is not None and _has_shape(found, row, target.control.kind, size):
        return True
    return found.keypoints is not None and any(True for _ in _find_points(found.keypoints[row], plan, size))


def _has_shape(found: Detections, row: int, kind: str, size: ImageSize) -> bool:
    if kind != "RectangleLabels" and found.masks is not None:
        return bool(_cut(found.masks[row], size).pixels.any())
    return found.rotations_deg is None or to_labelled_box(to_box(found, row), size) is not None


def _drop_doubled(found: Detections, rows: list[int], plan: LabelPlan) -> list[int]:
    overlap = compute_iou_matrix(found.xyxy, found.xyxy)
    kept: list[int] = []
    for row in rows:
        class_id = int(found.class_ids[row])
        others = (other for other in kept if found.class_ids[other] != class_id)
        same = (other for other in others if _label_of(found, other, plan) == _label_of(found, row, plan))
        if not any(overlap[row, other] > SAME_OBJECT_IOU for other in same):
            kept.append(row)
    return kept


def _label_of(found: Detections, row: int, plan: LabelPlan) -> str | None:
    target = plan.classes.get(int(found.class_ids[row]))
    return None if target is None else target.label


def _find_threshold(found: Detections, row: int, plan: LabelPlan) -> float:
    target = plan.classes.get(int(found.class_ids[row]))
    return min(point.threshold for point in plan.keypoints.values()) if target is None else target.threshold


def compute_region_id(item: PredictedItem, model_version: str, place: str) -> str:
    """Return the id of a region, which is also its FiftyOne label id: 24 hexadecimal digits.

    The same sample, file, model and place give the same id, on every machine; no two samples share one.

    >>> compute_region_id(PredictedItem("sample 1", "ab", ImageSize(4, 3)), "yolo11n-c130b90b", "car 0 0 2 2 0")
    '81bfdd5975eb10d7ce8dd4e7'
    """
    parts = "\x1f".join((item.identity, item.sha256, model_version, place))
    return hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest()[:ID_LENGTH]


class _RegionIds:
    """Makes the region ids of one prediction: things at one place are numbered in their order."""

    def __init__(self, item: PredictedItem, model_version: str) -> None:
        self._item = item
        self._model_version = model_version
        self._seen: Counter[str] = Counter()

    def make(self, place: str) -> str:
        region_id = compute_region_id(self._item, self._model_version, f"{place} {self._seen[place]}")
        self._seen[place] += 1
        return region_id


def _to_shapes(ids: _RegionIds, found: Detections, row: int, target: Target, size: ImageSize) -> Iterator[Label]:
    x1, y1, x2, y2 = (float(value) for value in found.xyxy[row])
    place = f"{target.label} {x1:.0f} {y1:.0f} {x2:.0f} {y2:.0f}"
    shape = _to_geometry(found, row, target.control.kind, size)
    if shape is None:
        return
    yield Label(
        ids.make(place),
        target.control.name,
        (target.label,),
        shape,
        confidence=_round(found.scores[row]),
        votes=None if found.votes is None else int(found.votes[row]),
    )


def _to_geometry(found: Detections, row: int, kind: str, size: ImageSize) -> Geometry | None:
    if kind == "RectangleLabels" or found.masks is None:
        return to_labelled_box(to_box(found, row), size)
    if kind == "BrushLabels":
        mask = to_mask(found.masks[row], size)
        return mask if mask.area else None
    return to_polygon(found.masks[row], size)


def to_labelled_box(box: Box, size: ImageSize) -> Box | None:
    """Return a box as Label Studio takes it: its turning point inside of the image, its turn in 0..360.

    A turned box has four corners it can be said to turn round; when none lies inside, the upright box around it is cut
    at the image's edge. None where nothing of it is inside.

    >>> box = to_labelled_box(Box(1, -1, 4, 2, 90), ImageSize(10, 8))
    >>> [round(side) for side in (box.x, box.y, box.width, box.height)], box.rotation_deg
    ([1, 3, 2, 4], 180)
    """
    if box.rotation_deg % 360 == 0:
        return box
    corners = box.corners()
    for quarter in range(4):
        x, y = corners[quarter]
        width, height = (box.width, box.height) if quarter % 2 == 0 else (box.height, box.width)
        if 0 <= x <= size.width and 0 <= y <= size.height and width <= size.width and height <= size.height:
            # Twice: a turn a hair below 0 comes out as 360.
            return Box(x, y, width, height, (box.rotation_deg + 90 * quarter) % 360 % 360)
    x1, y1, x2, y2 = box.to_xyxy()
    left, top, right, bottom = max(x1, 0.0), max(y1, 0.0), min(x2, size.width), min(y2, size.height)
    return Box.from_xyxy(left, top, right, bottom) if right > left and bottom > top else None


def to_mask(crop: MaskCrop, size: ImageSize) -> Mask:
    """Return the whole image's mask; what lies outside of the image is cut."""
    pixels = np.zeros((size.height, size.width), dtype=np.bool_)
    inside = _cut(crop, size)
    height, width = inside.pixels.shape
    pixels[inside.y : inside.y + height, inside.x : inside.x + width] = inside.pixels
    return Mask(pixels)


def _cut(crop: MaskCrop, size: ImageSize) -> MaskCrop:
    """Return the part of a mask that lies inside of the image; it may have no pixel."""
    height, width = crop.pixels.shape
    left, top = min(max(crop.x, 0), size.width), min(max(crop.y, 0), size.height)
    right, bottom = max(min(crop.x + width, size.width), left), max(min(crop.y + height, size.height), top)
    return MaskCrop(left, top, crop.pixels[top - crop.y : bottom - crop.y, left - crop.x : right - crop.x])


def to_polygon(crop: MaskCrop, size: ImageSize) -> Polygon | None:
    """Return the outline of a mask's largest part; None where it has none.

    Holes and smaller parts are lost: a polygon of Label Studio is one closed line.
    """
    from skimage import measure  # slow to import, and masks are rare

    padded: npt.NDArray[np.float64] = np.pad(crop.pixels.astype(np.float64), 1)
    contours = measure.find_contours(padded, 0.5)  # type: ignore[no-untyped-call]  # it ships half of its types
    outlines = [_to_points(contour, crop, size) for contour in contours]
    largest = max(outlines, key=lambda points: Polygon(points).area, default=())
    if len(largest) < 3 or Polygon(largest).area == 0:
        return None
    closed = np.array([*largest, largest[0]])
    tolerance_px = max(OUTLINE_TOLERANCE_PX, OUTLINE_TOLERANCE * max(crop.pixels.shape))
    simple = measure.approximate_polygon(closed, tolerance_px)  # type: ignore[no-untyped-call]
    polygon = Polygon(tuple((float(x), float(y)) for x, y in simple[:-1]))
    return polygon if len(polygon.points) >= 3 else Polygon(largest)


def _to_points(outline: npt.NDArray[Any], crop: MaskCrop, size: ImageSize) -> tuple[tuple[float, float], ...]:
    # Contours run between pixel centres (row, column) of the padded crop; ours lie half a pixel before their centres.
    columns = np.clip(outline[:-1, 1] - 0.5 + crop.x, 0, size.width)
    rows = np.clip(outline[:-1, 0] - 0.5 + crop.y, 0, size.height)
    return tuple((float(x), float(y)) for x, y in zip(columns, rows, strict=True))


def _to_keypoints(
    ids: _RegionIds, points: npt.NDArray[np.float32], plan: LabelPlan, size: ImageSize
) -> Iterator[Label]:
    for number, target in _find_points(points, plan, size):
        x, y, visibility = (float(value) for value in points[number])
        shape = Keypoint(x, y, KEYPOINT_DIAMETER * size.width)
        region_id = ids.make(f"{target.label} {number} {x:.0f} {y:.0f}")
        yield Label(region_id, target.control.name, (target.label,), shape, confidence=_round(visibility))


def _find_points(points: npt.NDArray[np.float32], plan: LabelPlan, size: ImageSize) -> Iterator[tuple[int, Target]]:
    """Yield the points of one object that are drawn: visible enough, inside of the image, of a name the config has."""
    for number, target in plan.keypoints.items():
        if number >= len(points):
            continue
        x, y, visibility = (float(value) for value in points[number])
        if visibility >= target.threshold and 0 <= x <= size.width and 0 <= y <= size.height:
            yield number, target


def _choose_classes(probabilities: npt.NDArray[np.float32], plan: LabelPlan) -> dict[int, Target]:
    """Return an image's classes that reach their threshold: of a single choice the best, of a multiple one all."""
    chosen: dict[int, Target] = {}
    filled: set[str] = set()
    for class_id in sorted(plan.classes, key=lambda class_id: -float(probabilities[class_id])):
        target = plan.classes[class_id]
        is_taken = target.control.name in filled and not target.control.is_multiple
        is_named = any(target.label == other.label for other in chosen.values())
        if probabilities[class_id] >= target.threshold and not is_taken and not is_named:
            chosen[class_id] = target
            filled.add(target.control.name)
    return chosen


def _to_choices(
    item: PredictedItem, probabilities: npt.NDArray[np.float32], plan: LabelPlan, model_version: str
) -> list[Label]:
    by_control: dict[str, list[tuple[float, str]]] = {}
    for class_id, target in _choose_classes(probabilities, plan).items():
        by_control.setdefault(target.control.name, []).append((_round(probabilities[class_id]), target.label))
    return [
        Label(
            compute_region_id(item, model_version, f"choices {name}"),
            name,
            tuple(label for _, label in chosen),
            confidence=chosen[0][0],
        )
        for name, chosen in by_control.items()
    ]


def _round(value: Any) -> float:
    # Six digits: what float32 holds, without the tail it gets as a float64.
    return min(round(float(value), 6), 1.0)
