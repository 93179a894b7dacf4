"""What a model finds on the images of a split: the ML backend's engine in this process, kept in a file.

Scores are those of the weights, whatever calibration there is, and all are kept: what is shown is decided later. A
second look at the same images by the same weights reads the file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from labels.config import LabelConfig
from labels.errors import LabelingError
from labels.report import Failure, OnProgress
from ml_backend.models.weights import Weights
from sync.models.evaluation import Boxes
from sync.models.examples import Examples
from sync.settings import Home
from sync.versions.manifest import VersionImage

if TYPE_CHECKING:
    from ml_backend.detectors import Detections
    from ml_backend.serving.engine import Engine
    from ml_backend.serving.loading import ServedModel
    from ml_backend.settings import Settings

FOLDER: Final = "evaluations"
SCORE_FLOOR: Final = 0.001
"""As low as detectors are usually measured: boxes below count for nothing."""
RUNTIME: Final = "torch"


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What there is to know of a model once it is loaded."""

    task: str
    licence: str
    version: str


Rows = list[tuple[str, str, tuple[float, float, float, float], float]]
"""Of each box found: sample id, label, xyxy, score."""


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What a model found on some images; ``failed`` are those it could not be shown, by sample id."""

    facts: ModelFacts
    rows: Rows
    failed: Mapping[str, Failure]

    def to_boxes(self, examples: Examples) -> Boxes:
        """Return what was found of these classes on these images."""
        places = {image.sample_id: place for place, image in enumerate(examples.images)}
        numbers = {name: number for number, name in enumerate(examples.classes)}
        kept = [row for row in self.rows if row[0] in places and row[1] in numbers]
        boxes = Boxes.from_rows([(places[row[0]], numbers[row[1]], row[2]) for row in kept])
        return Boxes(boxes.images, boxes.classes, boxes.xyxy, np.array([row[3] for row in kept], np.float64))


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
    is_trusted: bool = False,
) -> Look:
    """Have the model look at the images, unless it did before.

    Raises:
        LabelingError: the weights cannot be loaded, or draw nothing the label config has a control for.
    """
    from ml_backend.detectors import to_served_version

    settings = make_settings(home, weights, is_trusted=is_trusted)
    version = to_served_version(weights.version, settings.options)
    kept = home.models / FOLDER / version / f"{_name_question(images, config)}.npz"
    read = _read(kept)
    if read is None:
        on_progress(None, f"loading {version}")
        read = _look_now(settings, images, config, on_progress)
        if not read.failed:
            _write(kept, read)
    return read


def _name_question(images: Sequence[VersionImage], config: LabelConfig) -> str:
    """Return a name for all that decides what is found, but for the weights."""
    controls = [[one.name, one.kind, list(one.classes), dict(one.aliases)] for one in config.controls]
    asked = [controls, [[image.sample_id, image.sha256] for image in images], SCORE_FLOOR]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


def _look_now(settings: Settings, images: Sequence[VersionImage], config: LabelConfig, on_progress: OnProgress) -> Look:
    from ml_backend.serving.offline import open_engine

    with open_engine(settings) as engine:
        served = engine.holder.get()
        facts = ModelFacts(served.detector.task, served.detector.licence, served.version)
        if facts.task == "classify":
            raise LabelingError(f"{served.version}: names whole images and draws no boxes; give a detector")
        return Look(facts, *_detect(engine, served, images, config, on_progress))


def _detect(
    engine: Engine,
    served: ServedModel,
    images: Sequence[VersionImage],
    config: LabelConfig,
    on_progress: OnProgress,
) -> tuple[Rows, dict[str, Failure]]:
    from ml_backend.serving.offline import detect_files

    plan, told = served.find_plan(config.xml)
    names = {number: target.label for number, target in plan.classes.items()}
    rows: Rows = []
    failed: dict[str, Failure] = {}
    answers = detect_files(engine, (image.path for image in images), score_floor=SCORE_FLOOR, classes=told)
    for number, (image, answer) in enumerate(zip(images, answers, strict=True)):
        on_progress(number / len(images), f"{served.version} looks at the images, {number}/{len(images)}")
        problem = answer.problem
        if answer.found is not None and answer.sha256 != image.sha256:
            problem = "is not the file that was frozen: its content changed"
        if answer.found is None or problem is not None:
            failed[image.sample_id] = Failure(str(image.path), problem or "no answer", image.sample_id)
            continue
        rows += _to_rows(image.sample_id, answer.found, names)
    return rows, failed


def _to_rows(sample_id: str, found: Detections, names: Mapping[int, str]) -> Rows:
    from ml_backend.detectors import to_box

    turned = found.rotations_deg is not None
    rows: Rows = []
    for row, number in enumerate(found.class_ids):
        label = names.get(int(number))
        if label is None:
            continue
        x1, y1, x2, y2 = to_box(found, row).to_xyxy() if turned else map(float, found.xyxy[row])
        rows.append((sample_id, label, (x1, y1, x2, y2), float(found.scores[row])))
    return rows


def _write(path: Path, seen: Look) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = seen.rows
    part = path.with_suffix(f".{os.getpid()}.part")
    with part.open("wb") as file:
        np.savez_compressed(
            file,
            facts=np.array(json.dumps(asdict(seen.facts))),
            samples=np.array([row[0] for row in rows], np.str_),
            labels=np.array([row[1] for row in rows], np.str_),
            xyxy=np.array([row[2] for row in rows], np.float32).reshape(-1, 4),
            scores=np.array([row[3] for row in rows], np.float32),
        )
    part.replace(path)


def _read(path: Path) -> Look | None:
    """Return what was kept; None: nothing, or nothing that can be used, and it is asked for again."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        with np.load(path, allow_pickle=False) as kept:
            facts = ModelFacts(**json.loads(str(kept["facts"])))
            columns = (kept["samples"].tolist(), kept["labels"].tolist(), kept["xyxy"].tolist())
            scores = kept["scores"].tolist()
        rows: Rows = [
            (sample, label, (box[0], box[1], box[2], box[3]), score)
            for sample, label, box, score in zip(*columns, scores, strict=True)
        ]
        return Look(facts, rows, {})
    return None
