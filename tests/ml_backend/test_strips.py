"""Images much longer than wide: a model may see less of them, and the memory they take stays bounded."""

from __future__ import annotations

import numpy as np
import pytest

from ml_backend.detectors.queries import ResizeRule
from ml_backend.detectors.yolo import MOST_ELONGATED, crop_centre

NOISE = np.random.default_rng(1).integers(0, 255, (100, 4000, 3), dtype=np.uint8)


@pytest.mark.parametrize("is_upright", [True, False])
def test_of_a_strip_a_classifier_is_shown_the_middle(is_upright: bool) -> None:
    strip = NOISE[:1].transpose(1, 0, 2) if is_upright else NOISE[:1]
    start = (4000 - MOST_ELONGATED) // 2
    part = slice(start, start + MOST_ELONGATED)
    middle = strip[part] if is_upright else strip[:, part]

    shown = crop_centre(strip, (224, 224))

    assert shown.shape == (224, 224, 3)
    assert np.array_equal(shown, crop_centre(middle, (224, 224)))


def test_an_image_of_common_shape_is_shown_as_it_is_scaled_by_the_library() -> None:
    from PIL import Image
    from torchvision.transforms import functional  # type: ignore[import-untyped]

    photo = NOISE[:, :700]
    scaled = functional.center_crop(functional.resize(Image.fromarray(photo), 224), [224, 224])

    assert np.array_equal(crop_centre(photo, (224, 224)), np.asarray(scaled))


@pytest.mark.parametrize("shape", [(1, 4000, 3), (4000, 1, 3), (10, 100_000, 3)])
def test_where_a_model_names_no_longest_side_a_strip_does_not_grow_without_end(shape: tuple[int, ...]) -> None:
    height, width = ResizeRule(shortest=800).compute_size(shape)

    assert max(height, width) <= MOST_ELONGATED * 800
    assert min(height, width) >= 1
