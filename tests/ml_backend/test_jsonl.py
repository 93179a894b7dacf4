import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from labels.errors import LabelingError
from labels.geometry import ImageSize
from ml_backend.answers.label_plans import Thresholds
from ml_backend.detectors import Detections, MaskCrop
from ml_backend.serving.jsonl import read_done, to_line
from ml_backend.serving.offline import FileAnswer

NAMES = {0: "car", 1: "person"}
FOUND = Detections(
    np.array([[40, 50, 100, 90], [0, 0, 9, 9]], np.float32),
    np.array([0.5, 0.125], np.float32),
    np.array([0, 1], np.int64),
)


def make_line(found: Detections | None, problem: str | None = None) -> dict[str, object]:
    size = None if found is None else ImageSize(200, 120)
    answer = FileAnswer(Path("/a.jpg"), "ab12", size, found, problem=problem)
    return to_line(answer, NAMES, model_version="w-1", thresholds=Thresholds(0.2), is_calibrated=False)


def test_a_line_has_what_is_shown_and_the_uncertainty_of_all() -> None:
    line = make_line(FOUND)

    uncertainty = line.pop("uncertainty")
    assert line == {
        "path": "/a.jpg",
        "model_version": "w-1",
        "threshold": 0.2,
        "sha256": "ab12",
        "width": 200,
        "height": 120,
        "detections": [{"label": "car", "score": 0.5, "xyxy": [40, 50, 100, 90]}],
    }
    assert isinstance(uncertainty, dict)
    assert uncertainty["u_mean"] == 0.5
    assert uncertainty["effort"] > 1.0  # one bit of the box shown, and something of the one that is not


def test_views_disagree_about_what_the_line_shows() -> None:
    def read(found: Detections) -> object:
        uncertainty = make_line(found)["uncertainty"]
        assert isinstance(uncertainty, dict)
        return uncertainty["u_disagree"]

    looks = (FOUND, FOUND.take(np.array([1])))

    # One look alone shows the car; the person is below the threshold in both.
    assert read(replace(FOUND, views=looks)) == 1.0
    assert read(replace(FOUND, views=(looks[1], looks[1]))) == 0.5
    assert read(FOUND) is None


def test_turned_boxes_outlines_key_points_and_votes_are_in_it() -> None:
    found = replace(
        FOUND.take(np.array([0])),
        rotations_deg=np.array([90], np.float32),
        masks=(MaskCrop(40, 50, np.ones((4, 5), np.bool_)),),
        keypoints=np.array([[[60, 70, 0.9]]], np.float32),
        votes=np.array([2]),
    )

    (said,) = make_line(found)["detections"]  # type: ignore[misc]

    assert said["corners"] == [[90, 40], [90, 100], [50, 100], [50, 40]]
    assert (said["keypoints"], said["votes"]) == ([[60, 70, 0.9]], 2)
    assert len(said["polygon"]) >= 4


def test_a_classifier_says_its_classes() -> None:
    line = make_line(Detections.nothing(np.array([0.125, 0.875], np.float32)))

    assert line["classes"] == [{"label": "person", "score": 0.875}]
    assert "detections" not in line


def test_nothing_found_and_a_problem_are_two_lines() -> None:
    assert make_line(Detections.nothing())["detections"] == []
    assert make_line(None, "is damaged") == {
        "path": "/a.jpg",
        "model_version": "w-1",
        "threshold": 0.2,
        "problem": "is damaged",
    }


def write(path: Path, *lines: dict[str, object] | str) -> None:
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))


def test_a_run_goes_on_after_the_last_whole_line_and_tries_failed_images_again(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    write(path, make_line(FOUND), make_line(None, "is damaged") | {"path": "/b.jpg"}, '{"path": "/c.jpg", "mo')

    done = read_done(path, model_version="w-1", thresholds=Thresholds(0.2))

    assert done == {"/a.jpg"}
    assert path.read_text().endswith('"problem": "is damaged"}\n')


def test_a_file_that_is_not_there_has_nothing_done(tmp_path: Path) -> None:
    assert read_done(tmp_path / "x.jsonl", model_version="w-1", thresholds=Thresholds(0.2)) == set()


@pytest.mark.parametrize(("version", "threshold"), [("w-2", 0.2), ("w-1", 0.3)])
def test_lines_of_another_model_or_threshold_are_not_mixed_in(version: str, threshold: float, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    write(path, make_line(FOUND))

    with pytest.raises(LabelingError, match="choose another file"):
        read_done(path, model_version=version, thresholds=Thresholds(threshold))


@pytest.mark.parametrize("line", ["junk\n", "[]\n", '{"path": "/a.jpg"}\n', "3\n"])
def test_a_file_of_something_else_is_refused_and_left_as_it_is(line: str, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    write(path, line)

    with pytest.raises(LabelingError, match=r"x\.jsonl, line 1"):
        read_done(path, model_version="w-1", thresholds=Thresholds(0.2))
    assert path.read_text() == line


def test_a_last_line_that_is_somebody_elses_is_never_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("my notes, in one line")

    with pytest.raises(LabelingError, match="is no line of labelloop predict"):
        read_done(path, model_version="w-1", thresholds=Thresholds(0.2))
    assert path.read_text() == "my notes, in one line"


def test_thresholds_of_classes_choose_what_is_shown_and_are_not_mixed(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    thresholds = Thresholds(0.2, {"car": 0.6, "person": 0.1})
    answer = FileAnswer(Path("/a.jpg"), "ab12", ImageSize(200, 120), FOUND)
    line = to_line(answer, NAMES, model_version="w-1", thresholds=thresholds, is_calibrated=False)
    write(path, line)

    assert [said["label"] for said in line["detections"]] == ["person"]
    assert read_done(path, model_version="w-1", thresholds=thresholds) == {"/a.jpg"}
    with pytest.raises(LabelingError, match=r"from 0\.2, car 0\.6, person 0\.1 on \(expected w-1 from 0\.2\)"):
        read_done(path, model_version="w-1", thresholds=Thresholds(0.2))
