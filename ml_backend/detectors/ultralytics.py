"""Ultralytics ``.pt`` files through torch: YOLOv5u to YOLO26 in every task, RT-DETR, YOLO-World and YOLOE.

Drives the network directly: Ultralytics' own ``predict`` runs a list of images as one forward whatever its ``batch``,
pads by what else is in the list, and takes one lock for the call. Importing this module loads torch and Ultralytics.
"""

from __future__ import annotations

import logging
import pickle
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from ultralytics.nn.modules.head import Classify, RTDETRDecoder
from ultralytics.nn.tasks import WorldModel, YOLOEModel, guess_model_task, torch_safe_load

from labels.errors import LabelingError
from ml_backend.detectors import DetectorOptions
from ml_backend.detectors.compiled import CompiledForward
from ml_backend.detectors.devices import choose_device, to_torch_dtype
from ml_backend.detectors.vocabulary import VocabularyDetector, find_vocabulary
from ml_backend.detectors.yolo import (
    ANCHORS,
    ANCHORS_TOP,
    CLASSES,
    DEFAULT_SIDE,
    DEFAULT_STRIDE,
    QUERIES,
    Batch,
    Network,
    YoloDetector,
)

logger = logging.getLogger(__name__)

LICENCE: Final = "AGPL-3.0"
CLASSIFIER_SIDE: Final = 224


@dataclass(frozen=True)
class LoadedModel:
    """A module that gives its raw answer, and what its file says of it."""

    module: Any
    network: Network

    @property
    def has_vocabulary(self) -> bool:
        """Whether it looks for the classes it is told."""
        head: Any = self.module.model[-1]
        return isinstance(self.module, (WorldModel, YOLOEModel)) and not hasattr(head, "lrpc")


def load_detector(weights: Path, *, device: str, options: DetectorOptions) -> YoloDetector:
    """Load a ``.pt`` file for a device.

    Raises:
        LabelingError: it is no model we can run, or may not be read without trust.
    """
    place = torch.device(choose_device(device))
    loaded = load_model(weights, is_trusted=options.is_trusted, is_nms_free=options.is_nms_free)
    forward = TorchForward(loaded.module, place, to_torch_dtype(options.precision))
    # What is compiled lies in a folder of the models folder.
    models_dir = None if options.cache_dir is None else options.cache_dir.parent
    vocabulary = find_vocabulary(loaded.module, weights, models_dir)
    if vocabulary is None:
        yolo = YoloDetector(loaded.network, forward, nms_iou=options.nms_iou)
        if options.is_torch_compiled:
            compile_network(loaded.module, place, yolo)
        return yolo
    if options.is_torch_compiled:
        logger.info("%s: is told what to look for, so torch does not compile it", weights.name)
    detector = VocabularyDetector(loaded.network, forward, vocabulary, nms_iou=options.nms_iou)
    if options.class_names:
        detector.set_classes(options.class_names)
    return detector


def compile_network(
    module: Any, place: torch.device, detector: YoloDetector, *, backend: str | Callable[..., Any] = "inductor"
) -> None:
    """Have torch compile a detector's module, for the shapes of its usual images."""
    head: Any = module.model[-1]
    if isinstance(getattr(head, "stride", None), torch.Tensor):
        # A compiler cannot follow numbers that are read from a tensor, nor what a head remembers of the image before.
        head.stride, head.dynamic = head.stride.tolist(), True
    CompiledForward(module, place, backend=backend).learn(detector.detect, side=detector.input_side or DEFAULT_SIDE)


class TorchForward:
    """Runs a module on a device; uint8 pixels go there, and become numbers there."""

    def __init__(self, module: Any, place: torch.device, dtype: torch.dtype) -> None:
        self.module = module.to(place, dtype).to(memory_format=torch.channels_last)
        self._place = place
        self._dtype = dtype

    def __call__(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the raw answer and the mask prototypes, or None."""
        pixels = torch.from_numpy(batch)
        if self._place.type == "cuda":
            pixels = pixels.pin_memory()
        # A view with the channels first is channels-last in memory: nothing is copied.
        tensor = pixels.to(self._place, non_blocking=True).permute(0, 3, 1, 2).to(self._dtype).div_(255)
        return split_answer(self.module(tensor))


def split_answer(answer: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return a head's answer and its mask prototypes, or None where it has none."""
    if isinstance(answer, torch.Tensor):
        return answer, None
    first, *rest = answer
    if isinstance(first, (tuple, list)):
        return split_answer(first)
    prototypes = rest[0] if rest and isinstance(rest[0], torch.Tensor) and rest[0].ndim == 4 else None
    return first, prototypes


def load_model(weights: Path, *, is_trusted: bool, is_nms_free: bool = False) -> LoadedModel:
    """Load a checkpoint as a module, ready to run, whose answer is raw: nothing is chosen by the network.

    Raises:
        LabelingError: see ``load_detector``.
    """
    checkpoint = read_checkpoint(weights, is_trusted=is_trusted)
    module = checkpoint.get("ema") or checkpoint.get("model")
    if not isinstance(module, torch.nn.Module):
        raise LabelingError(f"{weights}: has no model inside (expected a checkpoint of Ultralytics)")
    arguments = checkpoint.get("train_args") or {}
    model: Any = module.float()
    if not hasattr(model, "stride"):
        model.stride = torch.tensor([float(DEFAULT_STRIDE)])
    model.task = getattr(model, "task", None) or guess_model_task(model)  # type: ignore[no-untyped-call]
    _make_compatible(model)
    if hasattr(model, "end2end"):
        # Said each time: files of YOLOv10 and YOLO26 do not agree on which of their two heads is the usual one.
        model.end2end = is_nms_free
    names = _read_names(model, weights)
    model = (model.fuse() if hasattr(model, "fuse") else model).eval()
    layout = open_head(model.model[-1])
    return LoadedModel(model, _describe(model, names, layout, arguments, weights))


def read_checkpoint(weights: Path, *, is_trusted: bool) -> dict[str, Any]:
    """Return a checkpoint's content. Without trust only known model classes are rebuilt, and no code of it runs.

    Raises:
        LabelingError: it holds something else, or is no checkpoint.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="labelloop-") as folder:
            # Ultralytics takes some file names for another file's, and would fetch that one.
            plain = Path(folder) / "weights.pt"
            plain.symlink_to(weights.resolve())
            content, _ = torch_safe_load(str(plain), safe_only=not is_trusted)  # type: ignore[no-untyped-call]
    except (TypeError, ModuleNotFoundError, AttributeError) as error:
        if is_trusted or "outside the supported" not in str(error):
            raise
        raise LabelingError(
            f"{weights}: holds Python objects that are no known model, and reading them would run its code"
            " (if you know where it comes from: --trust-weights)"
        ) from error
    except (RuntimeError, pickle.UnpicklingError, KeyError, EOFError, OSError) as error:
        # torch names the temporary link, and goes on for a paragraph.
        raise LabelingError(f"{weights}: is damaged, or no checkpoint ({type(error).__name__})") from error
    if not isinstance(content, dict):
        raise LabelingError(f"{weights}: has no model inside (expected a checkpoint of Ultralytics)")
    return content


def open_head(head: Any) -> str:
    """Make a head give its raw answer, with every class's probability, and return how it is laid out."""
    head.export = True
    if isinstance(head, Classify):
        return CLASSES
    if isinstance(head, RTDETRDecoder):
        setattr(head, "postprocess", lambda boxes, scores: torch.cat([boxes, scores], -1))  # noqa: B010 - a method
        return QUERIES
    if getattr(head, "end2end", False):
        head.postprocess = lambda answer: answer
        return ANCHORS_TOP
    return ANCHORS


def _describe(
    model: Any, names: Mapping[int, str], layout: str, arguments: Mapping[str, Any], weights: Path
) -> Network:
    task = "zero_shot" if isinstance(model, (WorldModel, YOLOEModel)) and model.task == "detect" else str(model.task)
    if task not in {"detect", "segment", "pose", "obb", "classify", "zero_shot"}:
        raise LabelingError(f"{weights}: a model for {task!r} (expected detect, segment, pose, obb or classify)")
    stride = max(int(model.stride.max()), DEFAULT_STRIDE)
    usual = CLASSIFIER_SIDE if task == "classify" else DEFAULT_SIDE
    side = -(-int(arguments.get("imgsz") or usual) // stride) * stride
    points = getattr(model, "kpt_shape", None) if task == "pose" else None
    return Network(
        names,
        task,
        layout,
        (side, side),
        stride,
        is_dynamic=layout not in {QUERIES, CLASSES},
        keypoint_shape=None if points is None else (int(points[0]), int(points[1])),
        licence=LICENCE,
    )


def _read_names(model: Any, weights: Path) -> dict[int, str]:
    names = getattr(model, "names", None)
    if not names:
        raise LabelingError(f"{weights}: has no class names inside (expected a checkpoint of Ultralytics)")
    pairs = names.items() if isinstance(names, dict) else enumerate(names)
    return {int(number): str(name) for number, name in pairs}


def _make_compatible(model: Any) -> None:
    """Do to old checkpoints what Ultralytics' own loader does, and let nothing be written into its input."""
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = True
        elif isinstance(module, torch.nn.Upsample) and not hasattr(module, "recompute_scale_factor"):
            module.recompute_scale_factor = None
