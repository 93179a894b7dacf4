"""Exports a model to the form it is served in on a CPU, ONNX or OpenVINO, once for each content and each version.

What is exported takes plain pixels and keeps every class's probability; what is found is the same set of boxes.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Final

from filelock import FileLock

from labels.errors import LabelingError
from ml_backend.detectors.adapters import find_adapter
from ml_backend.models.building import keep_ultralytics_quiet
from ml_backend.models.weights import compute_model_digest

logger = logging.getLogger(__name__)

FORMS: Final = ("onnx", "openvino")
# One more whenever what is exported changes, so that nobody serves the old one.
EXPORT_REVISION: Final = 2
# Packages that decide what an export holds.
_PACKAGES: Final = ("torch", "torchvision", "ultralytics", "transformers", "onnx", "openvino")
_FILES: Final = {"onnx": "model.onnx", "openvino": "model.xml"}
_LOCK_TIMEOUT_S: Final = 1800.0


def compile_model(
    weights: Path,
    form: str,
    *,
    cache_dir: Path,
    is_trusted: bool = False,
    is_nms_free: bool = False,
    nms_iou: float | None = None,
) -> Path:
    """Return the file to serve in this form, made now unless it is there from before.

    The folder it lies in is named after the content of the weights and the versions of what exports them, and appears
    whole or not at all. Two processes never make the same one at once.

    Raises:
        LabelingError: the model cannot be loaded, or not be exported.
    """
    if form not in FORMS:
        raise LabelingError(f"form {form!r}: expected {' or '.join(FORMS)}")
    folder = cache_dir / compute_cache_name(weights, form, is_nms_free=is_nms_free, nms_iou=nms_iou)
    target = folder / _FILES[form]
    if target.is_file():
        return target
    cache_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock", timeout=_LOCK_TIMEOUT_S):
        if not target.is_file():
            part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=cache_dir))
            try:
                _export(weights, form, part, is_trusted=is_trusted, is_nms_free=is_nms_free, nms_iou=nms_iou)
                part.chmod(0o755)  # mkdtemp makes folders for their owner alone
                part.rename(folder)
            finally:
                shutil.rmtree(part, ignore_errors=True)
            logger.info("%s is compiled to %s: %s", weights.name, form, target)
    return target


def compute_cache_name(weights: Path, form: str, *, is_nms_free: bool = False, nms_iou: float | None = None) -> str:
    """Return the name of the folder a compiled model lies in; it changes with all that its content depends on."""
    parts = [compute_model_digest(weights), form, str(EXPORT_REVISION), str(is_nms_free), str(nms_iou)]
    for package in _PACKAGES:
        try:
            parts.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return f"{weights.stem}-{form}-{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:12]}"


def _export(
    weights: Path, form: str, folder: Path, *, is_trusted: bool, is_nms_free: bool, nms_iou: float | None
) -> None:
    suffix = weights.suffix.lower()
    onnx_file = weights if suffix == ".onnx" else folder / _FILES["onnx"]
    try:
        if suffix == ".onnx":
            described = _read_description(weights)
            if form == "onnx":
                raise LabelingError(f"{weights}: is ONNX already")
        else:
            described = _export_onnx(
                weights, onnx_file, is_trusted=is_trusted, is_nms_free=is_nms_free, nms_iou=nms_iou
            )
        if form == "openvino":
            _to_openvino(onnx_file, folder / _FILES["openvino"])
            if onnx_file != weights:
                onnx_file.unlink()
        (folder / "model.json").write_text(described, encoding="utf-8")
    except LabelingError:
        raise
    except Exception as error:  # the exporters' errors have no common parent
        problem = str(error).strip().splitlines()
        raise LabelingError(
            f"{weights}: cannot be exported to {form} ({type(error).__name__}: {' '.join(problem[:1])})"
        ) from error


def _export_onnx(weights: Path, target: Path, *, is_trusted: bool, is_nms_free: bool, nms_iou: float | None) -> str:
    """Write the ONNX form and return its description as text."""
    adapter = find_adapter(weights)
    if adapter == "ultralytics":
        keep_ultralytics_quiet()
        from ml_backend.detectors import ultralytics_export

        return ultralytics_export.export(weights, target, is_trusted=is_trusted, is_nms_free=is_nms_free)
    if adapter == "torchvision":
        from ml_backend.detectors import torchvision_export

        return torchvision_export.export(weights, target, nms_iou=nms_iou)
    if adapter == "transformers":
        from ml_backend.detectors import transformers_export

        return transformers_export.export(weights, target)
    raise LabelingError(f"{weights}: models of {adapter} are not exported")


def _to_openvino(source: Path, target: Path) -> None:
    import openvino

    # Half-precision weights would change scores in the third digit.
    openvino.save_model(openvino.convert_model(str(source)), str(target), compress_to_fp16=False)


def _read_description(weights: Path) -> str:
    from ml_backend.detectors.runtimes import open_onnx

    described, _ = open_onnx(weights, "cpu")
    return replace(described, licence=described.licence).to_json()
