"""What a file of bare tensors is: the card beside it (``NAME.json``), or its name where that is a published one.

A state dict knows neither its architecture nor its classes. A card is ``{"adapter": "torchvision", "model":
"fasterrcnn_resnet50_fpn_v2", "names": ["car", "person"], "licence": "BSD-3-Clause"}``; names are those of the classes,
without a background. ``"side"`` is the longer side of the input in pixels, where it is not the network's usual one; a
classifier of timm also has ``"mean"``, ``"std"`` and ``"crop"``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from labels.errors import LabelingError

ADAPTERS: Final = ("torchvision", "effdet", "timm")
IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
LARGEST_SIDE: Final = 8192


@dataclass(frozen=True)
class Card:
    """Architecture, classes by their ids, and licence; ``outputs`` is how many classes the network tells apart.

    ``side`` is the longer side of the input in pixels; None: as the network is made. A classifier looks at the middle
    of an image, ``crop`` of its shorter side, with colours from which ``mean`` is taken and which ``std`` divides.
    """

    adapter: str
    model: str
    names: dict[int, str]
    outputs: int
    licence: str = "unknown"
    side: int | None = None
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    crop: float = 1.0


def read_card(weights: Path) -> Card:
    """Return the card of a file of tensors.

    Raises:
        LabelingError: there is none, or it cannot be used.
    """
    path = weights.with_suffix(".json")
    if path.is_file():
        return _parse(path)
    known = find_published(weights.name) or _find_published_effdet(weights.name)
    if known is None:
        raise LabelingError(
            f"{weights}: does not say what model it is (expected a {path.name} beside it, with"
            ' "adapter", "model" and "names")'
        )
    return known


def find_published(file_name: str) -> Card | None:
    """Return the card of a file as torchvision publishes it, which its name tells; None for any other name."""
    from torchvision import models  # type: ignore[import-untyped]

    for name in models.list_models(module=models.detection):
        for published in models.get_model_weights(name):
            if published.url.rpartition("/")[2] == file_name:
                names = _number(published.meta["categories"])
                return Card("torchvision", name, names, max(names) + 1, "BSD-3-Clause")
    return None


def read_coco_names() -> tuple[str, ...]:
    """Return the names of COCO's 80 classes in order, as networks without holes in their numbering count them."""
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights  # type: ignore[import-untyped]

    return tuple(_number(FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]).values())


def _number(categories: list[str]) -> dict[int, str]:
    """Return COCO's names by number: the numbering has holes, and a background before its first class."""
    if categories[0] != "__background__":
        categories = ["__background__", *categories]
    return {number: name for number, name in enumerate(categories) if name not in {"__background__", "N/A"}}


def _find_published_effdet(file_name: str) -> Card | None:
    """Return the card of a file as effdet publishes it; None for any other name, or where effdet is not installed."""
    try:
        from effdet.config import model_config  # an optional package
    except ImportError:
        return None
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

    for name, config in model_config.efficientdet_model_param_dict.items():
        if str(config.get("url", "")).rpartition("/")[2] == file_name:
            names = _number(FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"])
            return Card("effdet", name, names, max(names), "Apache-2.0")
    return None


def _parse(path: Path) -> Card:
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
        adapter, model, names = values["adapter"], values["model"], values["names"]
    except (ValueError, TypeError, KeyError) as error:
        raise LabelingError(f'{path}: expected an object with "adapter", "model" and "names"') from error
    if adapter not in ADAPTERS:
        raise LabelingError(f"{path}: adapter {adapter!r} (expected {' or '.join(ADAPTERS)})")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise LabelingError(f"{path}: names must be a list of class names")
    # Detectors count from 1, classifiers from 0; torchvision's networks tell the background apart as well.
    outputs = len(names) + (1 if adapter == "torchvision" else 0)
    numbered = dict(enumerate(names, 0 if adapter == "timm" else 1))
    side = values.get("side")
    if side is not None and not (type(side) is int and 1 <= side <= LARGEST_SIDE):
        raise LabelingError(f"{path}: side {side!r} (expected pixels, 1 to {LARGEST_SIDE})")
    mean, std = (_read_colours(path, values, name) for name in ("mean", "std"))
    return Card(
        adapter,
        str(model),
        numbered,
        outputs,
        str(values.get("licence", "unknown")),
        side,
        mean or IMAGENET_MEAN,
        std or IMAGENET_STD,
        _read_crop(path, values),
    )


def _read_colours(path: Path, values: dict[str, Any], name: str) -> tuple[float, ...] | None:
    found = values.get(name)
    if found is None:
        return None
    is_colours = isinstance(found, list) and len(found) == 3 and all(type(one) in (int, float) for one in found)
    if not is_colours or (name == "std" and not all(one > 0 for one in found)):
        raise LabelingError(f"{path}: {name} must be three numbers, those of red, green and blue")
    return tuple(float(one) for one in found)


def _read_crop(path: Path, values: dict[str, Any]) -> float:
    crop = values.get("crop", 1.0)
    if type(crop) not in (int, float) or not 0 < crop <= 1:
        raise LabelingError(f"{path}: crop {crop!r} (expected a part, above 0 and at most 1)")
    return float(crop)
