import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labels.geometry import Box, ImageSize, Keypoint, Mask, Polygon, compute_iou
from labels.polygons import compute_area, compute_intersection_area, rasterize

WIDE = ImageSize(400, 100)


def test_percent_of_an_image_that_is_not_square_becomes_pixels_of_each_side():
    assert Box.from_percent(25, 50, 10, 20, WIDE) == Box(100, 50, 40, 20)


def test_a_quarter_turn_swaps_the_sides_in_pixels_and_not_in_percent():
    box = Box.from_percent(50, 10, 10, 20, WIDE, rotation_deg=90)
    # 40 x 20 pixels turned clockwise round (200, 10): it now reaches 20 to the left and 40 down.
    assert box.to_xyxy() == pytest.approx((180, 10, 200, 50))


def test_a_turned_box_keeps_its_centre_in_fiftyone():
    box = Box(100, 10, 80, 20, rotation_deg=90)
    x, y, width, height = box.to_relative(WIDE)
    assert ((x + width / 2) * 400, (y + height / 2) * 100) == pytest.approx((90, 50))
    assert (width * 400, height * 100) == pytest.approx((80, 20))


@given(
    st.floats(0, 300), st.floats(0, 80), st.floats(0.1, 100), st.floats(0.1, 50), st.floats(-360, 360, allow_nan=False)
)
def test_a_box_survives_percent_and_relative_units(x: float, y: float, width: float, height: float, turn: float):
    size = ImageSize(417, 113)
    box = Box(x, y, width, height, turn)
    through_percent = Box.from_percent(*box.to_percent(size), size, rotation_deg=turn)
    through_relative = Box.from_relative(box.to_relative(size), size, rotation_deg=turn)
    assert np.allclose(through_percent.corners(), box.corners(), atol=1e-9)
    assert np.allclose(through_relative.corners(), box.corners(), atol=1e-9)


def test_polygons_and_keypoints_survive_percent():
    polygon = Polygon(((10, 20), (200, 30), (50, 90)))
    point = Keypoint(37, 41, 8)
    assert np.allclose(Polygon.from_percent(polygon.to_percent(WIDE), WIDE).points, polygon.points)
    assert Keypoint.from_percent(*point.to_percent(WIDE), WIDE) == pytest.approx(point) or np.allclose(
        point.to_percent(WIDE), (9.25, 41, 2)
    )


def test_the_overlap_of_a_turned_square_with_itself_upright_is_a_regular_octagon():
    upright = Box(-1, -1, 2, 2)
    turned = Box.from_relative((0, 0, 1, 1), ImageSize(2, 2), rotation_deg=45)
    moved = Polygon(tuple((x - 1, y - 1) for x, y in turned.corners()))
    octagon = 8 * (math.sqrt(2) - 1)
    assert compute_intersection_area(upright.corners(), moved.points) == pytest.approx(octagon)
    assert compute_iou(upright, moved) == pytest.approx(octagon / (8 - octagon))


def test_two_outlines_that_are_not_convex_are_counted_on_a_grid():
    ell = Polygon(((0, 0), (10, 0), (10, 5), (5, 5), (5, 10), (0, 10)))
    mirrored = Polygon(((0, 0), (10, 0), (10, 10), (5, 10), (5, 5), (0, 5)))
    assert compute_iou(ell, ell) == pytest.approx(1, abs=0.01)
    assert compute_iou(ell, mirrored) == pytest.approx(50 / 100, abs=0.01)


def test_points_overlap_with_nothing():
    assert compute_iou(Keypoint(5, 5), Keypoint(5, 5)) == 0.0
    assert compute_iou(Box(0, 0, 0, 0), Box(0, 0, 0, 0)) == 0.0


@given(st.lists(st.tuples(st.floats(0, 60), st.floats(0, 30)), min_size=3, max_size=3))
def test_a_filled_triangle_has_its_area_in_pixels(points: list[tuple[float, float]]):
    filled = rasterize(points, height=30, width=60)
    perimeter = sum(math.dist(a, b) for a, b in zip(points, [*points[1:], points[0]], strict=True))
    assert abs(int(filled.sum()) - compute_area(points)) <= perimeter + 1


def test_a_mask_and_the_box_around_it_overlap_by_the_painted_part():
    pixels = np.zeros((20, 40), dtype=np.bool_)
    pixels[5:10, 10:30] = True
    mask = Mask(pixels)
    assert mask.to_xyxy() == (10, 5, 30, 10)
    assert compute_iou(mask, Box(10, 5, 20, 5)) == 1.0
    assert compute_iou(mask, Box(10, 5, 20, 10)) == 0.5


def test_masks_of_images_of_two_sizes_have_nothing_in_common():
    assert compute_iou(Mask(np.ones((4, 6), dtype=bool)), Mask(np.ones((8, 12), dtype=bool))) == 0.0


def test_an_empty_mask_has_an_empty_box():
    assert Mask(np.zeros((3, 7), dtype=np.bool_)).to_xyxy() == (0, 0, 0, 0)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_coordinate_that_is_no_finite_number_is_refused(number: float):
    for make in (lambda: Box(1, number, 2, 2), lambda: Polygon(((0, 0), (1, number))), lambda: Keypoint(number, 1)):
        with pytest.raises(ValueError, match="not a number or not finite"):
            make()


@pytest.mark.parametrize("size", [(0, 5), (5, -1)])
def test_a_size_without_extent_is_refused(size: tuple[int, int]):
    with pytest.raises(ValueError, match="must be positive"):
        ImageSize(*size)
