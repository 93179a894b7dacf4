"""Masks and turned boxes are judged by what they are, not by the box round them: pycocotools and OpenCV agree."""

from __future__ import annotations

import contextlib
import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from labels.config import LabelConfig
from labels.geometry import Box, ImageSize, Mask, Polygon
from labels.results import Label
from sync.models.bootstrap import read_matches, score_draw
from sync.models.boxes import Boxes, encode_mask, find_right, from_turned_box, match_boxes, to_turned_box
from sync.models.evaluation import evaluate_boxes
from sync.models.examples import Examples, read_examples
from sync.models.looks import Look, ModelFacts, Row, read_look, write_look
from sync.versions.version import VersionImage, VersionLabel

SIZE = ImageSize(160, 120)
CLASSES = ("lake", "wood")
CONFIG = LabelConfig.from_xml(
    """<View><Image name="image" value="$image"/>
<PolygonLabels name="outline" toName="image"><Label value="lake"/><Label value="wood"/></PolygonLabels>
<RectangleLabels name="label" toName="image"><Label value="car"/></RectangleLabels></View>"""
)
IMAGES = 20


def make_polygon(random: np.random.Generator, middle: tuple[float, float], radius: float) -> Polygon:
    turns = np.sort(random.uniform(0, 2 * math.pi, 9))
    reach = radius * random.uniform(0.4, 1.0, 9)
    x, y = middle[0] + reach * np.cos(turns), middle[1] + reach * np.sin(turns)
    return Polygon(tuple(zip(np.clip(x, 0, SIZE.width).tolist(), np.clip(y, 0, SIZE.height).tolist(), strict=True)))


def to_pixels(polygon: Polygon) -> Any:
    flat = [side for point in polygon.points for side in point]
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([flat], SIZE.height, SIZE.width))) > 0


def make_look(seed: int, *, off_px: float) -> tuple[list[VersionImage], Look]:
    """Return images with outlines by people, and what a model found near them."""
    random = np.random.default_rng(seed)
    images, rows = [], []
    for place in range(IMAGES):
        labels = []
        for number in range(int(random.integers(1, 5))):
            middle = (random.uniform(30, 130), random.uniform(30, 90))
            polygon = make_polygon(random, middle, random.uniform(8, 40))
            name = CLASSES[int(random.integers(2))]
            labels.append(VersionLabel(Label(f"{place:012x}{number:012x}", "outline", (name,), polygon)))
            moved = Polygon(tuple((x + off_px, y - off_px / 2) for x, y in polygon.points))
            pixels = np.asarray(to_pixels(moved), np.bool_)
            counts = encode_mask(pixels)["counts"].decode()
            rows.append(Row(str(place), name, Mask(pixels).to_xyxy(), float(random.uniform(0.1, 1)), counts))
        images.append(VersionImage(str(place), Path("x"), "0" * 64, SIZE, "test", labels=tuple(labels)))
    return images, Look(ModelFacts("segment", "MIT", "seg-1", 2), rows, {})


def ask_pycocotools(examples: Examples, look: Look) -> Any:
    truth, found = [], []
    for image in examples.images:
        for label in image.regions:
            assert isinstance(label.geometry, Polygon)
            coded = coco_mask.encode(np.asfortranarray(to_pixels(label.geometry), np.uint8))
            truth.append({"image_id": int(image.sample_id) + 1, "category_id": CLASSES.index(label.class_name) + 1})
            truth[-1] |= {"id": len(truth), "iscrowd": 0, "segmentation": coded}
            truth[-1] |= {"area": float(coco_mask.area(coded)), "bbox": coco_mask.toBbox(coded).tolist()}
    for row in look.rows:
        coded = {"size": [SIZE.height, SIZE.width], "counts": row.shape.encode()}
        found.append({"image_id": int(row.sample_id) + 1, "category_id": CLASSES.index(row.label) + 1})
        found[-1] |= {"score": row.score, "segmentation": coded}
    with contextlib.redirect_stdout(io.StringIO()):
        drawn = COCO()
        drawn.dataset = {
            "images": [{"id": place + 1, "width": SIZE.width, "height": SIZE.height} for place in range(IMAGES)],
            "categories": [{"id": number, "name": name} for number, name in enumerate(CLASSES, 1)],
            "annotations": truth,
        }
        drawn.createIndex()
        evaluation = COCOeval(drawn, drawn.loadRes(found), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def score_all(truth: Boxes, found: Boxes, classes: tuple[str, ...]) -> list[float]:
    matches = read_matches(truth, found, images=IMAGES, classes=len(classes))
    return score_draw(matches, np.ones(IMAGES, np.int64)).tolist()


@pytest.mark.parametrize(("seed", "off_px"), [(1, 1.0), (2, 3.0)])
def test_masks_are_scored_as_pycocotools_scores_them(seed: int, off_px: float) -> None:
    images, look = make_look(seed, off_px=off_px)
    examples = read_examples(images, CONFIG, tasks=["segment"])
    examples = replace(examples, classes=CLASSES).by(examples.find_overlap({"segment"}))
    truth, found = examples.truth, look.to_boxes(examples)

    ours, theirs = evaluate_boxes(examples.sizes, CLASSES, truth, found), ask_pycocotools(examples, look)

    assert ours.metric == "mask mAP50-95"
    sizes = [-1 if one.map50_95 is None else one.map50_95 for one in ours.sizes]
    assert [ours.map50_95, ours.map50, ours.map75, *sizes] == pytest.approx(theirs.stats[:6].tolist(), abs=1e-6)
    assert 0.2 < (ours.map50_95 or 0) < 0.95
    # The gate's own sum over every image once is the same number.
    assert score_all(truth, found, CLASSES) == pytest.approx([one.map50_95 for one in ours.classes], abs=1e-9)
    by_box = evaluate_boxes(
        examples.sizes, CLASSES, replace(truth, overlap="box", shapes=()), replace(found, overlap="box", shapes=())
    )
    assert by_box.map50_95 != ours.map50_95


def test_turned_boxes_overlap_as_opencv_says_and_are_scored_by_that() -> None:
    import cv2

    random = np.random.default_rng(3)
    rows, others = [], []
    for image in range(IMAGES):
        box = (float(random.uniform(50, 110)), float(random.uniform(40, 80)), 60.0, 18.0, float(random.uniform(0, 3)))
        moved = (box[0] + 2, box[1] - 1, box[2], box[3], box[4] + float(random.uniform(0, 0.4)))
        rows.append((image, box))
        others.append((image, moved))

    def to_boxes(found: list[Any]) -> Boxes:
        upright = [to_turned_box(shape).to_xyxy() for _, shape in found]
        boxes = Boxes.from_rows([(image, 0, xyxy) for (image, _), xyxy in zip(found, upright, strict=True)])
        return replace(boxes, overlap="turned", shapes=tuple(shape for _, shape in found))

    truth, found = to_boxes(rows), replace(to_boxes(others), scores=random.uniform(0.1, 1, IMAGES))

    def ask_opencv(one: Any, other: Any) -> float:
        rects = [((x, y), (width, height), math.degrees(turn)) for x, y, width, height, turn in (one, other)]
        _, points = cv2.rotatedRectangleIntersection(*rects)
        common = 0.0 if points is None else float(cv2.contourArea(cv2.convexHull(points)))
        return common / (2 * 60 * 18 - common)

    overlaps = [ask_opencv(one, other) for (_, one), (_, other) in zip(rows, others, strict=True)]
    for least in (0.5, 0.6, 0.7, 0.8):
        is_right = match_boxes(truth, found, (least,))[0][0]
        assert is_right.tolist() == [overlap >= least for overlap in overlaps]
    evaluation = evaluate_boxes([SIZE] * IMAGES, ("car",), truth, found)
    assert evaluation.metric == "turned-box mAP50-95"
    assert 0.2 < (evaluation.map50_95 or 0) < 0.95
    assert score_all(truth, found, ("car",)) == pytest.approx([evaluation.map50_95], abs=1e-9)


def test_a_turn_that_the_upright_box_does_not_tell_makes_a_box_wrong() -> None:
    one, other = Box(40.0, 40.0, 60.0, 12.0, 40.0), Box(40.0, 40.0, 60.0, 12.0, 50.0)
    boxes = [Boxes.from_rows([(0, 0, box.to_xyxy())]) for box in (one, other)]
    turned = [
        replace(row, overlap="turned", shapes=(from_turned_box(box),))
        for row, box in zip(boxes, (one, other), strict=True)
    ]

    assert find_right(boxes[0], replace(boxes[1], scores=np.ones(1))).tolist() == [True]
    assert find_right(turned[0], replace(turned[1], scores=np.ones(1))).tolist() == [False]
    assert to_turned_box(from_turned_box(one)) == pytest.approx(one)


@pytest.mark.parametrize(
    ("shape", "tasks", "overlap"),
    [
        (Polygon(((1.0, 1.0), (9.0, 1.0), (9.0, 9.0))), {"segment"}, "mask"),
        (Mask(np.ones((SIZE.height, SIZE.width), np.bool_)), {"segment"}, "mask"),
        (Polygon(((1.0, 1.0), (9.0, 1.0), (9.0, 9.0))), {"segment", "detect"}, "box"),
        (Box(1, 1, 8, 8), {"segment"}, "box"),
        (Box(1, 1, 8, 8, 30), {"obb"}, "turned"),
        (Box(1, 1, 8, 8), {"obb", "detect"}, "turned"),
        (Box(1, 1, 8, 8, 30), {"detect"}, "box"),
        (Polygon(((1.0, 1.0), (9.0, 1.0), (9.0, 9.0))), {"obb"}, "box"),
    ],
)
def test_what_is_compared_is_what_both_models_give_and_people_drew(shape: Any, tasks: set[str], overlap: str) -> None:
    label = VersionLabel(Label("1" * 24, "outline", ("lake",), shape))
    image = VersionImage("1", Path("x"), "0" * 64, SIZE, "test", labels=(label,))

    examples = Examples((image,), CLASSES, Boxes.from_rows([]))

    assert examples.find_overlap(tasks) == overlap


def test_a_look_is_read_as_it_was_kept(tmp_path: Path) -> None:
    _, look = make_look(1, off_px=1.0)
    bare = Look(ModelFacts("classify", "MIT", "x-1", 2, "flower"), [], {})

    for kept in (look, bare):
        write_look(tmp_path / "look.npz", kept)
        read = read_look(tmp_path / "look.npz")
        assert read is not None
        assert (read.facts, [row.shape for row in read.rows]) == (kept.facts, [row.shape for row in kept.rows])
    (tmp_path / "look.npz").write_bytes(b"half")
    assert read_look(tmp_path / "look.npz") is None
