"""What a small detector makes of an image: a vector for each place, and everything that may be an object at all.

Kept for the images seen last, so that the second question about an image costs no forward.
"""

from __future__ import annotations

import logging
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from labels.errors import LabelingError
from ml_backend.answers.uncertainty import compute_iou_matrix
from ml_backend.detectors import Image
from ml_backend.models.weights import resolve_weights

logger = logging.getLogger(__name__)

# Small, quick, and inside an installed package: it is there without a network, whatever model is served.
FEATURE_MODEL: Final = "yolo11n.onnx"
# The backbone's map of one cell for 8 pixels: appearance, before the network has decided what things are.
FEATURE_LAYER: Final = 4
# Of all places, those where something may be; what a detector would show starts higher.
PROPOSAL_FLOOR: Final = 0.1
PROPOSAL_IOU: Final = 0.7
MAX_PROPOSALS: Final = 500
DEFAULT_SIDE: Final = 640
PADDING: Final = 114  # the grey Ultralytics trains with
Map = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Proposals:
    """Boxes (n, 4) in pixels, and for each the probability of every class the network knows, (n, classes)."""

    boxes: Map
    probabilities: Map


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """The vectors of one layer; a cell covers ``cell_px`` pixels of the image each way.

    ``sums`` (height + 1, width + 1, channels) are sums over all cells above and left of a corner, less the mean of the
    image: four corners give the sum over any box.
    """

    sums: npt.NDArray[np.float64]
    cell_px: float

    @classmethod
    def from_values(cls, values: Map, cell_px: float) -> FeatureMap:
        """Return the map of the vectors (height, width, channels) of a layer."""
        height, width, channels = values.shape
        centred = values.astype(np.float64)
        centred -= centred.mean(axis=(0, 1))
        sums = np.zeros((height + 1, width + 1, channels))
        sums[1:, 1:] = centred.cumsum(axis=0).cumsum(axis=1)
        return cls(sums, cell_px)


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """The feature map of an image, its size (width, height) in pixels, and the boxes that may be objects.

    ``places`` is what the network says of every place, ``proposals`` where something may be, each object once.
    """

    map: FeatureMap
    size: tuple[int, int]
    places: Proposals
    proposals: Proposals


class FeatureCache:
    """Makes features, and keeps those of the images seen last by their content. For one thread at a time."""

    def __init__(
        self,
        models_dir: Path,
        *,
        max_images: int,
        load: Callable[[Path], Callable[[Image], ImageFeatures]] | None = None,
    ) -> None:
        self._models_dir = models_dir
        self._max_images = max_images
        self._load = load or load_features
        self._extract: Callable[[Image], ImageFeatures] | None = None
        self._kept: OrderedDict[str, ImageFeatures] = OrderedDict()

    def get(self, image: Image, sha256: str) -> ImageFeatures:
        """Return the features of an image; a second time they are there already."""
        features = self._kept.get(sha256)
        if features is None:
            if self._extract is None:
                self._extract = self._load(self._models_dir)
            features = self._kept[sha256] = self._extract(image)
            while len(self._kept) > self._max_images:
                self._kept.popitem(last=False)
        self._kept.move_to_end(sha256)
        return features


def load_features(models_dir: Path) -> Callable[[Image], ImageFeatures]:
    """Return what makes features of an image.

    Raises:
        LabelingError: the feature model is not there, or not laid out as expected.
    """
    import onnx
    import onnxruntime

    weights = resolve_weights(FEATURE_MODEL, models_dir=models_dir, is_offline=True)
    model = onnx.load(str(weights.path))
    head, layer = str(model.graph.output[0].name), _find_output(model, FEATURE_LAYER)
    model.graph.output.extend([onnx.ValueInfoProto(name=layer)])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    side = int(entry.shape[2]) if isinstance(entry.shape[2], int) else DEFAULT_SIDE
    return lambda image: _extract(partial(session.run, [head, layer]), entry.name, image, side)


def _find_output(model: Any, layer: int) -> str:
    """Return the last thing a layer of the network makes."""
    of_layer = re.compile(rf"/model\.{layer}/")
    nodes = [node for node in model.graph.node if of_layer.match(node.name)]
    if not nodes:
        raise LabelingError(f"{FEATURE_MODEL}: has no layer {layer} (expected a YOLO11 exported by Ultralytics)")
    return str(nodes[-1].output[0])


def _extract(run: Callable[[dict[str, Map]], list[Map]], entry: str, image: Image, side: int) -> ImageFeatures:
    from PIL import Image as PillowImage

    height, width = image.shape[:2]
    scale = side / max(height, width)
    inside = (max(1, round(width * scale)), max(1, round(height * scale)))
    padded = np.full((side, side, 3), PADDING, np.uint8)
    small = PillowImage.fromarray(image).resize(inside, PillowImage.Resampling.BILINEAR)
    padded[: inside[1], : inside[0]] = np.asarray(small)
    head, layer = run({entry: (padded.transpose(2, 0, 1)[None] / 255).astype(np.float32)})
    cell = side // layer.shape[2]
    rows, columns = -(-inside[1] // cell), -(-inside[0] // cell)
    values = layer[0].transpose(1, 2, 0)[:rows, :columns]
    places = _read_places(head[0].T, scale, (width, height))
    return ImageFeatures(
        FeatureMap.from_values(values, cell / scale), (width, height), places, _choose_proposals(places)
    )


def _read_places(rows: Map, scale: float, size: tuple[int, int]) -> Proposals:
    """Return the head's boxes, written as centre and sides in the padded input, in pixels of the image."""
    centres, sides = rows[:, :2], rows[:, 2:4]
    boxes = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1) / scale
    return Proposals(np.clip(boxes, 0, [*size, *size]).astype(np.float32), rows[:, 4:])


def _choose_proposals(places: Proposals) -> Proposals:
    """Return the places where something may be, the surest first; of boxes that overlap much only the surest."""
    surest = places.probabilities.max(axis=1)
    order = [row for row in np.argsort(-surest, kind="stable") if surest[row] > PROPOSAL_FLOOR]
    kept: list[int] = []
    for row in order:
        if len(kept) >= MAX_PROPOSALS:
            break
        if not kept or compute_iou_matrix(places.boxes[row][None], places.boxes[kept]).max() <= PROPOSAL_IOU:
            kept.append(int(row))
    return Proposals(places.boxes[kept], places.probabilities[kept])
