"""Which device and which number format a model runs in."""

from __future__ import annotations

from typing import Final

import torch

from labels.errors import LabelingError

_DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(device: str) -> str:
    """Return the torch device to use: CUDA when there and «auto», else what was asked for.

    Raises:
        LabelingError: CUDA was asked for and is not there.
    """
    if device == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        return device
    index = int(device.partition(":")[2] or 0)
    if index >= torch.cuda.device_count():
        raise LabelingError(f"device {device!r}: not there ({torch.cuda.device_count()} CUDA devices; use auto or cpu)")
    return f"cuda:{index}"


def to_torch_dtype(precision: str) -> torch.dtype:
    """Return torch's name of a precision."""
    return _DTYPES[precision]
