"""Networks that were never trained, made to see something, and how two answers are compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as PillowImage
from torch import nn

from ml_backend.detectors import Detections, Detector, Image

SIDE = 320
SHARED_WEIGHTS = Path(__file__).resolve().parents[3] / "shared" / "weights"


def read_rgb(path: Path, *, step: int = 1) -> Image:
    with PillowImage.open(path) as image:
        return np.ascontiguousarray(np.asarray(image.convert("RGB"))[::step, ::step])


def stir(model: nn.Module) -> None:
    """Give every layer random weights large enough that what it sees reaches the answer."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight)


def settle(model: nn.Module) -> None:
    """Let the normalizations see some pixels once: after that every layer passes on what it sees."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    model.train()
    with torch.no_grad():
        # Blots, as photos have them: even noise would leave the deeper layers with nothing to see.
        blots = nn.functional.interpolate(torch.rand(4, 3, 8, 8), (SIDE, SIDE), mode="bicubic").clip(0, 1)
        model(blots)
    model.eval()
    for norm in norms:
        norm.momentum = 0.03


def make_yolo(name: str, folder: Path) -> Path:
    """Save an Ultralytics network; ``name`` is one of the library's configurations."""
    from ultralytics import RTDETR, YOLO

    torch.manual_seed(0)
    model: Any = (RTDETR if "rtdetr" in name else YOLO)(f"{name}.yaml")
    head = model.model.model[-1]
    settle(model.model)
    with torch.no_grad():
        for branches in (getattr(head, "cv3", None), getattr(head, "one2one_cv3", None)):
            for branch in branches or []:
                branch[-1].bias.fill_(-3.0)
                branch[-1].weight.mul_(0.1)
    # Under its own name the library would take it for a file of the hub.
    path = folder / f"{name.replace('yolo', 'net')}.pt"
    model.save(path)
    # A smaller input than usual keeps the tests short.
    checkpoint = torch.load(path, weights_only=False)
    torch.save(checkpoint | {"train_args": {"imgsz": SIDE}}, path)
    return path


def find_floor(detector: Detector, images: Sequence[Image], *, rank: int = 40) -> float:
    """Return a floor above which there are boxes in every image, as these networks have no telling scores."""
    found = detector.detect(images, score_floor=0.001)
    scores = min((np.sort(one.scores)[::-1] for one in found), key=lambda one: float(one[min(rank, len(one) - 2)]))
    place = min(rank, len(scores) - 2)
    # Halfway to the next, so that what lies above does not hang on a last digit.
    return float(scores[place] + scores[place + 1]) / 2


def run_ultralytics(weights: Path, image: Image, floor: float, **options: Any) -> Any:
    """Return the Results of Ultralytics' own predict."""
    from ultralytics import RTDETR, YOLO

    model: Any = (RTDETR if "rtdetr" in weights.name else YOLO)(str(weights))
    # Ultralytics takes arrays as BGR.
    bgr = np.ascontiguousarray(image[..., ::-1])
    (result,) = model.predict(
        bgr, conf=floor, iou=0.7, device="cpu", verbose=False, save=False, retina_masks=True, **options
    )
    return result


def assert_same(ours: Detections, boxes: Any, scores: Any, class_ids: Any) -> None:
    """Compare row by row."""
    assert len(ours) == len(scores)
    np.testing.assert_array_equal(ours.class_ids, np.asarray(class_ids))
    np.testing.assert_allclose(ours.scores, np.asarray(scores), atol=1e-4)
    np.testing.assert_allclose(ours.xyxy, np.asarray(boxes), atol=0.05)


def assert_same_set(ours: Detections, theirs: Detections, *, pixels: float = 0.5) -> None:
    """Compare without an order: another runtime rounds otherwise, and equals change places."""
    assert len(ours) == len(theirs)
    for a, b in ((ours, theirs), (theirs, ours)):
        for box, score, class_id in zip(a.xyxy, a.scores, a.class_ids, strict=True):
            is_near = np.abs(b.xyxy - box).max(axis=1) < pixels
            assert (is_near & (np.abs(b.scores - score) < 0.002) & (b.class_ids == class_id)).any(), (box, score)


def to_full(found: Detections, row: int, shape: tuple[int, ...]) -> Any:
    """Return a row's mask as large as the image."""
    assert found.masks is not None
    mask = found.masks[row]
    full = np.zeros(shape[:2], np.bool_)
    height, width = mask.pixels.shape
    full[mask.y : mask.y + height, mask.x : mask.x + width] = mask.pixels
    return full
