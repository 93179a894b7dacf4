"""Exports Ultralytics checkpoints to ONNX, with their raw answer: the decoding stays ours, and keeps probabilities."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from labels.errors import LabelingError
from ml_backend.detectors.onnx_writing import write_onnx
from ml_backend.detectors.runtimes import Description
from ml_backend.detectors.ultralytics import load_model, split_answer
from ml_backend.detectors.yolo import ANCHORS


class PixelsIn(torch.nn.Module):
    """A network that takes pixels as they are: uint8, (n, height, width, 3)."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the raw answer, and the mask prototypes where there are any."""
        answer, prototypes = split_answer(self.module(pixels.permute(0, 3, 1, 2).float() / 255))
        return (answer,) if prototypes is None else (answer, prototypes)


def export(weights: Path, target: Path, *, is_trusted: bool, is_nms_free: bool) -> str:
    """Write a checkpoint as ONNX, and return its description as text.

    Raises:
        LabelingError: it cannot be loaded, or looks for classes it is told, which an export cannot.
    """
    loaded = load_model(weights, is_trusted=is_trusted, is_nms_free=is_nms_free)
    network = loaded.network
    if network.task == "zero_shot" or loaded.has_vocabulary:
        raise LabelingError(f"{weights}: looks for the classes it is told, and is not exported")
    head = loaded.module.model[-1]
    head.format = "onnx"
    head.dynamic = network.is_dynamic
    described = Description(**asdict(network), decoder="yolo", takes_pixels=True).to_json()
    example = torch.randint(0, 255, (2, *network.size, 3), dtype=torch.uint8)
    axes: dict[str, dict[int, str]] = {"pixels": {0: "batch"}, "answer": {0: "batch"}}
    if network.is_dynamic:
        axes["pixels"] |= {1: "height", 2: "width"}
        axes["answer"] |= {2 if network.layout == ANCHORS else 1: "anchors"}
    outputs = ["answer"]
    if network.task == "segment":
        outputs.append("prototypes")
        axes["prototypes"] = {0: "batch", 2: "mask height", 3: "mask width"}
    write_onnx(PixelsIn(loaded.module).eval(), example, target, outputs=outputs, dynamic_axes=axes, text=described)
    return described
