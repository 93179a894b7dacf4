"""A turned box from its four corners, as OBB files have them. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from labels.geometry import Box, Point
from sync.exports.outlines import find_smallest_box

ROUGHNESS_PX = 0.5


def to_turned_box(corners: Sequence[Point]) -> Box:
    """Return the box of four corners; where these are no rectangle, the smallest one round them.

    >>> box = to_turned_box([(10.0, 0.0), (10.0, 4.0), (8.0, 4.0), (8.0, 0.0)])
    >>> box.x, box.y, box.width, box.height, box.rotation_deg
    (10.0, 0.0, 4.0, 2.0, 90.0)
    """
    first, second, third, fourth = corners
    turn = (second[0] - first[0]) * (fourth[1] - first[1]) - (second[1] - first[1]) * (fourth[0] - first[0])
    if turn < 0:
        # Counter-clockwise: the same corners the other way round.
        second, fourth = fourth, second
    width, height = math.dist(first, second), math.dist(first, fourth)
    angle_deg = math.degrees(math.atan2(second[1] - first[1], second[0] - first[0]))
    box = Box(first[0], first[1], width, height, angle_deg % 360)
    off = max(math.dist(a, b) for a, b in zip(box.corners(), (first, second, third, fourth), strict=True))
    if off > ROUGHNESS_PX:
        return to_turned_box(find_smallest_box(list(corners)))
    return box
