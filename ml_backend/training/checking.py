"""What a set must have to be learned from, and what a person should know of it before."""

from __future__ import annotations

from collections import Counter

from ml_backend.training import TrainingError, TrainingSet

FEW: int = 10


def check_set(training_set: TrainingSet, *, is_classifier: bool) -> list[str]:
    """Return what a person should know of a set.

    Raises:
        TrainingError: nothing can be learned from it.
    """
    if not training_set.classes:
        raise TrainingError("no class to learn: the label config has none for this kind of model")
    if not training_set.train:
        raise TrainingError("no image to learn from in the train split")
    counts = count_classes(training_set, is_classifier=is_classifier)
    what = "image" if is_classifier else "box"
    if not counts:
        raise TrainingError(f"no {what} of any class in the train split: nothing can be learned")
    if is_classifier and len(training_set.classes) < 2:
        raise TrainingError("a classifier needs two classes at least")
    notes = []
    absent = [name for name in training_set.classes if not counts.get(name)]
    if absent:
        notes.append(f"never seen in the train split, and so never learned: {', '.join(absent)}")
    few = [f"{name} ({count})" for name, count in counts.items() if count < FEW]
    if few:
        plural = "images" if is_classifier else "boxes"
        notes.append(f"fewer than {FEW} {plural} to learn from: {', '.join(few)}")
    if not training_set.val:
        notes.append("no image in the val split: nothing is measured, and the last epoch counts")
    return notes


def count_classes(training_set: TrainingSet, *, is_classifier: bool) -> dict[str, int]:
    """Return how many images or boxes each class has in the train split, in the order of the classes; no zeros."""
    if is_classifier:
        found = Counter(item.class_id for item in training_set.train if item.class_id is not None)
    else:
        found = Counter(box.class_id for item in training_set.train for box in item.boxes)
    return {name: found[number] for number, name in enumerate(training_set.classes) if found[number]}
