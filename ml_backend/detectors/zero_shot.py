"""Zero-shot detectors of transformers, Grounding DINO and OWL: they look for the classes their prompt names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from transformers import AutoProcessor

from labels.errors import LabelingError
from ml_backend.detectors import Detections, Image
from ml_backend.detectors.queries import to_detections
from ml_backend.detectors.selection import choose_best

SEPARATOR: Final = "."
GROUNDING_TYPES: Final = ("grounding-dino", "mm-grounding-dino")
# OWLv2 pads an image to a square below and to the right; OWL-ViT stretches it to one.
PADDING_TYPE: Final = "owlv2"
TYPES: Final = (*GROUNDING_TYPES, "owlvit", PADDING_TYPE)


class ZeroShotDetector:
    """Asks for all classes at once, one image at a time: the text belongs to the image's forward."""

    task = "zero_shot"

    def __init__(self, model: Any, weights: Path, *, names: Sequence[str], licence: str) -> None:
        self.names: dict[int, str] = {}
        self.licence = licence
        self._model = model
        self._processor: Any = AutoProcessor.from_pretrained(  # type: ignore[no-untyped-call]
            weights, local_files_only=True, trust_remote_code=False
        )
        self._is_grounding = model.config.model_type in GROUNDING_TYPES
        self._is_padding = model.config.model_type == PADDING_TYPE
        if names:
            self.set_classes(names)

    def set_classes(self, names: Sequence[str]) -> None:
        """Look for these classes from now on: see ``OpenVocabularyDetector``."""
        cleaned = [name.strip() for name in names]
        if not cleaned or not all(cleaned):
            raise LabelingError("a zero-shot model needs the names of its classes")
        self.names = dict(enumerate(cleaned))

    def detect(self, images: Sequence[Image], *, score_floor: float) -> list[Detections]:
        """Return one Detections for each image, in order; nothing before there are classes."""
        if not self.names:
            return [Detections.nothing() for _ in images]
        return [self._detect_one(image, score_floor) for image in images]

    @torch.inference_mode()
    def _detect_one(self, image: Image, score_floor: float) -> Detections:
        prompt: Any = [list(self.names.values())]
        if self._is_grounding:
            prompt = " ".join(f"{name.lower()}{SEPARATOR}" for name in self.names.values())
        inputs = self._processor(images=np.ascontiguousarray(image), text=prompt, return_tensors="pt")
        inputs = inputs.to(next(self._model.parameters()).device)
        answer = self._model(**inputs)
        probabilities = answer.logits[0].float().sigmoid()
        if self._is_grounding:
            probabilities = self._to_classes(probabilities, inputs["input_ids"][0])
        boxes = answer.pred_boxes[0].float()
        rows = choose_best(torch.cat([boxes, probabilities], 1), len(self.names), score_floor)
        if not self._is_padding:
            return to_detections(rows, image.shape)
        # Its fractions are those of the square.
        side = max(image.shape[:2])
        return _cut(to_detections(rows, (side, side)), image.shape)

    def _to_classes(self, tokens: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Return (queries, classes) of (queries, tokens): a class is as likely as the best of its words.

        The prompt is ``[start] words . words . [end]``; the dots part the classes.
        """
        dot = self._processor.tokenizer.convert_tokens_to_ids(SEPARATOR)
        classes = []
        start = 1
        for place, token in enumerate(ids.tolist()):
            if token == dot:
                classes.append(tokens[:, start:place].amax(1) if place > start else torch.zeros(len(tokens)))
                start = place + 1
        if len(classes) != len(self.names):
            raise LabelingError(f"the prompt has {len(classes)} classes, not {len(self.names)}: a name has a dot in it")
        return torch.stack(classes, 1)


def _cut(found: Detections, shape: tuple[int, ...]) -> Detections:
    height, width = shape[:2]
    return replace(found, xyxy=found.xyxy.clip(0, np.array([width, height, width, height], np.float32)))
