"""What a training is made of: sets, schedules, transfer of weights, scores, and what is refused before it begins."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from labels.errors import LabelingError
from ml_backend.detectors import Detections
from ml_backend.detectors.cards import Card, read_card
from ml_backend.detectors.torchvision import make_network
from ml_backend.training import (
    TrainingBox,
    TrainingError,
    TrainingItem,
    TrainingSet,
    TrainingSettings,
    read_history,
)
from ml_backend.training.checking import check_set
from ml_backend.training.pixels import change_image, check_images, keep_inside
from ml_backend.training.schedule import choose_places, compute_lr_share, to_batches
from ml_backend.training.scoring import compute_calibration_error, compute_hits, compute_map
from ml_backend.training.starting import Start, find_start
from ml_backend.training.torchvision_training import find_counting
from ml_backend.training.transfer import ClassRows, transfer_tensors
from tests.ml_backend.toy_training import CLASSES, SIZE, make_items


def make_item(**changes: object) -> TrainingItem:
    return replace(TrainingItem(Path("a.png"), SIZE), **changes)  # type: ignore[arg-type]


def test_a_set_reads_back_as_it_was(tmp_path: Path) -> None:
    outline = ((1.5, 2.0), (30.0, 2.0), (20.0, 50.0))
    item = make_item(boxes=(TrainingBox((1.5, 2.0, 30.0, 50.0), 1, outline),), weight=2.5)
    training_set = TrainingSet(("rot", "größe"), (item, make_item(class_id=0)), make_items(tmp_path, 2, seed=3))

    assert TrainingSet.from_json(training_set.to_json()) == training_set


@pytest.mark.parametrize("odd", ["\u2028", "\u2029", "\x85", "\x0b", "\x1c", "\n"])
def test_a_set_reads_back_whatever_is_in_its_names(odd: str) -> None:
    training_set = TrainingSet((f"ca{odd}fé",), (make_item(image=Path(f"/photos/a{odd}b.jpg"), sha256="0" * 64),))

    assert TrainingSet.from_json(training_set.to_json()) == training_set


def test_settings_read_back_as_they_were() -> None:
    settings = TrainingSettings("timm", "resnet18", weights=Path("/a b/c.safetensors"), lr=0.1)

    assert TrainingSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


def test_a_history_that_cannot_be_read_is_no_epochs(tmp_path: Path) -> None:
    assert read_history(tmp_path) == []
    (tmp_path / "history.json").write_text('[{"epoch": 1}, ')
    assert read_history(tmp_path) == []


def test_an_image_of_weight_three_is_seen_three_times_an_epoch_and_one_and_a_half_every_other_time() -> None:
    items = [make_item(), make_item(weight=3.0), make_item(weight=1.5)]

    seen = Counter(place for epoch in range(400) for place in choose_places(items, seed=5, epoch=epoch))

    assert seen[0] == 400
    assert seen[1] == 1200
    assert 540 < seen[2] < 660


def test_each_epoch_has_an_order_of_its_own_and_the_same_seed_the_same() -> None:
    items = [make_item() for _ in range(20)]

    first, again, second = (choose_places(items, seed=1, epoch=epoch) for epoch in (1, 1, 2))

    assert first == again != second
    assert sorted(first) == sorted(second) == list(range(20))


def test_the_learning_rate_warms_up_and_then_only_falls() -> None:
    shares = [compute_lr_share(step, steps=60, steps_per_epoch=10) for step in range(60)]

    assert shares[:10] == sorted(shares[:10])
    assert shares[10:] == sorted(shares[10:], reverse=True)
    assert (max(shares), shares[-1]) == (1.0, pytest.approx(0.01, abs=0.01))


def test_no_batch_has_a_single_image_where_there_are_more() -> None:
    assert [len(batch) for batch in to_batches(range(9), 4)] == [4, 5]
    assert to_batches([7], 4) == [[7]]


def test_the_same_class_keeps_its_numbers_when_classes_move_come_and_go() -> None:
    rows = ClassRows({"car": 1, "bus": 2}, {"Dog": 1, "bus": 2, "CAR": 3}, old_outputs=3, new_outputs=4)
    old = {"roi.box_predictor.cls_score.weight": torch.arange(3.0)[:, None] + 10, "body.conv": torch.ones(2)}
    new = {"roi.box_predictor.cls_score.weight": torch.zeros(4, 1), "body.conv": torch.zeros(2), "own": torch.ones(1)}

    counting = ["roi.box_predictor.cls_score.weight"]
    made = transfer_tensors(old, new, rows, counting=counting, class_first=("box_predictor",))

    # Background, dog (not known before), bus, car.
    assert made["roi.box_predictor.cls_score.weight"].flatten().tolist() == [10, 0, 12, 11]
    assert made["body.conv"].tolist() == [1, 1]
    assert made["own"].tolist() == [1]


def test_heads_that_count_anchors_first_are_taken_class_by_class_too() -> None:
    rows = ClassRows({"car": 1}, {"bus": 1, "car": 2}, old_outputs=2, new_outputs=3)
    old = {"head.cls_logits.bias": torch.tensor([0.0, 1, 10, 11])}
    new = {"head.cls_logits.bias": torch.full((6,), -1.0)}

    made = transfer_tensors(old, new, rows, counting=["head.cls_logits.bias"])

    assert made["head.cls_logits.bias"].tolist() == [0, -1, 1, 10, -1, 11]


@pytest.mark.parametrize("model", ["fasterrcnn_resnet50_fpn_v2", "retinanet_resnet50_fpn_v2", "maskrcnn_resnet50_fpn"])
def test_all_but_the_last_layers_are_taken_whatever_the_number_of_classes(model: str) -> None:
    # Three classes and the background: four divides the width of every layer.
    names = {number: f"class {number}" for number in range(1, 91)}
    few = Card("torchvision", model, {1: "one", 2: "two", 3: "three"}, 4)
    with torch.device("meta"):
        old, new = (make_network(card).state_dict() for card in (Card("torchvision", model, names, 91), few))
    rows = ClassRows({name: number for number, name in names.items()}, {"one": 1, "two": 2, "three": 3}, 91, 4)

    made = transfer_tensors(old, new, rows, counting=find_counting(few))

    not_whole = {name for name in new if made[name] is not old[name]}
    assert not_whole
    assert not_whole == {name for name in new if old[name].shape != new[name].shape}


def ask_pycocotools(items: Sequence[TrainingItem], found: Sequence[Detections]) -> dict[str, float]:
    """What the reference says of the same boxes."""
    truth: list[dict[str, object]] = []
    results: list[dict[str, object]] = []
    for number, (item, seen) in enumerate(zip(items, found, strict=True), 1):
        for box in item.boxes:
            x1, y1, x2, y2 = box.xyxy
            row = {"id": len(truth) + 1, "image_id": number, "category_id": box.class_id, "iscrowd": 0}
            truth.append(row | {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)})
        for xyxy, score, class_id in zip(seen.xyxy.tolist(), seen.scores, seen.class_ids, strict=True):
            bbox = [xyxy[0], xyxy[1], xyxy[2] - xyxy[0], xyxy[3] - xyxy[1]]
            results.append({"image_id": number, "category_id": int(class_id), "bbox": bbox, "score": float(score)})
    oracle = COCO()
    images = [{"id": number, "width": 96, "height": 64} for number in range(1, len(items) + 1)]
    categories = [{"id": 0, "name": "red"}, {"id": 1, "name": "blue"}]
    oracle.dataset = {"images": images, "annotations": truth, "categories": categories, "info": {}}
    oracle.createIndex()
    evaluation = COCOeval(oracle, oracle.loadRes(results), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return {"map50_95": evaluation.stats[0], "map50": evaluation.stats[1]}


def test_map_is_that_of_pycocotools() -> None:
    random = np.random.default_rng(0)
    items, found = [], []
    for _ in range(12):
        corners = random.uniform(0, 40, (4, 2))
        boxes = np.concatenate([corners, corners + random.uniform(5, 20, (4, 2))], 1)
        class_ids = random.integers(0, 2, 4)
        drawn = zip(boxes.tolist(), class_ids.tolist(), strict=True)
        items.append(make_item(boxes=tuple(TrainingBox(tuple(box), number) for box, number in drawn)))
        moved, scores = boxes + random.normal(0, 1.5, boxes.shape), np.sort(random.uniform(0, 1, 4))[::-1]
        found.append(Detections(moved.astype(np.float32), scores.astype(np.float32), class_ids.astype(np.int64)))

    scores = compute_map(items, found, CLASSES)

    assert 0.05 < scores["map50_95"] < 0.95
    assert scores == pytest.approx(ask_pycocotools(items, found), abs=1e-6)


def test_a_hundred_boxes_of_each_class_count_as_pycocotools_counts_them() -> None:
    item = make_item(boxes=(TrainingBox((10, 10, 30, 30), 0), TrainingBox((50, 20, 70, 50), 1)))
    # More than a hundred surer ones of red, all wrong, before the right one of each.
    wrong = np.tile([80, 2, 90, 8], (150, 1))
    seen = Detections(
        np.vstack([wrong, [[10, 10, 30, 30], [50, 20, 70, 50]]]).astype(np.float32),
        np.r_[np.linspace(0.9, 0.5, 150), 0.4, 0.3].astype(np.float32),
        np.r_[np.zeros(151), 1].astype(np.int64),
    )

    scores = compute_map([item], [seen], CLASSES)

    assert scores == pytest.approx(ask_pycocotools([item], [seen]), abs=1e-6)
    assert scores["map50_95"] == pytest.approx(0.5)


def test_images_without_objects_measure_nothing_and_a_model_that_finds_nothing_scores_zero() -> None:
    nothing = Detections.nothing()

    assert compute_map([make_item()], [nothing], CLASSES) == {}
    with_box = make_item(boxes=(TrainingBox((1, 1, 9, 9), 0),))
    assert compute_map([with_box], [nothing], CLASSES) == {"map50_95": 0.0, "map50": 0.0}


def test_hits_and_calibration_are_those_of_torchmetrics_definitions() -> None:
    probabilities = np.array([[0.8, 0.1, 0.1], [0.4, 0.35, 0.25], [0.2, 0.3, 0.5]], np.float32)

    scores = compute_hits(probabilities, [0, 1, 2])

    assert (scores["top1"], scores["top5"]) == (pytest.approx(2 / 3), 1.0)
    # Three bins with one image each: (1 - 0.8 + 0.4 + 1 - 0.5) / 3.
    assert scores["ece"] == pytest.approx((0.2 + 0.4 + 0.5) / 3)
    assert compute_calibration_error(np.ones(2, np.float32), np.array([True, True])) == 0
    assert compute_hits(np.zeros((0, 3), np.float32), []) == {}


def test_a_flipped_image_takes_its_boxes_along() -> None:
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[10:30, 5:25] = 255
    box = TrainingBox((5.0, 10.0, 25.0, 30.0), 0, ((5.0, 10.0), (25.0, 10.0), (25.0, 30.0)))

    seen = set()
    for word in range(12):
        changed, (moved,) = change_image(pixels, [box], seed=0, words=(word,))
        rows, columns = np.nonzero(changed[..., 0] > changed.mean())
        assert moved.xyxy == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert moved.outline is not None
        assert {x for x, _ in moved.outline} == {moved.xyxy[0], moved.xyxy[2]}
        seen.add(moved.xyxy[0])
    assert seen == {5.0, 71.0}


def test_boxes_are_cut_at_the_edges_and_what_has_no_area_left_is_no_object() -> None:
    boxes = tuple(TrainingBox(xyxy, 0) for xyxy in ((-5, -5, 10, 10), (90, 60, 200, 200), (100, 0, 120, 20)))

    kept = keep_inside(make_item(boxes=boxes))

    assert [box.xyxy for box in kept.boxes] == [(0, 0, 10, 10), (90, 60, 96, 64)]


def test_broken_missing_and_changed_images_are_named_and_the_others_stay(tmp_path: Path) -> None:
    good, cut, gone, other, repainted = make_items(tmp_path, 5, seed=1)
    good = replace(good, sha256=hashlib.sha256(good.image.read_bytes()).hexdigest())
    repainted = replace(repainted, sha256=hashlib.sha256(repainted.image.read_bytes()).hexdigest())
    PillowImage.new("RGB", (SIZE.width, SIZE.height)).save(repainted.image)
    cut.image.write_bytes(cut.image.read_bytes()[:200])
    gone.image.unlink()
    PillowImage.new("RGB", (10, 20)).save(other.image)

    left, broken = check_images(TrainingSet(CLASSES, (good, cut, gone, other, repainted), (good,)), lambda _: None)

    assert (left.train, left.val) == ((good,), (good,))
    problems = dict(broken)
    assert "damaged" in problems[str(cut.image)]
    assert "cannot be read" in problems[str(gone.image)]
    assert problems[str(other.image)] == "is 10 x 20 pixels now, and was 96 x 64 pixels when its labels were frozen"
    assert problems[str(repainted.image)] == "is not the file that was frozen: its content changed"


@pytest.mark.parametrize(
    ("training_set", "is_classifier", "problem"),
    [
        (TrainingSet((), (make_item(),)), False, "no class to learn"),
        (TrainingSet(CLASSES, ()), False, "no image to learn from"),
        (TrainingSet(CLASSES, (make_item(),)), False, "no box of any class"),
        (TrainingSet(CLASSES, (make_item(),)), True, "no image of any class"),
        (TrainingSet(("one",), (make_item(class_id=0),)), True, "two classes at least"),
    ],
)
def test_a_set_from_which_nothing_can_be_learned_is_refused(
    training_set: TrainingSet, is_classifier: bool, problem: str
) -> None:
    with pytest.raises(TrainingError, match=problem):
        check_set(training_set, is_classifier=is_classifier)


def test_a_class_without_a_box_and_a_missing_val_split_are_told() -> None:
    item = make_item(boxes=(TrainingBox((1, 1, 9, 9), 0),))

    notes = check_set(TrainingSet(CLASSES, (item,)), is_classifier=False)

    assert notes == [
        "never seen in the train split, and so never learned: blue",
        "fewer than 10 boxes to learn from: red (1)",
        "no image in the val split: nothing is measured, and the last epoch counts",
    ]


def test_names_stand_for_families(tmp_path: Path) -> None:
    assert find_start("timm:efficientnet_b2", models_dir=tmp_path) == Start("timm", "efficientnet_b2")
    assert find_start("ssdlite320_mobilenet_v3_large", models_dir=tmp_path).family == "torchvision"
    assert find_start("yolo11n.yaml", models_dir=tmp_path) == Start("ultralytics", "yolo11n.yaml")


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        ("yolo11n", "cannot be trained"),
        ("no_such_model", "no weights"),
        ("yolo11n.yaml,yolov8n.yaml", "model"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_name(tmp_path: Path, model: str, problem: str) -> None:
    with pytest.raises(LabelingError, match=problem):
        find_start(model, models_dir=tmp_path, is_offline=True)


def test_weights_for_a_model_that_has_its_own_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LabelingError, match="has its own weights"):
        find_start("yolo11n.yaml", weights=tmp_path / "x.safetensors", models_dir=tmp_path)
    with pytest.raises(LabelingError, match="no file of tensors"):
        find_start("timm:resnet18", weights=tmp_path / "x.safetensors", models_dir=tmp_path)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"side": 0}, "side 0 .expected pixels"),
        ({"side": "640"}, "side '640'"),
        ({"side": True}, "side True"),
        ({"mean": [0.5, 0.5]}, "mean must be three numbers"),
        ({"std": [1, 0, 1]}, "std must be three numbers"),
        ({"crop": 1.5}, "crop 1.5"),
        ({"adapter": "keras"}, "adapter 'keras'"),
    ],
)
def test_a_card_that_cannot_be_used_is_refused(tmp_path: Path, values: dict[str, object], problem: str) -> None:
    card = {"adapter": "timm", "model": "test_convnext", "names": ["a", "b"]} | values
    (tmp_path / "net.json").write_text(json.dumps(card))

    with pytest.raises(LabelingError, match=problem):
        read_card(tmp_path / "net.safetensors")


def test_a_classifiers_card_counts_from_zero_and_a_detectors_from_one(tmp_path: Path) -> None:
    for name, adapter in (("a", "timm"), ("b", "torchvision")):
        (tmp_path / f"{name}.json").write_text(json.dumps({"adapter": adapter, "model": "m", "names": ["x", "y"]}))

    one, other = (read_card(tmp_path / f"{name}.safetensors") for name in "ab")

    assert (one.names, one.outputs) == ({0: "x", 1: "y"}, 2)
    assert (other.names, other.outputs) == ({1: "x", 2: "y"}, 3)
