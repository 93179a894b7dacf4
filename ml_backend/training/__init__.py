"""What a training takes and gives: labelled images, settings, epochs, a result. Importing this loads no library.

A training lives in a folder: ``set.json`` and ``settings.json`` go in, ``history.json`` and ``result.json`` come out,
and what it needs to go on after it was killed lies between. ``ml_backend.training.process`` runs one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from labels.errors import LabelingError
from labels.geometry import ImageSize

FAMILIES: Final = ("ultralytics", "torchvision", "timm")
SET_FILE: Final = "set.json"
SETTINGS_FILE: Final = "settings.json"
HISTORY_FILE: Final = "history.json"
RESULT_FILE: Final = "result.json"

XyxyBox = tuple[float, float, float, float]
Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class TrainingBox:
    """An object: the box round it in pixels of the upright image, and what more is known of its shape.

    ``outline`` are the corners of a turned box or of a polygon, in order, in pixels; None: the box is all there is.
    """

    xyxy: XyxyBox
    class_id: int
    outline: Points | None = None


def to_outline(box: TrainingBox) -> Points:
    """Return an object's outline: that of its box, where none was drawn."""
    if box.outline is not None:
        return box.outline
    x1, y1, x2, y2 = box.xyxy
    return ((x1, y1), (x2, y1), (x2, y2), (x1, y2))


@dataclass(frozen=True, slots=True)
class TrainingItem:
    """An image with all its objects, none of which means that it shows none; ``weight`` is how often an epoch sees it.

    ``class_id`` is the class of the whole image, for a classifier; None for a detector. ``size`` is that of the upright
    image, ``sha256`` of the file's bytes when its labels were frozen (None: nobody wrote it down).
    """

    image: Path
    size: ImageSize
    boxes: tuple[TrainingBox, ...] = ()
    class_id: int | None = None
    weight: float = 1.0
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Classes in their order, images to learn from, and images to measure on after each epoch; never the test split."""

    classes: tuple[str, ...]
    train: tuple[TrainingItem, ...]
    val: tuple[TrainingItem, ...] = ()

    def to_json(self) -> str:
        """Return the set as text, an image a line; the same set gives the same text."""
        lines = [json.dumps({"classes": self.classes}, ensure_ascii=False)]
        for split, items in (("train", self.train), ("val", self.val)):
            lines += [json.dumps({"split": split, **_to_record(item)}, ensure_ascii=False) for item in items]
        return "\n".join(lines) + "\n"

    @classmethod
    def from_json(cls, text: str) -> TrainingSet:
        """Return the set of ``to_json``."""
        # Not splitlines: a name may hold what Unicode takes for the end of a line, and JSON does not.
        head, *rest = (json.loads(line) for line in text.rstrip("\n").split("\n"))
        items: dict[str, list[TrainingItem]] = {"train": [], "val": []}
        for record in rest:
            items[record["split"]].append(_from_record(record))
        return cls(tuple(head["classes"]), tuple(items["train"]), tuple(items["val"]))


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """How a model is trained. None: the family's own choice.

    ``model`` names an architecture (``fasterrcnn_resnet50_fpn_v2``, ``efficientnet_b2``, ``yolo11n.yaml``); ``weights``
    is a file to start from, and says for Ultralytics what the architecture is; ``task`` what that file is for. ``side``
    is the longer side of the network's input in pixels. ``freeze`` is how many of the first layers stay as they are.
    ``workers`` are processes that read images; 0: the training itself does. ``patience`` ends a training that has
    brought nothing for so many epochs.
    """

    family: str
    model: str
    weights: Path | None = None
    epochs: int = 50
    side: int = 640
    batch: int = 8
    device: str = "auto"
    seed: int = 0
    freeze: int = 0
    lr: float | None = None
    workers: int = 0
    patience: int = 20
    is_trusted: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON; ``from_dict`` is its inverse."""
        return asdict(self) | {"weights": None if self.weights is None else str(self.weights)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainingSettings:
        """Return the settings of ``to_dict``."""
        weights = values.get("weights")
        return cls(**{**values, "weights": None if weights is None else Path(weights)})


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the training images; ``epoch`` counts from 1.

    ``losses`` are means over the pass; ``scores`` were measured on the validation images (``map50_95``, ``map50``, or
    ``top1``, ``top5``, ``ece``), and are empty where there are none.
    """

    epoch: int
    losses: Mapping[str, float]
    scores: Mapping[str, float]
    lr: float
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {**asdict(self), "losses": dict(self.losses), "scores": dict(self.scores)}


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of a training: ``weights`` is a file's name in its folder, ``card`` what stands beside bare tensors.

    ``report`` is what was measured at the end besides, such as a classifier's confusion matrix.
    """

    weights: str
    task: str
    licence: str
    best_epoch: int
    scores: Mapping[str, float]
    card: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()
    broken: tuple[tuple[str, str], ...] = ()
    report: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON; ``from_dict`` is its inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Trained:
        """Return the result of ``to_dict``."""
        broken = tuple((str(item), str(problem)) for item, problem in values["broken"])
        return cls(**{**values, "notes": tuple(values["notes"]), "broken": broken})


class Watch(Protocol):
    """Who is told how a training goes. What it raises ends the training."""

    def on_step(self, epoch: int, done: float) -> None:
        """Tell that a part (0..1) of an epoch is done."""

    def on_epoch(self, epoch: Epoch) -> None:
        """Tell that an epoch is over; told again for those before where a training goes on."""

    def on_note(self, text: str) -> None:
        """Tell what a person should know."""


class TrainingError(LabelingError):
    """The training cannot be begun, or not go on, for a reason a person can do something about."""


def read_history(folder: Path) -> list[dict[str, Any]]:
    """Return the epochs of a folder so far; none where nothing is, or where it cannot be read."""
    try:
        found = json.loads((folder / HISTORY_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [epoch for epoch in found if isinstance(epoch, dict)] if isinstance(found, list) else []


def write_json(path: Path, value: Any) -> None:
    """Write a value; a reader sees the old file or the new one, never half of it."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text; a reader sees the old file or the new one, never half of it."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _to_record(item: TrainingItem) -> dict[str, Any]:
    return {
        "image": str(item.image),
        "size": [item.size.width, item.size.height],
        "boxes": [[*box.xyxy, box.class_id, box.outline] for box in item.boxes],
        "class_id": item.class_id,
        "weight": item.weight,
        "sha256": item.sha256,
    }


def _from_record(record: Mapping[str, Any]) -> TrainingItem:
    return TrainingItem(
        Path(record["image"]),
        ImageSize(*record["size"]),
        tuple(_to_box(values) for values in record["boxes"]),
        record["class_id"],
        record["weight"],
        record["sha256"],
    )


def _to_box(values: Sequence[Any]) -> TrainingBox:
    x1, y1, x2, y2, class_id, outline = values
    points = None if outline is None else tuple((float(x), float(y)) for x, y in outline)
    return TrainingBox((x1, y1, x2, y2), int(class_id), points)
