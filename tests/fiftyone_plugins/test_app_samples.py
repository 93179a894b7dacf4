"""Which samples plugins work on, and which fields they write: never a person's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fiftyone_plugins.app.own_fields import declare_own
from fiftyone_plugins.app.targets import collect, offer_targets, to_sample_params
from fiftyone_plugins.app.work import select_samples
from labels.errors import LabelingError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # FiftyOne's own


@pytest.fixture
def seven(fiftyone: Any, tmp_path: Path) -> Iterator[Any]:
    """Seven samples, five of them in two groups, each with two boxes; no file is there."""
    dataset = fiftyone.Dataset()
    boxes = [fiftyone.Detection(label="car", bounding_box=[0, 0, 0.5, 0.5]) for _ in range(2)]
    for number, group in enumerate(["a", "a", "b", "b", "b", None, None]):
        found = fiftyone.Detections(detections=[box.copy() for box in boxes])
        path = str(tmp_path / f"{number}.jpg")
        dataset.add_sample(fiftyone.Sample(filepath=path, shows=group, ground_truth=found))
    yield dataset
    dataset.delete()


# Samples


def test_of_a_view_in_groups_all_that_is_in_them_is_meant(seven: Any) -> None:
    groups = seven.exists("shows").group_by("shows")
    seven.save_view("groups", groups)

    ids = set(seven.values("id")[:5])
    assert set(select_samples(seven, {"view": "groups"}).values("id")) == ids
    assert set(collect(seven, groups, [], "view").values("id")) == ids
    assert set(to_sample_params(seven, groups, [], "view")["sample_ids"]) == ids
    assert offer_targets(seven, groups, [], "All")["view"] == "Current view (5)"


def test_of_a_saved_view_of_patches_the_samples_they_were_cut_from_are_meant(seven: Any) -> None:
    seven.save_view("crops", seven.limit(3).to_patches("ground_truth"))
    chosen = select_samples(seven, {"view": "crops"})

    assert chosen.values("id") == seven.values("id")[:3]
    assert chosen._dataset is seven


@pytest.mark.parametrize(("kind", "problem"), [("video", "another kind of media \\(video\\)"), ("group", "slices")])
def test_what_is_no_dataset_of_images_is_refused(fiftyone: Any, tmp_path: Path, kind: str, problem: str) -> None:
    dataset = fiftyone.Dataset()
    if kind == "group":
        dataset.add_group_field("group", default="left")
        group = fiftyone.Group()
        sides = [(side, group.element(side)) for side in ("left", "right")]
        samples = [fiftyone.Sample(filepath=str(tmp_path / f"{side}.jpg"), group=one) for side, one in sides]
        dataset.add_samples(samples, progress=False)
    else:
        dataset.add_sample(fiftyone.Sample(filepath=str(tmp_path / "film.mp4")))

    with pytest.raises(LabelingError, match=problem):
        select_samples(dataset, {})
    dataset.delete()


# Fields


def test_fields_of_labelloop_are_made_and_known_again(fiftyone: Any, seven: Any) -> None:
    kinds = {
        "score": fiftyone.FloatField,
        "seen": fiftyone.Detections,
        "ground_truth.detections.score": fiftyone.FloatField,
    }
    for _ in range(2):
        declare_own(seven, kinds, by="a test", group="tests")

    assert {seven.get_field(path).description for path in kinds} == {"labelloop: written by a test"}
    (group,) = [one for one in seven.app_config.sidebar_groups if one.name == "tests"]
    assert group.paths == ["score", "seen"]


def test_a_field_of_a_person_is_refused_and_none_is_made_beside_it(fiftyone: Any, seven: Any) -> None:
    seven.set_values("score", [0.5] * 7)
    with pytest.raises(LabelingError, match=r"'score' is there already .*rename_sample_field\('score', 'my_score'\)"):
        declare_own(seven, {"other": fiftyone.FloatField, "score": fiftyone.FloatField}, by="a test")

    assert not seven.has_field("other")


def test_a_field_that_labelloop_wrote_before_it_said_so_is_known_by_its_heading(fiftyone: Any, seven: Any) -> None:
    from fiftyone_plugins.app.writing import group_in_sidebar

    seven.add_sample_field("score", fiftyone.FloatField)
    group_in_sidebar(seven, "tests", ["score"])
    with pytest.raises(LabelingError, match="is not labelloop's"):
        declare_own(seven, {"score": fiftyone.StringField}, by="a test", group="tests")
    declare_own(seven, {"score": fiftyone.FloatField}, by="a test", group="tests")

    assert seven.get_field("score").description == "labelloop: written by a test"
