"""Segment-anything models through Ultralytics: SAM, SAM 2 and MobileSAM by their image features, FastSAM by its masks.

What is made of an image is kept for the images seen last. For one thread at a time; torch is loaded with the first one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from labels.errors import LabelingError
from ml_backend.detectors import Detections, Detector, Image, MaskCrop
from ml_backend.interactive.prompts import Prompt
from ml_backend.models.building import build_detector
from ml_backend.models.weights import resolve_weights

SIDE: Final = 1024
FASTSAM_FLOOR: Final = 0.25
Kept = TypeVar("Kept")


class Segmenter(Protocol):
    """Turns a prompt into the mask of one object."""

    def segment(self, image: Image, sha256: str, prompt: Prompt) -> tuple[MaskCrop, float] | None:
        """Return the object's mask and how good the model thinks it is, in 0..1; None where there is no object."""


def load_segmenter(name: str, *, models_dir: Path, device: str = "auto", max_images: int = 16) -> Segmenter:
    """Return the segmenter of a weights file or name: mobile_sam, sam2.1_t, FastSAM-s, ...

    Raises:
        LabelingError: the weights are not there, or are of no segmenter.
    """
    path = resolve_weights(name, models_dir=models_dir, is_offline=True).path
    if "fastsam" in path.name.lower():
        return FastSamSegmenter(build_detector(path, device=device), max_images=max_images)
    return SamSegmenter(path, device=device, max_images=max_images)


class _Kept(OrderedDict[str, Kept]):
    """The things made last, by the content of the image they were made of."""

    def __init__(self, max_images: int) -> None:
        super().__init__()
        self._max_images = max_images

    def fetch(self, sha256: str, make: Callable[[], Kept]) -> Kept:
        if sha256 not in self:
            self[sha256] = make()
            while len(self) > self._max_images:
                self.popitem(last=False)
        self.move_to_end(sha256)
        return self[sha256]


class FastSamSegmenter:
    """FastSAM: all objects of an image at once; the prompt chooses among them."""

    def __init__(self, detector: Detector, *, max_images: int) -> None:
        self._detector = detector
        self._found: _Kept[Detections] = _Kept(max_images)

    def segment(self, image: Image, sha256: str, prompt: Prompt) -> tuple[MaskCrop, float] | None:
        """Return the object of a prompt; see ``Segmenter``."""
        found = self._found.fetch(sha256, lambda: self._detector.detect([image], score_floor=FASTSAM_FLOOR)[0])
        fits = [choose_fit(crop, prompt) for crop in found.masks or ()]
        if not fits or max(fits) <= 0:
            return None
        best = int(np.argmax(fits))
        assert found.masks is not None
        return found.masks[best], float(found.scores[best])


def choose_fit(crop: MaskCrop, prompt: Prompt) -> float:
    """Return how well a mask fits a prompt, 0 where it does not: overlap with a box; smallest round points.

    >>> crop = MaskCrop(2, 1, np.ones((2, 4), np.bool_))
    >>> [choose_fit(crop, Prompt("1", "car", points=(point,))) for point in ((3.5, 1.5), (9.0, 9.0))]
    [0.125, 0.0]
    """
    area = int(np.count_nonzero(crop.pixels))
    if area == 0:
        return 0.0
    if prompt.box is not None:
        x1, y1, x2, y2 = (round(side) for side in prompt.box.to_xyxy())
        inside = crop.pixels[max(y1 - crop.y, 0) : max(y2 - crop.y, 0), max(x1 - crop.x, 0) : max(x2 - crop.x, 0)]
        shared = int(np.count_nonzero(inside))
        return shared / (area + max(x2 - x1, 1) * max(y2 - y1, 1) - shared)
    is_right = all(_covers(crop, point) for point in prompt.points) and not any(_covers(crop, p) for p in prompt.away)
    return 1.0 / area if is_right else 0.0


def _covers(crop: MaskCrop, point: tuple[float, float]) -> bool:
    column, row = int(point[0]) - crop.x, int(point[1]) - crop.y
    height, width = crop.pixels.shape
    return 0 <= row < height and 0 <= column < width and bool(crop.pixels[row, column])


class SamSegmenter:
    """SAM, SAM 2 and MobileSAM: the image is encoded once, each prompt is decoded from that."""

    def __init__(self, weights: Path, *, device: str, max_images: int) -> None:
        self._predictor = _load_predictor(weights, device)
        self._encoded: _Kept[Any] = _Kept(max_images)

    def segment(self, image: Image, sha256: str, prompt: Prompt) -> tuple[MaskCrop, float] | None:
        """Return the object of a prompt; see ``Segmenter``."""
        import torch

        with torch.inference_mode():
            features = self._encoded.fetch(sha256, lambda: self._encode(image))
            masks, scores = self._decode(features, image, prompt)
        best = int(np.argmax(scores))
        crop = crop_mask(masks[best])
        return None if crop is None else (crop, float(scores[best]))

    def _encode(self, image: Image) -> Any:
        # Ultralytics takes arrays for what OpenCV reads: blue first.
        self._predictor.set_image(np.ascontiguousarray(image[..., ::-1]))
        features = self._predictor.features
        self._predictor.reset_image()
        return features

    def _decode(
        self, features: Any, image: Image, prompt: Prompt
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
        import torch
        from ultralytics.utils import ops

        predictor = self._predictor
        height, width = image.shape[:2]
        predictor.features, predictor.imgsz, predictor.batch = features, [SIDE, SIDE], ([""], [image], [""])
        points = [[list(point) for point in (*prompt.points, *prompt.away)]] if prompt.points or prompt.away else None
        flags = [[1] * len(prompt.points) + [0] * len(prompt.away)] if points else None
        # One click can mean a part or the whole: the model offers three masks, and says which it believes in.
        is_open = prompt.box is None and len(prompt.points) + len(prompt.away) == 1
        shape = torch.empty((1, 3, SIDE, SIDE), device=predictor.device)
        masks, scores = predictor.prompt_inference(
            shape,
            bboxes=None if prompt.box is None else [list(prompt.box.to_xyxy())],
            points=points,
            labels=flags,
            multimask_output=is_open,
        )
        whole = ops.scale_masks(masks[None].float(), (height, width), padding=False)[0]
        return (whole > predictor.model.mask_threshold).cpu().numpy(), scores.float().cpu().numpy()


def crop_mask(pixels: npt.NDArray[np.bool_]) -> MaskCrop | None:
    """Return the part of a whole image's mask that holds something; None where nothing does.

    >>> pixels = np.zeros((4, 6), np.bool_)
    >>> pixels[1:3, 2:5] = True
    >>> crop = crop_mask(pixels)
    >>> crop.x, crop.y, crop.pixels.shape
    (2, 1, (2, 3))
    """
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    if rows.size == 0:
        return None
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    return MaskCrop(left, top, pixels[top:bottom, left:right])


def _load_predictor(weights: Path, device: str) -> Any:
    import torch
    from ultralytics.models.sam import Predictor, SAM2Predictor
    from ultralytics.models.sam.build import sam_model_map

    from ml_backend.detectors.devices import choose_device

    known = [name for name in sam_model_map if weights.name.endswith(name)]
    if not known:
        raise LabelingError(f"{weights}: no segmenter we know by its name (known: {', '.join(sam_model_map)}, FastSAM)")
    try:
        # Read as plain numbers first, which runs no code of the file's; Ultralytics then reads what is safe.
        torch.load(weights, map_location="cpu", weights_only=True)
        kind = SAM2Predictor if "sam2" in weights.name else Predictor
        predictor = kind(
            overrides={"model": str(weights), "imgsz": SIDE, "device": choose_device(device), "save": False}
        )
        predictor.setup_model(verbose=False)
    except Exception as error:  # a damaged or foreign file can raise anything
        raise LabelingError(f"{weights}: cannot be loaded as a segmenter ({type(error).__name__})") from error
    return predictor
