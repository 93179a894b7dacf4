"""The lines of a YOLO label file, for each task that Ultralytics trains. Pure.

``detect``: class, centre and sides of the upright box. ``segment``: class and the outline. ``obb``: class and the four
corners of the turned box. ``pose``: class, box, and the image's key points that lie in it, each one ``x y 2``, those
that are not there ``0 0 0``; the classes are those of the boxes, the points those of the KeyPointLabels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

import numpy as np

from labels.geometry import XYXY, Box, ImageSize, Keypoint, Mask, Point, Polygon
from labels.report import Failure
from sync.exports.items import Item, Region
from sync.exports.outlines import find_smallest_box, trace_in_one
from sync.exports.poses import Pose

Task = Literal["detect", "segment", "obb", "pose"]
TASKS: Final[tuple[Task, ...]] = get_args(Task)
DIGITS: Final = 8
ABSENT: Final = ("0", "0", "0")
SHOWN: Final = "2"
UPRIGHT: Final = "upright box"
IN_ONE: Final = "one outline (holes filled, parts joined)"
TASK_NAMES: Final = {"detect": "detection", "segment": "segmentation", "obb": "OBB", "pose": "pose"}
KINDS: Final = ("box", "polygon", "turned box", "mask", "keypoint")
HOLDS: Final = {"detect": "boxes", "segment": "outlines", "obb": "turned boxes", "pose": "boxes with key points"}


@dataclass
class Lines:
    """What was written: how many labels, which became another shape, and which have no place in the task."""

    labels: int = 0
    changed: Counter[tuple[str, str]] = field(default_factory=Counter)
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)
    left_out: list[Failure] = field(default_factory=list)


def to_lines(item: Item, task: Task, pose: Pose | None, written: Lines) -> Iterator[str]:
    """Yield the lines of an image, and count in ``written`` what became of its labels."""
    if pose is not None:
        yield from _to_pose_lines(item, pose, written)
        return
    for region in item.regions:
        kind = to_kind(region)
        if kind == "keypoint":
            written.dropped[kind, HOLDS[task]] += 1
            continue
        written.labels += 1
        yield f"{region.class_index} {' '.join(_to_shape(region, kind, task, item.image.size, written))}"


def _to_shape(region: Region, kind: str, task: Task, size: ImageSize, written: Lines) -> Iterator[str]:
    if task == "segment":
        return _to_relative(_to_outline(region, written), size)
    if task == "obb":
        if kind in ("polygon", "mask"):
            written.changed[kind, "smallest box"] += 1
        return _to_relative(_to_corners(region), size)
    if kind != "box":
        written.changed[kind, UPRIGHT] += 1
    return _to_centre(region.shape.xyxy, size)


def _to_centre(xyxy: XYXY, size: ImageSize) -> Iterator[str]:
    left, top, right, bottom = xyxy
    for value, side in (
        ((left + right) / 2, size.width),
        ((top + bottom) / 2, size.height),
        (right - left, size.width),
        (bottom - top, size.height),
    ):
        yield f"{value / side:.{DIGITS}f}"


def _to_relative(points: Iterable[Point], size: ImageSize) -> Iterator[str]:
    for x, y in points:
        # The smallest box round a cut shape may reach over the edge, which Ultralytics refuses.
        yield f"{min(max(x / size.width, 0.0), 1.0):.{DIGITS}f}"
        yield f"{min(max(y / size.height, 0.0), 1.0):.{DIGITS}f}"


def _to_outline(region: Region, written: Lines) -> Sequence[Point]:
    shape = region.shape
    if shape.pixels is not None:
        outline, is_whole = trace_in_one(shape.pixels)
        if not is_whole:
            written.changed["mask", IN_ONE] += 1
        return outline
    return shape.outline if shape.outline is not None else _corners_of(shape.xyxy)


def _to_corners(region: Region) -> Sequence[Point]:
    shape, geometry = region.shape, region.label.geometry
    if isinstance(geometry, Box):
        if geometry.rotation_deg == 0:
            return _corners_of(shape.xyxy)
        if not shape.is_clipped:
            return geometry.corners()
    if shape.pixels is not None:
        rows, columns = np.nonzero(shape.pixels)
        # A pixel is a square: its four corners belong to it.
        return find_smallest_box([(x + across, y + down) for x, y in zip(columns.tolist(), rows.tolist(), strict=True)
                                  for across in (0, 1) for down in (0, 1)])  # fmt: skip
    return find_smallest_box(shape.outline or _corners_of(shape.xyxy))


def _corners_of(xyxy: XYXY) -> tuple[Point, ...]:
    left, top, right, bottom = xyxy
    return (left, top), (right, top), (right, bottom), (left, bottom)


def _to_pose_lines(item: Item, pose: Pose, written: Lines) -> Iterator[str]:
    size = item.image.size
    boxes = [region for region in item.regions if isinstance(region.label.geometry, Box)]
    held: dict[str, dict[str, Point]] = {region.label.id: {} for region in boxes}
    for region in item.regions:
        kind = to_kind(region)
        if region.shape.point is not None:
            owner = _find_owner(region, boxes, held)
            if owner is None:
                problem = (
                    f"label {region.label.id}: the key point {region.label.class_name!r} lies in no box that lacks one"
                )
                written.left_out.append(Failure(f"sample {item.image.sample_id}", problem))
            else:
                held[owner.label.id][region.label.class_name] = region.shape.point
                written.labels += 1
        elif kind not in ("box", "turned box"):
            written.dropped[kind, HOLDS["pose"]] += 1
    for region in boxes:
        written.labels += 1
        if to_kind(region) != "box":
            written.changed["turned box", UPRIGHT] += 1
        points = held[region.label.id]
        words = [[*_to_relative([points[name]], size), SHOWN] if name in points else ABSENT for name in pose.points]
        said = [*_to_centre(region.shape.xyxy, size), *(word for triple in words for word in triple)]
        yield f"{pose.classes.index(region.label.class_name)} {' '.join(said)}"


def _find_owner(point: Region, boxes: Sequence[Region], held: dict[str, dict[str, Point]]) -> Region | None:
    """Return the smallest box round a key point that has none of its name yet."""
    x, y = point.shape.point or (0.0, 0.0)
    around = [
        box
        for box in boxes
        if box.shape.xyxy[0] <= x <= box.shape.xyxy[2]
        and box.shape.xyxy[1] <= y <= box.shape.xyxy[3]
        and point.label.class_name not in held[box.label.id]
    ]
    return min(around, key=lambda box: (box.shape.area, box.label.id), default=None)


def to_kind(region: Region) -> str:
    """Return what was drawn, in a word of ``KINDS``."""
    shape = region.label.geometry
    if isinstance(shape, Box):
        return "box" if shape.rotation_deg == 0 else "turned box"
    if isinstance(shape, Keypoint):
        return "keypoint"
    return "polygon" if isinstance(shape, Polygon) else "mask" if isinstance(shape, Mask) else "keypoint"
