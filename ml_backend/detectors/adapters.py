"""Which adapter runs a file or folder, told by what it is called and what lies in it; loads nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from labels.errors import LabelingError

EXPORTED_SUFFIXES: Final = (".onnx", ".xml")
STATE_SUFFIXES: Final = (".pth", ".safetensors")


def find_adapter(weights: Path) -> str:
    """Return which adapter runs a file or folder: exported, ultralytics, torchvision, transformers or effdet.

    Raises:
        LabelingError: none does.
    """
    if weights.is_dir():
        if (weights / "config.json").is_file():
            return "transformers"
        raise LabelingError(f"{weights}: a folder without config.json (expected a model of transformers)")
    suffix = weights.suffix.lower()
    if suffix in EXPORTED_SUFFIXES:
        return "exported"
    if suffix == ".pt":
        return "ultralytics"
    if suffix in STATE_SUFFIXES:
        from ml_backend.detectors.cards import read_card  # it reads the file, with torch

        return read_card(weights).adapter
    raise LabelingError(f"{weights}: no model we can run (expected .pt, .onnx, .xml, .pth, .safetensors or a folder)")
