"""A frozen version as images to learn from: which, with which boxes or class, and how often each is seen. Pure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from labels.config import Control, LabelConfig
from labels.errors import LabelingError
from labels.geometry import Box, Keypoint, Mask, Polygon
from labels.results import Label
from ml_backend.training import TrainingBox, TrainingItem, TrainingSet
from ml_backend.training.schedule import make_random
from sync.exports.outlines import trace_mask
from sync.versions.version import Version, VersionImage

CORRECTED: Final = ("moved", "relabelled", "added")
"""What a review did to a label that the model got wrong."""

NOTHING: Final = -1
QUALITY: Final = "quality"
"""The Choices that says whether an image is any good: no subject of a classifier, unless it is named."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which images of a version are learned from, and how.

    ``control`` None: all that draw, or for a classifier the one Choices there is. An image on which a person changed
    what a model had drawn is seen ``corrections_weight`` times as often; ``deleted_on`` are samples on which somebody
    took a label away. With ``older``, only what is not in it or is labelled otherwise there is learned from, and
    ``replay`` images of it, as many of each class as there are.
    """

    is_classifier: bool = False
    control: str | None = None
    corrections_weight: float = 1.0
    deleted_on: Collection[str] = ()
    older: Version | None = None
    replay: int = 0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Chosen:
    """A training set, with what a person should know of it."""

    training_set: TrainingSet
    control: str | None
    counts: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def make_training_set(version: Version, choice: Choice) -> Chosen:
    """Return the train and val splits of a version as a training set.

    Raises:
        LabelingError: there is nothing to learn from, or a control that does not fit.
    """
    config = version.config
    controls = find_controls(config, choice)
    classes = tuple(dict.fromkeys(name for control in controls for name in control.classes))
    names = {control.name for control in controls}
    splits = {split: version.in_split(split) for split in ("train", "val")}
    items: dict[str, list[tuple[VersionImage, TrainingItem]]] = {}
    left_out: Counter[str] = Counter()
    for split, images in splits.items():
        pairs = ((image, to_item(image, names, classes, choice, left_out)) for image in images)
        items[split] = [(image, item) for image, item in pairs if item is not None]
    replayed = 0
    if choice.older is not None:
        fresh, replayed = choose_fresh_and_older(items["train"], choice)
        items["train"] = fresh
    train = tuple(item for _, item in items["train"])
    if not train:
        raise LabelingError(f"version {version.id}: no image to learn from in its train split ({_describe(left_out)})")
    counts = {
        "train images": len(train),
        "val images": len(items["val"]),
        "train labels": sum(len(item.boxes) + (item.class_id is not None) for item in train),
        "corrected images": sum(is_corrected(image, choice) for image, _ in items["train"]),
        "replayed images": replayed,
    }
    notes = [f"{count} left out: {reason}" for reason, count in sorted(left_out.items())]
    only = None if choice.control is None and not choice.is_classifier else controls[0].name
    made = TrainingSet(classes, train, tuple(item for _, item in items["val"]))
    return Chosen(made, only, counts, tuple(notes))


def find_controls(config: LabelConfig, choice: Choice) -> tuple[Control, ...]:
    """Return the controls whose labels are learned.

    Raises:
        LabelingError: the one that is named does not fit, or none does, or several do and none is named.
    """
    if choice.is_classifier:
        fitting = [control for control in config.controls if control.kind == "Choices" and not control.is_multiple]
    else:
        fitting = [control for control in config.controls if control.is_region and control.kind != "KeyPointLabels"]
    what = "an image-level Choices of which one is ticked" if choice.is_classifier else "a control that draws shapes"
    if choice.control is not None:
        named = [control for control in fitting if control.name == choice.control]
        if not named:
            known = ", ".join(control.name for control in fitting) or "none"
            raise LabelingError(f"control {choice.control!r}: is not {what} (known: {known})")
        return tuple(named)
    if choice.is_classifier:
        fitting = [control for control in fitting if control.name != QUALITY]
        if len(fitting) > 1:
            raise LabelingError(f"--control: which one? ({', '.join(control.name for control in fitting)})")
    if not fitting:
        raise LabelingError(f"the label config has no {what.partition(' ')[2]} for this model to learn")
    return tuple(fitting)


def to_item(
    image: VersionImage, controls: Collection[str], classes: Sequence[str], choice: Choice, left_out: Counter[str]
) -> TrainingItem | None:
    """Return an image as it is learned from, None where it cannot be; what is left out is counted."""
    weight = choice.corrections_weight if is_corrected(image, choice) else 1.0
    item = TrainingItem(Path(image.path), image.size, weight=weight, sha256=image.sha256)
    if choice.is_classifier:
        answers = [label for label in image.answers if label.control in controls]
        if len(answers) != 1 or len(answers[0].classes) != 1:
            left_out["images without one answer"] += 1
            return None
        if answers[0].classes[0] not in classes:
            left_out["images with a class that is gone"] += 1
            return None
        return replace(item, class_id=classes.index(answers[0].classes[0]))
    if not image.has_regions:
        left_out["images on which nobody looked for objects"] += 1
        return None
    boxes = [to_box(label, classes, left_out) for label in image.regions if label.control in controls]
    return replace(item, boxes=tuple(box for box in boxes if box is not None))


def to_box(label: Label, classes: Sequence[str], left_out: Counter[str]) -> TrainingBox | None:
    """Return a label as an object to learn, None where it is none."""
    if len(label.classes) != 1 or label.classes[0] not in classes:
        left_out["labels without one known class"] += 1
        return None
    shape = label.geometry
    if shape is None or isinstance(shape, Keypoint):
        return None
    try:
        x1, y1, x2, y2 = shape.to_xyxy()
    except ValueError:
        left_out["labels without an area"] += 1
        return None
    if x2 <= x1 or y2 <= y1:
        left_out["labels without an area"] += 1
        return None
    outline = None
    if isinstance(shape, Polygon):
        outline = tuple((float(x), float(y)) for x, y in shape.points)
    elif isinstance(shape, Box) and shape.rotation_deg:
        outline = shape.corners()
    elif isinstance(shape, Mask):
        outline = tuple(trace_mask(shape.pixels))
    return TrainingBox((float(x1), float(y1), float(x2), float(y2)), classes.index(label.classes[0]), outline)


def is_corrected(image: VersionImage, choice: Choice) -> bool:
    """Return whether a person changed what a model had drawn on an image."""
    return image.sample_id in choice.deleted_on or any(one.verdict in CORRECTED for one in image.labels)


def choose_fresh_and_older(
    train: Sequence[tuple[VersionImage, TrainingItem]], choice: Choice
) -> tuple[list[tuple[VersionImage, TrainingItem]], int]:
    """Return what the older version does not have as it is now, with a balanced choice of the rest, and its number."""
    assert choice.older is not None
    before = {image.sha256: _labels_of(image) for image in choice.older.in_split("train")}
    fresh = [pair for pair in train if before.get(pair[0].sha256) != _labels_of(pair[0])]
    if not fresh:
        raise LabelingError(f"nothing is new since version {choice.older.id}; train without --replay to use all of it")
    seen = {image.sha256 for image, _ in fresh}
    rest = [pair for pair in train if pair[0].sha256 not in seen]
    replayed = choose_balanced(rest, choice.replay, seed=choice.seed)
    return [*fresh, *replayed], len(replayed)


def _labels_of(image: VersionImage) -> list[str]:
    return sorted(repr(one.label) for one in image.labels)


def choose_balanced(
    pairs: Sequence[tuple[VersionImage, TrainingItem]], count: int, *, seed: int
) -> list[tuple[VersionImage, TrainingItem]]:
    """Return so many images in which the classes are as even as they get: always one of the class rarest so far."""
    left = sorted(pairs, key=lambda pair: pair[0].sha256)
    make_random(seed, "replay").shuffle(left)
    waiting: dict[int, deque[int]] = {}
    for place, (_, item) in enumerate(left):
        for number in _classes_of(item):
            waiting.setdefault(number, deque()).append(place)
    chosen: dict[int, None] = {}
    seen: Counter[int] = Counter()
    while len(chosen) < min(count, len(left)) and waiting:
        rarest = min(waiting, key=lambda number: (seen[number], number))
        place = waiting[rarest].popleft()
        if not waiting[rarest]:
            del waiting[rarest]
        if place not in chosen:
            chosen[place] = None
            seen.update(_classes_of(left[place][1]))
    return [left[place] for place in chosen]


def _classes_of(item: TrainingItem) -> set[int]:
    """Return the classes of an item; -1 is that of images which show nothing."""
    found = {box.class_id for box in item.boxes} | ({item.class_id} if item.class_id is not None else set())
    return found or {NOTHING}


def _describe(left_out: Counter[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items())) or "it is empty"
