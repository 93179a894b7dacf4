"""What a person names as the model to train: which family it is of, and which weights it starts from. Loads nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from labels.errors import LabelingError
from ml_backend.detectors.adapters import find_adapter, find_damage
from ml_backend.models.weights import compute_version, resolve_weights

TIMM: Final = "timm:"
STATE_SUFFIXES: Final = (".safetensors", ".pth")
TRAINED_HERE: Final = "an Ultralytics .pt or .yaml, a detector of torchvision, timm:NAME, or weights that came of these"


@dataclass(frozen=True, slots=True)
class Start:
    """``model`` is the architecture; ``version`` names the weights by content. Both None: random numbers."""

    family: str
    model: str
    weights: Path | None = None
    version: str | None = None

    @property
    def is_classifier(self) -> bool:
        """Whether it learns what an image shows as a whole."""
        return self.family == "timm"


def find_start(model: str, *, weights: Path | None = None, models_dir: Path, is_offline: bool = False) -> Start:
    """Return what a name or a path stands for.

    An architecture of torchvision or timm starts from ``weights``, else from its published file in the models folder,
    else from random numbers.

    Raises:
        LabelingError: there is no such model or file, or it is one that cannot be trained.
    """
    if model.startswith(TIMM):
        name = model.removeprefix(TIMM)
        return _with_weights("timm", name, weights or _find_file(models_dir, name))
    if model in _list_torchvision():
        return _with_weights("torchvision", model, weights or _find_file(models_dir, model))
    if weights is not None:
        raise LabelingError(
            f"model {model!r}: has its own weights; other ones are for timm:NAME or one of torchvision's"
        )
    if re.fullmatch(r"[A-Za-z0-9._-]+\.ya?ml", model):
        return Start("ultralytics", model)
    found = resolve_weights(model, models_dir=models_dir, is_offline=is_offline)
    if len(found.paths) > 1:
        raise LabelingError(f"model {model!r}: several models cannot be trained as one")
    path = found.path
    damage = find_damage(path)
    if damage is not None:
        raise LabelingError(f"{path}: {damage}")
    adapter = find_adapter(path)
    if adapter == "ultralytics":
        return Start(adapter, path.name, path, found.version)
    if adapter in ("torchvision", "timm"):
        from ml_backend.detectors.cards import read_card

        return Start(adapter, read_card(path).model, path, found.version)
    raise LabelingError(f"{path}: cannot be trained (expected {TRAINED_HERE})")


def _with_weights(family: str, model: str, weights: Path | None) -> Start:
    if weights is None:
        return Start(family, model)
    if not weights.is_file() or weights.suffix.lower() not in STATE_SUFFIXES:
        raise LabelingError(f"weights {weights}: no file of tensors (expected {' or '.join(STATE_SUFFIXES)})")
    damage = find_damage(weights)
    if damage is not None:
        raise LabelingError(f"{weights}: {damage}")
    return Start(family, model, weights, compute_version(weights))


def _list_torchvision() -> list[str]:
    from torchvision import models  # type: ignore[import-untyped]  # it takes seconds

    return list(models.list_models(module=models.detection))


def _find_file(models_dir: Path, name: str) -> Path | None:
    """Return a model's published weights in the models folder: by its name, or as torchvision names the file."""
    for suffix in STATE_SUFFIXES:
        if (models_dir / f"{name}{suffix}").is_file():
            return models_dir / f"{name}{suffix}"
    found = sorted(path for path in models_dir.glob(f"{name}_coco-*.pth") if path.is_file())
    return found[0] if found else None
