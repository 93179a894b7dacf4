"""Train: a frozen version becomes a new model, in a folder of its own; nothing that is served changes.

Order of writes: the candidate says that it is being trained, the training's process writes epoch after epoch, then the
weights take their place and the candidate says so. Killed anywhere, the same call goes on from the last whole epoch.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from labels.errors import LabelingError
from labels.report import Failure, OnProgress, Report, ignore_progress
from ml_backend.environment import Environment
from ml_backend.training import Trained, TrainingSet, TrainingSettings
from ml_backend.training.checking import check_set
from ml_backend.training.process import OnEvent, prepare, run_training
from ml_backend.training.starting import Start, find_start
from sync.jobs.context import Context
from sync.jobs.datasets.freezing import freeze
from sync.jobs.datasets.reviewed import choose_reviewed, explain_nothing
from sync.jobs.models.training_progress import Progress
from sync.models.candidate import (
    TRAINED,
    TRAINING,
    Candidate,
    candidates_dir,
    find_of_run,
    find_tools,
    finish,
    list_candidates,
    now,
)
from sync.models.training_sets import Choice, Chosen, make_training_set
from sync.runs.live_run import current_run_id
from sync.runs.lock import hold_project_lock
from sync.settings import Home
from sync.versions.manifest import read_version
from sync.versions.version import Version

LOCK_NAME: Final = "training.lock"
POLL_S: Final = 0.5
ID_DIGITS: Final = 8
DELETED: Final = "deleted"
NOT_COUNTED: Final = ("weights", "device", "workers", "is_trusted")
"""Settings that are not meant to matter: where it is computed, by how many, with whose trust. Of weights the version is
what counts."""
CLASSIFIER_SIDE: Final = 224
DEFAULT_SIDE: Final = 640

Perform = Callable[[Path, OnEvent], Trained]
"""Trains in a prepared folder, telling how it goes."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to train. None: the usual.

    ``version`` None freezes what is reviewed now. ``model`` is an Ultralytics ``.pt`` or ``.yaml``, a detector of
    torchvision, ``timm:NAME``, or weights that came of these; ``weights`` are tensors for a torchvision or timm name.
    """

    model: str
    version: str | None = None
    weights: Path | None = None
    control: str | None = None
    epochs: int = 50
    imgsz: int | None = None
    batch: int = 8
    device: str = "auto"
    seed: int = 0
    freeze: int = 0
    lr: float | None = None
    workers: int = 0
    patience: int = 20
    replay: int | None = None
    corrections_weight: float = 1.0
    dry_run: bool = False


def train(
    context: Context,
    options: Options,
    *,
    on_progress: OnProgress = ignore_progress,
    perform: Perform = run_training,
) -> Report:
    """Train a model on a version of the dataset.

    The same version, model and settings again: what was begun goes on, what is finished stays as it is.

    Raises:
        LabelingError: nothing is reviewed, the version or the model is not known or does not fit, or it cannot be
            trained.
    """
    start = find_start(
        _to_path(context, options.model),
        weights=options.weights,
        models_dir=context.home.models,
        is_offline=Environment(os.environ).flag("LABELLOOP_OFFLINE"),
    )
    version = _find_version(context, options, on_progress)
    chosen = make_training_set(version, _to_choice(context, options, start))
    settings = _to_settings(options, start)
    notes = (*chosen.notes, *check_set(chosen.training_set, is_classifier=start.is_classifier))
    candidate = make_candidate(context, version, start, chosen, settings, options)
    known = _read_known(candidate)
    about = f"{candidate.id}: {version.id}, {start.model}, {settings.epochs} epochs of {settings.side} px"
    if options.dry_run:
        return Report("train", moved=int(known is None), notes=(about, *notes), details=chosen.counts, is_dry_run=True)
    if known is not None and known.state == TRAINED:
        return Report("train", unchanged=1, notes=(f"{about}: trained already", *_describe(known)))
    candidate = (known or candidate).with_run(current_run_id())
    candidate.write()
    with _hold_device(context, candidate.id, on_progress):
        prepare(candidate.work, chosen.training_set, settings)
        progress = Progress(candidate.id, settings.epochs, on_progress)
        progress.on_event(None)
        trained = perform(candidate.work, progress.on_event)
    candidate = finish(candidate, trained)
    failed = tuple(Failure(item, problem) for item, problem in trained.broken)
    said = dict.fromkeys((about, *_describe(candidate), *notes, *trained.notes))
    return Report("train", moved=1, failed=failed, notes=tuple(said), details=dict(candidate.counts))


def _to_path(context: Context, model: str) -> str:
    """Return where the weights of a candidate are that is named by its id or model version; else what was given."""
    for candidate in list_candidates(context.home):
        if candidate.weights_path is not None and model in (candidate.id, candidate.model_version):
            return str(candidate.weights_path)
    return model


def _find_version(context: Context, options: Options, on_progress: OnProgress) -> Version:
    """Return the version to train on; one that a run was killed over is not frozen anew."""
    if options.version is not None:
        return read_version(context.home, options.version)
    run_id = current_run_id()
    run = None if run_id is None else context.ledger.run(run_id)
    for known in () if run is None else (run.id, run.retry_of):
        candidate = None if known is None else find_of_run(context.home, known)
        if candidate is not None and candidate.state == TRAINING:
            return read_version(context.home, candidate.version_id)
    # Only this writes what others write as well.
    with hold_project_lock(context.home, lambda line: on_progress(None, line)):
        choice = choose_reviewed(context)
        if not choice.chosen:
            raise LabelingError(explain_nothing(choice, "train on"))
        return freeze(context, choice, on_progress=on_progress).version


def _to_choice(context: Context, options: Options, start: Start) -> Choice:
    older = None
    if options.replay is not None:
        base = [one for one in list_candidates(context.home) if one.model_version == start.version]
        if start.version is None or not base:
            raise LabelingError(
                f"--replay: {options.model} was not trained here, so nobody knows what it has seen; leave --replay out"
            )
        older = read_version(context.home, base[-1].version_id)
    deleted = {row.sample_id for row in context.ledger.feedback() if row.verdict.kind == DELETED}
    return Choice(
        is_classifier=start.is_classifier,
        control=options.control,
        corrections_weight=options.corrections_weight,
        deleted_on=deleted,
        older=older,
        replay=options.replay or 0,
        seed=options.seed,
    )


def _to_settings(options: Options, start: Start) -> TrainingSettings:
    return TrainingSettings(
        family=start.family,
        model=start.model,
        weights=start.weights,
        epochs=options.epochs,
        side=options.imgsz or (CLASSIFIER_SIDE if start.is_classifier else DEFAULT_SIDE),
        batch=options.batch,
        device=options.device,
        seed=options.seed,
        freeze=options.freeze,
        lr=options.lr,
        workers=options.workers,
        patience=options.patience,
        is_trusted=Environment(os.environ).flag("LABELLOOP_TRUST_WEIGHTS"),
    )


def make_candidate(
    context: Context, version: Version, start: Start, chosen: Chosen, settings: TrainingSettings, options: Options
) -> Candidate:
    """Return the candidate of a training; its id is made of all that its outcome hangs on."""
    counted = {key: value for key, value in settings.to_dict().items() if key not in NOT_COUNTED}
    # Not the weight of each image: with every review that is pulled more of them count as corrected.
    learned = _without_weights(chosen.training_set).to_json()
    text = json.dumps([counted, options.corrections_weight, start.version, learned], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS]
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", Path(start.model).stem if start.weights else start.model)
    identity = f"{stem.removesuffix('.yaml')}-{digest}"
    return Candidate(
        id=identity,
        folder=candidates_dir(context.home) / identity,
        state=TRAINING,
        version_id=version.id,
        model=options.model,
        family=start.family,
        classes=chosen.training_set.classes,
        seed=settings.seed,
        control=chosen.control,
        base_version=start.version,
        settings=settings.to_dict() | {"corrections_weight": options.corrections_weight},
        counts=chosen.counts,
        tools=find_tools(),
        created_at=now(),
    )


def _without_weights(training_set: TrainingSet) -> TrainingSet:
    train, val = (
        tuple(replace(item, weight=1.0) for item in items) for items in (training_set.train, training_set.val)
    )
    return replace(training_set, train=train, val=val)


def _read_known(candidate: Candidate) -> Candidate | None:
    try:
        return Candidate.read(candidate.folder)
    except LabelingError:
        return None


@contextmanager
def _hold_device(context: Context, name: str, on_progress: OnProgress) -> Iterator[None]:
    """Hold what only one training of a state folder may have: each takes all the memory and cores there are."""
    lock = FileLock(context.home.run / LOCK_NAME, thread_local=False)
    context.home.run.mkdir(parents=True, exist_ok=True)
    while not lock.is_locked:
        try:
            lock.acquire(timeout=POLL_S)
        except Timeout:
            on_progress(None, f"{name}: waiting for another training to end")
    try:
        yield
    finally:
        lock.release()


def _describe(candidate: Candidate) -> list[str]:
    scores = ", ".join(f"{name} {value:.4f}" for name, value in sorted(candidate.scores.items()))
    said = [f"best epoch {candidate.best_epoch}: {scores or 'nothing was measured'} (val split)"]
    return [*said, f"model {candidate.model_version}: {candidate.weights_path}", f"licence {candidate.licence}"]


def to_options(context: Context, values: Mapping[str, Any]) -> Options:
    """Return the options of a run's parameters, which were checked.

    Without a model, what is not said is as in the last training here; without one of those, the served model is.
    """
    given = {name: value for name, value in values.items() if value is not None}
    if "model" not in given:
        given = (read_last(context.home) or {"model": context.project.model}) | given
    weights = given.get("weights")
    return Options(**given | ({"weights": Path(weights)} if weights is not None else {}))


def read_last(home: Home) -> dict[str, Any]:
    """Return what the last training here was told; nothing where there was none."""
    last = next((one for one in reversed(list_candidates(home)) if one.state == TRAINED), None)
    return {} if last is None else _as_before(last)


def _as_before(last: Candidate) -> dict[str, Any]:
    found = {"model": last.model, "control": last.control, "imgsz": last.settings.get("side")}
    told = ("epochs", "batch", "seed", "freeze", "lr", "patience", "corrections_weight")
    found |= {name: last.settings.get(name) for name in told}
    # Of a published start the tensors are looked for again; a file that was named is named again.
    if last.family != "ultralytics" and last.settings.get("weights") != last.model:
        found["weights"] = last.settings.get("weights")
    return {name: value for name, value in found.items() if value is not None}
