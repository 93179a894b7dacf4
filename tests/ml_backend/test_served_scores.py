"""The scores of a real model as they are served: calibrated, under a version of their own, over several views."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labels.config import default_label_config_path
from ml_backend.detectors import DetectorOptions, to_served_version
from ml_backend.models.calibration import SHARED, Calibration, Curve, write_calibration
from ml_backend.models.weights import resolve_weights
from ml_backend.serving.offline import detect_files, open_engine, predict_files
from ml_backend.settings import Settings

HALVED = Curve((0.0, 1.0), (0.0, 0.5))


@pytest.fixture
def plain(tmp_path: Path) -> Settings:
    options = DetectorOptions(runtime="torch")
    return Settings(models_dir=tmp_path / "models", media_root=tmp_path, device="cpu", is_offline=True, options=options)


@pytest.fixture
def xml() -> str:
    return default_label_config_path().read_text(encoding="utf-8")


def test_a_calibrated_model_is_another_version_and_its_thresholds_mean_calibrated_probabilities(
    plain: Settings, xml: str, photos: Path
) -> None:
    bus = photos / "bus.jpg"
    with open_engine(plain) as engine:
        raw_version = engine.holder.get().version
        (raw,) = detect_files(engine, [bus], score_floor=0.4)
    version = resolve_weights("yolo11n", models_dir=plain.models_dir, is_offline=True).version
    calibration = Calibration(version, "platt", {SHARED: HALVED}, {}, 100, 0.1, 0.05)
    write_calibration(plain.models_dir, calibration)

    with open_engine(plain) as engine:
        served = engine.holder.get()
        (answer,) = predict_files(engine, [bus], xml)

    assert (raw_version, served.version) == (version, calibration.version)
    assert served.calibration == calibration.describe()
    assert raw.found is not None
    assert answer.found is not None
    assert answer.prediction is not None
    # What is shown from .2 on was .4 before.
    shown = [region["score"] for region in answer.prediction["result"]]
    assert shown == pytest.approx(np.sort(raw.found.scores[raw.found.scores >= 0.4])[::-1] / 2, abs=1e-5)
    assert answer.prediction["model_version"] == calibration.version
    assert answer.prediction["prediction_meta"]["calibrated"] is True


def test_a_flipped_view_gives_a_disagreement_and_one_view_none(plain: Settings, xml: str, photos: Path) -> None:
    def read_disagreement(settings: Settings) -> tuple[str, float | None]:
        with open_engine(settings) as engine:
            (answer,) = predict_files(engine, [photos / "bus.jpg"], xml)
        assert answer.prediction is not None
        meta = answer.prediction["prediction_meta"]
        return meta["served_score"], meta["u_disagree"]

    flipped = replace(plain, options=replace(plain.options, views=("flip",)), served_score="u_disagree")

    alone = read_disagreement(replace(plain, served_score="u_disagree"))
    served, disagreement = read_disagreement(flipped)

    assert alone == ("u_mean", None)
    assert served == "u_disagree"
    assert disagreement is not None
    assert 0 < disagreement < 0.6  # the same photo, mirrored: most of it is found again


@pytest.mark.parametrize(
    "told",
    [
        pytest.param({}, id="as they are"),
        pytest.param({"nms_iou": 0.6}, id="with a setting of each member"),
        pytest.param({"fusion_iou": 0.6, "min_votes": 1, "member_weights": (1.0, 1.0)}, id="with settings of fusion"),
        pytest.param({"views": ("flip",)}, id="with further views"),
    ],
)
def test_the_members_of_an_ensemble_are_calibrated_before_they_are_fused(
    told: dict[str, Any], plain: Settings, photos: Path
) -> None:
    """The same network twice, once with halved scores: the mean of p and p / 2 is what fusion makes of it."""
    alone = resolve_weights("yolo11n", models_dir=plain.models_dir, is_offline=True)
    plain.models_dir.mkdir(exist_ok=True)
    shutil.copy(alone.path, plain.models_dir / "other.onnx")
    both = replace(plain, model="yolo11n,other", options=replace(plain.options, **told))

    def look(settings: Settings) -> tuple[str, np.ndarray[Any, Any]]:
        with open_engine(settings) as engine:
            (answer,) = detect_files(engine, [photos / "bus.jpg"], score_floor=0.15)
            assert answer.found is not None
            return engine.holder.get().version, answer.found.scores

    raw_version, raw = look(both)
    # As it is served alone with these settings; those of an ensemble say nothing about it.
    single = to_served_version(alone.version, replace(both.options, member_weights=(), min_votes=None))
    calibration = Calibration(single, "platt", {SHARED: HALVED}, {}, 100, 0.1, 0.05)
    write_calibration(plain.models_dir, calibration)
    version, fused = look(both)

    assert version != raw_version
    assert len(fused) >= 4
    assert fused[:4] == pytest.approx(raw[:4] * 0.75, abs=1e-3)
