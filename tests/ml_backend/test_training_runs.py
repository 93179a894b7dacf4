"""Real trainings of tiny sets: what is learned, what a kill changes (nothing), and that the result serves."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from safetensors.torch import load_file

from labels.errors import LabelingError
from labels.geometry import ImageSize
from ml_backend.detectors import DetectorOptions
from ml_backend.models.building import build_detector, keep_ultralytics_quiet
from ml_backend.models.weights import compute_version
from ml_backend.training import (
    Trained,
    TrainingBox,
    TrainingError,
    TrainingItem,
    TrainingSet,
    TrainingSettings,
    read_history,
    to_outline,
    write_json,
)
from ml_backend.training.loop import Loop
from ml_backend.training.pixels import read_image
from ml_backend.training.process import prepare, run_training
from ml_backend.training.torchvision_training import to_target
from tests.ml_backend.models import SHARED_WEIGHTS, read_rgb
from tests.ml_backend.toy_training import KilledError, Watcher, make_set

FRCNN = "fasterrcnn_mobilenet_v3_large_320_fpn"
RCNN = TrainingSettings("torchvision", FRCNN, epochs=2, side=64, batch=3, seed=4, device="cpu")
NET = TrainingSettings("timm", "test_convnext", epochs=2, side=64, batch=4, seed=4, device="cpu")
YOLO = TrainingSettings("ultralytics", "yolo11n.yaml", epochs=2, side=64, batch=4, seed=4, device="cpu")

Train = Callable[[TrainingSet, TrainingSettings, Path, Any], Trained]


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def toys(tmp_path: Path) -> TrainingSet:
    return make_set(tmp_path / "images")


@pytest.fixture
def singles(tmp_path: Path) -> TrainingSet:
    return make_set(tmp_path / "images", train=16, val=8, boxes=1)


def choose_train(settings: TrainingSettings) -> Train:
    if settings.family == "torchvision":
        from ml_backend.training.torchvision_training import train
    elif settings.family == "timm":
        from ml_backend.training.classification import train
    else:
        keep_ultralytics_quiet()
        from ml_backend.training.ultralytics_training import train
    return train


def run(training_set: TrainingSet, settings: TrainingSettings, folder: Path, watcher: Watcher | None = None) -> Trained:
    folder.mkdir(parents=True, exist_ok=True)
    return choose_train(settings)(training_set, settings, folder, watcher or Watcher())


def digest(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*.png"))}


def without_times(folder: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in epoch.items() if key != "seconds"} for epoch in read_history(folder)]


@pytest.mark.parametrize("settings", [RCNN, NET], ids=["torchvision", "timm"])
def test_a_training_that_was_killed_and_goes_on_gives_what_it_would_have_given(
    tmp_path: Path, toys: TrainingSet, singles: TrainingSet, settings: TrainingSettings
) -> None:
    training_set = singles if settings.family == "timm" else toys
    whole = run(training_set, settings, tmp_path / "whole")
    with pytest.raises(KilledError):
        run(training_set, settings, tmp_path / "killed", Watcher(ends_in=2))
    assert len(read_history(tmp_path / "killed")) == 1

    watcher = Watcher()
    resumed = run(training_set, settings, tmp_path / "killed", watcher)

    assert resumed == whole
    assert {epoch for epoch, _ in watcher.steps} == {2}
    assert [epoch.epoch for epoch in watcher.epochs] == [1, 2]
    assert without_times(tmp_path / "killed") == without_times(tmp_path / "whole")
    assert compute_version(tmp_path / "killed" / resumed.weights) == compute_version(tmp_path / "whole" / whole.weights)


def test_another_seed_gives_another_model(tmp_path: Path, singles: TrainingSet) -> None:
    one = run(singles, replace(NET, epochs=1), tmp_path / "one")
    other = run(singles, replace(NET, epochs=1, seed=5), tmp_path / "other")

    first, second = load_file(tmp_path / "one" / one.weights), load_file(tmp_path / "other" / other.weights)
    assert any(not torch.equal(first[name], second[name]) for name in first)


def test_a_detector_of_torchvision_learns_and_serves(tmp_path: Path, toys: TrainingSet) -> None:
    watcher = Watcher()

    # Of its kind the one that learns soonest from nothing.
    settings = replace(RCNN, model="ssdlite320_mobilenet_v3_large", epochs=4, lr=2e-3)

    trained = run(toys, settings, tmp_path / "run", watcher)

    losses = [epoch.losses["loss"] for epoch in watcher.epochs]
    assert losses[-1] < losses[0] / 2
    detector = build_detector(tmp_path / "run" / trained.weights, device="cpu")
    assert (detector.task, dict(detector.names), detector.licence) == ("detect", {1: "red", 2: "blue"}, "BSD-3-Clause")
    (found,) = detector.detect([read_rgb(toys.train[0].image)], score_floor=0.05)
    assert len(found) > 0
    assert set(found.class_ids.tolist()) <= {1, 2}


def test_a_detector_is_served_at_the_side_it_was_trained_at(tmp_path: Path, toys: TrainingSet) -> None:
    settings = replace(RCNN, side=96, epochs=1, batch=6, freeze=2)

    trained = run(toys, settings, tmp_path / "run")

    assert trained.card is not None
    assert trained.card["side"] == 96
    from ml_backend.detectors.torchvision import load_model

    _, model = load_model(tmp_path / "run" / trained.weights)
    assert (model.transform.min_size, model.transform.max_size) == ((96,), 96)


def test_masks_are_learned_from_outlines_and_served(tmp_path: Path, toys: TrainingSet) -> None:
    def cut_corners(item: TrainingItem) -> TrainingItem:
        """Make a triangle of each square."""
        boxes = [replace(box, outline=to_outline(box)[:3]) for box in item.boxes]
        return replace(item, boxes=tuple(boxes))

    triangles = replace(toys, train=tuple(map(cut_corners, toys.train)), val=toys.val[:1])
    watcher = Watcher()

    trained = run(triangles, replace(RCNN, model="maskrcnn_resnet50_fpn", epochs=1), tmp_path / "run", watcher)

    assert trained.task == "segment"
    assert "loss_mask" in watcher.epochs[0].losses
    detector = build_detector(tmp_path / "run" / trained.weights, device="cpu")
    assert (detector.task, dict(detector.names)) == ("segment", {1: "red", 2: "blue"})


def test_a_mask_to_learn_is_what_lies_inside_of_the_outline() -> None:
    triangle = TrainingBox((2, 1, 10, 9), 0, ((2, 1), (10, 1), (10, 9)))

    target = to_target([triangle, replace(triangle, outline=None)], ImageSize(12, 10))

    assert tuple(target["masks"].shape) == (2, 10, 12)
    # Half of the square with the pixels of its diagonal: 1 + 2 + ... + 8.
    assert [int(mask.sum()) for mask in target["masks"]] == [36, 64]
    assert target["masks"][0, 1:9, 9].tolist() == [1] * 8
    assert to_target([], ImageSize(12, 10))["masks"].shape == (0, 10, 12)


def test_a_trained_detector_goes_on_with_further_classes(tmp_path: Path, toys: TrainingSet) -> None:
    first = run(toys, replace(RCNN, epochs=1), tmp_path / "first")
    wider = replace(toys, classes=("green", "red", "blue"))
    moved = [tuple(replace(box, class_id=box.class_id + 1) for box in item.boxes) for item in wider.train]
    wider = replace(
        wider, train=tuple(replace(item, boxes=b) for item, b in zip(wider.train, moved, strict=True)), val=()
    )

    settings = replace(RCNN, weights=tmp_path / "first" / first.weights, epochs=1, lr=1e-9)
    second = run(wider, settings, tmp_path / "second")

    before, after = (load_file(tmp_path / name / one.weights) for name, one in (("first", first), ("second", second)))
    # Background, red and blue keep what they knew, at their new places: a score each, and four numbers for a box.
    for name, each in (
        ("roi_heads.box_predictor.cls_score.weight", 1),
        ("roi_heads.box_predictor.bbox_pred.weight", 4),
    ):
        old, new = before[name].reshape(3, each, -1), after[name].reshape(4, each, -1)
        torch.testing.assert_close(new[[0, 2, 3]], old, atol=1e-4, rtol=0)


def test_a_classifier_learns_colours_and_serves(tmp_path: Path, singles: TrainingSet) -> None:
    watcher = Watcher()

    trained = run(singles, replace(NET, epochs=10, lr=1e-3), tmp_path / "run", watcher)

    assert watcher.epochs[-1].losses["loss"] < watcher.epochs[0].losses["loss"]
    assert trained.scores["top1"] == 1.0
    assert trained.report["confusion"] == [[4, 0], [0, 4]]
    classifier = build_detector(
        tmp_path / "run" / trained.weights, device="cpu", options=DetectorOptions(runtime="auto")
    )
    assert (classifier.task, dict(classifier.names)) == ("classify", {0: "red", 1: "blue"})
    found = classifier.detect([read_rgb(item.image) for item in singles.val], score_floor=0.5)
    assert [int(np.argmax(one.image_probabilities)) for one in found] == [item.class_id for item in singles.val]
    assert all(float(np.sum(one.image_probabilities)) == pytest.approx(1, abs=1e-5) for one in found)


def test_a_classifier_starts_from_tensors_without_a_card(tmp_path: Path, singles: TrainingSet) -> None:
    first = run(singles, replace(NET, epochs=1), tmp_path / "first")
    bare = tmp_path / "bare.safetensors"
    bare.write_bytes((tmp_path / "first" / first.weights).read_bytes())
    watcher = Watcher()

    run(singles, replace(NET, weights=bare, epochs=1), tmp_path / "second", watcher)

    # All but the two tensors of the layer that tells classes apart.
    assert "tensors start from bare.safetensors" in watcher.notes[0]
    taken, _, everything = watcher.notes[0].split()[:3]
    assert int(everything) - int(taken) == 2


def test_ultralytics_trains_serves_and_touches_no_image(tmp_path: Path, toys: TrainingSet) -> None:
    before = digest(tmp_path / "images")
    watcher = Watcher()

    trained = run(toys, YOLO, tmp_path / "run", watcher)

    assert digest(tmp_path / "images") == before
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == sorted(before)
    assert [epoch.epoch for epoch in watcher.epochs] == [1, 2]
    assert set(watcher.epochs[0].losses) == {"box_loss", "cls_loss", "dfl_loss", "loss"}
    assert set(watcher.epochs[0].scores) == {"map50_95", "map50"}
    assert (trained.weights, trained.task, trained.licence) == ("yolo11n.pt", "detect", "AGPL-3.0")
    # Read without trust: nothing but known model classes is in it.
    detector = build_detector(tmp_path / "run" / trained.weights, device="cpu")
    assert dict(detector.names) == {0: "red", 1: "blue"}
    assert detector.padded_shape(toys.train[0].size) == (64, 64)  # type: ignore[attr-defined]  # a sized one
    assert len(detector.detect([read_rgb(toys.train[0].image)], score_floor=0.0001)) == 1


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_ultralytics_learns_the_pixels_that_are_served_of_a_transparent_image(tmp_path: Path, suffix: str) -> None:
    from ultralytics.utils.patches import imread

    from ml_backend.training.ultralytics_data import to_opaque

    pixels = np.zeros((20, 30, 4), np.uint8)
    pixels[:10] = (255, 0, 0, 255)
    path, plain = tmp_path / f"see-through.{suffix}", tmp_path / f"plain.{suffix}"
    PillowImage.fromarray(pixels).save(path)
    PillowImage.fromarray(pixels[..., :3].copy()).save(plain)
    item = TrainingItem(path, ImageSize(30, 20))
    before = path.read_bytes()

    copy = to_opaque(item, tmp_path / "copies")

    assert (imread(str(copy))[..., ::-1] == read_image(item)).all()
    assert (to_opaque(item, tmp_path / "copies"), path.read_bytes()) == (copy, before)
    assert to_opaque(replace(item, image=plain), tmp_path / "copies") == plain
    assert len(list((tmp_path / "copies").iterdir())) == 1


def test_ultralytics_is_given_the_copies_of_transparent_images(tmp_path: Path, toys: TrainingSet) -> None:
    first = toys.train[0].image
    with PillowImage.open(first) as image:
        image.putalpha(90)
        image.save(first)

    run(toys, replace(YOLO, epochs=1), tmp_path / "run")

    assert len(list((tmp_path / "run" / "opaque").iterdir())) == 1


def test_ultralytics_goes_on_from_its_last_whole_epoch(tmp_path: Path, toys: TrainingSet) -> None:
    with pytest.raises(KilledError):
        run(toys, replace(YOLO, batch=3), tmp_path / "run", Watcher(ends_in=2))
    # The library writes its files in place; a kill leaves half of one.
    half = tmp_path / "run" / "ultralytics" / "weights" / "last.pt"
    half.write_bytes(half.read_bytes()[:1000])
    # Another kill, between the history and the checkpoint that says that the epoch is over.
    (first,) = read_history(tmp_path / "run")
    write_json(tmp_path / "run" / "history.json", [first, first | {"epoch": 2, "seconds": -1.0}])
    watcher = Watcher()

    trained = run(toys, replace(YOLO, batch=3), tmp_path / "run", watcher)

    assert {epoch for epoch, _ in watcher.steps} == {2}
    assert [epoch["epoch"] for epoch in read_history(tmp_path / "run")] == [1, 2]
    assert read_history(tmp_path / "run")[1]["seconds"] > 0
    assert (tmp_path / "run" / trained.weights).is_file()


@pytest.mark.parametrize("model", ["yolo11n-seg.yaml", "yolo11n-obb.yaml"])
def test_outlines_are_learned_where_the_model_is_for_them(tmp_path: Path, toys: TrainingSet, model: str) -> None:
    trained = run(toys, replace(YOLO, model=model, epochs=1), tmp_path / "run")

    assert trained.task == ("segment" if "seg" in model else "obb")
    assert build_detector(tmp_path / "run" / trained.weights, device="cpu").task == trained.task


def test_without_validation_images_the_last_epoch_counts(tmp_path: Path, toys: TrainingSet) -> None:
    bare = replace(toys, val=())

    for settings in (RCNN, YOLO):
        watcher = Watcher()
        trained = run(bare, settings, tmp_path / settings.family, watcher)

        assert (trained.best_epoch, trained.scores) == (2, {})
        assert all(epoch.scores == {} for epoch in watcher.epochs)


class LateLesson:
    """Learns one number, and finds nothing before its fifth epoch; then less each time."""

    score_name = "map50_95"

    def __init__(self) -> None:
        self.model = torch.nn.Linear(1, 1)
        self.measured = 0

    def count_batches(self) -> int:
        return 1

    def read_batches(self, epoch: int) -> Iterator[torch.Tensor]:
        yield torch.ones(2, 1)

    def compute_losses(self, batch: torch.Tensor) -> Mapping[str, torch.Tensor]:
        return {"square": self.model(batch).square().mean()}

    def compute_scores(self, model: torch.nn.Module) -> dict[str, float]:
        self.measured += 1
        return {"map50_95": 0.0 if self.measured < 5 else 0.5 - self.measured / 100}

    def set_training(self, model: torch.nn.Module) -> None:
        model.train()


def test_epochs_that_find_nothing_yet_do_not_use_up_patience_and_the_first_of_them_is_not_kept(tmp_path: Path) -> None:
    def train(epochs: int) -> tuple[int, int]:
        folder = tmp_path / str(epochs)
        folder.mkdir()
        settings = TrainingSettings("torchvision", "made", epochs=epochs, patience=2)
        _, history, best_epoch = Loop(LateLesson(), settings, folder, torch.device("cpu"), 1e-2).run(Watcher())
        return len(history), best_epoch

    assert train(20) == (7, 5)
    assert train(4) == (4, 4)


def test_ultralytics_that_found_nothing_before_it_was_killed_goes_on_as_the_library_would(
    tmp_path: Path, toys: TrainingSet
) -> None:
    # At this rate nothing is ever found.
    settings = replace(YOLO, epochs=6, lr=1e-12, patience=2, side=32, batch=3)
    with pytest.raises(KilledError):
        run(toys, settings, tmp_path, Watcher(ends_in=5))

    trained = run(toys, settings, tmp_path)

    assert [epoch["scores"]["map50_95"] for epoch in read_history(tmp_path)] == [0.0] * 6
    assert trained.best_epoch == 6


def test_ultralytics_whose_patience_is_over_when_it_was_killed_does_not_go_on(
    tmp_path: Path, toys: TrainingSet
) -> None:
    folder = tmp_path / "run"
    run(toys, replace(YOLO, epochs=1), folder)
    kept = torch.load(folder / "last.pt", map_location="cpu", weights_only=False)
    # The library's own words: the fourth epoch is over, and the first was the best.
    torch.save(kept | {"epoch": 3, "stopper": {"best_fitness": 0.1, "best_epoch": 1}}, folder / "last.pt")
    watcher = Watcher()

    run(toys, replace(YOLO, epochs=30, patience=3), folder, watcher)

    assert watcher.steps == []


def test_a_training_that_gains_nothing_ends_before_its_last_epoch(tmp_path: Path, singles: TrainingSet) -> None:
    settings = replace(NET, epochs=30, lr=1e-12, patience=2)

    trained = run(singles, settings, tmp_path / "run")

    assert len(read_history(tmp_path / "run")) == trained.best_epoch + 2 < 30


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (replace(RCNN, model="keypointrcnn_resnet50_fpn"), "needs key points"),
        (replace(NET, model="no_such_net"), "timm has no model 'no_such_net'"),
        (replace(YOLO, model="yolo11n-pose.yaml"), "a model for 'pose'"),
        (replace(RCNN, freeze=1000, model="ssdlite320_mobilenet_v3_large", lr=1e30), "no number any more"),
        (replace(NET, weights=Path(__file__)), "holds more than tensors"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_words(
    tmp_path: Path, toys: TrainingSet, singles: TrainingSet, settings: TrainingSettings, problem: str
) -> None:
    with pytest.raises(LabelingError, match=problem):
        run(singles if settings.family == "timm" else toys, settings, tmp_path / "run")


def test_the_process_tells_ends_when_it_is_not_wanted_and_goes_on(tmp_path: Path, singles: TrainingSet) -> None:
    broken = singles.train[0].image
    broken.write_bytes(b"no image")
    folder = tmp_path / "run"
    prepare(folder, singles, replace(NET, epochs=3))
    told: list[Mapping[str, Any]] = []

    def end_in_second_epoch(event: Mapping[str, Any] | None) -> None:
        told.append(event or {"kind": "none"})
        if event is not None and event["kind"] == "epoch":
            raise KilledError

    with pytest.raises(KilledError):
        run_training(folder, end_in_second_epoch)
    behind = len(read_history(folder))
    told.clear()
    trained = run_training(folder, lambda event: told.append(event or {"kind": "none"}))

    assert behind >= 1
    assert [epoch["epoch"] for epoch in read_history(folder)] == [1, 2, 3]
    assert trained.broken == (
        (str(broken), "not an image that can be read (expected one of JPEG, PNG, WEBP, BMP, TIFF, GIF)"),
    )
    assert {"check", "step", "epoch", "note", "done"} <= {event["kind"] for event in told}
    # A second call of a finished training only reads.
    assert run_training(folder, lambda _: pytest.fail("nothing is to be done")) == trained


def test_a_process_that_dies_says_where_its_last_words_are(tmp_path: Path, singles: TrainingSet) -> None:
    folder = tmp_path / "run"
    prepare(folder, singles, replace(NET, epochs=30))

    def kill(event: Mapping[str, Any] | None) -> None:
        if event is not None and event["kind"] == "epoch":
            found = subprocess.run(["pgrep", "-f", str(folder)], capture_output=True, text=True, check=True)
            os.kill(int(found.stdout.split()[0]), signal.SIGKILL)

    with pytest.raises(TrainingError, match=r"exit code -9.*train\.log"):
        run_training(folder, kill)


@pytest.mark.skipif(not (SHARED_WEIGHTS / "yolov8n.pt").exists(), reason="the weights are not here")
def test_published_weights_are_a_start(tmp_path: Path, toys: TrainingSet) -> None:
    settings = replace(YOLO, model="yolov8n.pt", weights=SHARED_WEIGHTS / "yolov8n.pt", freeze=10, epochs=1)

    trained = run(toys, settings, tmp_path / "run")

    made = torch.load(tmp_path / "run" / trained.weights, weights_only=False)["model"].float().state_dict()
    start = torch.load(SHARED_WEIGHTS / "yolov8n.pt", weights_only=False)["model"].float().state_dict()
    assert torch.equal(made["model.0.conv.weight"], start["model.0.conv.weight"])
