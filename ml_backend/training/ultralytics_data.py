"""Our labels as Ultralytics' trainer takes them: no folder is scanned, nothing is written or mended beside an image."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image as PillowImage
from ultralytics.data.dataset import YOLODataset

from ml_backend.training import TrainingItem, to_outline
from ml_backend.training.pixels import read_image

NAME_DIGITS: Final = 16
NOWHERE: Final = Path("/nonexistent/labelloop")


class SetDataset(YOLODataset):
    """Images with labels that we give: nothing is looked for beside them. Copies that are needed lie in ``folder``."""

    def __init__(self, *arguments: Any, items: Sequence[TrainingItem], folder: Path, task: str, **options: Any) -> None:
        self._items = items
        self._files = {item.image: str(to_opaque(item, folder)) for item in items}
        self._has_outlines = task in ("segment", "obb")
        super().__init__(*arguments, task=task, **options)
        # It would read, and mend, arrays of this name beside the images.
        self.npy_files = [NOWHERE] * len(self.npy_files)

    def get_img_files(self, img_path: Any) -> list[str]:
        """Return the images' paths."""
        return [self._files[item.image] for item in self._items]

    def get_labels(self) -> list[dict[str, Any]]:
        """Return each image's labels, in parts of its sides."""
        return [self._to_label(item) for item in self._items]

    def _to_label(self, item: TrainingItem) -> dict[str, Any]:
        sides = np.array([item.size.width, item.size.height], np.float32)
        corners = np.array([box.xyxy for box in item.boxes], np.float32).reshape(-1, 2, 2) / sides
        outlines = [np.array(to_outline(box), np.float32) / sides for box in item.boxes] if self._has_outlines else []
        return {
            "im_file": self._files[item.image],
            "shape": (item.size.height, item.size.width),
            "cls": np.array([[box.class_id] for box in item.boxes], np.float32).reshape(-1, 1),
            "bboxes": np.concatenate([corners.mean(1), corners[:, 1] - corners[:, 0]], 1).reshape(-1, 4),
            "segments": outlines,
            "keypoints": None,
            "normalized": True,
            "bbox_format": "xywh",
        }


def to_opaque(item: TrainingItem, folder: Path) -> Path:
    """Return a file with the pixels that are served: an image's own, or where it is transparent a copy on white.

    The library forgets how transparent a pixel is, and would learn colours that nobody sees.
    """
    with PillowImage.open(item.image) as image:
        if not image.has_transparency_data:
            return item.image
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / f"{hashlib.sha256(str(item.image).encode()).hexdigest()[:NAME_DIGITS]}.png"
    if not copy.is_file():
        part = folder / f".{copy.name}.{os.getpid()}.part"
        PillowImage.fromarray(read_image(item)).save(part, "PNG")
        part.replace(copy)
    return copy
