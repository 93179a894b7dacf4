"""Measuring, promoting and rolling back classifiers: real ones of some kilobytes in the real engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from labels.config import LabelConfig
from labels.errors import LabelingError
from ml_backend.models.registered import read_registered
from ml_backend.models.weights import compute_version
from sync.jobs.context import Context
from sync.jobs.models.evaluate import evaluate
from sync.jobs.models.promote import promote
from sync.jobs.models.rollback import rollback
from sync.models.answers import AnswerEvaluation
from sync.models.candidate import Candidate
from sync.models.registry import Registry
from sync.models.results import list_results, read_gate
from sync.settings import Home, Project
from sync.versions.manifest import read_version, write_version
from tests.fakes.backend import FakeBackend
from tests.fakes.classifiers import CHOICES, RIGHT, WRONG_IN_THE_DARK, XML, make_answer_version, write_classifier
from tests.fakes.detectors import write_detector
from tests.fakes.project import open_fake_project

TEST_IMAGES = 40
BOXES = '<RectangleLabels name="label" toName="image"><Label value="car"/></RectangleLabels>'
SKY = '<Choices name="sky" toName="image" choice="single-radio"><Choice value="sun"/><Choice value="rain"/></Choices>'
TWO = XML.replace(CHOICES, CHOICES + SKY)
MIXED = XML.replace("</View>", f"{BOXES}</View>")


@dataclass(frozen=True)
class Place:
    """A project whose people named flowers, with a detector as its current model."""

    context: Context
    backend: FakeBackend
    detector: Path
    poor: Path
    good: Path

    @property
    def home(self) -> Home:
        return self.context.home

    def serve(self, path: Path) -> None:
        """Make weights the current model."""
        replace(self.context.project, model=str(path)).write(self.home)
        self.backend.model_version = compute_version(path)

    def read_current(self) -> str:
        project = Project.read(self.home)
        assert project is not None
        return project.model

    def promote(self, path: Path, **more: Any) -> Any:
        return promote(self.context, candidate=str(path), by="ana", **more)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    folder = tmp_path_factory.mktemp("weights")
    poor = write_classifier(folder / "poor.safetensors", WRONG_IN_THE_DARK)
    return (
        write_detector(folder / "boxes.onnx", errs_by=1.0),
        poor,
        write_classifier(folder / "good.safetensors", RIGHT),
    )


@pytest.fixture
def xml() -> str:
    return XML


@pytest.fixture
def place(
    tmp_path: Path, weights: tuple[Path, Path, Path], xml: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    monkeypatch.setenv("LABELLOOP_OFFLINE", "1")
    with open_fake_project(images=0, config=LabelConfig.from_xml(xml)) as project:
        project.context.home.models.mkdir()
        write_version(project.context.home, make_answer_version(tmp_path, test=TEST_IMAGES, xml=xml))
        made = Place(project.context, project.backend, *weights)
        made.serve(weights[0])
        yield made


def test_evaluate_says_what_a_classifier_is_worth_and_what_it_takes_for_what(place: Place) -> None:
    report = evaluate(place.context, model=str(place.poor))

    (result,) = list_results(place.home)
    found = result.evaluation
    assert isinstance(found, AnswerEvaluation)
    assert (report.moved, found.images, found.control, found.top1) == (TEST_IMAGES, TEST_IMAGES, "flower", 0.5)
    assert [(one.name, one.examples, one.top1) for one in found.classes] == [
        ("daisy", 20, 0.5),
        ("rose", 20, 0.5),
        ("tulip", 0, None),
    ]
    assert found.confusion == ((10, 10, 0, 0), (10, 10, 0, 0), (0, 0, 0, 0))
    assert "taken for another: daisy for rose (10), rose for daisy (10)" in report.notes
    assert "1 classes have no example there: nothing is known of them" in report.notes


def test_a_second_evaluation_looks_at_nothing(place: Place) -> None:
    first = evaluate(place.context, model=str(place.poor))
    for image in read_version(place.home).images:
        image.path.unlink(missing_ok=True)

    assert evaluate(place.context, model=str(place.poor)).notes[0] == first.notes[0]


def test_the_first_classifier_takes_over_from_a_detector_that_draws_nothing_here(place: Place) -> None:
    report = place.promote(place.good)

    new = compute_version(place.good)
    card = Registry(place.home).read(new)
    assert (report.moved, place.read_current(), place.backend.loaded) == (1, new, [new])
    assert (card.task, card.control, card.decision, card.curves) == (
        "classify",
        "flower",
        "better",
        ("calibration.svg",),
    )
    assert card.comparison is not None
    assert (card.comparison.metric, card.comparison.current, card.comparison.candidate) == ("top-1", 0.5, 1.0)
    # Only what was measured has a result: the detector was not.
    assert [one.model_version for one in list_results(place.home)] == [new]
    sheet = (Registry(place.home).folder_of(new) / "card.md").read_text()
    assert "| daisy | 20 | 1.000 | 1.000 | 1.000 | 1.000 | – |" in sheet
    assert "| rose | 0 | 20 | 0 | 0 |" in sheet
    registered = read_registered(place.home.models, new)
    assert registered is not None
    assert sorted(registered.files) == ["good.json", "good.safetensors"]


def test_a_classifier_that_is_no_better_than_the_commonest_class_does_not_take_over(place: Place) -> None:
    report = place.promote(place.poor)

    assert report.failed[0].problem.startswith("not better: top-1 0.5000 against 0.5000 of always 'daisy', +0.0000")
    assert (place.read_current(), Registry(place.home).ids()) == (str(place.detector), [])


def test_a_better_classifier_takes_over_and_the_way_back_brings_the_other(place: Place) -> None:
    place.serve(place.poor)
    old, new = compute_version(place.poor), compute_version(place.good)

    assert place.promote(place.good, dry_run=True).moved == 1
    gate = read_gate(place.home, new)
    assert gate is not None
    assert (gate.decision, gate.comparison.metric, gate.comparison.baseline) == ("better", "top-1", None)
    assert place.promote(place.good).moved == 1
    assert place.promote(place.poor).failed[0].problem.startswith("not better: top-1 0.5000 against 1.0000")
    assert rollback(place.context, by="ben").moved == 1
    assert place.read_current() == old
    last, first = place.context.ledger.promotions()
    assert (last.action, last.model, first.action, first.model) == ("rolled back", old, "promoted", new)


@pytest.mark.parametrize("xml", [MIXED])
def test_a_classifier_does_not_take_the_place_of_a_detector_that_draws(place: Place) -> None:
    for more in ({}, {"force": True, "reason": "because"}):
        with pytest.raises(LabelingError, match=r"answers 'flower', and the current model .* draws objects by this"):
            place.promote(place.good, **more)

    assert (place.read_current(), place.backend.loaded) == (str(place.detector), [])


@pytest.mark.parametrize("xml", [TWO])
def test_a_classifier_does_not_take_the_place_of_one_that_answers_something_else(place: Place, tmp_path: Path) -> None:
    place.serve(write_classifier(tmp_path / "sky.safetensors", {"dark rose": "sun"}, classes=("sun", "rain")))

    with pytest.raises(LabelingError, match=r"answers 'flower', and the current model sky-\w+ answers 'sky' by this"):
        place.promote(place.good)


@pytest.mark.parametrize("xml", [MIXED])
def test_in_a_project_with_boxes_too_classifiers_are_held_against_each_other(place: Place) -> None:
    place.serve(place.poor)

    assert place.promote(place.good).moved == 1


@pytest.mark.parametrize(
    "xml", [XML.replace(CHOICES, CHOICES.replace("flower", "front") + CHOICES.replace("quality", "check"))]
)
def test_a_classifier_that_would_answer_another_control_than_it_learned_is_refused(place: Place) -> None:
    folder = place.home.models / "candidates" / "mine"
    weights = write_classifier(folder / "mine.safetensors", RIGHT)
    Candidate(
        id="mine",
        folder=folder,
        state="trained",
        version_id="v1-00000000",
        model="timm:made",
        family="timm",
        classes=("daisy", "rose", "tulip"),
        seed=0,
        control="flower",
        weights=weights.name,
        model_version=compute_version(weights),
    ).write()

    with pytest.raises(LabelingError, match="learned the classes of 'flower', and would answer 'front'"):
        evaluate(place.context, model="mine")


def test_a_classifier_of_other_things_is_refused_in_words(place: Place, tmp_path: Path) -> None:
    other = write_classifier(tmp_path / "other.safetensors", {"bright rose": "a", "dark rose": "b"}, classes=("a", "b"))

    with pytest.raises(LabelingError, match=r"none of its classes is a choice of the label config.*known: flower"):
        evaluate(place.context, model=str(other))
