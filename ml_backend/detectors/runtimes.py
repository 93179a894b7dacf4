"""ONNX Runtime and OpenVINO: a file becomes a function from a batch of pixels to arrays, and says what it is.

No library that trains or exports is loaded here. A file carries its description: Ultralytics' metadata, or ours.
"""

from __future__ import annotations

import ast
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from labels.errors import LabelingError
from ml_backend.detectors.cards import read_coco_names
from ml_backend.detectors.devices import choose_device
from ml_backend.detectors.yolo import ANCHORS, CLASSES, DEFAULT_SIDE, DEFAULT_STRIDE, QUERIES, ROWS, Batch, Network

logger = logging.getLogger(__name__)

METADATA_KEY: Final = "labelloop"
DECODERS: Final = ("yolo", "detr", "boxes", "yolox")

# The published exports of YOLOX, which say nothing of themselves.
YOLOX_SIDES: Final = {
    "yolox_nano": 416,
    "yolox_tiny": 416,
    "yolox_s": 640,
    "yolox_m": 640,
    "yolox_l": 640,
    "yolox_x": 640,
}

Arrays = list[npt.NDArray[Any]]
Run = Callable[[Batch], Arrays]


@dataclass(frozen=True)
class Description(Network):
    """What an exported file is: the network, how its input is made, and how its answer is read (``decoder``).

    ``takes_pixels``: the input is the batch itself, uint8 (n, height, width, 3); else it is what Ultralytics' exports
    take, numbers in 0..1 with the channels first. ``resize`` is the rule of the decoders "detr" and "boxes".
    ``nms_iou`` is the overlap that the export of a network that chooses its own boxes was told.
    """

    decoder: str = field(kw_only=True)
    takes_pixels: bool = field(default=False, kw_only=True)
    resize: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    nms_iou: float | None = field(default=None, kw_only=True)

    def to_json(self) -> str:
        """Return the description as text, for the file's metadata."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Description:
        """Return the description of a file of ours.

        Raises:
            ValueError: it is not one.
        """
        values = json.loads(text)
        if not isinstance(values, dict) or values.get("decoder") not in DECODERS:
            raise ValueError("not a description of a model")
        values["names"] = {int(number): str(name) for number, name in values["names"].items()}
        for key in ("size", "keypoint_shape"):
            values[key] = None if values[key] is None else tuple(values[key])
        return cls(**values)


def open_onnx(weights: Path, device: str) -> tuple[Description, Run]:
    """Open a file with ONNX Runtime.

    Raises:
        LabelingError: it does not say what it is, or the device is not there.
    """
    import onnxruntime  # not needed for any other form

    settings = onnxruntime.SessionOptions()
    # Its threads would wait for the next batch by spinning, on the cores that decode the images of that batch.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(weights), settings, providers=_choose_providers(device, onnxruntime))
    entry = session.get_inputs()[0]
    described = describe(weights, session.get_modelmeta().custom_metadata_map, list(entry.shape))
    dtype = np.float16 if "float16" in entry.type else np.float32

    def run(batch: Batch) -> Arrays:
        array = batch if described.takes_pixels else _to_numbers(batch, dtype, described)
        return list(session.run(None, {entry.name: array}))

    return described, run


def open_openvino(weights: Path, precision: str) -> tuple[Description, Run]:
    """Open an ONNX file, or the form compiled from one, with OpenVINO on the CPU.

    Raises:
        LabelingError: it cannot be read, or does not say what it is.
    """
    import openvino
    from openvino.preprocess import PrePostProcessor

    core = openvino.Core()
    try:
        model = core.read_model(str(weights))
    except RuntimeError as error:
        # OpenVINO's text names lines of its C++ sources.
        raise LabelingError(f"{weights}: OpenVINO cannot read it (damaged, or no model)") from error
    entry = model.inputs[0]
    shape = [None if dimension.is_dynamic else dimension.get_length() for dimension in entry.get_partial_shape()]
    described = describe(weights, _read_metadata(weights), shape)
    if not described.takes_pixels and described.decoder == "yolo":
        steps = PrePostProcessor(model)
        steps.input().tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
        steps.input().preprocess().convert_element_type(openvino.Type.f32).scale(255.0)
        steps.input().model().set_layout(openvino.Layout("NCHW"))
        model = steps.build()
        takes_pixels = True
    else:
        takes_pixels = described.takes_pixels
    # Without the hint the plug-in takes bfloat16 by itself on some processors, and boxes would differ by machine.
    hint = {"bfloat16": "bf16", "float16": "f16"}.get(precision, "f32")
    compiled = core.compile_model(
        model, "CPU", {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
    )

    def run(batch: Batch) -> Arrays:
        array = batch if takes_pixels else _to_numbers(batch, np.float32, described)
        answers = compiled([array])
        # OpenVINO writes the next answer into the same memory.
        return [np.array(answers[output]) for output in compiled.outputs]

    return described, run


def describe(weights: Path, metadata: Mapping[str, str], shape: list[Any]) -> Description:
    """Return what a file with this metadata and this shape of input is.

    Raises:
        LabelingError: it does not say so.
    """
    side = weights.with_suffix(".json")
    text = metadata.get(METADATA_KEY) or (side.read_text(encoding="utf-8") if side.is_file() else None)
    if text is not None:
        try:
            return Description.from_json(text)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise LabelingError(
                f"{side if side.is_file() else weights}: not a description of a model ({error})"
            ) from error
    known = _find_published(weights, shape)
    if known is not None:
        return known
    values = {key: _parse(value) for key, value in metadata.items()}
    if not isinstance(values.get("names"), dict):
        raise LabelingError(
            f"{weights}: does not say its class names (expected an export of labelloop compile or of Ultralytics, or a"
            f" {side.name} beside it)"
        )
    return _describe_ultralytics(weights, values, shape)


def _find_published(weights: Path, shape: list[Any]) -> Description | None:
    """Return the description of a file as YOLOX publishes it, by its name and its input; None for any other."""
    side = YOLOX_SIDES.get(weights.stem)
    if side is None or shape != [1, 3, side, side]:
        return None
    names = dict(enumerate(read_coco_names()))
    return Description(names, decoder="yolox", licence="Apache-2.0", size=(side, side), is_dynamic=False, batch_size=1)


def _describe_ultralytics(weights: Path, values: Mapping[str, Any], shape: list[Any]) -> Description:
    task = values.get("task") or "detect"
    if task not in {"detect", "segment", "pose", "obb", "classify"}:
        raise LabelingError(f"{weights}: a model for {task!r} (expected detect, segment, pose, obb or classify)")
    batch_size, _, height, width = shape
    is_dynamic = not isinstance(height, int)
    size = values.get("imgsz") or [DEFAULT_SIDE, DEFAULT_SIDE]
    has_rows = bool(values.get("end2end")) or bool((values.get("args") or {}).get("nms"))
    is_detr = "detr" in str(values.get("description", "")).lower()
    layout = CLASSES if task == "classify" else QUERIES if is_detr else ROWS if has_rows else ANCHORS
    points = values.get("kpt_shape")
    return Description(
        {int(number): str(name) for number, name in values["names"].items()},
        task,
        decoder="yolo",
        licence=_shorten_licence(str(values.get("license", "unknown"))),
        layout=layout,
        size=(int(size[0]), int(size[1])) if is_dynamic else (int(height), int(width)),
        stride=max(int(values.get("stride") or 0), DEFAULT_STRIDE),
        is_dynamic=is_dynamic and layout not in {CLASSES, QUERIES},
        batch_size=batch_size if isinstance(batch_size, int) else None,
        keypoint_shape=(int(points[0]), int(points[1])) if points else None,
    )


def _shorten_licence(text: str) -> str:
    """Return a licence's name without the advertisement Ultralytics puts behind it."""
    return text.split(" License", 1)[0].strip() or "unknown"


def _to_numbers(batch: Batch, dtype: type[np.floating[Any]], described: Description) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = np.ascontiguousarray(batch.transpose(0, 3, 1, 2)).astype(dtype)
    if described.decoder == "yolox":
        return np.ascontiguousarray(array[:, ::-1])  # it was trained on BGR from 0 to 255
    array /= 255
    return array


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


def _read_metadata(weights: Path) -> dict[str, str]:
    if weights.suffix.lower() != ".onnx":
        return {}
    import onnx

    model = onnx.load(str(weights), load_external_data=False)
    return {entry.key: entry.value for entry in model.metadata_props}


def _parse(text: str) -> Any:
    """Return a Python literal of an export's metadata read; what is no literal stays text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
