"""Objects of many images in columns, and which of those that were found are right by COCO's rules. Pure.

hotcoco does the matching (its numbers are pycocotools'). Objects overlap by their upright boxes, by their masks, or by
their turned boxes; what is compared is of one kind.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
from hotcoco import COCO, COCOeval
from hotcoco import mask as rle
from hotcoco.primitives import bbox_iou, mask_iou

from labels.geometry import Box, ImageSize, compute_iou

MATCH_IOU: Final = 0.5
MOST_BOXES: Final = 100
"""Of a class in an image; COCO counts no more."""

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Overlap = Literal["box", "mask", "turned"]
IOU_TYPES: Final[Mapping[Overlap, str]] = {"box": "bbox", "mask": "segm", "turned": "obb"}

Shape = Any
"""Of a mask its run lengths as COCO has them, ``{"size": [height, width], "counts": bytes}``; of a turned box
``(centre x, centre y, width, height, clockwise turn in radians)``."""


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """Objects of many images in columns: ``images`` and ``classes`` are places in their lists, ``xyxy`` is (n, 4).

    ``scores`` are None for what people drew. Sides are pixels of the upright image. ``shapes`` are by what the objects
    overlap; of upright boxes there are none besides ``xyxy``.
    """

    images: Numbers
    classes: Numbers
    xyxy: Floats
    scores: Floats | None = None
    overlap: Overlap = "box"
    shapes: tuple[Shape, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    @classmethod
    def from_rows(cls, rows: Sequence[tuple[int, int, tuple[float, float, float, float]]]) -> Boxes:
        """Return the boxes people drew, from (image, class, xyxy).

        >>> Boxes.from_rows([(0, 2, (1.0, 2.0, 3.0, 4.0))]).xyxy.tolist()
        [[1.0, 2.0, 3.0, 4.0]]
        """
        return cls(
            np.array([row[0] for row in rows], np.int64),
            np.array([row[1] for row in rows], np.int64),
            np.array([row[2] for row in rows], np.float64).reshape(-1, 4),
        )

    @property
    def areas(self) -> Floats:
        """The area of each in square pixels."""
        if self.overlap == "mask" and self.shapes:
            return np.asarray(rle.area(list(self.shapes)), np.float64)
        if self.overlap == "turned":
            return np.array([shape[2] * shape[3] for shape in self.shapes], np.float64)
        return np.asarray((self.xyxy[:, 2] - self.xyxy[:, 0]) * (self.xyxy[:, 3] - self.xyxy[:, 1]), np.float64)


def match_coco(sizes: Sequence[ImageSize], classes: Sequence[str], truth: Boxes, found: Boxes) -> COCOeval:
    """Return hotcoco's matches of what was found with what people drew, on images of these sizes."""
    assert truth.overlap == found.overlap
    images = [{"id": number, "width": size.width, "height": size.height} for number, size in enumerate(sizes, 1)]
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, 1)]
    drawn, seen = (_to_upright if truth.overlap == "box" else _to_shaped)(images, categories, truth, found)
    matched = COCOeval(drawn, seen, IOU_TYPES[truth.overlap])
    matched.evaluate()
    return matched


def _to_upright(images: list[Any], categories: list[Any], truth: Boxes, found: Boxes) -> tuple[COCO, COCO]:
    assert found.scores is not None
    drawn = COCO.from_arrays(images, categories, truth.images + 1, truth.classes + 1, _to_xywh(truth.xyxy))
    rows = np.column_stack([found.images + 1, _to_xywh(found.xyxy), found.scores, found.classes + 1])
    return drawn, drawn.load_res(rows.astype(np.float64))


def _to_shaped(images: list[Any], categories: list[Any], truth: Boxes, found: Boxes) -> tuple[COCO, COCO]:
    assert found.scores is not None
    examples = [{**row, "id": number, "iscrowd": 0} for number, row in enumerate(_to_rows(truth), 1)]
    drawn = COCO({"images": images, "categories": categories, "annotations": examples})
    answers = [{**row, "score": float(score)} for row, score in zip(_to_rows(found), found.scores, strict=True)]
    return drawn, drawn.load_res(answers)


def _to_rows(boxes: Boxes) -> Iterator[dict[str, Any]]:
    columns = zip(boxes.images, boxes.classes, _to_xywh(boxes.xyxy), boxes.shapes, boxes.areas, strict=True)
    for image, number, xywh, shape, area in columns:
        said = {"image_id": int(image) + 1, "category_id": int(number) + 1, "area": float(area)}
        # Where there is a box beside a mask, the library takes the area of the box for that of the mask.
        is_mask = boxes.overlap == "mask"
        yield said | ({"segmentation": shape} if is_mask else {"obb": list(shape), "bbox": xywh.tolist()})


def _to_xywh(xyxy: Floats) -> Floats:
    return np.column_stack([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]]).astype(np.float64)


def find_right(truth: Boxes, found: Boxes) -> Flags:
    """Return for each box that was found whether it is right at IoU 0.5, the surest first, each example once."""
    is_right: Flags = match_boxes(truth, found, (MATCH_IOU,))[0][0]
    return is_right


def match_boxes(truth: Boxes, found: Boxes, overlaps: Sequence[float]) -> tuple[Flags, Flags]:
    """Return which boxes are right at each overlap, (overlaps, boxes), and which count at all: no more than COCO takes.

    As COCO does it: within an image and class the surest box takes the example it overlaps most, then the next one.
    """
    assert found.scores is not None
    least = np.array(overlaps, np.float64)
    is_right = np.zeros((len(least), len(found)), np.bool_)
    is_counted = np.ones(len(found), np.bool_)
    drawn = dict(_group(truth))
    for key, rows in _group(found):
        examples = drawn.get(key)
        if examples is None and len(rows) <= MOST_BOXES:
            continue
        ordered = rows[np.argsort(-found.scores[rows], kind="stable")]
        is_counted[ordered[MOST_BOXES:]] = False
        if examples is not None:
            ordered = ordered[:MOST_BOXES]
            is_right[:, ordered] = _match_group(_compute_overlaps(found, ordered, truth, examples), least)
    return is_right, is_counted


def _compute_overlaps(found: Boxes, rows: Numbers, truth: Boxes, examples: Numbers) -> Floats:
    """Return the IoU of each that was found with each example, (found, examples)."""
    no_crowd = np.zeros(len(examples), np.bool_)
    if truth.overlap == "mask":
        return mask_iou([found.shapes[row] for row in rows], [truth.shapes[row] for row in examples], no_crowd)
    upright = bbox_iou(_to_xywh(found.xyxy[rows]), _to_xywh(truth.xyxy[examples]), no_crowd)
    if truth.overlap == "box":
        return upright
    turned = np.zeros_like(upright)
    # Where the upright boxes round them do not meet, they do not.
    for one, other in zip(*np.nonzero(upright), strict=True):
        pair = (to_turned_box(found.shapes[rows[one]]), to_turned_box(truth.shapes[examples[other]]))
        turned[one, other] = compute_iou(*pair)
    return turned


def to_turned_box(shape: Sequence[float]) -> Box:
    """Return a turned box, which turns round its corner, from its centre, sides and turn in radians."""
    x, y, width, height, turn = shape
    corner = (x - width / 2, y - height / 2, width, height)
    # In an image of 1 x 1 its fractions are pixels.
    return Box.from_relative(corner, ImageSize(1, 1), rotation_deg=math.degrees(turn))


def from_turned_box(box: Box) -> tuple[float, float, float, float, float]:
    """Return centre, sides and clockwise turn in radians of a box.

    >>> [round(number, 3) for number in from_turned_box(Box(3.0, -1.0, 4.0, 2.0, 90))]
    [2.0, 1.0, 4.0, 2.0, 1.571]
    """
    return *box.centre, box.width, box.height, math.radians(box.rotation_deg)


def encode_mask(pixels: Flags) -> dict[str, Any]:
    """Return a whole image's mask as COCO's run lengths.

    >>> encode_mask(np.array([[False, True], [False, True]]))["counts"]
    b'22'
    """
    coded: Any = pixels
    found: dict[str, Any] = rle.encode(coded)
    return found


def _match_group(common: Floats, least: Floats) -> Flags:
    if len(common) == 1:
        is_alone: Flags = common.max(axis=1) >= least[:, None]
        return is_alone
    rows = np.arange(len(least))
    is_taken = np.zeros((len(least), common.shape[1]), np.bool_)
    is_right = np.zeros((len(least), len(common)), np.bool_)
    for place in range(len(common)):
        left = np.where(is_taken, -1.0, common[place])
        # Of equal ones the last, as pycocotools takes it.
        best = common.shape[1] - 1 - np.argmax(left[:, ::-1], axis=1)
        is_hit = left[rows, best] >= least
        is_right[:, place] = is_hit
        is_taken[rows[is_hit], best[is_hit]] = True
    return is_right


def _group(boxes: Boxes) -> Iterator[tuple[tuple[int, int], Numbers]]:
    """Yield the rows of each image and class that has any."""
    if not len(boxes):
        return
    order = np.lexsort((boxes.classes, boxes.images))
    keys = np.column_stack([boxes.images[order], boxes.classes[order]])
    starts = np.flatnonzero(np.any(np.diff(keys, axis=0, prepend=keys[:1] - 1) != 0, axis=1))
    for rows in np.split(order, starts[1:]):
        yield (int(boxes.images[rows[0]]), int(boxes.classes[rows[0]])), np.sort(rows)
