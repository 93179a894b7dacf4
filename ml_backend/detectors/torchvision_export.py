"""Exports torchvision's detectors to ONNX, with their own choosing of boxes inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from labels.errors import LabelingError
from ml_backend.detectors.onnx_writing import write_onnx
from ml_backend.detectors.runtimes import Description
from ml_backend.detectors.torchvision import load_model

EXAMPLE_SHAPE = (1, 320, 480, 3)


class PixelsIn(torch.nn.Module):
    """A detector that takes the pixels of one image as they are: uint8, (1, height, width, 3)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return boxes, class ids and scores."""
        answer = self.model([pixels[0].permute(2, 0, 1).float() / 255])[0]
        return answer["boxes"], answer["labels"], answer["scores"]


def export(weights: Path, target: Path, *, nms_iou: float | None = None) -> str:
    """Write a detector as ONNX, and return its description as text.

    Raises:
        LabelingError: it gives masks or points, which the exported form would lose, or is an SSD, whose exported form
            was seen to choose other boxes.
    """
    card, model = load_model(weights, nms_iou=nms_iou)
    if card.model.startswith("ssd"):
        raise LabelingError(f"{weights}: {card.model} finds other boxes once it is exported, and is not")
    if card.model.startswith(("mask", "key")):
        raise LabelingError(f"{weights}: {card.model} gives more than boxes, and is not exported")
    text = Description(
        card.names, decoder="boxes", licence=card.licence, takes_pixels=True, batch_size=1, nms_iou=nms_iou
    ).to_json()
    # A photo's noise: with boxes to choose from, nothing of the choosing is traced away.
    example = torch.randint(0, 255, EXAMPLE_SHAPE, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    axes = {"pixels": {1: "height", 2: "width"}} | {name: {0: "boxes"} for name in ("boxes", "classes", "scores")}
    outputs = ["boxes", "classes", "scores"]
    write_onnx(PixelsIn(model).eval(), example, target, outputs=outputs, dynamic_axes=axes, text=text)
    return text
