"""Calibrate: which boxes count as right, what is written, and what is left alone."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from labels import fields
from labels.errors import LabelingError, ServiceError
from labels.geometry import Box
from labels.results import Label, to_result
from ml_backend.models.calibration import load_calibration
from sync.backend import BackendPrediction, MLBackend, ServedWeights
from sync.catalogue.samples import SamplePrediction, SampleState
from sync.jobs.models.calibrate import calibrate, to_examples
from sync.jobs.registry import call_job
from tests.fakes.project import CONFIG, SIZE, FakeProject, open_fake_project

IMAGES = 40
BOXES = 5
VERSION = "weights-00000001"


def make_id(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


def make_box(name: str, x: float, confidence: float | None = None) -> Label:
    return Label(make_id(name, x, confidence), "label", (name,), Box(x, 10, 18, 20), confidence=confidence)


@dataclass
class Reviews:
    """On every image five boxes; of those the model is p sure of, people keep the share p²."""

    drawn: dict[str, list[Label]] = field(default_factory=dict)
    kept: dict[str, list[Label]] = field(default_factory=dict)

    def fill(self, project: FakeProject, *, version: str = VERSION, shown_from: float = 0.0) -> None:
        chance = random.Random(3)
        for sample_id in project.sample_ids:
            scores = [chance.random() for _ in range(BOXES)]
            found = [make_box("car", 20.0 * place, score) for place, score in enumerate(scores)]
            self.drawn[sample_id] = found
            self.kept[sample_id] = [
                make_box("car", 20.0 * place + 1) for place, score in enumerate(scores) if chance.random() < score**2
            ]
            shown = tuple(label for label in found if (label.confidence or 0) >= shown_from)
            project.dataset.write_predictions({sample_id: SamplePrediction(version, 0.5, shown)})
            project.dataset.write_labels({sample_id: self.kept[sample_id]})
            project.dataset.write_states({sample_id: SampleState(fields.REVIEWED, 1)})


class LowBackend(MLBackend):
    """Draws what ``reviews`` say, down to the threshold of the label config it is asked with."""

    def __init__(self, reviews: Reviews, version: str = VERSION) -> None:
        super().__init__("http://127.0.0.1:9")
        self.reviews = reviews
        self.version = version
        self.broken: set[str] = set()

    def fetch_weights(self, *, timeout_s: float = 5.0) -> ServedWeights:
        return ServedWeights(self.version, "memory")

    def fetch_predictions(
        self,
        tasks: Sequence[Mapping[str, Any]],
        label_config: str,
        *,
        label_counts: Mapping[str, int] | None = None,
        score_threshold: float | None = None,
    ) -> list[BackendPrediction]:
        threshold = 0.5 if score_threshold is None else score_threshold
        answers = []
        for task in tasks:
            found = [one for one in self.reviews.drawn[task["id"]] if (one.confidence or 0) >= threshold]
            problem = "is damaged" if task["id"] in self.broken else None
            score = None if problem else 0.5
            answers.append(BackendPrediction(self.version, score, tuple(to_result(found, CONFIG, SIZE)), problem))
        return answers


@pytest.fixture
def project() -> Iterator[FakeProject]:
    with open_fake_project(images=IMAGES) as project:
        project.backend.model_version = VERSION
        yield project


@pytest.fixture
def reviews(project: FakeProject) -> Reviews:
    reviews = Reviews()
    reviews.fill(project)
    return reviews


# What is right


def test_the_surest_box_takes_the_label_and_the_other_one_on_it_is_wrong() -> None:
    drawn = [make_box("car", 0, 0.5), make_box("car", 1, 0.9), make_box("car", 60, 0.4)]

    examples = to_examples("a", drawn, [make_box("car", 0)])

    assert [(one.score, one.is_right) for one in examples] == [(0.9, True), (0.5, False), (0.4, False)]


def test_a_box_of_another_class_or_with_too_little_overlap_is_wrong() -> None:
    drawn = [make_box("dog", 0, 0.9), make_box("car", 40, 0.8)]

    # 18 wide and moved by 9: 9 / 27 of the area is shared.
    examples = to_examples("a", drawn, [make_box("car", 0), make_box("car", 49)])

    assert [one.is_right for one in examples] == [False, False]


def test_a_choice_is_right_when_people_chose_the_same() -> None:
    said = Label(make_id("said"), "quality", ("keep",), confidence=0.75)

    (right,) = to_examples("a", [said], [Label(make_id("kept"), "quality", ("keep",))])
    (wrong,) = to_examples("a", [said], [Label(make_id("kept"), "quality", ("trash",))])

    assert (right.is_right, wrong.is_right) == (True, False)


def test_labels_without_a_confidence_teach_nothing() -> None:
    assert to_examples("a", [make_box("car", 0)], [make_box("car", 0)]) == []


# The job


def test_the_error_is_reported_before_and_after_and_the_calibration_kept(
    project: FakeProject, reviews: Reviews
) -> None:
    report = calibrate(project.context)

    calibration = load_calibration(project.context.home.models, VERSION)
    assert calibration is not None
    assert report.details == {"boxes": 200, "images": IMAGES, "classes of their own": 1}
    assert (report.moved, report.failed) == (1, ())
    assert calibration.error_before > 0.12  # it says p and is right in p² of its boxes
    assert calibration.error_after < calibration.error_before / 1.5
    assert calibration.label_counts == project.dataset.label_counts()
    assert f"{calibration.error_before:.4f} before, {calibration.error_after:.4f} after" in report.notes[0]
    assert calibration.version in " ".join(report.notes)
    assert list(project.context.home.models.glob("calibration/*.svg"))


def test_a_second_run_writes_the_same(project: FakeProject, reviews: Reviews) -> None:
    def read_files() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in project.context.home.models.glob("calibration/*")}

    calibrate(project.context)
    first = read_files()
    calibrate(project.context)

    assert read_files() == first
    assert len(first) == 3  # in use, its own version's, and the plot


def test_predictions_made_with_a_calibration_are_brought_back_before_the_next_fit(
    project: FakeProject, reviews: Reviews
) -> None:
    calibrate(project.context)
    first = load_calibration(project.context.home.models, VERSION)
    assert first is not None
    for sample_id, drawn in reviews.drawn.items():
        labels = tuple(
            make_box("car", label.geometry.x, float(first.curve_for("car").apply(label.confidence or 0)))
            for label in drawn
            if isinstance(label.geometry, Box)
        )
        project.dataset.write_predictions({sample_id: SamplePrediction(first.version, 0.5, labels)})
    project.backend.model_version = first.version

    calibrate(project.context)

    second = load_calibration(project.context.home.models, VERSION)
    assert second is not None
    assert second.error_before == pytest.approx(first.error_before, abs=1e-3)
    assert second.curve_for("car").apply([0.3, 0.8]) == pytest.approx(
        first.curve_for("car").apply([0.3, 0.8]), abs=1e-3
    )


def test_what_would_not_help_is_not_kept(project: FakeProject) -> None:
    chance = random.Random(5)
    for sample_id in project.sample_ids:
        # Three boxes in four are right, and the model says just that: nothing can be better.
        drawn = [make_box("car", 20.0 * place, 0.75) for place in range(4)]
        wrong = chance.randrange(4)
        kept = [make_box("car", 20.0 * place) for place in range(4) if place != wrong]
        project.dataset.write_predictions({sample_id: SamplePrediction(VERSION, 0.5, tuple(drawn))})
        project.dataset.write_labels({sample_id: kept})
        project.dataset.write_states({sample_id: SampleState(fields.REVIEWED, 1)})

    report = calibrate(project.context)

    assert (report.moved, report.unchanged) == (0, 1)
    assert "not kept" in report.notes[-1]
    assert load_calibration(project.context.home.models, VERSION) is None


def test_looking_again_counts_the_boxes_that_were_too_doubtful_to_show(project: FakeProject) -> None:
    reviews = Reviews()
    reviews.fill(project, shown_from=0.5)
    shown = calibrate(project.context).details["boxes"]

    context = replace(project.context, backend=LowBackend(reviews))
    seen = calibrate(context, look_again=True).details["boxes"]

    doubtful = [one for labels in reviews.drawn.values() for one in labels if (one.confidence or 0) >= 0.05]
    assert shown < 120
    assert seen == len(doubtful) > 180


def test_an_image_the_model_cannot_look_at_again_is_named_and_the_others_count(project: FakeProject) -> None:
    reviews = Reviews()
    reviews.fill(project)
    backend = LowBackend(reviews)
    backend.broken = {project.sample_ids[0]}

    report = calibrate(replace(project.context, backend=backend), look_again=True)

    assert [(failure.sample_id, failure.problem) for failure in report.failed] == [
        (project.sample_ids[0], "is damaged")
    ]
    assert report.details["images"] == IMAGES - 1


def test_predictions_of_other_weights_are_not_taken_for_these(project: FakeProject) -> None:
    Reviews().fill(project, version="others-00000002")

    with pytest.raises(LabelingError, match=r"none of the 40 reviewed samples .* labelloop calibrate --look-again"):
        calibrate(project.context)


def test_samples_nobody_reviewed_do_not_count(project: FakeProject) -> None:
    with pytest.raises(LabelingError, match="0 boxes on 0 reviewed images"):
        calibrate(project.context)


@pytest.mark.parametrize("params", [{"method": "temperature"}, {"strength": 3}])
def test_a_parameter_that_is_not_known_is_refused(params: dict[str, Any], project: FakeProject) -> None:
    with pytest.raises(LabelingError, match="is not known"):
        call_job(project.context, "calibrate", params, lambda _done, _message: None)


class Reloading(LowBackend):
    """Serves ``after`` once it was told to load its model again; None: it cannot."""

    def __init__(self, reviews: Reviews, after: str | None) -> None:
        super().__init__(reviews)
        self.after = after

    def reload(self) -> None:
        if self.after is None:
            raise ServiceError("403, no password")
        self.version = self.after


def test_the_running_backend_is_told_to_serve_the_calibration(project: FakeProject, reviews: Reviews) -> None:
    calibrate(project.context)
    calibration = load_calibration(project.context.home.models, VERSION)
    assert calibration is not None

    report = calibrate(replace(project.context, backend=Reloading(reviews, calibration.version)))

    assert report.notes[-1] == f"the ML backend serves {calibration.version} now; next: labelloop prelabel"


def test_a_backend_that_does_not_take_the_calibration_is_told_with_what_to_do(
    project: FakeProject, reviews: Reviews
) -> None:
    refused = calibrate(replace(project.context, backend=Reloading(reviews, None)))
    elsewhere = calibrate(replace(project.context, backend=Reloading(reviews, VERSION)))

    assert refused.notes[-1].startswith("not served yet (403, no password); to serve weights-00000001+cal.")
    assert 'POST {"reload": true} to /versions' in refused.notes[-1]
    assert elsewhere.notes[-1].startswith(f"the ML backend still serves {VERSION}: its models folder is not ")


def test_it_reads_what_the_real_catalogue_holds(mongod_uri: str, project: FakeProject, reviews: Reviews) -> None:
    from sync.catalogue.dataset import Dataset
    from sync.catalogue.samples import NewImage

    catalogue = Dataset.open("calibrate-on-mongodb", CONFIG)
    try:
        images = [
            NewImage(one.path, one.size, one.sha256, 100, "image/png") for one in project.dataset.images().values()
        ]
        sample_ids = dict(zip(project.sample_ids, catalogue.write_images(images), strict=True))
        catalogue.write_predictions(
            {sample_ids[key]: SamplePrediction(VERSION, 0.5, tuple(drawn)) for key, drawn in reviews.drawn.items()}
        )
        catalogue.write_labels({sample_ids[key]: kept for key, kept in reviews.kept.items()})
        catalogue.write_states({sample_id: SampleState(fields.REVIEWED, 1) for sample_id in sample_ids.values()})
        in_memory = calibrate(project.context)
        expected = load_calibration(project.context.home.models, VERSION)

        report = calibrate(replace(project.context, dataset=catalogue))
    finally:
        catalogue._dataset.delete()

    assert report.details == in_memory.details
    found = load_calibration(project.context.home.models, VERSION)
    assert found is not None
    assert expected is not None
    assert found.error_after == pytest.approx(expected.error_after, abs=0.02)
    assert found.label_counts["car"] == sum(map(len, reviews.kept.values()))
