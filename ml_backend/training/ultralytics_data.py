"""Our labels as Ultralytics' trainer takes them: no folder is scanned, nothing is written or mended beside an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from ultralytics.data.dataset import YOLODataset

from ml_backend.training import TrainingItem, to_outline

NOWHERE: Final = Path("/nonexistent/labelloop")


class SetDataset(YOLODataset):
    """Images with labels that we give: nothing is looked for beside them."""

    def __init__(self, *arguments: Any, items: Sequence[TrainingItem], task: str, **options: Any) -> None:
        self._items = items
        self._has_outlines = task in ("segment", "obb")
        super().__init__(*arguments, task=task, **options)
        # It would read, and mend, arrays of this name beside the images.
        self.npy_files = [NOWHERE] * len(self.npy_files)

    def get_img_files(self, img_path: Any) -> list[str]:
        """Return the images' paths."""
        return [str(item.image) for item in self._items]

    def get_labels(self) -> list[dict[str, Any]]:
        """Return each image's labels, in parts of its sides."""
        return [self._to_label(item) for item in self._items]

    def _to_label(self, item: TrainingItem) -> dict[str, Any]:
        sides = np.array([item.size.width, item.size.height], np.float32)
        corners = np.array([box.xyxy for box in item.boxes], np.float32).reshape(-1, 2, 2) / sides
        outlines = [np.array(to_outline(box), np.float32) / sides for box in item.boxes] if self._has_outlines else []
        return {
            "im_file": str(item.image),
            "shape": (item.size.height, item.size.width),
            "cls": np.array([[box.class_id] for box in item.boxes], np.float32).reshape(-1, 1),
            "bboxes": np.concatenate([corners.mean(1), corners[:, 1] - corners[:, 0]], 1).reshape(-1, 4),
            "segments": outlines,
            "keypoints": None,
            "normalized": True,
            "bbox_format": "xywh",
        }
