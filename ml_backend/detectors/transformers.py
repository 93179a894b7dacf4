"""Detectors of transformers from a local folder: DETR and its kin by their classes, zero-shot ones by their prompts.

The folder is what ``save_pretrained`` writes: ``config.json``, the weights as safetensors, and the processor. Nothing
is fetched, no code of the folder runs, and no pickled object is rebuilt. Importing this loads torch and transformers.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from labels.errors import LabelingError
from ml_backend.detectors import Detector, DetectorOptions
from ml_backend.detectors.compiled import CompiledForward
from ml_backend.detectors.devices import choose_device, to_torch_dtype
from ml_backend.detectors.queries import QueryDetector, ResizeRule
from ml_backend.detectors.yolo import Batch

try:
    from transformers import (
        AutoConfig,
        AutoImageProcessor,
        AutoModelForObjectDetection,
        AutoModelForZeroShotObjectDetection,
    )
    from transformers.models.auto.modeling_auto import MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING_NAMES
    from transformers.utils import logging as library_logging
except ImportError as error:
    raise LabelingError("this model needs the optional package: pip install labelloop[transformers]") from error

# Networks whose queries each stand for one class or for nothing: a softmax with a last place for nothing.
EXCLUSIVE_TYPES: Final = frozenset({"detr", "yolos", "table-transformer"})
LOCAL: Final[Mapping[str, Any]] = {"local_files_only": True, "trust_remote_code": False}
BILINEAR: Final = 2
RESAMPLES: Final = {0: "nearest-exact", BILINEAR: "bilinear", 3: "bicubic"}


@dataclass(frozen=True)
class LoadedModel:
    """A model, its classes, and how its images are made and its answer is read."""

    model: Any
    names: dict[int, str]
    rule: ResizeRule
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resample: str
    is_exclusive: bool
    top: int | None
    licence: str


def load_detector(weights: Path, *, device: str, options: DetectorOptions) -> Detector:
    """Load a folder.

    Raises:
        LabelingError: transformers knows no detector of its kind, or files are missing.
    """
    place, dtype = torch.device(choose_device(device)), to_torch_dtype(options.precision)
    be_quiet()
    config = AutoConfig.from_pretrained(weights, **LOCAL)
    if config.model_type in MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING_NAMES:
        from ml_backend.detectors.zero_shot import TYPES, ZeroShotDetector

        if config.model_type not in TYPES:
            raise LabelingError(
                f"{weights}: {config.model_type!r} is no zero-shot model we can run (expected {', '.join(TYPES)})"
            )
        model = AutoModelForZeroShotObjectDetection.from_pretrained(weights, use_safetensors=True, **LOCAL)
        return ZeroShotDetector(
            model.eval().to(place), weights, names=options.class_names, licence=read_licence(weights)
        )
    loaded = load_model(weights)
    forward = TransformersForward(loaded, place, dtype)
    detector = QueryDetector(
        loaded.names,
        forward,
        loaded.rule,
        is_exclusive=loaded.is_exclusive,
        top=loaded.top,
        licence=loaded.licence,
        resample=loaded.resample,
    )
    if options.is_torch_compiled:
        CompiledForward(forward.module, place).learn(detector.detect)
    return detector


def be_quiet() -> None:
    """Have the library neither print configurations nor draw progress bars into a server's log."""
    library_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    library_logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def load_model(weights: Path) -> LoadedModel:
    """Load a model with classes of its own.

    Raises:
        LabelingError: see ``load_detector``.
    """
    be_quiet()
    model = AutoModelForObjectDetection.from_pretrained(weights, use_safetensors=True, **LOCAL).eval()
    processor: Any = AutoImageProcessor.from_pretrained(weights, **LOCAL)  # type: ignore[no-untyped-call]
    names = {int(number): str(name) for number, name in model.config.id2label.items()}
    parameters = inspect.signature(processor.post_process_object_detection).parameters
    top = parameters["top_k"].default if "top_k" in parameters else None
    is_scaled = bool(getattr(processor, "do_normalize", False))
    asked = getattr(processor, "resample", None)
    resample = BILINEAR if asked is None else int(asked)
    if resample not in RESAMPLES:
        raise LabelingError(f"{weights}: resample {resample} is not one we know")
    return LoadedModel(
        model,
        {number: name for number, name in names.items() if name != "N/A"},
        read_rule(processor, model.config.model_type),
        tuple(processor.image_mean) if is_scaled else (0.0, 0.0, 0.0),
        tuple(processor.image_std) if is_scaled else (1.0, 1.0, 1.0),
        RESAMPLES[resample],
        is_exclusive=model.config.model_type in EXCLUSIVE_TYPES,
        top=top,
        licence=read_licence(weights),
    )


class TransformersForward:
    """Runs a model on a device: pixels in, probabilities and boxes out."""

    def __init__(self, loaded: LoadedModel, place: torch.device, dtype: torch.dtype) -> None:
        self.module = PixelsIn(loaded).to(place)
        self._place = place
        self._dtype = dtype

    def __call__(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return class probabilities and boxes."""
        pixels = torch.from_numpy(batch).to(self._place)
        with torch.autocast(self._place.type, self._dtype, enabled=self._dtype != torch.float32):
            answer: tuple[torch.Tensor, torch.Tensor] = self.module(pixels)
        return answer


class PixelsIn(torch.nn.Module):
    """A model that takes pixels as they are, uint8 (n, height, width, 3), and gives probabilities, not logits."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, loaded: LoadedModel) -> None:
        super().__init__()
        self.model = loaded.model
        self.is_exclusive = loaded.is_exclusive
        self.register_buffer("mean", torch.tensor(loaded.mean).view(3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(loaded.std).view(3, 1, 1) * 255)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return class probabilities (n, queries, classes) and boxes (n, queries, 4), centre and size in 0..1."""
        answer = self.model((pixels.permute(0, 3, 1, 2).float() - self.mean) / self.std)
        logits = answer.logits.float()
        probabilities = logits.softmax(-1)[..., :-1] if self.is_exclusive else logits.sigmoid()
        return probabilities, answer.pred_boxes.float()


def read_rule(processor: Any, model_type: str) -> ResizeRule:
    """Return how a processor scales its images.

    Raises:
        LabelingError: in a way we do not know.
    """
    if not getattr(processor, "do_resize", True):
        return ResizeRule()
    size = dict(processor.size)
    if size.get("height") and size.get("width"):
        return ResizeRule(fixed=(int(size["height"]), int(size["width"])))
    if size.get("shortest_edge"):
        longest = size.get("longest_edge")
        # A vision transformer's patches must fit.
        multiple = 16 if model_type == "yolos" else 1
        return ResizeRule(None, int(size["shortest_edge"]), int(longest) if longest else None, multiple)
    raise LabelingError(f"the processor scales images in a way we do not know ({size})")


def read_licence(weights: Path) -> str:
    """Return the licence named at the top of a folder's README.md, as model hubs write it, or "unknown"."""
    readme = weights / "README.md"
    if readme.is_file():
        for line in readme.read_text(encoding="utf-8", errors="replace").splitlines()[:80]:
            key, _, value = line.partition(":")
            if key.strip().lower() == "license" and value.strip():
                return value.strip()
    return "unknown"
