from pathlib import Path

from ml_backend.models.catalog import ModelInfo, list_models


def find(models: list[ModelInfo], name: str) -> ModelInfo:
    (model,) = (one for one in models if one.name == name)
    return model


def test_a_model_is_listed_with_what_is_published_of_it(tmp_path: Path) -> None:
    models = list_models(tmp_path)

    model = find(models, "yolov8n")
    assert model == ModelInfo(
        "yolov8n", "detect", "ultralytics", 3.2, 37.3, "Ultralytics, YOLOv8 table", "AGPL-3.0", "yolov8n.pt"
    )
    assert find(models, "maskrcnn_resnet50_fpn").task == "segment"
    assert len({one.name for one in models}) == len(models)


def test_torchvision_s_own_numbers_are_listed(tmp_path: Path) -> None:
    from torchvision import models

    for info in list_models(tmp_path):
        if info.adapter != "torchvision":
            continue
        (published,) = (one for one in models.get_model_weights(info.name) if one.url.endswith(info.file))
        assert info.coco_map == published.meta["_metrics"]["COCO-val2017"]["box_map"]
        assert info.parameters_m == round(published.meta["num_params"] / 1e6, 1)


def test_there_is_a_permissive_model_for_boxes_masks_and_points(tmp_path: Path) -> None:
    permissive = {model.task for model in list_models(tmp_path) if model.licence != "AGPL-3.0"}

    assert {"detect", "segment", "pose", "zero_shot"} <= permissive


def test_what_lies_in_the_models_folder_or_in_a_package_is_here(tmp_path: Path) -> None:
    (tmp_path / "yolov8s.onnx").write_bytes(b"any")
    (tmp_path / "my own.pt").write_bytes(b"any")
    (tmp_path / "notes.txt").write_bytes(b"any")
    (tmp_path / "compiled").mkdir()
    (tmp_path / "dfine-nano-coco").mkdir()
    (tmp_path / "dfine-nano-coco" / "config.json").write_text("{}")

    here = {model.name: (model.adapter, model.licence) for model in list_models(tmp_path) if model.is_here}

    assert here == {
        "yolov8s": ("exported", "AGPL-3.0"),
        "yolo11n": ("exported", "AGPL-3.0"),  # in a package this project depends on
        "dfine-nano-coco": ("transformers", "Apache-2.0"),
        "my own": ("ultralytics", "unknown"),
    }


def test_a_models_folder_that_is_not_there_has_no_models_of_its_own(tmp_path: Path) -> None:
    assert not any("unknown" in model.licence for model in list_models(tmp_path / "absent"))
