"""Exports detectors of transformers to ONNX, with their pixels' scaling and their probabilities inside."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Final

import torch

from labels.errors import LabelingError
from ml_backend.detectors.onnx_writing import write_onnx
from ml_backend.detectors.runtimes import Description
from ml_backend.detectors.transformers import PixelsIn, load_model

EXAMPLE_SHAPE: Final = (480, 640, 3)
# Networks that do not bake the size of the image they are traced with into the graph.
ANY_SIZE_TYPES: Final = frozenset({"detr", "yolos"})


def export(weights: Path, target: Path) -> str:
    """Write a model as ONNX, and return its description as text.

    Raises:
        LabelingError: it cannot be loaded, or its graph would be right for one size of image alone.
    """
    loaded = load_model(weights)
    if loaded.rule.fixed is None and loaded.model.config.model_type not in ANY_SIZE_TYPES:
        raise LabelingError(f"{weights}: would be exported for one size of image alone, and its images have many")
    size = loaded.rule.compute_size(EXAMPLE_SHAPE)
    resize = asdict(loaded.rule) | {
        "is_exclusive": loaded.is_exclusive,
        "top": loaded.top,
        "resample": loaded.resample,
    }
    text = Description(
        loaded.names, decoder="detr", licence=loaded.licence, size=size, takes_pixels=True, resize=resize
    ).to_json()
    generator = torch.Generator().manual_seed(0)
    example = torch.randint(0, 255, (2, *size, 3), dtype=torch.uint8, generator=generator)
    axes: dict[str, dict[int, str]] = {"pixels": {0: "batch"}, "probabilities": {0: "batch"}, "boxes": {0: "batch"}}
    if loaded.rule.fixed is None:
        axes["pixels"] |= {1: "height", 2: "width"}
    outputs = ["probabilities", "boxes"]
    write_onnx(PixelsIn(loaded).eval(), example, target, outputs=outputs, dynamic_axes=axes, text=text)
    return text
