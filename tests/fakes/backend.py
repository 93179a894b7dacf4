"""An ML backend in memory: two boxes on every image, placed by what the image is, under a version that can change."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from labels.config import LabelConfig
from labels.errors import ServiceError
from labels.geometry import Box, ImageSize
from labels.results import Label, to_result
from sync.backend import BackendPrediction, MLBackend, ServedWeights

BOXES = 2


class FakeBackend(MLBackend):
    """Draws without looking. ``broken``: ids of tasks for which it has no answer."""

    def __init__(self, config: LabelConfig, size: ImageSize, model_version: str = "fake-1") -> None:
        super().__init__("http://127.0.0.1:9")
        self._config = config
        self._size = size
        self.model_version = model_version
        self.broken: set[str] = set()
        self.loaded: list[str] = []
        self.unmapped_labels: tuple[str, ...] = ()
        self.problem: str | None = None

    def fetch_weights(self, *, timeout_s: float = 5.0) -> ServedWeights:
        return ServedWeights(self.model_version, "memory")

    def fetch_unmapped_labels(self, label_config: str) -> list[str]:
        return list(self.unmapped_labels)

    def fetch_problem(self, label_config: str) -> str | None:
        return self.problem

    def reload(self) -> None:
        raise ServiceError("nothing to load")

    def load(self, model: str) -> None:
        self.loaded.append(model)
        self.model_version = model

    def fetch_predictions(
        self,
        tasks: Sequence[Mapping[str, Any]],
        label_config: str,
        label_counts: Mapping[str, int] | None = None,
        score_threshold: float | None = None,
    ) -> list[BackendPrediction]:
        return [self._predict(str(task["id"])) for task in tasks]

    def _predict(self, task_id: str) -> BackendPrediction:
        if task_id in self.broken:
            return BackendPrediction(self.model_version, None, (), "cannot be read")
        digest = hashlib.sha256(f"{task_id} {self.model_version}".encode()).digest()
        control = self._config.box_control
        assert control is not None
        labels = [
            Label(
                hashlib.sha256(digest + bytes([number])).hexdigest()[:24],
                control.name,
                (control.classes[digest[number] % len(control.classes)],),
                Box(digest[number + 4] / 8, digest[number + 8] / 12, 20, 15),
                confidence=0.5,
            )
            for number in range(BOXES)
        ]
        result = to_result(labels, self._config, self._size)
        return BackendPrediction(self.model_version, digest[16] / 255, tuple(result))
