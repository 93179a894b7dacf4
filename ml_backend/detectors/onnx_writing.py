"""Writes a network of torch as ONNX, with what a reader must know of it in the file."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Final

import onnx
import torch

from ml_backend.detectors.runtimes import METADATA_KEY

OPSET: Final = 17


def write_onnx(
    module: Any, example: Any, target: Path, *, outputs: list[str], dynamic_axes: dict[str, dict[int, str]], text: str
) -> None:
    """Trace a module that takes pixels, write it as ONNX, and its description into the file's metadata."""
    with warnings.catch_warnings(), torch.inference_mode():
        # The tracer warns of every shape it makes a constant of; the parity tests are what tells.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (example,),
            str(target),
            input_names=["pixels"],
            output_names=outputs,
            dynamic_axes=dynamic_axes,
            opset_version=OPSET,
            # The newer exporter has no form for several operators of DETR-like and two-stage networks.
            dynamo=False,
        )
    model = onnx.load(str(target))
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, text
    onnx.save(model, str(target))
