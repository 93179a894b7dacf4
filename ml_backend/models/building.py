"""Chooses the adapter for a file or folder, and puts ensembles and further views around what it loads."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from labels.errors import LabelingError
from ml_backend.detectors import DEFAULT_OPTIONS, RUNTIMES, Detector, DetectorOptions, OpenVocabularyDetector
from ml_backend.detectors.adapters import find_adapter, find_damage
from ml_backend.models.calibration import calibrate_detector, load_calibration

logger = logging.getLogger(__name__)

WARM_UP_SHAPE: Final = (480, 640, 3)
NAMED_CLASSES: Final = 10


# Ultralytics asks the network for updates and installs packages by itself; a server does neither.
QUIET_ULTRALYTICS: Final = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false"}


def keep_ultralytics_quiet() -> None:
    """Have Ultralytics ask nobody, install nothing and print nothing; to be called before it is imported."""
    for key, value in QUIET_ULTRALYTICS.items():
        os.environ.setdefault(key, value)


def build_detector(
    weights: Path | Sequence[Path], *, device: str = "auto", options: DetectorOptions = DEFAULT_OPTIONS
) -> Detector:
    """Load a model, or several as one ensemble; ``device`` is auto, cpu, cuda or cuda:N.

    Raises:
        LabelingError: a file is no model we can run, may not be read without trust, or the device is not there.
    """
    keep_ultralytics_quiet()
    return _build([weights] if isinstance(weights, Path) else list(weights), device=device, options=options)


def import_libraries(model: str) -> None:
    """Import what a model named like this runs in, before anybody waits: each import stops all threads for a while.

    Ultralytics is imported for what may be a checkpoint of its own, and not for a path to any other form.
    """
    keep_ultralytics_quiet()
    names = [Path(name.strip()) for name in model.split(",")]
    modules = ["torch", "torchvision", "onnxruntime", "openvino", "ml_backend.detectors.exported"]
    if any(name.suffix.lower() in {".pt", ""} and not name.is_dir() for name in names):
        modules.append("ml_backend.detectors.ultralytics")
    for module in modules:
        with contextlib.suppress(ImportError):  # whoever needs it says so when it loads a model
            importlib.import_module(module)


def _build(weights: Sequence[Path], *, device: str, options: DetectorOptions) -> Detector:
    if options.runtime not in RUNTIMES:
        raise LabelingError(f"runtime {options.runtime!r}: expected one of {', '.join(RUNTIMES)}")
    if not weights:
        raise LabelingError("no weights were named")
    detectors = [load_one(path, device=device, options=options) for path in weights]
    _check_told(detectors, options)
    if options.views:
        detectors = [_add_views(detector, options) for detector in detectors]
    if options.calibrations and options.models_dir is not None:
        named = zip(detectors, options.calibrations, strict=True)
        detectors = [_calibrate(detector, version, options.models_dir) for detector, version in named]
    return detectors[0] if len(detectors) == 1 else _fuse(detectors, options)


def _check_told(detectors: Sequence[Detector], options: DetectorOptions) -> None:
    """Refuse what these models would pass over in silence.

    Raises:
        LabelingError: an ensemble's settings for one model, or classes or an overlap where no model can be told them.
    """
    if options.nms_iou is not None and not any(getattr(detector, "has_nms", False) for detector in detectors):
        subject = "this model chooses its boxes" if len(detectors) == 1 else "each of these models chooses its boxes"
        raise LabelingError(f"LABELLOOP_NMS_IOU={options.nms_iou:g}: {subject} without it, so leave it away")
    if len(detectors) == 1:
        if len(options.member_weights) > 1:
            raise LabelingError(f"{len(options.member_weights)} member weights (LABELLOOP_MEMBER_WEIGHTS) for 1 model")
        if (options.min_votes or 1) > 1:
            raise LabelingError(f"at least {options.min_votes} of 1 model cannot agree (LABELLOOP_MIN_VOTES)")
    if options.class_names and not any(isinstance(detector, OpenVocabularyDetector) for detector in detectors):
        known = ", ".join(list(detectors[0].names.values())[:NAMED_CLASSES])
        raise LabelingError(
            f"classes {', '.join(options.class_names)}: only an open-vocabulary model looks for the classes it is told;"
            f" this one has its own ({known}, ...)"
        )


def _calibrate(detector: Detector, version: str, models_dir: Path) -> Detector:
    """Return a member with the calibration of that version, "" for none: fusion takes scores of all for equal."""
    calibration = load_calibration(models_dir, version) if version else None
    if calibration is None and version:
        raise LabelingError(f"calibration {version}: is not in {models_dir}")
    return detector if calibration is None else calibrate_detector(detector, calibration)


def _add_views(detector: Detector, options: DetectorOptions) -> Detector:
    from ml_backend.models.augmentation import ViewsDetector
    from ml_backend.models.fusion import Fusion  # its library compiles at import

    return ViewsDetector(detector, options.views, Fusion(options.fusion, options.fusion_iou))


def _fuse(detectors: Sequence[Detector], options: DetectorOptions) -> Detector:
    from ml_backend.models.fusion import Fusion, build_ensemble, compute_majority

    min_votes = compute_majority(len(detectors)) if options.min_votes is None else options.min_votes
    return build_ensemble(detectors, Fusion(options.fusion, options.fusion_iou, options.member_weights, min_votes))


def load_one(weights: Path, *, device: str, options: DetectorOptions) -> Detector:
    """Load one model and run it once, so that the first request does not wait for the warm-up.

    Raises:
        LabelingError: see ``build_detector``.
    """
    damage = find_damage(weights)
    if damage is not None:
        raise LabelingError(f"{weights}: {damage}")
    try:
        detector = _load(weights, device=device, options=options)
        detector.detect([np.zeros(WARM_UP_SHAPE, np.uint8)], score_floor=0.5)
    except LabelingError as error:
        if str(weights) in str(error) or str(error).startswith("device"):
            raise
        raise LabelingError(f"{weights}: {error}") from error
    except Exception as error:  # ONNX Runtime's errors have no other parent, and a foreign .pt can raise anything
        problem = str(error).strip().splitlines()
        raise LabelingError(f"{weights}: cannot be loaded ({type(error).__name__}: {' '.join(problem[:1])})") from error
    logger.info(
        "detector %s: %s, %d classes, licence %s", weights.name, detector.task, len(detector.names), detector.licence
    )
    return detector


def _load(weights: Path, *, device: str, options: DetectorOptions) -> Detector:
    adapter = find_adapter(weights)
    if adapter != "exported":
        weights, adapter = _compile(weights, adapter, device=device, options=options)
    if adapter == "exported":
        from ml_backend.detectors import exported

        return exported.load_detector(weights, device=device, options=options)
    if adapter == "ultralytics":
        from ml_backend.detectors import ultralytics

        return ultralytics.load_detector(weights, device=device, options=options)
    if adapter == "torchvision":
        from ml_backend.detectors import torchvision

        return torchvision.load_detector(weights, device=device, options=options)
    if adapter == "effdet":
        from ml_backend.detectors import effdet

        return effdet.load_detector(weights, device=device, options=options)
    if adapter == "timm":
        from ml_backend.detectors import timm

        return timm.load_detector(weights, device=device, options=options)
    from ml_backend.detectors import transformers

    return transformers.load_detector(weights, device=device, options=options)


def _compile(weights: Path, adapter: str, *, device: str, options: DetectorOptions) -> tuple[Path, str]:
    """Return the compiled file where the options ask for one, else what was given.

    "auto" compiles for a CPU, and goes on with torch where that cannot be done.
    """
    from ml_backend.detectors.devices import choose_device  # it asks torch

    runtime = options.runtime
    if runtime == "auto":
        runtime = "torch" if choose_device(device) != "cpu" or options.cache_dir is None else "openvino"
    if runtime == "torch":
        return weights, adapter
    if options.cache_dir is None:
        raise LabelingError(f"{weights}: no folder was named to keep its {runtime} form in")
    from ml_backend.models.compiling import compile_model

    try:
        compiled = compile_model(
            weights,
            runtime,
            cache_dir=options.cache_dir,
            is_trusted=options.is_trusted,
            is_nms_free=options.is_nms_free,
            # Of all that is exported, only these choose their boxes inside.
            nms_iou=options.nms_iou if adapter == "torchvision" else None,
        )
    except LabelingError as error:
        if options.runtime != "auto":
            raise
        logger.info("%s; it runs in torch", error)
        return weights, adapter
    return compiled, "exported"
