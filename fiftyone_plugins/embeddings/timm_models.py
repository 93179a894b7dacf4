"""Models of timm (ResNet, EfficientNet, DINOv2, ViT, ...), and the EfficientNet-Lite0 whose weights are installed."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform

from fiftyone_plugins.embeddings.embedders import Model
from fiftyone_plugins.embeddings.torch_models import (
    TorchEmbedder,
    choose_device,
    fill,
    is_in_hub_cache,
    loading,
    read_state,
    refuse_fetching,
)
from labels.errors import LabelingError

LITE0_ARCHITECTURE = "tf_efficientnet_lite0"


def load_timm(model: Model, device: str) -> TorchEmbedder:
    """Load any model of timm, from its own weights or from a file.

    Raises:
        LabelingError: timm has no such model, or its weights cannot be had.
    """
    if model.architecture.partition(".")[0] not in timm.list_models():
        near = get_close_matches(model.architecture.partition(".")[0], timm.list_models(), n=5)
        raise LabelingError(f"timm has no model {model.architecture!r} (near: {', '.join(near) or 'none'})")
    if model.weights is None:
        refuse_fetching(model.name, is_here=_is_here(model.architecture))
    with loading(model.name):
        # Without a classifier it answers with what it would have classified.
        module: Any = timm.create_model(model.architecture, pretrained=model.weights is None, num_classes=0)
    if model.weights is not None:
        classifier = module.default_cfg.get("classifier", "")
        heads = [classifier] if isinstance(classifier, str) else list(classifier)
        fill(module, read_state(model.weights), head=[one.split(".")[0] for one in heads], name=model.name)
    return _wrap(model.name, module, device)


def load_lite0(model: Model, device: str) -> TorchEmbedder:
    """Load EfficientNet-Lite0 from the file of another implementation, whose tensors stand in the same order.

    Raises:
        LabelingError: the file holds something else.
    """
    assert model.weights is not None
    module: Any = timm.create_model(LITE0_ARCHITECTURE, pretrained=False)
    names, tensors = module.state_dict(), list(read_state(model.weights).values())
    if [value.shape for value in names.values()] != [value.shape for value in tensors]:
        raise LabelingError(f"weights {str(model.weights)!r}: are not those of {model.architecture}")
    module.load_state_dict(dict(zip(names, tensors, strict=True)))
    module.reset_classifier(0)
    return _wrap(model.name, module, device)


def _is_here(architecture: str) -> bool:
    """Return whether timm would find the weights on this machine, where it looks for them first."""
    config = timm.get_pretrained_cfg(architecture, allow_unregistered=False)
    if config is None or not config.has_weights:
        return True  # It says itself that there are none.
    if config.hf_hub_id:
        return is_in_hub_cache(config.hf_hub_id)
    url = config.url if isinstance(config.url, str) else ""
    return (Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name).is_file()


def _wrap(name: str, module: Any, device: str) -> TorchEmbedder:
    config = resolve_data_config({}, model=module)  # type: ignore[no-untyped-call]  # timm's own
    return TorchEmbedder(
        name, module, create_transform(**config), side=max(config["input_size"][1:]), device=choose_device(device)
    )
