"""Ensembles and further views, against cases worked out by hand and against the library itself."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from ensemble_boxes import nms, weighted_boxes_fusion

from labels.errors import LabelingError
from labels.geometry import Box, ImageSize
from ml_backend.answers.regions import PredictedItem, to_labels
from ml_backend.detectors import Detections, Detector, Image, OpenVocabularyDetector
from ml_backend.models.augmentation import ViewsDetector, flip_back
from ml_backend.models.fusion import (
    MAX_VIEW_BOXES,
    EnsembleDetector,
    Fusion,
    VocabularyEnsemble,
    build_ensemble,
    compute_ious,
    fuse,
)
from ml_backend.serving.served import ServedModel
from ml_backend.settings import Settings

SIZE = (200, 100)
PHOTO = np.zeros((100, 200, 3), np.uint8)


def make(*rows: tuple[float, float, float, float, float, int], classes: int | None = None) -> Detections:
    """Rows are x1, y1, x2, y2, score, class id."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    probabilities = None
    if classes is not None:
        probabilities = np.full((len(table), classes), 0.05, np.float32)
        probabilities[np.arange(len(table)), table[:, 5].astype(int)] = table[:, 4]
    return Detections(
        table[:, :4].astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(np.int64), probabilities
    )


class Fixed:
    """A detector that finds the same in every image; mirrored images are told by their red first pixel."""

    task = "detect"
    licence = "MIT"

    def __init__(self, names: dict[int, str], found: Detections, mirrored: Detections | None = None) -> None:
        self.names = names
        self.found = found
        self.mirrored = mirrored
        self.floors: list[float] = []

    def detect(self, images: Sequence[Image], *, score_floor: float) -> list[Detections]:
        self.floors.append(score_floor)
        answers = [self.mirrored if self.mirrored is not None and image[0, -1, 0] else self.found for image in images]
        return [one.select(one.scores > score_floor) for one in answers]


def test_two_boxes_of_one_object_become_their_weighted_mean() -> None:
    found = fuse([make((10, 10, 50, 50, 0.8, 1)), make((12, 10, 52, 50, 0.4, 1))], Fusion(), SIZE)

    # By hand: weights .8 and .4 put the left edge at (10 x .8 + 12 x .4) / 1.2; the score is the mean of both.
    np.testing.assert_allclose(found.xyxy, [[32 / 3, 10, 152 / 3, 50]], atol=1e-4)
    np.testing.assert_allclose(found.scores, [0.6], atol=1e-6)
    assert found.class_ids.tolist() == [1]
    assert found.votes is not None
    assert found.votes.tolist() == [2]
    # 38 of 42 columns overlap; the scores are as 1 to 2.
    assert found.agreement is not None
    np.testing.assert_allclose(found.agreement, [38 / 42 / 2], atol=1e-6)


def test_a_box_that_one_of_two_sees_has_half_its_score_and_no_agreement() -> None:
    found = fuse([make((10, 10, 50, 50, 0.8, 0)), make()], Fusion(), SIZE)

    np.testing.assert_allclose(found.scores, [0.4], atol=1e-6)
    assert found.votes is not None
    assert found.votes.tolist() == [1]
    assert found.agreement is not None
    assert found.agreement.tolist() == [0]
    assert found.views is not None
    assert [len(view) for view in found.views] == [1, 0]


def test_boxes_that_too_few_members_see_are_left_out() -> None:
    both = (10.0, 10.0, 50.0, 50.0, 0.8, 0)
    members = [make(both, (100, 10, 150, 50, 0.9, 0)), make(both), make(both)]

    found = fuse(members, Fusion(min_votes=2), SIZE)

    assert len(found) == 1
    assert found.votes is not None
    assert found.votes.tolist() == [3]


def test_boxes_of_different_classes_are_never_one() -> None:
    found = fuse([make((10, 10, 50, 50, 0.8, 0)), make((10, 10, 50, 50, 0.8, 1))], Fusion(), SIZE)

    assert sorted(found.class_ids) == [0, 1]


def test_a_member_counts_by_its_weight() -> None:
    members = [make((10, 10, 50, 50, 0.8, 0)), make((12, 10, 52, 50, 0.8, 0))]

    found = fuse(members, Fusion(weights=(3, 1)), SIZE)

    # (10 x 3 + 12 x 1) / 4
    assert found.xyxy[0, 0] == pytest.approx(10.5, abs=1e-4)


def test_unequal_weights_do_not_lower_every_score_under_nms() -> None:
    members = [make((10, 10, 50, 50, 0.9, 0)), make((100, 10, 150, 50, 0.9, 0))]

    found = fuse(members, Fusion("nms", weights=(2, 1)), SIZE)

    np.testing.assert_allclose(found.scores, [0.9, 0.45], atol=1e-6)


@pytest.mark.parametrize("method", ["wbf", "nms"])
def test_the_result_is_that_of_the_library(method: str) -> None:
    generator = np.random.default_rng(7)
    members = []
    for _ in range(3):
        corner = generator.uniform((0, 0), (120, 60), (30, 2))
        boxes = np.concatenate([corner, corner + generator.uniform(5, 40, (30, 2))], axis=1)
        members.append(make(*np.column_stack([boxes, generator.uniform(0.1, 1, 30), generator.integers(0, 3, 30)])))
    side = np.array([*SIZE, *SIZE], np.float64)
    lists: Any = ([m.xyxy / side for m in members], [m.scores.astype(np.float64) for m in members])
    run = {"wbf": weighted_boxes_fusion, "nms": nms}[method]

    boxes, scores, labels = run(*lists, [m.class_ids for m in members], iou_thr=0.6)
    found = fuse(members, Fusion(method, iou=0.6), SIZE)

    order = np.argsort(-scores, kind="stable")
    assert len(found) == len(scores) > 20
    np.testing.assert_allclose(found.scores, scores[order], atol=1e-6)
    np.testing.assert_array_equal(found.class_ids, labels[order])
    np.testing.assert_allclose(found.xyxy, (boxes * side)[order], atol=1e-3)


@pytest.mark.parametrize("method", ["wbf", "nms"])
@pytest.mark.parametrize("members", [[make(), make()], [make(), make((10, 10, 50, 50, 0.8, 0))]])
def test_members_that_find_nothing_or_boxes_without_an_area_are_no_error(
    method: str, members: list[Detections], capsys: pytest.CaptureFixture[str]
) -> None:
    flat = make((10, 10, 10, 50, 0.9, 0), (-20, 10, 500, 10, 0.9, 0))

    found = fuse([*members, flat], Fusion(method), SIZE)

    assert len(found) == sum(map(len, members))
    assert capsys.readouterr().out == ""


def test_probabilities_are_averaged_and_agree_with_the_scores() -> None:
    members = [make((10, 10, 50, 50, 0.8, 1), classes=3), make((10, 10, 50, 50, 0.4, 1), classes=3)]

    found = fuse(members, Fusion(), SIZE)

    assert found.probabilities is not None
    np.testing.assert_allclose(found.probabilities, [[0.05, 0.6, 0.05]], atol=1e-6)


def test_overlaps_are_intersection_over_union() -> None:
    a = np.array([[0, 0, 2, 1]], np.float32)
    b = np.array([[1, 0, 3, 1], [5, 5, 6, 6], [1, 1, 1, 1]], np.float32)

    np.testing.assert_allclose(compute_ious(a, b), [[1 / 3, 0, 0]])


def test_classes_are_matched_by_name_whatever_their_number_and_case() -> None:
    first = Fixed({0: "car", 1: "person"}, make((10, 10, 50, 50, 0.8, 1), classes=2))
    second = Fixed({7: "Person", 8: "Dog"}, make((10, 10, 50, 50, 0.6, 7), (100, 10, 150, 50, 0.9, 8), classes=9))
    ensemble = EnsembleDetector([first, second], Fusion(min_votes=1))

    (found,) = ensemble.detect([PHOTO], score_floor=0.2)

    assert dict(ensemble.names) == {0: "car", 1: "person", 2: "Dog"}
    assert [
        (ensemble.names[number], round(float(score), 3))
        for number, score in zip(found.class_ids, found.scores, strict=True)
    ] == [
        ("person", 0.7),
        ("Dog", 0.45),
    ]
    assert found.probabilities is not None
    assert found.probabilities.shape == (2, 3)


def test_members_are_asked_for_more_than_is_shown_so_that_they_can_vote() -> None:
    first = Fixed({0: "car"}, make((10, 10, 50, 50, 0.9, 0)))
    second = Fixed({0: "car"}, make((10, 10, 50, 50, 0.1, 0)))

    (found,) = EnsembleDetector([first, second], Fusion(min_votes=2)).detect([PHOTO], score_floor=0.4)

    assert first.floors == [0.05]
    np.testing.assert_allclose(found.scores, [0.5], atol=1e-6)


@pytest.mark.parametrize(
    ("fusion", "problem"),
    [
        (Fusion(weights=(1.0,)), "1 member weights for 2 models"),
        (Fusion(min_votes=3), "at least 3 of 2"),
    ],
)
def test_settings_that_do_not_fit_the_members_are_clear_errors(fusion: Fusion, problem: str) -> None:
    one: Detector = Fixed({0: "car"}, make())

    with pytest.raises(LabelingError, match=problem):
        EnsembleDetector([one, one], fusion)


def test_a_weight_of_nothing_and_an_unknown_method_are_refused() -> None:
    with pytest.raises(LabelingError, match="above 0"):
        Fusion(weights=(1.0, 0.0))
    with pytest.raises(LabelingError, match=r"wbf, nms$"):
        Fusion("voting")


class Told(Fixed):
    def set_classes(self, names: Sequence[str]) -> None:
        self.names = dict(enumerate(names))


def test_an_ensemble_can_be_told_its_classes_where_a_member_can() -> None:
    plain = Fixed({0: "cat", 1: "car"}, make((10, 10, 50, 50, 0.8, 1)))
    told = Told({0: "dog"}, make((10, 10, 50, 50, 0.6, 1)))
    assert not isinstance(build_ensemble([plain, plain], Fusion()), OpenVocabularyDetector)
    ensemble = build_ensemble([plain, told], Fusion())
    assert isinstance(ensemble, OpenVocabularyDetector)

    ensemble.set_classes(["bus", "Car"])
    (found,) = ensemble.detect([PHOTO], score_floor=0.2)

    # The classes that were told have their places as ids; what only another member knows comes after.
    assert dict(ensemble.names) == {0: "bus", 1: "car", 2: "cat"}
    assert found.class_ids.tolist() == [1]
    assert found.votes is not None
    assert found.votes.tolist() == [2]


def test_a_closed_member_draws_its_class_of_the_label_s_own_name_beside_those_that_are_told(settings: Settings) -> None:
    xml = (
        '<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">'
        '<Label value="Car" predicted_values="truck,van"/></RectangleLabels></View>'
    )
    closed = Fixed({0: "tree", 1: "car"}, make((10, 10, 50, 50, 0.8, 1)))
    told = Told({}, make((100, 10, 150, 50, 0.6, 1)))
    ensemble = build_ensemble([closed, told], Fusion(min_votes=1))
    served = ServedModel(settings, ensemble, version="w-1", source="path")

    plan, classes = served.find_plan(xml)
    assert isinstance(ensemble, OpenVocabularyDetector)
    ensemble.set_classes(classes or ())
    (found,) = ensemble.detect([PHOTO], score_floor=plan.score_floor)

    # What the open one looks for stays what the config says.
    assert classes == ("truck", "van")
    assert served.name_classes(classes) == dict(ensemble.names) == {0: "truck", 1: "van", 2: "tree", 3: "car"}
    labels = to_labels(PredictedItem("sample 1", "ab", ImageSize(*SIZE)), found, plan, model_version="w-1")
    assert [(label.classes, label.geometry) for label in labels] == [
        (("Car",), Box(10, 10, 40, 40)),
        (("Car",), Box(100, 10, 50, 40)),
    ]


def test_classes_told_twice_in_other_letters_leave_every_class_its_own_number() -> None:
    ensemble = build_ensemble([Fixed({0: "bus"}, make()), Told({}, make())], Fusion())
    assert isinstance(ensemble, VocabularyEnsemble)

    ensemble.set_classes(["Car", "car"])

    assert dict(ensemble.names) == {0: "Car", 2: "bus"}
    assert ensemble.name_classes(["Car", "car"]) == {0: "Car", 1: "car", 2: "bus"}


def test_what_each_look_found_is_kept_up_to_a_bound() -> None:
    rows = [(1.0, 1.0, 9.0, 9.0, 0.1 + number / 1000, 0) for number in range(MAX_VIEW_BOXES + 50)]

    found = fuse([make(*rows, classes=3), make()], Fusion(), SIZE)

    assert found.views is not None
    first, second = found.views
    assert (len(first), len(second)) == (MAX_VIEW_BOXES, 0)
    # The surest are kept, and nothing but what the disagreement needs.
    assert first.scores.min() == pytest.approx(0.15)
    assert first.probabilities is None


def test_a_box_of_a_mirrored_image_comes_back_to_its_place() -> None:
    found = flip_back(make((10, 20, 50, 60, 0.9, 0)), 200)

    np.testing.assert_allclose(found.xyxy, [[150, 20, 190, 60]])


def test_a_mirrored_view_is_fused_with_the_image_itself() -> None:
    photo = PHOTO.copy()
    photo[0, 0, 0] = 255  # red on the left: on the right once it is mirrored
    detector = Fixed(
        {0: "car"},
        make((10, 20, 50, 60, 0.9, 0), (100, 20, 140, 60, 0.6, 0)),
        mirrored=make((150, 20, 190, 60, 0.7, 0)),
    )

    (found,) = ViewsDetector(detector, ("flip",), Fusion()).detect([photo], score_floor=0.2)

    np.testing.assert_allclose(found.xyxy, [[10, 20, 50, 60], [100, 20, 140, 60]], atol=1e-3)
    np.testing.assert_allclose(found.scores, [0.8, 0.3], atol=1e-6)
    assert found.votes is not None
    assert found.votes.tolist() == [2, 1]
    assert found.agreement is not None
    np.testing.assert_allclose(found.agreement, [0.7 / 0.9, 0], atol=1e-6)


@pytest.mark.parametrize("view", ["mirror", "7", "640", "-1"])
def test_a_view_that_cannot_be_is_a_clear_error(view: str) -> None:
    with pytest.raises(LabelingError, match=f"view '{view}'"):
        ViewsDetector(Fixed({0: "car"}, make()), (view,), Fusion())


@pytest.mark.parametrize("task", ["segment", "pose", "obb", "classify", "zero_shot"])
def test_views_are_refused_for_a_model_that_gives_more_than_boxes(task: str) -> None:
    detector = Fixed({0: "car"}, make())
    detector.task = task

    with pytest.raises(LabelingError, match=f"LABELLOOP_VIEWS=flip: views are for models that .* for '{task}'"):
        ViewsDetector(detector, ("flip",), Fusion())
