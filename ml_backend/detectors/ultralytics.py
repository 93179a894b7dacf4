"""Ultralytics detectors: ``.pt`` through torch, ``.onnx`` through ONNX Runtime, with one pre- and post-processing.

Drives the network directly: Ultralytics' own ``predict`` runs a list of images as one forward whatever its ``batch``,
pads by what else is in the list, and takes one lock for the call. The boxes are those of ``YOLO(path).predict(image)``.
Importing this module loads torch and Ultralytics.
"""

from __future__ import annotations

import ast
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
import torchvision  # type: ignore[import-untyped] # noqa: F401 - gives Ultralytics its faster NMS
from ultralytics.data.augment import LetterBox
from ultralytics.utils import ops
from ultralytics.utils.nms import non_max_suppression

from labels.errors import LabelingError
from ml_backend.detectors import Detections, Detector, Image

logger = logging.getLogger(__name__)

NMS_IOU: Final = 0.7  # Ultralytics' own default for predict
MAX_BOXES: Final = 300  # likewise
DEFAULT_SIDE: Final = 640
DEFAULT_STRIDE: Final = 32
# Beyond its time limit Ultralytics' NMS leaves the rest of the batch empty, which would read as «nothing found».
NMS_SECONDS_PER_IMAGE: Final = 3600.0

Batch = npt.NDArray[np.uint8]  # (n, height, width, 3), RGB


@dataclass(frozen=True)
class Network:
    """A loaded network and what its file says of it.

    ``forward`` takes a batch and returns (n, 4 + classes, anchors), or (n, boxes, 6) when the network needs no NMS.
    ``size`` is the input's (height, width): the largest when ``is_dynamic``, else the only one. ``batch_size`` is the
    only batch it takes, or None for any.
    """

    forward: Callable[[Batch], torch.Tensor]
    names: Mapping[int, str]
    size: tuple[int, int] = (DEFAULT_SIDE, DEFAULT_SIDE)
    stride: int = DEFAULT_STRIDE
    is_dynamic: bool = True
    is_end2end: bool = False
    batch_size: int | None = None


def load_detector(weights: Path, *, device: str = "auto") -> Detector:
    """Load a detector and run it once, so that the first request does not wait for the warm-up.

    Raises:
        LabelingError: see ``build_detector``.
    """
    load = _load_onnx if weights.suffix.lower() == ".onnx" else _load_torch
    try:
        network = load(weights, device)
        _check_output(network, weights)
    except LabelingError:
        raise
    except Exception as error:  # ONNX Runtime's errors have no other parent, and a foreign .pt can raise anything
        problem = str(error).strip().splitlines()
        raise LabelingError(f"{weights}: cannot be loaded ({type(error).__name__}: {' '.join(problem[:1])})") from error
    logger.info("detector %s: %d classes, input up to %s", weights.name, len(network.names), network.size)
    return UltralyticsDetector(network)


class UltralyticsDetector:
    """Letterbox, forward, NMS, and the boxes back in the pixels of the image given."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._letterbox = LetterBox(network.size, auto=network.is_dynamic, stride=network.stride)

    @property
    def names(self) -> Mapping[int, str]:
        """The model's class names by class id."""
        return self._network.names

    def detect(self, images: Sequence[Image], *, score_floor: float) -> list[Detections]:
        """Return one Detections for each image, in order; images of one padded shape share a forward."""
        inputs: list[Image] = [np.asarray(self._letterbox(image=image)) for image in images]
        by_shape: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, padded in enumerate(inputs):
            by_shape[padded.shape].append(index)
        found: dict[int, Detections] = {}
        for indices in by_shape.values():
            for chunk in self._split(indices):
                rows = self._run(np.stack([inputs[index] for index in chunk]), score_floor)
                for index, row in zip(chunk, rows, strict=True):
                    found[index] = _to_detections(row, inputs[index].shape, images[index].shape)
        return [found[index] for index in range(len(images))]

    def _split(self, indices: list[int]) -> Iterator[list[int]]:
        step = self._network.batch_size or len(indices)
        for start in range(0, len(indices), step):
            yield indices[start : start + step]

    @torch.inference_mode()
    def _run(self, batch: Batch, score_floor: float) -> list[torch.Tensor]:
        count = len(batch)
        if self._network.batch_size is not None and count < self._network.batch_size:
            batch = np.concatenate([batch, np.repeat(batch[-1:], self._network.batch_size - count, axis=0)])
        return non_max_suppression(  # type: ignore[no-any-return]
            self._network.forward(batch)[:count],
            score_floor,
            NMS_IOU,
            max_det=MAX_BOXES,
            max_time_img=NMS_SECONDS_PER_IMAGE,
            end2end=self._network.is_end2end,
        )


def _to_detections(rows: torch.Tensor, padded_shape: tuple[int, ...], shape: tuple[int, ...]) -> Detections:
    values = rows.cpu().numpy().astype(np.float32)
    # scale_boxes takes (height, width), writes in place and cuts the boxes at the image's edge.
    boxes = ops.scale_boxes((padded_shape[0], padded_shape[1]), values[:, :4].copy(), (shape[0], shape[1]))
    return Detections(np.asarray(boxes, np.float32), values[:, 4], values[:, 5].astype(np.int64))


def choose_device(device: str) -> str:
    """Return the torch device to use: CUDA when there and «auto», else what was asked for.

    Raises:
        LabelingError: CUDA was asked for and is not there.
    """
    if device == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        return device
    index = int(device.partition(":")[2] or 0)
    if index >= torch.cuda.device_count():
        raise LabelingError(f"device {device!r}: not there ({torch.cuda.device_count()} CUDA devices; use auto or cpu)")
    return f"cuda:{index}"


def _load_torch(weights: Path, device: str) -> Network:
    from ultralytics.nn.tasks import load_checkpoint  # not needed for .onnx, and slow

    place = torch.device(choose_device(device))
    model, checkpoint = load_checkpoint(str(weights), device=place, fuse=True)  # type: ignore[no-untyped-call]
    _check_task(getattr(model, "task", None), weights)
    model = model.to(memory_format=torch.channels_last)
    side = int((checkpoint.get("train_args") or {}).get("imgsz") or DEFAULT_SIDE)
    stride = max(int(model.stride.max()), DEFAULT_STRIDE)
    side = -(-side // stride) * stride

    def forward(batch: Batch) -> torch.Tensor:
        tensor = torch.from_numpy(batch).to(place).permute(0, 3, 1, 2).float().div_(255)
        output = model(tensor)
        while isinstance(output, (tuple, list)):
            output = output[0]
        return output  # type: ignore[no-any-return]

    names = dict(model.names if isinstance(model.names, dict) else enumerate(model.names))
    return Network(forward, names, (side, side), stride, is_end2end=bool(getattr(model, "end2end", False)))


def _load_onnx(weights: Path, device: str) -> Network:
    import onnxruntime  # not needed for .pt

    session = onnxruntime.InferenceSession(str(weights), providers=_choose_providers(device, onnxruntime))
    described = _parse_metadata(session.get_modelmeta().custom_metadata_map)
    if not isinstance(described.get("names"), dict):
        raise LabelingError(f"{weights}: has no class names inside (expected a file exported by Ultralytics)")
    _check_task(described.get("task"), weights)
    entry = session.get_inputs()[0]
    dtype = np.float16 if "float16" in entry.type else np.float32
    batch_size, _, height, width = entry.shape
    is_dynamic = not isinstance(height, int)

    def forward(batch: Batch) -> torch.Tensor:
        array: npt.NDArray[Any] = np.ascontiguousarray(batch.transpose(0, 3, 1, 2)).astype(dtype)
        array /= 255
        return torch.from_numpy(session.run(None, {entry.name: array})[0]).float()

    size = described.get("imgsz") or [DEFAULT_SIDE, DEFAULT_SIDE]
    return Network(
        forward,
        described["names"],
        (int(size[0]), int(size[1])) if is_dynamic else (height, width),
        max(int(described.get("stride") or 0), DEFAULT_STRIDE),
        is_dynamic=is_dynamic,
        is_end2end=bool(described.get("end2end")) or bool((described.get("args") or {}).get("nms")),
        batch_size=batch_size if isinstance(batch_size, int) else None,
    )


def _choose_providers(device: str, onnxruntime: Any) -> list[Any]:
    wanted = choose_device(device)
    if wanted == "cpu":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        index = int(wanted.partition(":")[2])
        return [("CUDAExecutionProvider", {"device_id": index}), "CPUExecutionProvider"]
    if device != "auto":
        raise LabelingError(f"device {device!r}: this ONNX Runtime has no CUDA (install onnxruntime-gpu, or use cpu)")
    logger.warning("CUDA is there, but this ONNX Runtime cannot use it: running on the CPU")
    return ["CPUExecutionProvider"]


def _parse_metadata(described: Mapping[str, str]) -> dict[str, Any]:
    """Return an export's metadata with its Python literals read; what is no literal stays text."""
    parsed: dict[str, Any] = {}
    for key, text in described.items():
        try:
            parsed[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            parsed[key] = text
    return parsed


def _check_task(task: object, weights: Path) -> None:
    if task not in {None, "detect"}:
        raise LabelingError(f"{weights}: a model for {task!r} (expected one for 'detect')")


def _check_output(network: Network, weights: Path) -> None:
    """Run the network once and refuse it when its output is not laid out as the NMS reads it."""
    with torch.inference_mode():
        output = network.forward(np.zeros((network.batch_size or 1, *network.size, 3), np.uint8))
    is_final = output.ndim == 3 and output.shape[2] == 6
    if not is_final and (output.ndim != 3 or output.shape[1] != 4 + len(network.names)):
        raise LabelingError(f"{weights}: output {tuple(output.shape)} is not that of a YOLO detector")
