"""The training job: what it trains on, what it leaves behind, and that the same call goes on where it was left."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from labels.errors import LabelingError
from labels.geometry import Box
from labels.results import Label
from ml_backend.models.building import build_detector
from ml_backend.training import Trained, TrainingSet, TrainingSettings, write_json
from ml_backend.training.process import OnEvent
from sync.catalogue.samples import SamplePrediction
from sync.jobs.exchange.pull import pull
from sync.jobs.exchange.push import push
from sync.jobs.models.train import Options, to_options, train
from sync.jobs.models.training_progress import Progress
from sync.jobs.parameters import READERS, check_params
from sync.jobs.registry import run_job
from sync.ledger import Ledger
from sync.models.candidate import Candidate, find_candidate, find_of_run, list_candidates
from sync.versions.manifest import list_versions, read_version
from tests.fakes.project import FakeProject, open_fake_project

DRAWN = (Label("b" * 24, "label", ("car",), Box(50, 10, 20, 30), confidence=0.5),)
OPTIONS = Options("yolo11n.yaml", epochs=2, imgsz=64, batch=2, device="cpu")


@pytest.fixture
def project() -> Iterator[FakeProject]:
    """Ten images with a box each, submitted as they were drawn and pulled."""
    with open_fake_project(images=10) as project:
        for number, sample in enumerate(project.dataset.samples.values()):
            pixels = np.random.default_rng(number).integers(0, 99, (80, 120, 3), np.uint8)
            pixels[10:40, 50:70] = 250
            Image.fromarray(pixels).save(sample.image.path)
            # Each is an image of its own, to be split by its content.
            content = sample.image.path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            sample.image = replace(sample.image, sha256=digest, byte_count=len(content))
        project.context.dataset.write_predictions(
            {key: SamplePrediction("fake-1", 0.25, DRAWN) for key in project.sample_ids}
        )
        push(project.context)
        yield project


def review(project: FakeProject, *numbers: int) -> None:
    task_ids = project.task_ids()
    for number in numbers or range(10):
        project.annotator.submit_shown(task_ids[project.sample_ids[number]])
    pull(project.context)


class FakeTraining:
    """Writes what a training would; ends before it does while it is told to."""

    def __init__(self) -> None:
        self.is_killed = False
        self.folders: list[Path] = []

    def __call__(self, folder: Path, on_event: OnEvent) -> Trained:
        self.folders.append(folder)
        self.training_set = TrainingSet.from_json((folder / "set.json").read_text())
        self.settings = TrainingSettings.from_dict(json.loads((folder / "settings.json").read_text()))
        epoch = {"epoch": 1, "losses": {"loss": 2.0}, "scores": {"map50_95": 0.25}, "lr": 0.1, "seconds": 1.0}
        write_json(folder / "history.json", [epoch])
        on_event({"kind": "epoch", **epoch})
        if self.is_killed:
            raise KeyboardInterrupt
        torch.save({}, folder / "yolo11n.pt")
        write_json(folder / "result.json", {})
        return Trained("yolo11n.pt", "detect", "AGPL-3.0", 1, {"map50_95": 0.25}, broken=(("x.png", "is damaged"),))


def test_nothing_reviewed_is_refused_and_nothing_is_left_behind(project: FakeProject) -> None:
    with pytest.raises(LabelingError, match="no image is reviewed yet, there is nothing to train on"):
        train(project.context, OPTIONS)

    assert list_candidates(project.context.home) == []
    assert list_versions(project.context.home) == []


def test_what_is_reviewed_is_frozen_and_trained_on_in_a_process_of_its_own(project: FakeProject) -> None:
    review(project)
    said: list[tuple[float | None, str]] = []

    report = run_job(
        project.context,
        "train",
        {"model": "yolo11n.yaml", "epochs": 1, "imgsz": 64, "batch": 2, "device": "cpu"},
        lambda done, message: said.append((done, message)),
    )

    (version,) = list_versions(project.context.home)
    (candidate,) = list_candidates(project.context.home)
    assert (report.moved, report.failed) == (1, ())
    assert (candidate.state, candidate.version_id, candidate.task) == ("trained", version, "detect")
    assert candidate.classes == ("car", "dog", "bus", "lake")
    assert candidate.run_ids == (1,)
    assert find_of_run(project.context.home, 1) == candidate
    assert sorted(path.name for path in candidate.folder.iterdir()) == [
        "candidate.json",
        "history.json",
        "settings.json",
        "train.log",
        "yolo11n.pt",
    ]
    assert candidate.weights_path is not None
    assert list(build_detector(candidate.weights_path, device="cpu").names.values()) == list(candidate.classes)
    assert said[-1][0] == 1.0
    assert said[-1][1].startswith(f"{candidate.id}: epoch 1/1, loss ")


def test_the_same_training_again_changes_nothing_and_other_settings_are_another_candidate(project: FakeProject) -> None:
    review(project)
    training = FakeTraining()

    first = train(project.context, OPTIONS, perform=training)
    before = (find_candidate(project.context.home, "yolo11n").folder / "candidate.json").read_bytes()
    second = train(project.context, OPTIONS, perform=training)

    assert (first.moved, second.moved, second.unchanged, len(training.folders)) == (1, 0, 1, 1)
    assert [failure.item for failure in first.failed] == ["x.png"]
    (candidate,) = list_candidates(project.context.home)
    assert (candidate.folder / "candidate.json").read_bytes() == before
    assert not candidate.work.exists()
    train(project.context, replace(OPTIONS, seed=1), perform=training)
    # Where it is computed makes no other model.
    train(project.context, replace(OPTIONS, workers=2, device="auto"), perform=training)
    assert len(list_candidates(project.context.home)) == 2


def test_a_killed_training_goes_on_in_its_folder_though_more_is_reviewed_meanwhile(project: FakeProject) -> None:
    review(project, *range(8))
    training = FakeTraining()
    training.is_killed = True
    params = {"model": "yolo11n.yaml", "epochs": 2, "imgsz": 64, "batch": 2}
    ledger = project.context.ledger
    run_id = ledger.record_run_start("train", params)
    with pytest.raises(KeyboardInterrupt):
        perform_as(project, run_id, params, training)
    (begun,) = list_candidates(project.context.home)
    assert (begun.state, len(begun.history()), begun.weights_path) == ("training", 1, None)
    review(project, 8, 9)
    training.is_killed = False

    perform_as(project, ledger.record_run_start("train", params, retry_of=run_id), params, training)

    (done,) = list_candidates(project.context.home)
    assert (done.id, done.version_id, done.run_ids) == (begun.id, begun.version_id, (1, 2))
    assert list_versions(project.context.home) == [begun.version_id]


def test_a_killed_training_goes_on_with_the_set_it_began_with_though_a_deletion_was_pulled_meanwhile(
    project: FakeProject,
) -> None:
    review(project)
    training = FakeTraining()
    training.is_killed = True
    weighted = replace(OPTIONS, corrections_weight=3)
    with pytest.raises(KeyboardInterrupt):
        train(project.context, weighted, perform=training)
    before = training.training_set
    (begun,) = list_candidates(project.context.home)
    deleted = project.sample_ids[0]
    project.annotator.submit_shown(project.task_ids()[deleted], lambda _: [])
    pull(project.context)
    training.is_killed = False

    report = train(project.context, replace(weighted, version=begun.version_id), perform=training)

    (done,) = list_candidates(project.context.home)
    assert (done.id, done.state, training.training_set) == (begun.id, "trained", before)
    assert report.details == begun.counts


def test_whose_trust_weights_were_read_with_makes_no_other_candidate(
    project: FakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    review(project)
    train(project.context, OPTIONS, perform=FakeTraining())
    monkeypatch.setenv("LABELLOOP_TRUST_WEIGHTS", "1")

    assert train(project.context, OPTIONS, perform=FakeTraining()).unchanged == 1


def test_how_much_a_correction_counts_makes_another_candidate(project: FakeProject) -> None:
    review(project)
    train(project.context, OPTIONS, perform=FakeTraining())

    assert train(project.context, replace(OPTIONS, corrections_weight=2), perform=FakeTraining()).moved == 1


def test_an_image_that_is_another_since_it_was_frozen_is_not_learned_from(project: FakeProject) -> None:
    review(project)
    changed = project.dataset.samples[project.sample_ids[0]].image.path
    Image.new("RGB", (120, 80), "red").save(changed)

    report = train(project.context, replace(OPTIONS, epochs=1))

    assert [(failure.item, failure.problem) for failure in report.failed] == [
        (str(changed), "is not the file that was frozen: its content changed")
    ]


def perform_as(project: FakeProject, run_id: int, params: dict[str, Any], training: FakeTraining) -> None:
    from sync.runs.live_run import LiveRun

    live = LiveRun(project.context.ledger, run_id)
    options = to_options(project.context, READERS["train"](params))
    live.perform(lambda tell: train(project.context, options, on_progress=tell, perform=training))


def test_a_dry_run_says_what_would_be_trained(project: FakeProject) -> None:
    review(project)

    report = train(project.context, replace(OPTIONS, dry_run=True))

    assert (report.is_dry_run, report.moved) == (True, 1)
    assert "2 epochs of 64 px" in report.notes[0]
    assert list_candidates(project.context.home) == []


def test_without_a_model_all_is_as_in_the_last_training_but_for_what_is_said(project: FakeProject) -> None:
    review(project)
    told = replace(OPTIONS, freeze=3, seed=5, corrections_weight=2.0)
    train(project.context, told, perform=FakeTraining())

    assert to_options(project.context, {}) == replace(told, device="auto")
    assert train(project.context, to_options(project.context, {}), perform=FakeTraining()).unchanged == 1
    assert to_options(project.context, {"epochs": 9}).epochs == 9
    assert to_options(project.context, {"model": "x.pt"}) == Options("x.pt")


def test_without_a_model_and_a_last_training_the_served_one_is_named(project: FakeProject) -> None:
    assert to_options(project.context, {}).model == project.context.project.model
    review(project)
    with pytest.raises(LabelingError, match=r"yolo11n\.onnx: cannot be trained"):
        train(project.context, to_options(project.context, {}))


def test_replay_needs_a_model_that_was_trained_here(project: FakeProject) -> None:
    review(project)

    with pytest.raises(LabelingError, match=r"--replay: yolo11n\.yaml was not trained here"):
        train(project.context, replace(OPTIONS, replay=4), perform=FakeTraining())


def test_a_replay_learns_from_what_is_new_and_a_few_older_images_to_its_end(project: FakeProject) -> None:
    review(project, *range(6))
    tiny = replace(OPTIONS, epochs=1)
    train(project.context, tiny)
    (first,) = list_candidates(project.context.home)
    review(project, *range(6, 10))

    report = train(project.context, replace(tiny, model=first.id, replay=2))

    _, second = list_candidates(project.context.home)
    assert (report.moved, second.state, second.base_version) == (1, "trained", first.model_version)
    assert second.counts["replayed images"] == 2
    old, new = (read_version(project.context.home, one.version_id) for one in (first, second))
    fresh = {image.sha256 for image in new.in_split("train")} - {image.sha256 for image in old.in_split("train")}
    assert second.counts["train images"] == len(fresh) + 2 < len(new.in_split("train"))
    assert second.weights_path is not None
    assert second.model_version != first.model_version
    assert list(build_detector(second.weights_path, device="cpu").names.values()) == list(first.classes)
    # The same again changes nothing.
    assert train(project.context, replace(tiny, model=first.id, replay=2)).unchanged == 1


def test_a_deleted_box_makes_a_corrected_image(project: FakeProject) -> None:
    task_ids = [project.task_ids()[sample_id] for sample_id in project.sample_ids]
    for task_id in task_ids[:5]:
        project.annotator.submit_shown(task_id, lambda _: [])
    review(project, *range(5, 10))
    training = FakeTraining()

    train(project.context, replace(OPTIONS, corrections_weight=4), perform=training)

    items = [*training.training_set.train, *training.training_set.val]
    assert {(bool(item.boxes), item.weight) for item in items} == {(False, 4.0), (True, 1.0)}


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ({"epochs": 0}, "epochs 0: expected a whole number from 1 to 100000"),
        ({"lr": -1}, "'lr': expected a number above 0"),
        ({"corrections_weight": float("inf")}, "'corrections_weight': expected a number above 0"),
        ({"corrections_weight": 0.5}, "corrections_weight 0.5: expected a number from 1 to 100"),
        ({"corrections_weight": 1e12}, "expected a number from 1 to 100"),
        ({"imgsz": 10**9}, "imgsz 1000000000: expected a whole number from 32 to 8192"),
        ({"batch": 10**9}, "batch 1000000000: expected a whole number from 1 to 4096"),
        ({"device": "cuda:x"}, "device 'cuda:x'"),
        ({"imgsz": "640"}, "'imgsz': expected a whole number"),
        ({"resume": 3}, "'resume' is not known"),
    ],
)
def test_parameters_are_refused_before_they_wait(params: dict[str, Any], problem: str) -> None:
    with pytest.raises(LabelingError, match=problem):
        check_params("train", params)


def test_a_damaged_candidate_is_none_and_the_others_are_listed(project: FakeProject) -> None:
    review(project)
    train(project.context, OPTIONS, perform=FakeTraining())
    (good,) = list_candidates(project.context.home)
    bad = good.folder.parent / "bad"
    bad.mkdir()
    (bad / "candidate.json").write_text('{"id": "bad", "odd": 1}')

    assert list_candidates(project.context.home) == [good]
    with pytest.raises(LabelingError, match="is damaged"):
        Candidate.read(bad)
    with pytest.raises(LabelingError, match=r"candidate 'none' is not known \(known: yolo11n-"):
        find_candidate(project.context.home, "none")


def test_progress_tells_epoch_loss_score_and_the_time_that_is_left() -> None:
    said: list[tuple[float | None, str]] = []
    progress = Progress("net-1", 4, lambda done, message: said.append((done, message)))

    progress.on_event(None)
    progress.on_event({"kind": "check", "done": 0.5})
    progress.on_event({"kind": "step", "epoch": 1, "done": 0.5})
    epoch = {"epoch": 1, "losses": {"loss": 1.25}, "scores": {"map50_95": 0.5}, "seconds": 50.0, "lr": 0.1}
    progress.on_event({"kind": "epoch", **epoch})

    assert said == [
        (None, "net-1: starting"),
        (None, "net-1: checking the images, 50%"),
        (0.125, "net-1: epoch 1/4"),
        (0.25, "net-1: epoch 1/4, loss 1.250, mAP 0.500, 2 min left"),
    ]


def test_a_run_of_another_job_is_no_training(project: FakeProject) -> None:
    with Ledger.open(project.context.home.ledger) as ledger:
        run_id = ledger.record_run_start("pull", {})

    assert find_of_run(project.context.home, run_id) is None
