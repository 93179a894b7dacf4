"""What a model finds on the images of a split: the ML backend's engine in this process, kept in a file.

Scores are those of the weights, whatever calibration there is, and all are kept: what is shown is decided later. A
second look at the same images by the same weights reads the file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from labels.config import LabelConfig
from labels.errors import LabelConfigError
from labels.report import Failure, OnProgress
from ml_backend.models.weights import Weights
from sync.models.boxes import encode_mask, from_turned_box
from sync.models.examples import list_answerable, read_answer_examples
from sync.models.looks import FORM, Kind, Look, ModelFacts, Row, read_look, write_look
from sync.settings import Home
from sync.versions.version import VersionImage

if TYPE_CHECKING:
    from ml_backend.answers.label_plans import LabelPlan
    from ml_backend.detectors import Detections
    from ml_backend.serving.engine import Engine
    from ml_backend.serving.served import ServedModel
    from ml_backend.settings import Settings

FOLDER: Final = "evaluations"
SCORE_FLOOR: Final = 0.001
"""As low as detectors are usually measured: boxes below count for nothing."""
RUNTIME: Final = "torch"


def make_settings(home: Home, weights: Weights, *, is_trusted: bool = False) -> Settings:
    """Return the ML backend's settings for a look: as the environment says, with these weights and no calibration."""
    from ml_backend.settings import Settings

    folder = home.models / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    own = {"LABELLOOP_HOME": str(home.path), "LABELLOOP_RUNTIME": os.environ.get("LABELLOOP_RUNTIME") or RUNTIME}
    settings = Settings.from_environment({**os.environ, **own, "LABELLOOP_MODEL": ",".join(map(str, weights.paths))})
    trusted = is_trusted or (weights.registered is not None and weights.registered.is_trusted)
    options = replace(
        settings.options,
        cache_dir=home.models / "compiled",
        is_trusted=settings.options.is_trusted or trusted,
    )
    # Calibrations lie in the models folder: this one has none.
    return replace(settings, models_dir=folder, options=options)


def look(
    home: Home,
    weights: Weights,
    images: Sequence[VersionImage],
    config: LabelConfig,
    *,
    on_progress: OnProgress,
    kind: Kind | None = None,
    is_trusted: bool = False,
) -> Look:
    """Have the model look at those of the images that say something of what it gives, unless it did before.

    With a ``kind``, a model that gives something else, or nothing that the label config has a place for, is not shown
    anything: its look has no row.

    Raises:
        LabelingError: the weights cannot be loaded, or without a kind give nothing the label config has a control for.
    """
    from ml_backend.detectors import to_served_version

    settings = make_settings(home, weights, is_trusted=is_trusted)
    version = to_served_version(weights.version, settings.options, members=len(weights.paths))
    kept = home.models / FOLDER / version / f"{_name_question(images, config, kind)}.npz"
    read = read_look(kept)
    if read is None:
        on_progress(None, f"loading {version}")
        read = _look_now(settings, images, config, kind, on_progress)
        if not read.failed:
            write_look(kept, read)
    return read


def _name_question(images: Sequence[VersionImage], config: LabelConfig, kind: Kind | None) -> str:
    """Return a name for all that decides what is found, but for the weights."""
    controls = [[one.name, one.kind, list(one.classes), dict(one.aliases)] for one in config.controls]
    shown = [[image.sample_id, image.sha256, image.has_regions, *_name_answers(image)] for image in images]
    asked = [FORM, controls, shown, kind, SCORE_FLOOR]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


def _name_answers(image: VersionImage) -> list[str]:
    return sorted(label.control for label in image.answers)


def _look_now(
    settings: Settings,
    images: Sequence[VersionImage],
    config: LabelConfig,
    kind: Kind | None,
    on_progress: OnProgress,
) -> Look:
    from ml_backend.serving.offline import open_engine

    with open_engine(settings) as engine:
        served = engine.holder.get()
        try:
            plan, told = served.find_plan(config.xml)
        except LabelConfigError:
            if kind is None:
                raise
            plan, told = None, None
        facts = _read_facts(served, plan, config)
        if plan is None or kind not in (None, facts.kind) or not facts.classes:
            return Look(facts, (), {})
        chosen = choose_images(images, config, facts)
        return Look(facts, *_detect(engine, facts, plan, told, chosen, on_progress))


def _read_facts(served: ServedModel, plan: LabelPlan | None, config: LabelConfig) -> ModelFacts:
    facts = ModelFacts(served.detector.task, served.detector.licence, served.version)
    if plan is None:
        return facts
    targets = [target.control.name for target in plan.classes.values()]
    answered = [name for name in list_answerable(config) if name in targets] if facts.kind == "answers" else []
    # A classifier is made for one control; another that shares a name with it is no more than touched.
    control = max(answered, key=targets.count, default=None)
    count = len(targets) + len(plan.keypoints) if facts.kind == "shapes" else targets.count(control or "")
    return replace(facts, classes=count, control=control)


def choose_images(images: Iterable[VersionImage], config: LabelConfig, facts: ModelFacts) -> tuple[VersionImage, ...]:
    """Return the images that say something of what a model gives: somebody looked for objects, or answered."""
    if facts.control is not None:
        return read_answer_examples(images, config, control=facts.control).images
    return tuple(image for image in images if image.has_regions)


def _detect(
    engine: Engine,
    facts: ModelFacts,
    plan: LabelPlan,
    told: tuple[str, ...] | None,
    images: Sequence[VersionImage],
    on_progress: OnProgress,
) -> tuple[list[Row], dict[str, Failure]]:
    from ml_backend.serving.offline import detect_files

    names = {
        number: target.label for number, target in plan.classes.items() if facts.control in (None, target.control.name)
    }
    rows: list[Row] = []
    failed: dict[str, Failure] = {}
    answers = detect_files(engine, (image.path for image in images), score_floor=SCORE_FLOOR, classes=told)
    for number, (image, answer) in enumerate(zip(images, answers, strict=True)):
        on_progress(number / len(images), f"{facts.version} looks at the images, {number}/{len(images)}")
        problem = answer.problem
        if answer.found is not None and answer.sha256 != image.sha256:
            problem = "is not the file that was frozen: its content changed"
        if answer.found is None or problem is not None:
            failed[image.sample_id] = Failure(str(image.path), problem or "no answer", image.sample_id)
            continue
        rows += (_to_answer_rows if facts.kind == "answers" else _to_rows)(image, answer.found, names)
    return rows, failed


def _to_answer_rows(image: VersionImage, found: Detections, names: Mapping[int, str]) -> list[Row]:
    said = found.image_probabilities
    if said is None:
        return []
    whole = (0.0, 0.0, float(image.size.width), float(image.size.height))
    return [Row(image.sample_id, label, whole, float(said[number])) for number, label in names.items()]


def _to_rows(image: VersionImage, found: Detections, names: Mapping[int, str]) -> list[Row]:
    from ml_backend.answers.regions import to_mask
    from ml_backend.detectors import to_box

    rows: list[Row] = []
    for row, number in enumerate(found.class_ids):
        label = names.get(int(number))
        if label is None:
            continue
        x1, y1, x2, y2 = map(float, found.xyxy[row])
        shape = ""
        if found.rotations_deg is not None:
            box = to_box(found, row)
            x1, y1, x2, y2 = box.to_xyxy()
            shape = " ".join(f"{side:.6g}" for side in from_turned_box(box))
        elif found.masks is not None:
            shape = encode_mask(to_mask(found.masks[row], image.size).pixels)["counts"].decode()
        rows.append(Row(image.sample_id, label, (x1, y1, x2, y2), float(found.scores[row]), shape))
    return rows
