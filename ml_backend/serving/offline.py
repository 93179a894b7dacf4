"""The engine without HTTP: whole folders of files, with the same reading, batching and limits."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from labels.errors import LabelingError
from labels.geometry import ImageSize
from ml_backend.answers.predictions import to_prediction
from ml_backend.answers.regions import PredictedItem
from ml_backend.detectors import Detections
from ml_backend.imaging.images import read_file
from ml_backend.serving.batching import Lane
from ml_backend.serving.engine import Engine
from ml_backend.serving.holding import ModelHolder
from ml_backend.serving.loading import load_model
from ml_backend.serving.looking import Wanted
from ml_backend.serving.metrics import Metrics
from ml_backend.serving.process import spare_the_cores
from ml_backend.serving.tasks import explain_failure
from ml_backend.settings import Settings


@dataclass(frozen=True)
class FileAnswer:
    """What the model found in a file; ``problem`` None: it could be looked at, and all but ``prediction`` is set."""

    path: Path
    sha256: str | None = None
    size: ImageSize | None = None
    found: Detections | None = None
    prediction: dict[str, Any] | None = None
    problem: str | None = None


@contextmanager
def open_engine(settings: Settings) -> Iterator[Engine]:
    """Load the model of the settings and yield the engine that runs it.

    Raises:
        LabelingError: there are no weights, or they cannot be loaded.
    """
    spare_the_cores()
    metrics = Metrics()
    holder = ModelHolder(partial(load_model, settings), metrics=metrics, is_logging=False)
    holder.start_loading(settings.model)
    problem = holder.wait()
    if problem is not None:
        raise LabelingError(problem)
    engine = Engine(settings, holder, metrics=metrics)
    try:
        yield engine
    finally:
        engine.close()


def detect_files(
    engine: Engine, paths: Iterable[Path], *, score_floor: float, classes: tuple[str, ...] | None = None
) -> Generator[FileAnswer, None, None]:
    """Yield what the model finds in each file, in the order of the paths; one that fails keeps nobody.

    Paths are taken as they are needed, and few answers wait: a folder may be as large as it likes. ``classes`` are for
    a model that can be told what to look for.
    """
    yield from _look(engine, paths, Wanted(engine.holder.get(), score_floor, Lane.BATCH, classes))


def _look(engine: Engine, paths: Iterable[Path], wanted: Wanted) -> Generator[FileAnswer, None, None]:
    read = partial(_read, max_bytes=engine.settings.max_image_bytes)
    with closing(engine.look(paths, read, wanted)) as looks:
        for path, started in looks:
            try:
                if isinstance(started, BaseException):
                    raise started
                look = started.look.result()
            except Exception as error:  # noqa: BLE001 - one file's surprise must not lose the others
                yield FileAnswer(path, problem=explain_failure(error, engine.settings)[1])
                continue
            yield FileAnswer(path, started.sha256, look.size, look.found)


def predict_files(
    engine: Engine, paths: Iterable[Path], xml: str, *, label_counts: Mapping[str, int] | None = None
) -> Iterator[FileAnswer]:
    """Yield the Label Studio prediction of each file by a label config, with what it was made from.

    Region ids are made from the file's content: the same content under two names has the same ids.

    Raises:
        LabelConfigError: the config cannot be used with this model.
    """
    ask = engine.prepare(xml, lane=Lane.BATCH, label_counts=label_counts)
    for answer in _look(engine, paths, Wanted(ask.model, ask.plan.score_floor, Lane.BATCH, ask.classes)):
        if answer.found is None or answer.sha256 is None or answer.size is None:
            yield answer
            continue
        prediction = to_prediction(
            PredictedItem(f"file {answer.sha256}", answer.sha256, answer.size),
            answer.found,
            ask.plan,
            model_version=ask.model.version,
            served=engine.settings.served_score,
            label_counts=label_counts,
            is_calibrated=ask.model.calibration is not None,
        )
        yield replace(answer, prediction=prediction)


def _read(path: Path, *, max_bytes: int) -> bytes:
    return read_file(path, item=str(path), name=path.name, max_bytes=max_bytes)
