"""Which models there are to choose from: task, size, published accuracy, licence, and whether their weights are here.

Published numbers are those of the source named beside them, on COCO val2017 by the authors' own protocol. They do not
compare across sources, and say nothing of anybody's own images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from ml_backend.detectors.adapters import find_damage
from ml_backend.models.weights import MODEL_FOLDER_FILE, SUFFIXES, find_installed

UNKNOWN: Final = "unknown"
AGPL: Final = "AGPL-3.0"
BSD: Final = "BSD-3-Clause"
APACHE: Final = "Apache-2.0"


@dataclass(frozen=True)
class ModelInfo:
    """One model. ``coco_map`` is the published mAP50-95 of its boxes in percent; None where the source gives none.

    ``file`` is where its weights are, or else the file name they are looked for by; ``is_runnable`` tells whether the
    packages it needs are installed. ``damage`` says what is wrong with its file, as far as that shows unloaded.
    """

    name: str
    task: str
    adapter: str
    parameters_m: float | None
    coco_map: float | None
    map_source: str
    licence: str
    file: str
    is_here: bool = False
    is_runnable: bool = True
    damage: str | None = None


@dataclass(frozen=True)
class _Family:
    """Models of one adapter, licence and source: name, file, parameters in millions, published mAP."""

    adapter: str
    licence: str
    source: str
    models: tuple[tuple[str, str, float | None, float | None], ...]
    task: str = "detect"


def _size(name: str, parameters_m: float | None = None, coco_map: float | None = None) -> tuple[str, str, Any, Any]:
    return name, f"{name}.pt", parameters_m, coco_map


def _folder(name: str, coco_map: float | None = None, parameters_m: float | None = None) -> tuple[str, str, Any, Any]:
    return name, f"{name}/", parameters_m, coco_map


_YOLO: Final = "ultralytics"
_FAMILIES: Final = (
    _Family(_YOLO, AGPL, "", tuple(_size(f"yolov5{size}u") for size in "nsmlx")),
    _Family(
        _YOLO,
        AGPL,
        "Ultralytics, YOLOv8 table",
        (
            _size("yolov8n", 3.2, 37.3),
            _size("yolov8s", 11.2, 44.9),
            _size("yolov8m", 25.9, 50.2),
            _size("yolov8l", 43.7, 52.9),
            _size("yolov8x", 68.2, 53.9),
        ),
    ),
    _Family(
        _YOLO,
        AGPL,
        "Ultralytics, YOLOv9 table",
        (
            _size("yolov9t", 2.0, 38.3),
            _size("yolov9s", 7.2, 46.8),
            _size("yolov9m", 20.1, 51.4),
            _size("yolov9c", 25.5, 53.0),
            _size("yolov9e", 58.1, 55.6),
        ),
    ),
    _Family(_YOLO, AGPL, "", tuple(_size(f"yolov10{size}") for size in "nsmlx")),
    _Family(
        _YOLO,
        AGPL,
        "Ultralytics, YOLO11 table",
        (
            _size("yolo11n", 2.6, 39.5),
            _size("yolo11s", 9.4, 47.0),
            _size("yolo11m", 20.1, 51.5),
            _size("yolo11l", 25.3, 53.4),
            _size("yolo11x", 56.9, 54.7),
        ),
    ),
    _Family(_YOLO, AGPL, "", tuple(_size(f"yolo12{size}") for size in "nsmlx")),
    _Family(
        _YOLO,
        AGPL,
        "Ultralytics, YOLO26 table",
        (
            _size("yolo26n", 2.4, 40.9),
            _size("yolo26s", 9.5, 48.6),
            _size("yolo26m", 20.4, 53.1),
            _size("yolo26l", 24.8, 55.0),
            _size("yolo26x", 55.7, 57.5),
        ),
    ),
    _Family(_YOLO, AGPL, "RT-DETR README", (_size("rtdetr-l", 32.0, 53.0), _size("rtdetr-x", None, 54.8))),
    _Family(
        _YOLO,
        AGPL,
        "",
        tuple(_size(name) for name in ("yolov8s-worldv2", "yolov8m-worldv2", "yolov8l-worldv2", "yolov8x-worldv2")),
        "zero_shot",
    ),
    _Family(_YOLO, AGPL, "", tuple(_size(f"yoloe-11{size}-seg") for size in "sml"), "segment"),
    *(
        _Family(_YOLO, AGPL, "", tuple(_size(f"{family}{size}-{suffix}") for size in "nsmlx"), task)
        for suffix, task in (("seg", "segment"), ("pose", "pose"), ("obb", "obb"), ("cls", "classify"))
        for family in ("yolov8", "yolo11", "yolo26")
    ),
    _Family(
        "torchvision",
        BSD,
        "torchvision's weight metadata",
        (
            ("fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth", 41.8, 37.0),
            ("fasterrcnn_resnet50_fpn_v2", "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth", 43.7, 46.7),
            ("fasterrcnn_mobilenet_v3_large_fpn", "fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7.pth", 19.4, 32.8),
            (
                "fasterrcnn_mobilenet_v3_large_320_fpn",
                "fasterrcnn_mobilenet_v3_large_320_fpn-907ea3f9.pth",
                19.4,
                22.8,
            ),
            ("retinanet_resnet50_fpn", "retinanet_resnet50_fpn_coco-eeacb38b.pth", 34.0, 36.4),
            ("retinanet_resnet50_fpn_v2", "retinanet_resnet50_fpn_v2_coco-5905b1c5.pth", 38.2, 41.5),
            ("fcos_resnet50_fpn", "fcos_resnet50_fpn_coco-99b0c9b7.pth", 32.3, 39.2),
            ("ssd300_vgg16", "ssd300_vgg16_coco-b556d3b4.pth", 35.6, 25.1),
            ("ssdlite320_mobilenet_v3_large", "ssdlite320_mobilenet_v3_large_coco-a79551df.pth", 3.4, 21.3),
        ),
    ),
    _Family(
        "torchvision",
        BSD,
        "torchvision's weight metadata",
        (
            ("maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth", 44.4, 37.9),
            ("maskrcnn_resnet50_fpn_v2", "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth", 46.4, 47.4),
        ),
        "segment",
    ),
    _Family(
        "torchvision",
        BSD,
        "torchvision's weight metadata",
        (("keypointrcnn_resnet50_fpn", "keypointrcnn_resnet50_fpn_coco-fc266e95.pth", 59.1, 54.6),),
        "pose",
    ),
    _Family(
        "transformers",
        APACHE,
        "DETR README",
        (_folder("detr-resnet-50", 42.0, 41.0), _folder("detr-resnet-101", 43.5)),
    ),
    _Family("transformers", APACHE, "", (_folder("deformable-detr"), _folder("yolos-tiny"), _folder("yolos-small"))),
    _Family("transformers", APACHE, "RT-DETR README", (_folder("rtdetr_r50vd", 53.1, 43.0),)),
    _Family("transformers", APACHE, "", (_folder("rtdetr_v2_r18vd"), _folder("rtdetr_v2_r50vd"))),
    _Family(
        "transformers",
        APACHE,
        "D-FINE README",
        (
            _folder("dfine-nano-coco", 42.8, 4.0),
            _folder("dfine-small-coco", 48.5, 10.0),
            _folder("dfine-medium-coco", 52.3, 19.0),
            _folder("dfine-large-coco", 54.0, 31.0),
            _folder("dfine-xlarge-coco", 55.8, 62.0),
        ),
    ),
    _Family(
        "transformers",
        APACHE,
        "",
        (_folder("grounding-dino-tiny"), _folder("owlv2-base-patch16-ensemble")),
        "zero_shot",
    ),
    _Family(
        "effdet",
        APACHE,
        "efficientdet-pytorch README",
        (
            ("tf_efficientdet_d0", "tf_efficientdet_d0_34-f153e0cf.pth", 3.9, 34.2),
            ("tf_efficientdet_d1", "tf_efficientdet_d1_40-a30f94af.pth", None, 40.1),
            ("tf_efficientdet_d2", "tf_efficientdet_d2_43-8107aa99.pth", 8.1, 43.4),
            ("tf_efficientdet_d3", "tf_efficientdet_d3_47-0b525f35.pth", None, 47.1),
            ("tf_efficientdet_d4", "tf_efficientdet_d4_49-f56376d9.pth", None, 49.2),
            ("tf_efficientdet_d7", "tf_efficientdet_d7_53-6d1d7a95.pth", None, 53.1),
        ),
    ),
    _Family(
        "exported",
        APACHE,
        "",
        tuple((name, f"{name}.onnx", None, None) for name in ("yolox_nano", "yolox_tiny", "yolox_s")),
    ),
)
_PACKAGES: Final = {"ultralytics": "ultralytics", "transformers": "transformers", "effdet": "effdet"}


def list_models(models_dir: Path) -> list[ModelInfo]:
    """Return the known models, in the order of their families, then what else lies in the models folder, by name."""
    known = [_find(family, *model, models_dir) for family in _FAMILIES for model in family.models]
    used = {Path(info.file) for info in known if info.is_here}
    return [*known, *_list_others(models_dir, used)]


def _find(
    family: _Family, name: str, file: str, parameters_m: float | None, coco_map: float | None, models_dir: Path
) -> ModelInfo:
    # A model is the same in every form it may lie there.
    candidates = [file.rstrip("/"), *(name + suffix for suffix in SUFFIXES)]
    path = next((models_dir / one for one in candidates if _is_model(models_dir / one)), None)
    if path is None:
        path = next((found[0] for one in candidates if (found := find_installed(one)) is not None), None)
    package = _PACKAGES.get(family.adapter)
    is_exported = path is not None and path.suffix == ".onnx"
    return ModelInfo(
        name,
        family.task,
        "exported" if is_exported else family.adapter,
        parameters_m,
        coco_map,
        family.source,
        family.licence,
        str(path) if path is not None else file,
        is_here=path is not None,
        is_runnable=package is None or is_exported or find_spec(package) is not None,
        damage=None if path is None else _find_damage(path),
    )


def _is_model(path: Path) -> bool:
    return (path / MODEL_FOLDER_FILE).is_file() if path.is_dir() else path.is_file()


def _list_others(models_dir: Path, used: set[Path]) -> Iterator[ModelInfo]:
    if not models_dir.is_dir():
        return
    for path in sorted(models_dir.iterdir()):
        if path in used or not _is_model(path) or (path.is_file() and path.suffix.lower() not in SUFFIXES):
            continue
        adapter = "transformers" if path.is_dir() else _ADAPTERS.get(path.suffix.lower(), "exported")
        # What they are is in the files, which are not loaded to be listed.
        yield ModelInfo(
            path.stem,
            UNKNOWN,
            adapter,
            None,
            None,
            "",
            UNKNOWN,
            str(path),
            is_here=True,
            damage=_find_damage(path),
        )


def _find_damage(path: Path) -> str | None:
    try:
        return find_damage(path)
    except OSError as error:
        return f"cannot be read ({error.strerror})"


_ADAPTERS: Final = {".pt": "ultralytics", ".pth": "by its card", ".safetensors": "by its card"}
