"""Key points of a label config and their order, as pose models number them. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from labels.config import LabelConfig
from labels.errors import LabelingError


@dataclass(frozen=True, slots=True)
class Pose:
    """The key points of a pose in their order, the classes that can have one, and which point mirrors which."""

    classes: tuple[str, ...]
    points: tuple[str, ...]

    @property
    def flip_idx(self) -> list[int]:
        """The number of each point in a mirrored image: left and right change places.

        >>> Pose(("person",), ("nose", "left eye", "right eye")).flip_idx
        [0, 2, 1]
        """
        return [self.points.index(other) if (other := _mirror(name)) in self.points else at
                for at, name in enumerate(self.points)]  # fmt: skip


def _mirror(name: str) -> str:
    swaps = {"left": "right", "right": "left", "Left": "Right", "Right": "Left"}
    for word, other in swaps.items():
        if word in name:
            return name.replace(word, other)
    return name


def find_pose(config: LabelConfig) -> Pose:
    """Return the key points of a label config, in the order of ``model_index`` where all have one.

    Raises:
        LabelingError: it has no boxes, or no key points.
    """
    points = order_points(config)
    boxes = [control for control in config.controls if control.kind == "RectangleLabels"]
    classes = tuple(dict.fromkeys(name for control in boxes for name in control.classes))
    if not points or not classes:
        raise LabelingError("yolo-pose needs RectangleLabels and KeyPointLabels in the label config")
    return Pose(classes, points)


def order_points(config: LabelConfig) -> tuple[str, ...]:
    """Return the key points of a label config, in the order of ``model_index`` where all have one."""
    points = list_points(config)
    controls = [control for control in config.controls if control.kind == "KeyPointLabels"]
    numbers = {name: number for control in controls for number, name in control.model_indices.items()}
    return tuple(sorted(points, key=lambda name: numbers[name])) if set(numbers) == set(points) else points


def list_points(config: LabelConfig) -> tuple[str, ...]:
    """Return the key points of a label config as they stand there."""
    controls = [control for control in config.controls if control.kind == "KeyPointLabels"]
    return tuple(dict.fromkeys(name for control in controls for name in control.classes))
