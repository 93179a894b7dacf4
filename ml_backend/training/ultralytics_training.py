"""Trains Ultralytics' models with their own trainer, on our labels. Importing this loads torch and Ultralytics.

The library is given labels and paths: it scans no folder, writes no cache beside anybody's images, repairs no file,
fetches nothing and draws nothing.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.models.yolo.obb import OBBTrainer
from ultralytics.models.yolo.segment import SegmentationTrainer
from ultralytics.nn.tasks import guess_model_task, yaml_model_load

from ml_backend.detectors.adapters import find_damage
from ml_backend.detectors.devices import choose_device
from ml_backend.detectors.ultralytics import LICENCE, read_checkpoint
from ml_backend.training import (
    HISTORY_FILE,
    Epoch,
    Trained,
    TrainingError,
    TrainingItem,
    TrainingSet,
    TrainingSettings,
    Watch,
    read_history,
    write_json,
)
from ml_backend.training.loop import choose_dtype
from ml_backend.training.pixels import keep_inside
from ml_backend.training.schedule import choose_places
from ml_backend.training.ultralytics_data import SetDataset

TRAINERS: Final[Mapping[str, Any]] = {"detect": DetectionTrainer, "segment": SegmentationTrainer, "obb": OBBTrainer}
RUN_FOLDER: Final = "ultralytics"
OPAQUE_FOLDER: Final = "opaque"
# Copies of the library's own checkpoints, which it writes in place: these are whole or not there.
KEPT_LAST: Final = "last.pt"
KEPT_BEST: Final = "best.pt"
SCORES: Final = {"metrics/mAP50-95(B)": "map50_95", "metrics/mAP50(B)": "map50"}


def train(training_set: TrainingSet, settings: TrainingSettings, folder: Path, watch: Watch) -> Trained:
    """Train a model in a folder; what is there already is gone on with from its last whole epoch.

    Raises:
        TrainingError: the model is for a task that is not trained here, or cannot be trained with these settings.
        LabelingError: the weights cannot be read without trust, or are no model.
    """
    module, task = _load(settings)
    if task not in TRAINERS:
        raise TrainingError(f"{settings.model}: a model for {task!r} (trained here: {', '.join(TRAINERS)})")
    if settings.weights is None:
        watch.on_note(f"{settings.model} starts from random numbers")
    behind = _read_kept(folder)
    _shorten_history(folder, behind.epochs)
    trainer = _make_trainer(task, training_set, settings, folder, is_begun=behind.epochs > 0)
    teller = _Teller(trainer, folder, watch, has_val=bool(training_set.val))
    if not trainer.resume:
        trainer.model = trainer.get_model(cfg=module.yaml, weights=module if settings.weights is not None else None)
    if not behind.is_over(settings, has_val=bool(training_set.val)):
        trainer.train()
    return _finish(folder, settings, task, teller, has_val=bool(training_set.val))


def _load(settings: TrainingSettings) -> tuple[Any, str]:
    """Return what to start from, with its structure, and what it is for."""
    if settings.weights is None:
        values = yaml_model_load(settings.model)  # type: ignore[no-untyped-call]
        task = str(guess_model_task(values))  # type: ignore[no-untyped-call]
        return type("Structure", (), {"yaml": values})(), task
    checkpoint = read_checkpoint(settings.weights, is_trusted=settings.is_trusted)
    module = checkpoint.get("ema") or checkpoint.get("model")
    if not isinstance(module, torch.nn.Module):
        raise TrainingError(f"{settings.weights}: has no model inside (expected a checkpoint of Ultralytics)")
    module = module.float()
    task = str(getattr(module, "task", None) or guess_model_task(module))  # type: ignore[no-untyped-call]
    return module, task


@dataclass(frozen=True, slots=True)
class _Kept:
    """What the last whole checkpoint says: how many epochs are done, and which the library holds for the best.

    What is after it is done anew. Which epoch is better is the library's to say, and by masks too where there are any:
    its own count decides whether patience is over.
    """

    epochs: int = 0
    best_epoch: int = 0

    def is_over(self, settings: TrainingSettings, *, has_val: bool) -> bool:
        """Return whether nothing is left to do."""
        is_patience_over = has_val and self.epochs - self.best_epoch >= settings.patience
        return self.epochs >= settings.epochs or (self.epochs > 0 and is_patience_over)


def _read_kept(folder: Path) -> _Kept:
    kept = folder / KEPT_LAST
    if not kept.is_file() or find_damage(kept) is not None:
        return _Kept()
    content = read_checkpoint(kept, is_trusted=False)
    epochs = int(content["epoch"]) + 1
    # An older release keeps no count, and begins to count anew itself.
    return _Kept(epochs, int(content.get("stopper", {}).get("best_epoch", epochs)))


def _shorten_history(folder: Path, epochs: int) -> None:
    """Take out of the history what no checkpoint is kept of."""
    history = read_history(folder)
    if len(history) > epochs:
        write_json(folder / HISTORY_FILE, history[:epochs])


def _make_trainer(
    task: str, training_set: TrainingSet, settings: TrainingSettings, folder: Path, *, is_begun: bool
) -> Any:
    device = choose_device(settings.device)
    place = torch.device(device)
    run = folder / RUN_FOLDER
    arguments: dict[str, Any] = {
        "task": task,
        "mode": "train",
        # Never read: the labels come from the set, and the model is given as it is.
        "data": "set.yaml",
        "model": "set.yaml",
        "epochs": settings.epochs,
        "imgsz": settings.side,
        "batch": settings.batch,
        "device": device.partition(":")[2] or "0" if place.type == "cuda" else "cpu",
        "seed": settings.seed,
        "freeze": settings.freeze or None,
        "workers": settings.workers,
        # What it measures without validation images says nothing, and is not to end anything: 0 is endless.
        "patience": settings.patience if training_set.val else 0,
        # Any other form has the library fetch a model to try it with.
        "amp": "bf16" if choose_dtype(place) == torch.bfloat16 else False,
        "project": str(folder),
        "name": RUN_FOLDER,
        "exist_ok": True,
        "plots": False,
        "verbose": False,
        "cos_lr": True,
        "deterministic": True,
    }
    if settings.lr is not None:
        arguments |= {"lr0": settings.lr, "optimizer": "AdamW"}
    if is_begun:
        weights = run / "weights"
        weights.mkdir(parents=True, exist_ok=True)
        for name in (KEPT_LAST, KEPT_BEST):
            if (folder / name).is_file():
                shutil.copyfile(folder / name, weights / name)
        arguments["resume"] = str(weights / KEPT_LAST)
    else:
        shutil.rmtree(run, ignore_errors=True)
    return _make_class(task, training_set, settings, folder)(overrides=arguments)


def _make_class(task: str, training_set: TrainingSet, settings: TrainingSettings, folder: Path) -> Any:
    names = dict(enumerate(training_set.classes))
    train = _Repeated([keep_inside(item) for item in training_set.train], settings.seed)
    # The library cannot do without: these are looked at, and what is measured on them is not told.
    val = [keep_inside(item) for item in training_set.val or training_set.train[: settings.batch]]

    base: Any = TRAINERS[task]

    class SetTrainer(base):  # type: ignore[misc]  # chosen when it runs
        """The library's trainer of a task, on our labels."""

        def get_dataset(self) -> dict[str, Any]:
            return {"names": names, "nc": len(names), "channels": 3, "train": "train", "val": "val"}

        def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any:
            stride = max(int(self.model.stride.max()), 32)
            return SetDataset(
                items=train.of_all_epochs() if mode == "train" else val,
                folder=folder / OPAQUE_FOLDER,
                img_path=img_path,
                imgsz=self.args.imgsz,
                batch_size=batch,
                augment=mode == "train",
                hyp=self.args,
                rect=mode == "val",
                stride=stride,
                pad=0.0 if mode == "train" else 0.5,
                data=self.data,
                task=task,
            )

        def save_metrics(self, metrics: Any) -> None:
            """The history is kept by us."""

        def read_results_csv(self) -> dict[str, Any]:
            return {}

        def final_eval(self) -> None:
            """The best epoch was measured when it ended; the gate measures again."""

    return SetTrainer


class _Repeated:
    """The training items, each as often as its weight says, on the average of all epochs: the library asks once."""

    def __init__(self, items: Sequence[TrainingItem], seed: int) -> None:
        self._items = items
        self._seed = seed

    def of_all_epochs(self) -> list[TrainingItem]:
        """Return the items in their order, those of weight 2 twice."""
        places = sorted(choose_places(self._items, seed=self._seed, epoch=0))
        return [self._items[place] for place in places]


class _Teller:
    """Tells how far the library's trainer is, and keeps what is needed to go on."""

    def __init__(self, trainer: Any, folder: Path, watch: Watch, *, has_val: bool) -> None:
        self._folder = folder
        self._watch = watch
        self._has_val = has_val
        self._started = time.monotonic()
        self._batch = 0
        self.history = read_history(folder) if trainer.resume else []
        if not trainer.resume:
            (folder / HISTORY_FILE).unlink(missing_ok=True)
        for values in self.history:
            watch.on_epoch(Epoch(**values))
        trainer.add_callback("on_train_epoch_start", self._start_epoch)
        trainer.add_callback("on_train_batch_start", self._start_batch)
        trainer.add_callback("on_fit_epoch_end", self._end_epoch)

    def _start_epoch(self, trainer: Any) -> None:
        self._started, self._batch = time.monotonic(), 0

    def _start_batch(self, trainer: Any) -> None:
        self._watch.on_step(trainer.epoch + 1, self._batch / max(len(trainer.train_loader), 1))
        self._batch += 1

    def _end_epoch(self, trainer: Any) -> None:
        number = trainer.epoch + 1
        losses = {name: round(float(value), 5) for name, value in (trainer.tloss or {}).items()}
        if losses:
            losses["loss"] = round(sum(losses.values()), 5)
        scores = {ours: float(trainer.metrics[theirs]) for theirs, ours in SCORES.items() if theirs in trainer.metrics}
        lr = max((float(group["lr"]) for group in trainer.optimizer.param_groups), default=0.0)
        seconds = round(time.monotonic() - self._started, 3)
        epoch = Epoch(number, losses, scores if self._has_val else {}, lr, seconds)
        self.history = [*(one for one in self.history if one["epoch"] < number), epoch.to_dict()]
        # The last checkpoint last: it says that the epoch is over, and all else of it is kept.
        if trainer.best_fitness == trainer.fitness:
            _copy(trainer.best, self._folder / KEPT_BEST)
        write_json(self._folder / HISTORY_FILE, self.history)
        _copy(trainer.last, self._folder / KEPT_LAST)
        self._watch.on_epoch(epoch)


def _copy(source: Path, target: Path) -> None:
    part = target.with_name(f".{target.name}.part")
    shutil.copyfile(source, part)
    part.replace(target)


def _finish(folder: Path, settings: TrainingSettings, task: str, teller: _Teller, *, has_val: bool) -> Trained:
    """Write the best epoch's weights, or without validation the last one's, as a file that serves."""
    if not teller.history:
        raise TrainingError("the training ended before its first epoch did")
    source = folder / (KEPT_BEST if has_val and (folder / KEPT_BEST).is_file() else KEPT_LAST)
    content = torch.load(source, map_location="cpu", weights_only=False)
    number = int(content["epoch"]) + 1
    name = f"{Path(settings.model).stem}.pt"
    kept = {key: content[key] for key in ("train_metrics", "date", "version", "license", "docs")}
    arguments = {"imgsz": settings.side, "task": task}
    part = folder / f".{name}.part"
    torch.save(kept | {"epoch": -1, "model": content["ema"].half(), "ema": None, "train_args": arguments}, part)
    part.replace(folder / name)
    scores = next((dict(one["scores"]) for one in teller.history if one["epoch"] == number), {})
    return Trained(name, task, LICENCE, number, scores)
