"""Models of the registry: found by name, loaded only as they were let in, shown from their own thresholds on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from labels.errors import LabelingError
from ml_backend.models.calibration import Calibration, Curve, write_calibration
from ml_backend.models.registered import read_registered
from ml_backend.models.weights import compute_version, resolve_weights
from ml_backend.serving.loading import load_model
from ml_backend.settings import Settings
from tests.fakes.detectors import XML, write_detector


def register(models: Path, *, name: str = "car", **changes: Any) -> str:
    """Put a detector into the registry, with what its card says otherwise, and return its name there."""
    plain = write_detector(models / "made.onnx", errs_by=0.0, name=name)
    model_id = compute_version(plain)
    folder = models / "registry" / model_id
    folder.mkdir(parents=True)
    plain.rename(folder / plain.name)
    digest = hashlib.sha256((folder / plain.name).read_bytes()).hexdigest()
    card = {"weights": plain.name, "files": {plain.name: digest}, "thresholds": {"Car": 0.4}, "trusted_by": None}
    (folder / "card.json").write_text(json.dumps(card | changes))
    return model_id


def settings_for(models: Path, **changes: Any) -> Settings:
    return Settings(models_dir=models, media_root=models, is_offline=True, **changes)


def load(models: Path, model_id: str, **changes: Any) -> Any:
    return load_model(settings_for(models, **changes), model_id, lambda _: None)


def test_a_registered_model_is_found_by_its_name_before_anything_else_of_that_name(tmp_path: Path) -> None:
    model_id = register(tmp_path)
    write_detector(tmp_path / f"{model_id}.onnx", errs_by=9.0)

    weights = resolve_weights(model_id, models_dir=tmp_path, is_offline=True)

    assert (weights.version, weights.source) == (model_id, "registry")
    assert weights.registered is not None
    assert weights.registered.thresholds == {"car": 0.4}
    assert not weights.registered.is_trusted


def test_a_file_with_another_content_is_not_loaded(tmp_path: Path) -> None:
    model_id = register(tmp_path)
    file = tmp_path / "registry" / model_id / "made.onnx"
    file.write_bytes(file.read_bytes() + b"\0")

    with pytest.raises(LabelingError, match="is not the file that was promoted"):
        load(tmp_path, model_id)
    file.unlink()
    with pytest.raises(LabelingError, match="is gone from the registry"):
        load(tmp_path, model_id)


@pytest.mark.parametrize(
    "changes",
    [
        {"files": {}},
        {"weights": "../made.onnx", "files": {"../made.onnx": "0"}},
        {"thresholds": {"car": 7}},
        {"thresholds": None},
        {"files": ["made.onnx"]},
    ],
)
def test_a_card_that_says_nonsense_is_named(tmp_path: Path, changes: dict[str, Any]) -> None:
    model_id = register(tmp_path, **changes)

    with pytest.raises(LabelingError, match=r"card\.json: is damaged"):
        resolve_weights(model_id, models_dir=tmp_path, is_offline=True)


@pytest.mark.parametrize("name", ["", ".", "..", "../registry", "a/b", "nothing"])
def test_a_name_that_is_no_folder_of_the_registry_is_nobody(tmp_path: Path, name: str) -> None:
    register(tmp_path)

    assert read_registered(tmp_path, name) is None


def test_boxes_are_shown_from_the_chosen_threshold_on_and_what_a_person_set_goes_before(tmp_path: Path) -> None:
    model_id = register(tmp_path)

    def shown_from(**changes: Any) -> float:
        plan, _ = load(tmp_path, model_id, **changes).find_plan(XML)
        return float(plan.classes[0].threshold)

    assert shown_from() == 0.4
    assert shown_from(class_thresholds={"car": 0.7}) == 0.7
    assert shown_from(class_thresholds={"dog": 0.7}) == 0.4


def test_a_calibration_moves_the_thresholds_with_the_scores(tmp_path: Path) -> None:
    model_id = register(tmp_path)
    half = Curve((0.0, 0.4, 1.0), (0.0, 0.2, 1.0))
    write_calibration(tmp_path, Calibration(model_id, "platt", {"shared": half}, {}, 10, 0.2, 0.1))

    model = load(tmp_path, model_id)

    plan, _ = model.find_plan(XML)
    assert model.version.startswith(f"{model_id}+cal.")
    assert plan.classes[0].threshold == pytest.approx(0.2)


def test_only_what_a_person_let_in_with_trust_is_read_with_it(tmp_path: Path) -> None:
    # A pickle that would run code when it is read without care.
    import torch

    class Marker:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    folder = tmp_path / "registry" / "held"
    folder.mkdir(parents=True)
    torch.save({"model": Marker()}, folder / "evil.pt")
    digest = hashlib.sha256((folder / "evil.pt").read_bytes()).hexdigest()
    card = {"weights": "evil.pt", "files": {"evil.pt": digest}, "thresholds": {}, "trusted_by": None}
    (folder / "card.json").write_text(json.dumps(card))

    with pytest.raises(LabelingError):
        load(tmp_path, "held")
    assert not (tmp_path / "ran").exists()

    (folder / "card.json").write_text(json.dumps(card | {"trusted_by": "ana"}))
    with pytest.raises(LabelingError):  # it is no model, and that is found after it was read
        load(tmp_path, "held")
    assert (tmp_path / "ran").exists()
