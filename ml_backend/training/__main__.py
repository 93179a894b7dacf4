"""Trains in a folder, as a process of its own: ``python -m ml_backend.training FOLDER``.

Tells how it goes in lines of JSON on its output; all that libraries print goes to its errors. It ends when its input
does: a training never outlives who asked for it.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from pathlib import Path
from typing import Any, TextIO

from labels.errors import LabelingError
from ml_backend.models.building import keep_ultralytics_quiet
from ml_backend.training import (
    RESULT_FILE,
    SET_FILE,
    SETTINGS_FILE,
    Epoch,
    Trained,
    TrainingSet,
    TrainingSettings,
    write_json,
)

logger = logging.getLogger(__name__)


class _Teller:
    """Writes what happens as lines of JSON."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.notes: list[str] = []

    def tell(self, kind: str, **values: Any) -> None:
        """Write one line."""
        self._stream.write(json.dumps({"kind": kind, **values}) + "\n")
        self._stream.flush()

    def on_check(self, done: float) -> None:
        """Tell that a part of the images was checked."""
        self.tell("check", done=done)

    def on_step(self, epoch: int, done: float) -> None:
        """Tell that a part of an epoch is done."""
        self.tell("step", epoch=epoch, done=done)

    def on_epoch(self, epoch: Epoch) -> None:
        """Tell that an epoch is over."""
        self.tell("epoch", **epoch.to_dict())

    def on_note(self, text: str) -> None:
        """Tell what a person should know."""
        self.notes.append(text)
        self.tell("note", text=text)


def main(folder: Path) -> int:
    """Train what the folder says, and write the result; return the exit code."""
    stream = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    threading.Thread(target=_end_with_input, daemon=True).start()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    teller = _Teller(stream)
    try:
        teller.tell("done", **train(folder, teller).to_dict())
    except LabelingError as error:
        teller.tell("failed", problem=str(error))
        return 1
    except Exception as error:
        # The boundary that reports: the log has the details.
        logger.exception("the training failed")
        teller.tell("failed", problem=describe_bug(error))
        return 1
    return 0


def train(folder: Path, teller: _Teller) -> Trained:
    """Train, and keep the result in the folder.

    Raises:
        LabelingError: it cannot be done.
    """
    keep_ultralytics_quiet()
    from dataclasses import replace

    from ml_backend.training.checking import check_set
    from ml_backend.training.pixels import check_images

    settings = TrainingSettings.from_dict(json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8")))
    training_set = TrainingSet.from_json((folder / SET_FILE).read_text(encoding="utf-8"))
    training_set, broken = check_images(training_set, teller.on_check)
    for note in check_set(training_set, is_classifier=settings.family == "timm"):
        teller.on_note(note)
    if settings.family == "ultralytics":
        from ml_backend.training.ultralytics_training import train as train_family
    elif settings.family == "torchvision":
        from ml_backend.training.torchvision_training import train as train_family
    else:
        from ml_backend.training.classification import train as train_family
    trained = train_family(training_set, settings, folder, teller)
    trained = replace(trained, broken=broken, notes=tuple(dict.fromkeys(teller.notes)))
    write_json(folder / RESULT_FILE, trained.to_dict())
    return trained


def describe_bug(error: Exception) -> str:
    """Return one line for what is not a person's to mend, or may be by fewer or smaller images."""
    line = next(iter(str(error).strip().splitlines()), "")
    if "out of memory" in line.lower():
        return "the device ran out of memory; try a smaller --batch or --imgsz"
    return f"{type(error).__name__}: {line}"


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    # Nothing to tidy up: all that counts is written whole or not at all.
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
