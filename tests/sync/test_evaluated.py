"""What a model found when it was measured, written on the dataset: anew each time, and nothing of people's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from labels import fields


@pytest.fixture
def dataset(mongod_uri: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    import fiftyone as fo

    dataset = fo.Dataset(request.node.name, overwrite=True)
    for number in range(3):
        box = fo.Detection(label="car", bounding_box=[0.1, 0.1, 0.3, 0.3])
        said = fo.Classification(label="sun" if number else "rain")
        truth = fo.Detections(detections=[box])
        dataset.add_sample(fo.Sample(filepath=f"/{number}.jpg", ground_truth=truth, weather=said))
    yield dataset
    dataset.delete()


def test_boxes_of_an_earlier_measurement_give_way_and_people_s_stay(dataset: Any):
    from sync.catalogue.evaluated import EvaluatedBox, write_evaluation

    first, second, third = map(str, dataset.values("id"))
    right, wrong = (EvaluatedBox("car", place, 0.9) for place in ((0.1, 0.1, 0.3, 0.3), (0.6, 0.6, 0.2, 0.2)))
    write_evaluation(dataset.name, {first: [wrong], third: [wrong]}, version="yolo-1")
    # Given backwards, with an image that is gone, and one on which nothing was found.
    written = write_evaluation(dataset.name, {second: [right], first: [], "f" * 24: [right]}, version="yolo-2")
    dataset.reload()

    held = [one if one is None else len(one.detections) for one in dataset.values(fields.EVALUATED)]
    assert held == [0, 1, None]
    assert written.images == 1
    assert dataset.values("ground_truth.detections.label") == [["car"]] * 3


def test_answers_take_the_place_of_boxes_and_none_is_none(dataset: Any):
    from sync.catalogue.evaluated import EvaluatedAnswer, EvaluatedBox, write_answer_evaluation, write_evaluation

    first, second, _ = map(str, dataset.values("id"))
    write_evaluation(dataset.name, {first: [EvaluatedBox("car", (0.1, 0.1, 0.3, 0.3), 0.9)]}, version="yolo-1")
    said = {second: EvaluatedAnswer("sun", 0.8), first: EvaluatedAnswer(None, 0.4)}
    written = write_answer_evaluation(dataset.name, said, control="weather", version="resnet-1")
    dataset.reload()

    assert dataset.values(f"{fields.EVALUATED}.label") == [None, "sun", None]
    assert dataset.values(f"{fields.EVALUATED}.confidence")[1] == pytest.approx(0.8)
    assert written.images == 1
    assert dataset.values("weather.label") == ["rain", "sun", "sun"]
