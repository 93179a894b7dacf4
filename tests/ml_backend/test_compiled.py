"""A compiled network finds what it finds uncompiled, and nobody waits for a compiler. On the CPU: no GPU is needed."""

import logging
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ml_backend.detectors import Detections, DetectorOptions
from ml_backend.detectors import compiled as compiling
from ml_backend.detectors.compiled import CompiledForward
from ml_backend.detectors.ultralytics import TorchForward, compile_network, load_detector, load_model
from ml_backend.detectors.yolo import YoloDetector
from tests.ml_backend.models import assert_same_set, find_floor, make_yolo, read_rgb

CPU = torch.device("cpu")
Graph = Callable[..., Any]


class Counter:
    """A compiler that changes nothing, and counts how often it is asked; or that fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls = 0
        self.error = error

    def __call__(self, graph: Graph, inputs: object) -> Graph:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return graph


class Toy(nn.Module):
    """A network, and what feeds it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.SiLU(), nn.Conv2d(4, 2, 1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.layers(pixels)
        return answer

    @torch.inference_mode()
    def detect(self, images: list[Any], *, score_floor: float) -> list[Detections]:
        answer = self(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float())
        return [Detections.nothing(row.flatten().numpy()) for row in answer]


@pytest.fixture(autouse=True)
def forget() -> None:
    torch._dynamo.reset()


@pytest.fixture(autouse=True)
def few_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "RATIOS", ((1, 1), (4, 3)))


def make_batch(count: int, height: int, width: int) -> list[Any]:
    return list(np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8))


def detect(toy: Toy, images: list[Any]) -> Any:
    return np.array([found.image_probabilities for found in toy.detect(images, score_floor=0.5)])


def test_a_network_is_compiled_once_for_each_shape_whatever_the_number_of_images() -> None:
    toy, counter = Toy(), Counter()
    CompiledForward(toy, CPU, backend=counter).learn(toy.detect, side=64)
    learnt = counter.calls

    for count, height, width in ((1, 64, 64), (2, 64, 64), (7, 64, 64), (5, 48, 64), (1, 48, 64), (3, 64, 64)):
        np.testing.assert_array_equal(
            detect(toy, make_batch(count, height, width)), detect(Toy(), make_batch(count, height, width))
        )

    assert (learnt, counter.calls) == (4, 4)


def test_a_shape_it_has_not_learnt_runs_as_it_is() -> None:
    toy, counter = Toy(), Counter()
    CompiledForward(toy, CPU, backend=counter).learn(toy.detect, side=64)

    np.testing.assert_array_equal(detect(toy, make_batch(2, 40, 64)), detect(Toy(), make_batch(2, 40, 64)))

    assert counter.calls == 4


def test_the_thread_that_runs_the_model_need_not_be_the_one_that_loaded_it() -> None:
    toy, counter = Toy(), Counter()
    CompiledForward(toy, CPU, backend=counter).learn(toy.detect, side=64)
    found: list[Any] = []
    batch = make_batch(3, 64, 64)

    thread = threading.Thread(target=lambda: found.append(detect(toy, batch)))
    thread.start()
    thread.join()

    np.testing.assert_array_equal(found[0], detect(Toy(), batch))
    assert counter.calls == 4


def test_a_compiler_that_fails_is_one_line_and_the_network_runs_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    toy, counter = Toy(), Counter(RuntimeError("no compiler\nat /secret/path"))
    with caplog.at_level(logging.INFO, logger="ml_backend"):
        CompiledForward(toy, CPU, backend=counter).learn(toy.detect, side=64)

    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("torch.compile failed (")
    assert caplog.messages[0].endswith("), the model runs as it is")
    np.testing.assert_array_equal(detect(toy, make_batch(2, 64, 64)), detect(Toy(), make_batch(2, 64, 64)))
    assert counter.calls == 1


def test_a_lack_of_memory_is_no_fault_of_the_compiler() -> None:
    toy = Toy()
    forward = CompiledForward(toy, CPU, backend=Counter())
    forward.learn(toy.detect, side=64)
    compiled = forward._compiled

    def fail(pixels: torch.Tensor) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    forward._compiled = fail
    with pytest.raises(torch.OutOfMemoryError):
        toy.detect(make_batch(2, 64, 64), score_floor=0.5)

    forward._compiled = compiled
    assert detect(toy, make_batch(2, 64, 64)).shape[0] == 2


@pytest.mark.skipif(os.environ.get("LABELLOOP_TEST_DETECTORS") != "all", reason="takes a minute")
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles for a CPU with g++")
def test_torchs_own_compiler_finds_the_same() -> None:
    toy = Toy()
    forward = CompiledForward(toy, CPU)
    forward.learn(toy.detect, side=32)

    np.testing.assert_allclose(
        detect(toy, make_batch(3, 32, 32)), detect(Toy(), make_batch(3, 32, 32)), rtol=1e-4, atol=1e-3
    )
    assert forward._compiled is not None


def test_a_yolo_finds_the_same_compiled_or_not(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "RATIOS", ((3, 4),))
    weights = make_yolo("yolov8n", tmp_path)
    images = [read_rgb(photos / "bus.jpg", step=4)] * 3 + [read_rgb(photos / "zidane.jpg", step=4)]
    plain = load_detector(weights, device="cpu", options=DetectorOptions())
    loaded = load_model(weights, is_trusted=False)
    counter = Counter()

    quick = YoloDetector(loaded.network, TorchForward(loaded.module, CPU, torch.float32))
    compile_network(loaded.module, CPU, quick, backend=counter)

    floor = find_floor(plain, images)
    for ours, theirs in zip(
        quick.detect(images, score_floor=floor), plain.detect(images, score_floor=floor), strict=True
    ):
        assert_same_set(ours, theirs, pixels=0.05)
        assert len(ours) > 3
    # One graph each: a network that falls apart into many gains nothing.
    assert counter.calls == 2


def test_it_is_done_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(compiling, "RATIOS", ())
    weights = make_yolo("yolov5n", tmp_path)

    with caplog.at_level(logging.INFO, logger="ml_backend"):
        load_detector(weights, device="cpu", options=DetectorOptions())
        before = [record.getMessage() for record in caplog.records if record.name.startswith("ml_backend")]
        load_detector(weights, device="cpu", options=DetectorOptions(is_torch_compiled=True))

    said = [record.getMessage() for record in caplog.records if record.name.startswith("ml_backend")]
    assert (before, said) == ([], ["compiled for 0 shapes in 0 s"])
