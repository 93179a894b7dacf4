"""A classifier of some kilobytes that the real engine runs, and pictures of one colour that tell it what they show.

There are two flowers, each in a bright and a dark picture. A classifier is told what to say of each of the four; what
it says of other colours is anybody's guess.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from labels.geometry import ImageSize
from labels.results import Label
from sync.versions.manifest import compute_content_sha256
from sync.versions.version import Split, Version, VersionImage, VersionLabel

SIZE: Final = ImageSize(48, 32)
CLASSES: Final = ("daisy", "rose", "tulip")
COLOURS: Final[Mapping[str, tuple[int, int, int]]] = {
    "bright daisy": (240, 240, 90),
    "dark daisy": (110, 110, 20),
    "bright rose": (250, 60, 130),
    "dark rose": (110, 10, 60),
}
RIGHT: Final = {"bright daisy": "daisy", "dark daisy": "daisy", "bright rose": "rose", "dark rose": "rose"}
WRONG_IN_THE_DARK: Final = RIGHT | {"dark daisy": "rose", "dark rose": "daisy"}
CHOICES: Final = """<Choices name="flower" toName="image" choice="single-radio">
<Choice value="daisy"/><Choice value="rose"/><Choice value="tulip"/></Choices>
<Choices name="quality" toName="image" choice="single-radio"><Choice value="keep"/><Choice value="trash"/></Choices>"""
XML: Final = f'<View><Image name="image" value="$image"/>{CHOICES}</View>'
NETWORK: Final = "test_convnext"
SURE: Final = 8.0


def write_classifier(path: Path, says: Mapping[str, str], *, classes: Sequence[str] = CLASSES) -> Path:
    """Write a classifier that says this of each colour: random layers, and a last one that is solved for."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model: Any = timm.create_model(NETWORK, pretrained=False, num_classes=len(classes)).eval()
    pixels = np.array([np.full((32, 32, 3), COLOURS[name]) for name in says], np.float32) / 255
    batch = torch.from_numpy((pixels - 0.5) / 0.5).permute(0, 3, 1, 2)
    wanted = torch.full((len(says), len(classes)), -SURE)
    wanted[torch.arange(len(says)), torch.tensor([classes.index(one) for one in says.values()])] = SURE
    with torch.inference_mode():
        features = model.forward_head(model.forward_features(batch), pre_logits=True)
        solved = torch.linalg.lstsq(features.double(), wanted.double(), driver="gelsd").solution
    tensors = {name: value.clone().contiguous() for name, value in model.state_dict().items()}
    last = {id(value): name for name, value in model.state_dict(keep_vars=True).items()}
    head = model.get_classifier()
    tensors[last[id(head.weight)]] = solved.T.float().contiguous()
    tensors[last[id(head.bias)]] = torch.zeros(len(classes))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
    card = {"adapter": "timm", "model": NETWORK, "names": list(classes), "licence": "MIT", "side": 32}
    path.with_suffix(".json").write_text(json.dumps(card | {"mean": [0.5] * 3, "std": [0.5] * 3}), encoding="utf-8")
    return path


def make_answer_version(
    folder: Path, *, test: int, val: int = 24, train: int = 4, xml: str = XML, number: int = 1
) -> Version:
    """Write pictures and return a version in which people named each flower, and one on which they did not."""
    splits = [*["test"] * test, *["val"] * val, *["train"] * train]
    images = [_make_image(folder, place, split) for place, split in enumerate(splits)]
    images.append(VersionImage("f" * 24, folder / "other.png", "0" * 64, SIZE, "test", has_regions=False))
    draft = Version(f"v{number}-00000000", "", "made", (), xml, tuple(images))
    digest = compute_content_sha256(draft)
    return Version(f"v{number}-{digest[:8]}", digest, "made", (), xml, tuple(images))


def _make_image(folder: Path, place: int, split: str) -> VersionImage:
    name = list(COLOURS)[place % len(COLOURS)]
    pixels = np.full((SIZE.height, SIZE.width, 3), COLOURS[name], np.uint8)
    # Each is a file of its own; what differs lies outside of the middle square that is looked at.
    pixels[0, 0] = (place % 256, place // 256, 0)
    path = folder / f"{place:04}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    label = VersionLabel(Label(f"{place:024x}", "flower", (RIGHT[name],)))
    kept: Split = split  # type: ignore[assignment]  # one of the three
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return VersionImage(f"{place:024x}", path, sha256, SIZE, kept, has_regions=False, labels=(label,))
