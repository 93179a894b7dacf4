"""Models of open_clip, which put pictures and texts into one space."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray

from fiftyone_plugins.embeddings.embedders import Model
from fiftyone_plugins.embeddings.torch_models import (
    TorchEmbedder,
    choose_device,
    is_in_hub_cache,
    loading,
    refuse_fetching,
)
from labels.errors import LabelingError

TEXTS_AT_ONCE = 256


class ClipEmbedder(TorchEmbedder):
    """A CLIP: ``scale`` is what cosines are multiplied with before softmax, as the model learnt it."""

    def __init__(self, *arguments: Any, tokenizer: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._tokenizer = tokenizer
        self.scale = float(self.module.logit_scale.detach().exp())  # type: ignore[operator]  # a tensor

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the vectors of pictures, of any length."""
        answer: torch.Tensor = self.module.encode_image(batch)  # type: ignore[operator]  # a method, not a tensor
        return answer

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors (n, d) of texts, each of length 1."""
        rows = []
        with torch.inference_mode():
            for start in range(0, len(texts), TEXTS_AT_ONCE):
                tokens = self._tokenizer(list(texts[start : start + TEXTS_AT_ONCE])).to(self.device)
                encoded = self.module.encode_text(tokens, normalize=True)  # type: ignore[operator]  # a method
                rows.append(self._to_rows(encoded))
        return np.concatenate(rows)


def load_clip(model: Model, device: str) -> ClipEmbedder:
    """Load a CLIP: an architecture of open_clip with a tag or a file of weights, or a folder with its config in it.

    Raises:
        LabelingError: there is no such architecture or tag, or its weights cannot be had.
    """
    name, pretrained = _find_source(model)
    with loading(model.name):
        module, _, transform = open_clip.create_model_and_transforms(
            name, pretrained=pretrained, weights_only=True, pretrained_text=False
        )
        tokenizer = open_clip.get_tokenizer(name)
    size = module.visual.image_size
    side = max(size) if isinstance(size, Sequence) else size
    return ClipEmbedder(model.name, module, transform, side=side, device=choose_device(device), tokenizer=tokenizer)


def _find_source(model: Model) -> tuple[str, str | None]:
    """Return open_clip's name of the model and of its weights."""
    if model.weights is not None and model.weights.is_dir():
        if not (model.weights / "open_clip_config.json").is_file():
            raise LabelingError(f"weights {str(model.weights)!r}: a folder needs open_clip_config.json in it")
        return f"local-dir:{model.weights}", None
    if model.architecture not in open_clip.list_models():
        near = get_close_matches(model.architecture, open_clip.list_models(), n=5)
        raise LabelingError(f"open_clip has no model {model.architecture!r} (near: {', '.join(near) or 'none'})")
    if model.weights is not None:
        return model.architecture, str(model.weights)
    tags = open_clip.list_pretrained_tags_by_model(model.architecture)
    if model.tag is None or model.tag not in tags:
        raise LabelingError(f"{model.architecture}: has no weights {model.tag!r} (known: {', '.join(tags)})")
    refuse_fetching(model.name, is_here=_is_here(model.architecture, model.tag))
    return model.architecture, model.tag


def _is_here(architecture: str, tag: str) -> bool:
    """Return whether open_clip would find the weights on this machine, where it looks for them first."""
    source = open_clip.get_pretrained_cfg(architecture, tag)
    if source.get("hf_hub"):
        repo, _, _ = source["hf_hub"].rpartition("/")
        return is_in_hub_cache(repo)
    return (Path.home() / ".cache" / "clip" / Path(source.get("url", "")).name).is_file()
