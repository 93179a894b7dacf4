"""The text side of CLIP, which turns class names into the embeddings an open-vocabulary network looks for.

Its weights come from a local file; nothing is fetched, and no pickled object is rebuilt.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import torch

logger = logging.getLogger(__name__)

TextEncoder = Callable[[Sequence[str]], torch.Tensor]
"""From class names to their embeddings (names, numbers), each of length 1."""

# YOLO-World's embeddings are those of OpenAI's CLIP ViT-B/32, YOLOE's those of Apple's MobileCLIP.
ARCHITECTURE: Final = "ViT-B-32-quickgelu"
CLIP_FILES: Final = ("ViT-B-32.safetensors", "ViT-B-32-openai.safetensors", "ViT-B-32-openai.bin")
MOBILE_CLIP_FILES: Final = ("mobileclip_blt.ts",)


def find_text_encoder(folders: Iterable[Path], file_names: Sequence[str]) -> TextEncoder | None:
    """Return the encoder whose weights lie in one of the folders, or None; it is loaded when it is first asked."""
    for folder in folders:
        for name in file_names:
            if (folder / name).is_file():
                return _LazyEncoder(folder / name)
    return None


class _LazyEncoder:
    def __init__(self, weights: Path) -> None:
        self._weights = weights
        self._encoder: TextEncoder | None = None

    def __call__(self, names: Sequence[str]) -> torch.Tensor:
        if self._encoder is None:
            load = load_scripted_encoder if self._weights.suffix == ".ts" else load_clip_encoder
            self._encoder = load(self._weights)
            logger.info("text encoder: %s", self._weights)
        return self._encoder(names)


def load_clip_encoder(weights: Path, *, architecture: str = ARCHITECTURE) -> TextEncoder:
    """Load CLIP from a file in open_clip's form, ``.safetensors`` or a state dict."""
    import open_clip

    model = open_clip.create_model(architecture, pretrained=str(weights), weights_only=True).eval()
    return _to_encoder(model.encode_text, architecture)


def load_scripted_encoder(weights: Path) -> TextEncoder:
    """Load a text encoder that was saved as TorchScript, which holds a program of tensors and no Python objects."""
    # It has no typed signature in torch.
    return _to_encoder(torch.jit.load(str(weights), map_location="cpu"), ARCHITECTURE)  # type: ignore[no-untyped-call]


def _to_encoder(encode_tokens: Callable[[torch.Tensor], torch.Tensor], architecture: str) -> TextEncoder:
    import open_clip

    tokenize = open_clip.get_tokenizer(architecture)

    @torch.no_grad()
    def encode(names: Sequence[str]) -> torch.Tensor:
        embeddings = encode_tokens(tokenize(list(names))).float()
        scaled: torch.Tensor = embeddings / embeddings.norm(dim=-1, keepdim=True)
        return scaled

    return encode
