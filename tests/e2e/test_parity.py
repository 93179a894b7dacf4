"""Real photos with known objects: what comes back from Label Studio scores as what the detector drew."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from labels.geometry import Box
from ml_backend.models.building import build_detector
from ml_backend.models.weights import resolve_weights
from sync.jobs.context import connect_backend
from sync.jobs.datasets.ingest import ingest
from sync.jobs.exchange.prelabel import prelabel
from sync.jobs.exchange.pull import pull
from sync.jobs.exchange.push import push
from tests.e2e.conftest import RunningStack
from tests.e2e.fresh_project import FreshProject, open_fresh_project

COCO128 = Path(os.environ.get("LABELLOOP_TEST_COCO128") or Path(__file__).parents[3] / "shared" / "data" / "coco128")
SCORE_FLOOR = 0.2


@pytest.mark.skipif(
    not (COCO128 / "instances.json").is_file(),
    reason=f"no coco128 at {COCO128} (LABELLOOP_TEST_COCO128 names its folder)",
)
def test_pre_labels_pushed_and_pulled_back_unchanged_score_like_the_detector(stack: RunningStack, tmp_path: Path):
    truth = COCO(str(COCO128 / "instances.json"))
    backend = connect_backend(stack.home, stack.addresses.ml_backend)
    with open_fresh_project(stack, tmp_path, images=0, backend=backend) as project:
        context = project.context
        assert ingest(context, COCO128 / "images").moved == 128
        assert prelabel(context).failed == ()
        assert push(context).moved == 128
        accept_all(project)
        assert pull(context).moved == 128
        pulled = list(read_pulled(project, truth))
    direct = list(detect(truth))
    score, expected = compute_map(truth, pulled), compute_map(truth, direct)
    assert expected > 0.3
    assert abs(score - expected) < 0.001
    assert len(pulled) == len(direct)


def accept_all(project: FreshProject) -> None:
    """Submit every task as it was shown."""
    for task in project.context.label_studio.fetch_tasks(list(project.task_ids().values())):
        project.sdk.annotations.create(
            id=task.task_id,
            result=list(task.predictions[0].result),
            parent_prediction=task.predictions[0].prediction_id,
            was_cancelled=False,
        )


def read_pulled(project: FreshProject, truth: COCO) -> Iterable[dict[str, Any]]:
    """Yield reviewed boxes as COCO results; a box scores what the detector gave it."""
    dataset = project.context.dataset
    images, predictions = dataset.images(), dataset.predictions()
    for sample_id, said in dataset.labels().items():
        confidence = {label.id: label.confidence for label in predictions[sample_id].labels}
        for label in said.labels:
            assert isinstance(label.geometry, Box)
            left, top, right, bottom = label.geometry.to_xyxy()
            box = [left, top, right - left, bottom - top]
            yield to_result(truth, images[sample_id].path.name, label.class_name, box, confidence[label.id])


def detect(truth: COCO) -> Iterable[dict[str, Any]]:
    """Yield what the detector draws by itself, without any part of the loop."""
    weights = resolve_weights("yolo11n", models_dir=COCO128 / "no-models", is_offline=True)
    detector = build_detector(weights.path, device="cpu")
    for image in truth.loadImgs(truth.getImgIds()):
        with Image.open(COCO128 / "images" / image["file_name"]) as photo:
            pixels = np.asarray(photo.convert("RGB"))
        (found,) = detector.detect([pixels], score_floor=SCORE_FLOOR)
        for (left, top, right, bottom), score, class_id in zip(
            found.xyxy.tolist(), found.scores.tolist(), found.class_ids.tolist(), strict=True
        ):
            box = [left, top, right - left, bottom - top]
            yield to_result(truth, image["file_name"], detector.names[class_id], box, score)


def to_result(truth: COCO, file_name: str, class_name: str, bbox: list[float], score: float | None) -> dict[str, Any]:
    assert score is not None
    (category_id,) = [one["id"] for one in truth.dataset["categories"] if one["name"] == class_name]
    (image_id,) = [one["id"] for one in truth.dataset["images"] if one["file_name"] == file_name]
    return {"image_id": image_id, "category_id": category_id, "bbox": bbox, "score": score}


def compute_map(truth: COCO, results: list[dict[str, Any]]) -> float:
    """Return mAP50-95 of boxes by pycocotools."""
    evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return float(evaluation.stats[0])
