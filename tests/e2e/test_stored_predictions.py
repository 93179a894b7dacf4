"""What the real Label Studio keeps of a prediction: every kind of region as it was made, and nothing beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest
from label_studio_sdk import LabelStudio as Sdk

from labels.config import LabelConfig
from labels.geometry import Box, ImageSize
from labels.results import from_result
from ml_backend.answers.label_plans import Thresholds, build_plan
from ml_backend.answers.predictions import to_prediction
from ml_backend.answers.regions import PredictedItem
from ml_backend.detectors import Detections, MaskCrop
from sync.settings import read_secret
from tests.e2e.conftest import RunningStack

SIZE = ImageSize(200, 100)
ITEM = PredictedItem("sample 1", "ab12", SIZE)
CONFIG = LabelConfig.from_xml(
    """<View><Image name="image" value="$image"/>
    <RectangleLabels name="boxes" toName="image" canRotate="true"><Label value="car"/></RectangleLabels>
    <PolygonLabels name="outlines" toName="image"><Label value="lake"/></PolygonLabels>
    <BrushLabels name="masks" toName="image"><Label value="road"/></BrushLabels>
    <KeyPointLabels name="points" toName="image"><Label value="nose"/></KeyPointLabels>
    <Choices name="kind" toName="image"><Choice value="indoor"/><Choice value="outdoor"/></Choices></View>"""
)
ATTEMPTS = 5
NAMES = {0: "car", 1: "lake", 2: "road"}


def make_boxes(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(table[:, :4].astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(np.int64))


def make_found(task: str) -> tuple[Detections, dict[int, str]]:
    boxes = make_boxes((20, 30, 80, 70, 0.75, 0))
    if task == "detect":
        return replace(boxes, votes=np.array([2]), agreement=np.array([0.5], np.float32)), NAMES
    if task == "obb":
        # The second one's corners are outside of the image but for one.
        turned = make_boxes((20, 30, 80, 70, 0.75, 0), (-15, 40, 45, 60, 0.5, 0))
        return replace(turned, rotations_deg=np.array([30, 100], np.float32)), NAMES
    if task == "segment":
        crop = MaskCrop(20, 30, np.tri(40, 60, dtype=np.bool_))
        rows = make_boxes((20, 30, 80, 70, 0.75, 1), (20, 30, 80, 70, 0.5, 2))
        return replace(rows, masks=(crop, crop)), NAMES
    if task == "pose":
        points = np.zeros((1, 17, 3), np.float32)
        points[0, 0] = (50, 20, 0.875)
        return replace(boxes, keypoints=points), NAMES
    return Detections.nothing(np.array([0.25, 0.75], np.float32)), {0: "indoor", 1: "outdoor"}


@pytest.fixture(scope="module")
def sdk(stack: RunningStack) -> Iterator[Sdk]:
    token = read_secret(stack.home, "label_studio_token") or ""
    with httpx.Client(timeout=60, trust_env=False, follow_redirects=True) as http:
        yield Sdk(base_url=stack.addresses.label_studio, api_key=token, httpx_client=http)


@pytest.fixture(scope="module")
def project_id(sdk: Sdk) -> int:
    return int(sdk.projects.create(title="stored predictions", label_config=CONFIG.xml).id)


@pytest.mark.parametrize("task", ["detect", "obb", "segment", "pose", "classify"])
def test_regions_and_score_are_kept_as_they_are_and_the_meta_is_dropped(task: str, sdk: Sdk, project_id: int) -> None:
    found, names = make_found(task)
    plan = build_plan(CONFIG, names, thresholds=Thresholds(0.2), task=task)
    prediction = to_prediction(ITEM, found, plan, model_version=f"e2e-{task}", label_counts={"car": 3})
    request: list[dict[str, Any]] = [{"data": {"image": "/data/x.jpg"}, "predictions": [prediction]}]

    # The stack runs with Label Studio's own validation switched on: a region it does not take would be a 400 here.
    # Its import loses predictions when its database is locked in between, and says so in this count alone.
    counts = [sdk.projects.import_tasks(id=project_id, request=request, return_task_ids=True).prediction_count]
    while counts[-1] == 0 and len(counts) < ATTEMPTS:
        counts.append(sdk.projects.import_tasks(id=project_id, request=request).prediction_count)

    (stored,) = (one for one in sdk.predictions.list(project=project_id) if one.model_version == f"e2e-{task}")
    assert stored.result == prediction["result"]
    assert stored.score == prediction["score"]
    assert prediction["result"]
    assert not hasattr(stored, "prediction_meta")
    read_back = from_result(stored.result, CONFIG, item="task 1")
    assert [label.votes for label in read_back] == ([2] if task == "detect" else [None] * len(read_back))
    if task == "obb":
        corners = [label.geometry.corners() for label in read_back if isinstance(label.geometry, Box)]
        assert np.allclose(np.mean(corners, axis=1), [(50, 50), (15, 50)], atol=1e-3)  # the centres
