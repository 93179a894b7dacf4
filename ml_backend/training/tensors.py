"""Writes what was trained as bare tensors with a card beside them: a form that holds no code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ml_backend.training import write_json


def write_tensors(folder: Path, name: str, tensors: Mapping[str, torch.Tensor], card: Mapping[str, Any]) -> str:
    """Write ``NAME.json`` and then ``NAME.safetensors``, each whole or not at all; return the second one's name."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", name)
    write_json(folder / f"{stem}.json", dict(card))
    part = folder / f".{stem}.part"
    save_file({key: value.cpu().contiguous() for key, value in tensors.items()}, part)
    part.replace(folder / f"{stem}.safetensors")
    return f"{stem}.safetensors"
