"""Makes a served model of what the settings name: its weights, their calibration, thresholds and assistant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ml_backend.detectors import DetectorOptions, to_served_version
from ml_backend.models.building import build_detector
from ml_backend.models.weights import compute_version, resolve_weights
from ml_backend.serving.holding import Announce
from ml_backend.serving.served import ServedModel
from ml_backend.settings import Settings

if TYPE_CHECKING:
    from ml_backend.models.calibration import Calibration
    from ml_backend.models.registered import Registered


def load_model(settings: Settings, name: str, announce: Announce) -> ServedModel:
    """Find the weights of a name, load them and run them once.

    Raises:
        LabelingError: there are none, or they cannot be loaded.
    """
    from ml_backend.interactive import Assistant as SegmentingAssistant
    from ml_backend.models.calibration import calibrate_detector, load_calibration  # heavier than what this file needs

    weights = resolve_weights(name, models_dir=settings.models_dir, is_offline=settings.is_offline)
    options = _add_member_calibrations(settings, weights.members)
    if weights.registered is not None and weights.registered.is_trusted:
        options = replace(options, is_trusted=True)
    version = to_served_version(weights.version, options, members=len(weights.paths))
    calibration = load_calibration(settings.models_dir, version)
    version = version if calibration is None else calibration.version
    announce(version)
    bare = build_detector(weights.paths, device=settings.device, options=options)
    detector = bare if calibration is None else calibrate_detector(bare, calibration)
    assistant = SegmentingAssistant(
        models_dir=settings.models_dir, device=settings.device, segmenter=settings.segmenter
    )
    described = None if calibration is None else calibration.describe()
    return ServedModel(
        _add_chosen_thresholds(settings, weights.registered, calibration),
        detector,
        version=version,
        source=weights.source,
        calibration=described,
        assistant=assistant,
    )


def _add_chosen_thresholds(
    settings: Settings, registered: Registered | None, calibration: Calibration | None
) -> Settings:
    """Return the settings with the thresholds that were chosen for a registered model; those of a person go before.

    They were chosen for the scores of the weights, so a calibration moves them with the scores.
    """
    if registered is None:
        return settings
    chosen = dict(registered.thresholds)
    if calibration is not None:
        chosen = {label: float(calibration.curve_for(label).apply(number)) for label, number in chosen.items()}
    return replace(settings, class_thresholds=chosen | dict(settings.class_thresholds))


def _add_member_calibrations(settings: Settings, members: Sequence[Path]) -> DetectorOptions:
    """Return the options with the calibration of each member of an ensemble that has one: they come before fusion.

    A member is calibrated as it is served alone with the same settings.
    """
    from ml_backend.models.calibration import load_calibration

    alone = [to_served_version(compute_version(path), settings.options) for path in members]
    found = [load_calibration(settings.models_dir, version) for version in alone]
    if not any(found):
        return settings.options
    versions = tuple("" if calibration is None else calibration.version for calibration in found)
    return replace(settings.options, calibrations=versions, models_dir=settings.models_dir)
