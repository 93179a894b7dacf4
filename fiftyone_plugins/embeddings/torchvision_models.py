"""Classifiers of torchvision without their classifying layer."""

from __future__ import annotations

from pathlib import Path

import torch
from torchvision import models  # type: ignore[import-untyped]  # it ships none
from torchvision.models import get_model, get_model_weights, list_models  # type: ignore[import-untyped]  # it ships none

from fiftyone_plugins.embeddings.embedders import Model
from fiftyone_plugins.embeddings.torch_models import (
    TorchEmbedder,
    choose_device,
    fill,
    loading,
    read_state,
    refuse_fetching,
)
from labels.errors import LabelingError

# In this order: what a model has first of these is its last layer.
HEADS = ("fc", "classifier", "heads", "head")


def load_torchvision(model: Model, device: str) -> TorchEmbedder:
    """Load a classifier of torchvision, from its own weights (a tag, else the best) or from a file.

    Raises:
        LabelingError: torchvision has no such classifier or tag, or its weights cannot be had.
    """
    if model.architecture not in list_models(module=models):
        raise LabelingError(
            f"torchvision has no model {model.architecture!r} (resnet50, efficientnet_v2_s, vit_b_16, ...)"
        )
    known = get_model_weights(model.architecture)
    tag = model.tag or "DEFAULT"
    if tag not in known.__members__:
        raise LabelingError(f"{model.architecture}: has no weights {tag!r} (known: {', '.join(known.__members__)})")
    weights = known[tag]
    if model.weights is None:
        file = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
        refuse_fetching(model.name, is_here=file.is_file())
    with loading(model.name):
        module = get_model(model.architecture, weights=None if model.weights is not None else weights)
    head = next(name for name in HEADS if hasattr(module, name))
    setattr(module, head, torch.nn.Identity())
    if model.weights is not None:
        fill(module, read_state(model.weights), head=[head], name=model.name)
    transform = weights.transforms()
    return TorchEmbedder(model.name, module, transform, side=transform.crop_size[0], device=choose_device(device))
