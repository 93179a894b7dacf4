"""Shapes in pixels of the upright image, and their conversions to the units of other tools.

Holds no ids, classes or files. Every shape has ``from_``/``to_`` pairs which are inverse up to floating point. A
coordinate that is not a finite number is a ValueError, whichever way it comes in.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labels.polygons import compute_area, compute_intersection_area, rasterize

Point = tuple[float, float]
XYXY = tuple[float, float, float, float]
XYWH = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class ImageSize:
    """Width and height of an image in pixels, as it is shown: after its EXIF turn.

    Raises:
        ValueError: a side is not positive.
    """

    width: int
    height: int

    def __post_init__(self) -> None:
        if self.width <= 0 or self.height <= 0:
            raise ValueError(f"image size must be positive, got {self}")

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels, turned clockwise by ``rotation_deg`` round its own corner ``(x, y)``.

    ``(x, y)`` is the top-left corner before the turn: Label Studio's convention, kept so that nothing is
    rounded on the way there and back.
    """

    x: float
    y: float
    width: float
    height: float
    rotation_deg: float = 0.0

    def __post_init__(self) -> None:
        _check_finite("box", self.x, self.y, self.width, self.height, self.rotation_deg)

    @classmethod
    def from_percent(
        cls, x: float, y: float, width: float, height: float, size: ImageSize, *, rotation_deg: float = 0.0
    ) -> Box:
        """Return the box whose sides Label Studio gives in percent of the image.

        >>> Box.from_percent(50, 50, 25, 25, ImageSize(400, 200))
        Box(x=200.0, y=100.0, width=100.0, height=50.0, rotation_deg=0.0)
        """
        # The turn happens in pixels: in percent it would be skewed on every image that is not square.
        across, down = size.width / 100, size.height / 100
        return cls(x * across, y * down, width * across, height * down, rotation_deg)

    def to_percent(self, size: ImageSize) -> XYWH:
        """Return x, y, width, height in percent of the image, without the turn."""
        across, down = 100 / size.width, 100 / size.height
        return self.x * across, self.y * down, self.width * across, self.height * down

    @classmethod
    def from_xyxy(cls, x1: float, y1: float, x2: float, y2: float) -> Box:
        """Return the upright box between two opposite corners in pixels."""
        return cls(float(x1), float(y1), float(x2 - x1), float(y2 - y1))

    def to_xyxy(self) -> XYXY:
        """Return the upright box around the (possibly turned) box: left, top, right, bottom in pixels."""
        return _hull(self.corners())

    @classmethod
    def from_relative(cls, xywh: Sequence[float], size: ImageSize, *, rotation_deg: float = 0.0) -> Box:
        """Return the box that FiftyOne holds: x, y, width, height in 0..1, the turn round the box's centre.

        >>> Box.from_relative((0.5, 0.5, 0.25, 0.25), ImageSize(400, 200))
        Box(x=200.0, y=100.0, width=100.0, height=50.0, rotation_deg=0.0)
        """
        x, y, width, height = xywh
        upright = cls(x * size.width, y * size.height, width * size.width, height * size.height)
        return upright._turned_round_centre(rotation_deg)

    def to_relative(self, size: ImageSize) -> XYWH:
        """Return x, y, width, height in 0..1 of the upright box that has the same centre, width and height.

        A turned box keeps its centre: FiftyOne draws boxes upright, and a box drawn round the corner would lie beside
        the object.
        """
        centre_x, centre_y = self.centre
        left, top = centre_x - self.width / 2, centre_y - self.height / 2
        return left / size.width, top / size.height, self.width / size.width, self.height / size.height

    def _turned_round_centre(self, rotation_deg: float) -> Box:
        if rotation_deg == 0:
            return self
        centre_x, centre_y = self.centre
        turned = Box(0, 0, self.width, self.height, rotation_deg)
        offset_x, offset_y = turned.centre
        return Box(centre_x - offset_x, centre_y - offset_y, self.width, self.height, rotation_deg)

    @property
    def centre(self) -> Point:
        """The centre of the turned box in pixels."""
        (x1, y1), _, (x2, y2), _ = self.corners()
        return (x1 + x2) / 2, (y1 + y2) / 2

    def corners(self) -> tuple[Point, Point, Point, Point]:
        """Return the four corners in pixels, clockwise on the screen, the turning point first."""
        if self.rotation_deg == 0:
            right, bottom = self.x + self.width, self.y + self.height
            return (self.x, self.y), (right, self.y), (right, bottom), (self.x, bottom)
        angle = math.radians(self.rotation_deg)
        across = (self.width * math.cos(angle), self.width * math.sin(angle))
        down = (-self.height * math.sin(angle), self.height * math.cos(angle))
        return (
            (self.x, self.y),
            (self.x + across[0], self.y + across[1]),
            (self.x + across[0] + down[0], self.y + across[1] + down[1]),
            (self.x + down[0], self.y + down[1]),
        )

    @property
    def area(self) -> float:
        """Area in square pixels."""
        return self.width * self.height


@dataclass(frozen=True, slots=True)
class Polygon:
    """A closed outline in pixels; the last point joins the first."""

    points: tuple[Point, ...]

    def __post_init__(self) -> None:
        _check_finite("polygon", *itertools.chain.from_iterable(self.points))

    @classmethod
    def from_percent(cls, points: Sequence[Sequence[float]], size: ImageSize) -> Polygon:
        """Return the polygon whose points Label Studio gives in percent of the image."""
        return cls(tuple((x * size.width / 100, y * size.height / 100) for x, y in points))

    def to_percent(self, size: ImageSize) -> list[Point]:
        """Return the points in percent of the image."""
        return [(x * 100 / size.width, y * 100 / size.height) for x, y in self.points]

    @classmethod
    def from_relative(cls, points: Sequence[Sequence[float]], size: ImageSize) -> Polygon:
        """Return the polygon whose points FiftyOne holds in 0..1."""
        return cls(tuple((x * size.width, y * size.height) for x, y in points))

    def to_relative(self, size: ImageSize) -> list[Point]:
        """Return the points in 0..1 of the image."""
        return [(x / size.width, y / size.height) for x, y in self.points]

    def to_xyxy(self) -> XYXY:
        """Return the upright box around the polygon."""
        return _hull(self.points)

    @property
    def area(self) -> float:
        """Area in square pixels (shoelace formula)."""
        return compute_area(self.points)


@dataclass(frozen=True, slots=True)
class Keypoint:
    """A point in pixels; ``diameter`` is the size Label Studio draws it with, in pixels."""

    x: float
    y: float
    diameter: float = 0.0

    def __post_init__(self) -> None:
        _check_finite("keypoint", self.x, self.y, self.diameter)

    @classmethod
    def from_percent(cls, x: float, y: float, diameter: float, size: ImageSize) -> Keypoint:
        """Return the point that Label Studio gives in percent (the diameter in percent of the width)."""
        return cls(x * size.width / 100, y * size.height / 100, diameter * size.width / 100)

    def to_percent(self, size: ImageSize) -> tuple[float, float, float]:
        """Return x, y in percent of the image and the diameter in percent of its width."""
        return self.x * 100 / size.width, self.y * 100 / size.height, self.diameter * 100 / size.width

    def to_xyxy(self) -> XYXY:
        """Return the upright box around the drawn dot."""
        radius = self.diameter / 2
        return self.x - radius, self.y - radius, self.x + radius, self.y + radius

    @property
    def area(self) -> float:
        """Always 0: a point covers nothing."""
        return 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """The pixels a brush painted: a boolean array of shape (height, width), the whole image."""

    pixels: npt.NDArray[np.bool_]

    def __post_init__(self) -> None:
        if self.pixels.ndim != 2 or self.pixels.dtype != np.bool_:
            raise ValueError(
                f"a mask is a boolean array of two dimensions, got {self.pixels.dtype} {self.pixels.shape}"
            )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mask) and np.array_equal(self.pixels, other.pixels)

    def __hash__(self) -> int:
        return hash((self.pixels.shape, self.pixels.tobytes()))

    @property
    def size(self) -> ImageSize:
        """Size of the image the mask belongs to."""
        height, width = self.pixels.shape
        return ImageSize(width, height)

    def to_xyxy(self) -> XYXY:
        """Return the upright box around the painted pixels; all zero when nothing is painted."""
        rows, columns = np.flatnonzero(self.pixels.any(axis=1)), np.flatnonzero(self.pixels.any(axis=0))
        if rows.size == 0:
            return 0.0, 0.0, 0.0, 0.0
        return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)

    @property
    def area(self) -> float:
        """Number of painted pixels."""
        return float(np.count_nonzero(self.pixels))


Geometry = Box | Polygon | Keypoint | Mask


def compute_iou(a: Geometry, b: Geometry) -> float:
    """Return intersection over union in 0..1; turned boxes and polygons count with their true outline.

    Two shapes without area (points) have no overlap to speak of, nor have masks of images of two sizes: 0.

    >>> round(compute_iou(Box(0, 0, 2, 1), Box(1, 0, 2, 1)), 3)
    0.333
    """
    if isinstance(a, Mask) or isinstance(b, Mask):
        return _compute_mask_iou(a, b)
    if _is_upright(a) and _is_upright(b):
        overlap = _compute_upright_overlap(a.to_xyxy(), b.to_xyxy())
    else:
        overlap = compute_intersection_area(_outline(a), _outline(b))
    union = a.area + b.area - overlap
    return min(1.0, overlap / union) if union > 0 else 0.0


def _is_upright(shape: Geometry) -> bool:
    return isinstance(shape, Box) and shape.rotation_deg == 0


def _compute_upright_overlap(a: XYXY, b: XYXY) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(0.0, width) * max(0.0, height)


def _compute_mask_iou(a: Geometry, b: Geometry) -> float:
    shape = a.pixels.shape if isinstance(a, Mask) else b.pixels.shape if isinstance(b, Mask) else (0, 0)
    first, second = _to_pixels(a, shape), _to_pixels(b, shape)
    if first.shape != second.shape:
        return 0.0
    union = np.count_nonzero(first | second)
    return float(np.count_nonzero(first & second) / union) if union else 0.0


def _to_pixels(shape: Geometry, array_shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    if isinstance(shape, Mask):
        return shape.pixels
    return rasterize(_outline(shape), height=array_shape[0], width=array_shape[1])


def _outline(shape: Geometry) -> Sequence[Point]:
    if isinstance(shape, Polygon):
        return shape.points
    if isinstance(shape, Box):
        return shape.corners()
    return ()


def _check_finite(shape: str, *numbers: float) -> None:
    """Refuse what no image has: such a number would spoil every sum and every file it gets into."""
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"a {shape} has a coordinate that is not a number or not finite")


def _hull(points: Sequence[Point]) -> XYXY:
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return min(xs), min(ys), max(xs), max(ys)
