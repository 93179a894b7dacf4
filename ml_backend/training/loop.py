"""Our own training loop: mixed precision, warm-up and cosine, clipped gradients, averaged weights, and going on.

What is learned is a ``Lesson``'s affair: detectors of torchvision, classifiers of timm. All that a next epoch depends
on is in the checkpoint of the last one, or made from the seed and the epoch's number: a training that was killed and
goes on gives what it would have given.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ml_backend.training import HISTORY_FILE, Epoch, TrainingError, TrainingSettings, Watch, write_json
from ml_backend.training.schedule import compute_lr_share, is_gain, make_random

CHECKPOINT_FILE: Final = "checkpoint.pt"
BEST_FILE: Final = "best.safetensors"
CLIP_NORM: Final = 5.0
WEIGHT_DECAY: Final = 1e-4
AVERAGE_DECAY: Final = 0.999
SEED_LIMIT: Final = 2**31

Batch = Any


class Lesson(Protocol):
    """What is learned from which batches, and how good a model is at it."""

    model: nn.Module
    score_name: str

    def count_batches(self) -> int:
        """Return how many batches an epoch has at most."""

    def read_batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch, on the device; the same epoch gives the same."""

    def compute_losses(self, batch: Batch) -> Mapping[str, torch.Tensor]:
        """Return the losses of a batch by name; their sum is made smaller."""

    def compute_scores(self, model: nn.Module) -> dict[str, float]:
        """Return how good a model is on the validation images; empty where there are none."""

    def set_training(self, model: nn.Module) -> None:
        """Set a model to learn, with the parts that stay as they are."""


@dataclass
class _State:
    """What is known after an epoch."""

    epoch: int = 0
    step: int = 0
    best_epoch: int = 0
    best_score: float = -math.inf
    history: list[Epoch] = field(default_factory=list)


class Loop:
    """Trains a lesson's model in a folder."""

    def __init__(
        self, lesson: Lesson, settings: TrainingSettings, folder: Path, place: torch.device, lr: float
    ) -> None:
        self._lesson = lesson
        self._settings = settings
        self._folder = folder
        self._place = place
        self._lr = lr
        self._model = lesson.model.to(place)
        self._average = copy.deepcopy(self._model).eval().requires_grad_(False)
        learned = [parameter for parameter in self._model.parameters() if parameter.requires_grad]
        if not learned:
            raise TrainingError(f"freeze {settings.freeze}: nothing is left to learn")
        self._optimizer = torch.optim.AdamW(learned, lr=lr, weight_decay=WEIGHT_DECAY)
        self._dtype = choose_dtype(place)
        self._scaler = torch.amp.GradScaler(place.type, enabled=self._dtype == torch.float16)
        self._state = _State()

    def run(self, watch: Watch) -> tuple[dict[str, torch.Tensor], list[Epoch], int]:
        """Train to the end, or from where it was left, and return the best tensors, all epochs and the best one.

        The best epoch is the one with the highest score; without validation images it is the last one.

        Raises:
            TrainingError: the losses are no numbers any more.
        """
        self._read_checkpoint()
        for epoch in self._state.history:
            watch.on_epoch(epoch)
        steps_per_epoch = self._lesson.count_batches()
        while self._state.epoch < self._settings.epochs and not self._is_patience_over():
            number = self._state.epoch + 1
            started = time.monotonic()
            # From the seed and the epoch alone: where this process began does not matter.
            torch.manual_seed(make_random(self._settings.seed, "epoch", number).randrange(SEED_LIMIT))
            losses, lr = self._run_epoch(number, steps_per_epoch, watch)
            scores = self._lesson.compute_scores(self._average)
            epoch = Epoch(number, losses, scores, lr, round(time.monotonic() - started, 3))
            self._end_epoch(epoch)
            watch.on_epoch(epoch)
        return load_file(self._folder / BEST_FILE), self._state.history, self._state.best_epoch

    def _is_patience_over(self) -> bool:
        return bool(self._state.history) and self._state.epoch - self._state.best_epoch >= self._settings.patience

    def _run_epoch(self, number: int, steps_per_epoch: int, watch: Watch) -> tuple[dict[str, float], float]:
        self._lesson.set_training(self._model)
        sums: dict[str, float] = {}
        lr, count = 0.0, 0
        for batch in self._lesson.read_batches(number):
            watch.on_step(number, count / steps_per_epoch)
            lr = self._set_lr(steps_per_epoch)
            for name, value in self._learn(batch, number).items():
                sums[name] = sums.get(name, 0.0) + value
            count += 1
            self._state.step += 1
        return {name: value / max(count, 1) for name, value in sums.items()}, lr

    def _set_lr(self, steps_per_epoch: int) -> float:
        steps = steps_per_epoch * self._settings.epochs
        step = min(self._state.step, steps - 1)
        lr = self._lr * compute_lr_share(step, steps=steps, steps_per_epoch=steps_per_epoch)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        return lr

    def _learn(self, batch: Batch, epoch: int) -> dict[str, float]:
        with self._autocast():
            losses = self._lesson.compute_losses(batch)
            total = torch.stack([value.float() for value in losses.values()]).sum()
        if not torch.isfinite(total):
            raise TrainingError(
                f"epoch {epoch}: the loss is no number any more; try a lower --lr (it was {self._lr:g})"
            )
        self._optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(total).backward()  # type: ignore[no-untyped-call]  # torch has none for it
        self._scaler.unscale_(self._optimizer)
        nn.utils.clip_grad_norm_([one for one in self._model.parameters() if one.requires_grad], CLIP_NORM)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._average_weights()
        return {name: float(value.detach()) for name, value in losses.items()} | {"loss": float(total.detach())}

    @torch.no_grad()
    def _average_weights(self) -> None:
        """Move the averaged weights towards the learned ones: faster at first, when they are those of the start."""
        decay = min(AVERAGE_DECAY, (1 + self._state.step) / (10 + self._state.step))
        learned = self._model.state_dict()
        for name, value in self._average.state_dict().items():
            if value.dtype.is_floating_point:
                value.lerp_(learned[name].to(value.dtype), 1 - decay)
            else:
                value.copy_(learned[name])

    def _end_epoch(self, epoch: Epoch) -> None:
        """Keep the epoch: first the best weights, then the checkpoint, which says that they are, then the history."""
        state = self._state
        state.epoch = epoch.epoch
        state.history.append(epoch)
        score = epoch.scores.get(self._lesson.score_name)
        if score is None or is_gain(score, state.best_score):
            state.best_epoch = epoch.epoch
            state.best_score = -math.inf if score is None else score
            self._write_best()
        checkpoint = {
            "model": self._model.state_dict(),
            "average": self._average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "step": state.step,
            "best_epoch": state.best_epoch,
            "best_score": state.best_score,
            "history": json.dumps([one.to_dict() for one in state.history]),
        }
        part = self._folder / f".{CHECKPOINT_FILE}.part"
        torch.save(checkpoint, part)
        part.replace(self._folder / CHECKPOINT_FILE)
        write_json(self._folder / HISTORY_FILE, [one.to_dict() for one in state.history])

    def _write_best(self) -> None:
        part = self._folder / f".{BEST_FILE}.part"
        tensors = {
            name: value.detach().cpu().contiguous().clone() for name, value in self._average.state_dict().items()
        }
        save_file(tensors, part)
        part.replace(self._folder / BEST_FILE)

    def _read_checkpoint(self) -> None:
        path = self._folder / CHECKPOINT_FILE
        if not path.is_file():
            return
        # Our own file; still nothing but tensors and plain values is ever read. To the CPU: what belongs on the device
        # is put there, and the optimizer's counts do not belong there.
        found = torch.load(path, map_location="cpu", weights_only=True)
        self._model.load_state_dict(found["model"])
        self._average.load_state_dict(found["average"])
        self._optimizer.load_state_dict(found["optimizer"])
        self._scaler.load_state_dict(found["scaler"])
        history = [Epoch(**values) for values in json.loads(found["history"])]
        self._state = _State(len(history), found["step"], found["best_epoch"], found["best_score"], history)

    def _autocast(self) -> AbstractContextManager[Any]:
        return nullcontext() if self._dtype == torch.float32 else torch.autocast(self._place.type, self._dtype)


def choose_dtype(place: torch.device) -> torch.dtype:
    """Return what a device computes in: bfloat16 on a GPU that knows it, float16 on another, float32 on a CPU."""
    if place.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def read_parallel(items: Sequence[Any], read: Any, workers: int) -> Iterator[Any]:
    """Yield ``read(item)`` of each, in order; with workers, threads read ahead of what is asked for."""
    if workers < 1:
        yield from map(read, items)
        return
    from concurrent.futures import ThreadPoolExecutor

    ahead = workers * 2
    with ThreadPoolExecutor(workers) as pool:
        waiting = [pool.submit(read, item) for item in items[:ahead]]
        for place in range(len(items)):
            if place + ahead < len(items):
                waiting.append(pool.submit(read, items[place + ahead]))
            yield waiting[place].result()
            waiting[place] = None  # type: ignore[call-overload]  # given back, so that its pixels can go
