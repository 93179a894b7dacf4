"""Detectors of transformers find what their own processors find; small networks that were never trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from labels.errors import LabelingError
from ml_backend.detectors import DetectorOptions, OpenVocabularyDetector
from ml_backend.detectors.queries import scale
from ml_backend.models.building import build_detector
from tests.ml_backend.models import assert_same, assert_same_set, read_rgb, stir

transformers = pytest.importorskip("transformers")
from torchvision.transforms import InterpolationMode  # noqa: E402 - beside the next

from ml_backend.detectors.transformers import load_model  # noqa: E402 - it imports transformers

FLOOR = 0.2
NAMES = {number: f"class {number}" for number in range(5)}
SMALL: dict[str, Any] = {
    "d_model": 32,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "decoder_layers": 2,
    "num_queries": 30,
    "id2label": NAMES,
    "label2id": {name: number for number, name in NAMES.items()},
}
HYBRID: dict[str, Any] = {
    "encoder_in_channels": [32, 64, 128],
    "encoder_hidden_dim": 32,
    "decoder_in_channels": [32, 32, 32],
    "num_denoising": 0,
}
BACKBONE: dict[str, Any] = {
    "depths": [1, 1, 1, 1],
    "hidden_sizes": [16, 32, 64, 128],
    "embedding_size": 16,
    "layer_type": "basic",
}
LEVELS = ["stage2", "stage3", "stage4"]
SIDES = {"shortest_edge": 160, "longest_edge": 256}


def make_detr() -> tuple[Any, Any]:
    backbone = transformers.ResNetConfig(**BACKBONE, out_features=["stage4"])
    config = transformers.DetrConfig(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, backbone_config=backbone, **SMALL
    )
    return transformers.DetrForObjectDetection(config), transformers.DetrImageProcessor(size=SIDES)


def make_deformable_detr() -> tuple[Any, Any]:
    backbone = transformers.ResNetConfig(**BACKBONE, out_features=LEVELS)
    config = transformers.DeformableDetrConfig(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, backbone_config=backbone, **SMALL
    )
    return transformers.DeformableDetrForObjectDetection(config), transformers.DeformableDetrImageProcessor(size=SIDES)


def make_rt_detr() -> tuple[Any, Any]:
    backbone = transformers.RTDetrResNetConfig(**BACKBONE, out_features=LEVELS)
    config = transformers.RTDetrConfig(backbone_config=backbone, **HYBRID, **SMALL)
    return transformers.RTDetrForObjectDetection(config), make_fixed_processor()


def make_rt_detr_v2() -> tuple[Any, Any]:
    backbone = transformers.RTDetrResNetConfig(**BACKBONE, out_features=LEVELS)
    config = transformers.RTDetrV2Config(backbone_config=backbone, **HYBRID, **SMALL)
    return transformers.RTDetrV2ForObjectDetection(config), make_fixed_processor()


def make_d_fine() -> tuple[Any, Any]:
    backbone = transformers.HGNetV2Config(
        stage_in_channels=[16, 16, 32, 64],
        stage_mid_channels=[16, 16, 32, 32],
        stage_out_channels=[16, 32, 64, 128],
        stage_num_blocks=[1, 1, 1, 1],
        stage_numb_of_layers=[1, 1, 1, 1],
        stem_channels=[3, 16, 16],
        out_features=LEVELS,
        hidden_sizes=[16, 32, 64, 128],
        embedding_size=16,
        depths=[1, 1, 1, 1],
    )
    config = transformers.DFineConfig(backbone_config=backbone, **HYBRID, **SMALL)
    return transformers.DFineForObjectDetection(config), make_fixed_processor()


def make_yolos() -> tuple[Any, Any]:
    config = transformers.YolosConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=[160, 256],
        num_detection_tokens=15,
        id2label=NAMES,
    )
    return transformers.YolosForObjectDetection(config), transformers.YolosImageProcessor(size=SIDES)


def make_fixed_processor() -> Any:
    return transformers.RTDetrImageProcessor(size={"height": 160, "width": 160})


MAKERS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "detr": make_detr,
    "deformable_detr": make_deformable_detr,
    "rt_detr": make_rt_detr,
    "rt_detr_v2": make_rt_detr_v2,
    "d_fine": make_d_fine,
    "yolos": make_yolos,
}


def save(name: str, folder: Path) -> tuple[Path, Any, Any]:
    torch.manual_seed(0)
    model, processor = MAKERS[name]()
    stir(model)
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder, model, processor


@pytest.fixture(scope="module")
def images(request: pytest.FixtureRequest) -> list[Any]:
    photos = request.getfixturevalue("photos")
    return [read_rgb(photos / name, step=5) for name in ("bus.jpg", "zidane.jpg")]


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_boxes_are_those_of_the_model_s_own_processor(name: str, tmp_path: Path, images: list[Any]) -> None:
    folder, model, processor = save(name, tmp_path)
    detector = build_detector(folder, device="cpu")

    found = detector.detect(images, score_floor=FLOOR)

    assert dict(detector.names) == NAMES
    for ours, image in zip(found, images, strict=True):
        with torch.inference_mode():
            answer = model(**processor(images=image, return_tensors="pt"))
        (theirs,) = processor.post_process_object_detection(answer, threshold=FLOOR, target_sizes=[image.shape[:2]])
        order = theirs["scores"].argsort(descending=True, stable=True)
        height, width = image.shape[:2]
        boxes = theirs["boxes"][order].numpy().clip(0, [width, height, width, height])
        assert_same(ours, boxes, theirs["scores"][order], theirs["labels"][order])
        assert len(ours) > 3
        assert ours.probabilities is not None
        np.testing.assert_allclose(ours.probabilities[np.arange(len(ours)), ours.class_ids], ours.scores)


@pytest.mark.parametrize("name", ["detr", "d_fine"])
def test_the_onnx_form_finds_the_same_set_of_boxes(name: str, tmp_path: Path, images: list[Any]) -> None:
    folder, *_ = save(name, tmp_path / "model")
    options = DetectorOptions(runtime="onnx", cache_dir=tmp_path / "compiled")

    plain = build_detector(folder, device="cpu").detect(images, score_floor=FLOOR)
    compiled = build_detector(folder, device="cpu", options=options).detect(images, score_floor=FLOOR)

    for ours, theirs in zip(compiled, plain, strict=True):
        assert_same_set(ours, theirs)


@pytest.mark.parametrize("resample", [0, 2, 3])
def test_images_are_scaled_as_the_processor_scales_them(resample: int, tmp_path: Path, images: list[Any]) -> None:
    torch.manual_seed(0)
    processor = transformers.RTDetrImageProcessor(size={"height": 160, "width": 160}, resample=resample)
    make_rt_detr()[0].eval().save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)

    loaded = load_model(tmp_path)
    ours = scale(images[0], (160, 160), InterpolationMode(loaded.resample))

    theirs = processor(images=images[0], return_tensors="pt")["pixel_values"][0].permute(1, 2, 0) * 255
    np.testing.assert_allclose(ours, theirs, atol=1.01)


def test_a_graph_that_would_be_right_for_one_size_alone_is_not_made(tmp_path: Path) -> None:
    folder, *_ = save("deformable_detr", tmp_path / "model")
    options = DetectorOptions(runtime="onnx", cache_dir=tmp_path / "compiled")

    with pytest.raises(LabelingError, match="one size of image alone"):
        build_detector(folder, device="cpu", options=options)


def test_an_overlap_is_refused_where_no_network_drops_boxes_by_it(tmp_path: Path) -> None:
    folder, *_ = save("rt_detr", tmp_path)

    with pytest.raises(LabelingError, match=r"LABELLOOP_NMS_IOU=0\.6: .* chooses its boxes without it"):
        build_detector(folder, device="cpu", options=DetectorOptions(nms_iou=0.6))


@pytest.mark.parametrize("name", ["Owlv2", "OwlViT"])
def test_owl_finds_what_its_processor_finds_for_the_classes_it_is_told(
    name: str, tmp_path: Path, images: list[Any]
) -> None:
    folder, model, processor = save_owl(tmp_path, name)
    names = ["cat", "a dog"]
    detector = build_detector(folder, device="cpu", options=DetectorOptions(class_names=tuple(names)))
    floor = 0.3

    found = detector.detect(images, score_floor=floor)

    assert detector.task == "zero_shot"
    assert isinstance(detector, OpenVocabularyDetector)
    for ours, image in zip(found, images, strict=True):
        with torch.inference_mode():
            answer = model(**processor(images=image, text=[names], return_tensors="pt"))
        (theirs,) = processor.post_process_grounded_object_detection(
            answer, threshold=floor, target_sizes=[image.shape[:2]], text_labels=[names]
        )
        order = theirs["scores"].argsort(descending=True, stable=True)
        height, width = image.shape[:2]
        boxes = theirs["boxes"][order].numpy().clip(0, [width, height, width, height])
        assert_same(ours, boxes, theirs["scores"][order], theirs["labels"][order])
        assert len(ours) > 3


def test_a_zero_shot_model_whose_boxes_nobody_has_compared_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "omdet-turbo", "use_timm_backbone": false}')

    with pytest.raises(LabelingError, match=r"'omdet-turbo' .*expected grounding-dino, .*owlv2"):
        build_detector(tmp_path, device="cpu")


def save_owl(folder: Path, name: str) -> tuple[Path, Any, Any]:
    torch.manual_seed(0)
    small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = getattr(transformers, f"{name}Config")(
        text_config={**small, "vocab_size": 600, "max_position_embeddings": 16, "bos_token_id": 1, "eos_token_id": 2},
        vision_config={**small, "image_size": 96, "patch_size": 16},
        projection_dim=32,
    )
    model = getattr(transformers, f"{name}ForObjectDetection")(config).eval()
    with torch.no_grad():
        # At random these two push every probability to 0.
        model.class_head.logit_scale.weight.zero_()
        model.class_head.logit_shift.weight.zero_()
    scaling = getattr(transformers, f"{name}ImageProcessor")(size={"height": 96, "width": 96})
    processor = getattr(transformers, f"{name}Processor")(scaling, make_clip_tokenizer(folder))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder, model, processor


def make_clip_tokenizer(folder: Path) -> Any:
    """Return a tokenizer that knows single letters, which is enough to tell prompts apart."""
    import json

    letters = [chr(number) for number in range(33, 127)]
    # Number 0 would count as no text at all.
    tokens = ["<|nothing|>", "<|startoftext|>", "<|endoftext|>", *letters, *(letter + "</w>" for letter in letters)]
    folder.mkdir(exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return transformers.CLIPTokenizer.from_pretrained(folder, model_max_length=16)


def test_grounding_dino_gives_each_class_the_best_of_its_words(tmp_path: Path, images: list[Any]) -> None:
    folder, model, processor = save_grounding_dino(tmp_path)
    detector = build_detector(folder, device="cpu", options=DetectorOptions(class_names=("Cat", "red dog")))

    (found,) = detector.detect(images[:1], score_floor=0.001)

    with torch.inference_mode():
        answer = model(**processor(images=images[0], text="cat. red dog.", return_tensors="pt"))
    # The prompt is [CLS] cat . red dog . [SEP]: words 1, and 3 to 4.
    tokens = answer.logits[0].sigmoid().numpy()
    expected = np.stack([tokens[:, 1], tokens[:, 3:5].max(axis=1)], axis=1)
    order = np.argsort(-expected.max(axis=1), kind="stable")
    assert len(found) == len(order) > 3
    np.testing.assert_allclose(found.scores, expected.max(axis=1)[order], atol=1e-5)
    assert found.probabilities is not None
    np.testing.assert_allclose(np.sort(found.probabilities, axis=0), np.sort(expected, axis=0), atol=1e-5)
    # The library's own scores count every token, also those between the classes.
    (theirs,) = processor.post_process_grounded_object_detection(
        answer, threshold=0.001, text_threshold=0.001, target_sizes=[images[0].shape[:2]]
    )
    assert found.scores.max() <= float(theirs["scores"].max()) + 1e-6


def save_grounding_dino(folder: Path) -> tuple[Path, Any, Any]:
    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "?", "cat", "red", "dog"]
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = transformers.BertTokenizer.from_pretrained(folder)
    text = {"vocab_size": 2000, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.GroundingDinoConfig(
        backbone_config=transformers.SwinConfig(
            embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4, out_features=LEVELS
        ),
        text_config={**text, "intermediate_size": 32, "model_type": "bert"},
        encoder_layers=1,
        **{key: value for key, value in SMALL.items() if key not in {"id2label", "label2id"}},
        num_feature_levels=4,
        max_text_len=32,
    )
    model = transformers.GroundingDinoForObjectDetection(config).eval()
    stir(model)
    processor = transformers.GroundingDinoProcessor(transformers.GroundingDinoImageProcessor(size=SIDES), tokenizer)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder, model, processor
