"""Which adapter runs a file or folder, told by what it is called and what lies in it; loads nothing."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Final

from labels.errors import LabelingError

EXPORTED_SUFFIXES: Final = (".onnx", ".xml")
STATE_SUFFIXES: Final = (".pth", ".safetensors")
DESCRIBED_SUFFIXES: Final = (*EXPORTED_SUFFIXES, *STATE_SUFFIXES)
"""Of files that may have a card beside them, which says what model it is and how its classes are called."""
PICKLE_SUFFIXES: Final = (".pt", ".pth")
# What torch writes: a zip file, and before 1.6 a pickle.
ZIP_START: Final = b"PK"
PICKLE_START: Final = b"\x80"
XML_START: Final = b"<"


def find_adapter(weights: Path) -> str:
    """Return which adapter runs a file or folder: exported, ultralytics, torchvision, transformers, effdet or timm.

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


def find_damage(weights: Path) -> str | None:
    """Return what is wrong with a file, as far as its ends tell without loading it; None: it may be a model.

    Raises:
        OSError: it cannot be read.
    """
    if weights.is_dir():
        return None
    with weights.open("rb") as file:
        start = file.read(512)
    if not start:
        return "the file is empty"
    suffix = weights.suffix.lower()
    if suffix in PICKLE_SUFFIXES and not zipfile.is_zipfile(weights):
        if start.startswith(ZIP_START):
            return "the file is broken off, fetch it again"
        if not start.startswith(PICKLE_START):
            return f"is no weights file of torch, although its name ends in {suffix}"
    if suffix == ".xml" and not start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(XML_START):
        return "is no model of OpenVINO: no XML"
    if suffix == ".xml" and not weights.with_suffix(".bin").is_file():
        return f"{weights.stem}.bin, which has its numbers, is not beside it"
    return None
