"""Draws boxes for the plugins' work, with the ML backend's engine in this process: nothing of it is a prediction.

The names are the label config's where it has a label for the detector's class, and the detector's own otherwise. What
was drawn is kept beside the plugins' files.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from more_itertools import chunked

from fiftyone_plugins.app.work import Draw, DrawnBoxes
from labels.errors import ItemError, LabelConfigError, LabelingError
from sync.jobs.context import Context
from sync.jobs.curation.drawn_boxes import DrawnStore, to_file_key
from sync.settings import Project

if TYPE_CHECKING:
    from ml_backend.detectors import Detections
    from ml_backend.serving.engine import Engine
    from ml_backend.serving.served import ServedModel

FOLDER: Final = "drawn"
# Far enough ahead that the model is never without work, near enough that what was asked for comes soon.
IMAGES_AHEAD: Final = 64


def make_draw(context: Context) -> Draw:
    """Return the function that draws for a project; it loads no model before it is called."""

    def draw(images: Iterable[Path], *, model: str | None, score_floor: float) -> Iterator[DrawnBoxes | ItemError]:
        from dataclasses import replace

        from ml_backend.serving.offline import open_engine
        from ml_backend.settings import Settings

        # Read now and not when the job was opened: another model may have been promoted meanwhile.
        project = Project.read(context.home) or context.project
        given = {
            "LABELLOOP_HOME": str(context.home.path),
            "LABELLOOP_MODEL": model or project.model,
        }
        settings = Settings.from_environment({**os.environ, **given})
        with open_engine(replace(settings, models_dir=context.home.models)) as engine:
            served = engine.holder.get()
            if served.detector.task == "classify":
                raise LabelingError(f"model {settings.model!r} names whole images and draws no boxes; give a detector")
            names, classes = _find_names(served, context.config.xml)
            version = served.version.replace("/", "_")
            store = DrawnStore(context.home.curation / FOLDER / f"{version}-{_name_vocabulary(names, score_floor)}")
            known = frozenset(names.values())
            with closing(_draw_all(engine, store, images, names, classes, score_floor)) as drawn:
                for found in drawn:
                    yield replace(found, known=known) if isinstance(found, DrawnBoxes) else found

    return draw


def _find_names(served: ServedModel, xml: str) -> tuple[Mapping[int, str], tuple[str, ...] | None]:
    """Return what each class of the model is called here, and what an open-vocabulary model is told to look for."""
    try:
        plan, classes = served.find_plan(xml)
    except LabelConfigError:
        # The config has no control for what this model draws: its own names are as good as any.
        return served.detector.names, None
    own = served.name_classes(classes)
    return {number: plan.classes[number].label if number in plan.classes else name for number, name in own.items()}, (
        classes
    )


def _name_vocabulary(names: Mapping[int, str], score_floor: float) -> str:
    """Return a short name for all that changes what is kept of a drawing."""
    import hashlib
    import json

    text = json.dumps([sorted(names.items()), score_floor], ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _draw_all(
    engine: Engine,
    store: DrawnStore,
    images: Iterable[Path],
    names: Mapping[int, str],
    classes: tuple[str, ...] | None,
    score_floor: float,
) -> Generator[DrawnBoxes | ItemError, None, None]:
    try:
        for chunk in chunked(images, IMAGES_AHEAD):
            answers = [_look_up(store, path) for path in chunk]
            missing = [path for path, answer in zip(chunk, answers, strict=True) if answer is None]
            with closing(_detect(engine, missing, names, classes, score_floor)) as fresh:
                for path, answer in zip(chunk, answers, strict=True):
                    if answer is not None:
                        yield answer
                        continue
                    found = next(fresh)
                    if isinstance(found, DrawnBoxes):
                        store.add(to_file_key(path), found)
                    yield found
    finally:
        # Also when the job is stopped: what was drawn was paid for.
        store.write()


def _look_up(store: DrawnStore, path: Path) -> DrawnBoxes | ItemError | None:
    try:
        return store.find(to_file_key(path))
    except OSError as error:
        return ItemError(str(path), f"cannot be read ({error.strerror})")


def _detect(
    engine: Engine,
    paths: Iterable[Path],
    names: Mapping[int, str],
    classes: tuple[str, ...] | None,
    score_floor: float,
) -> Generator[DrawnBoxes | ItemError, None, None]:
    from ml_backend.serving.offline import detect_files

    with closing(detect_files(engine, paths, score_floor=score_floor, classes=classes)) as answers:
        for answer in answers:
            if answer.found is None:
                yield ItemError(str(answer.path), answer.problem or "nothing is known of it")
            else:
                yield _to_drawn(answer.found, names)


def _to_drawn(found: Detections, names: Mapping[int, str]) -> DrawnBoxes:
    return DrawnBoxes(found.xyxy, found.scores, tuple(names[int(number)] for number in found.class_ids))
