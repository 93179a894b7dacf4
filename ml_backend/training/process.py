"""Runs a training as a process of its own and listens to it: torch and its memory are gone when it ends.

Knows nothing of what is trained, and imports nothing that trains.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from ml_backend.training import (
    RESULT_FILE,
    SET_FILE,
    SETTINGS_FILE,
    Trained,
    TrainingError,
    TrainingSet,
    TrainingSettings,
    write_json,
    write_text,
)

LOG_FILE: Final = "train.log"
POLL_S: Final = 0.5
END_TIMEOUT_S: Final = 10.0

OnEvent = Callable[[Mapping[str, Any] | None], None]
"""Called with each thing the training tells, and with None about twice a second when it tells nothing."""


def prepare(folder: Path, training_set: TrainingSet, settings: TrainingSettings) -> None:
    """Write what a training takes; one that was begun keeps the set it was begun with, and goes on with what it did."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / SET_FILE).is_file():
        write_text(folder / SET_FILE, training_set.to_json())
    write_json(folder / SETTINGS_FILE, settings.to_dict())


def run_training(folder: Path, on_event: OnEvent) -> Trained:
    """Train in a prepared folder to the end and return the result; a finished one is only read.

    What ``on_event`` raises ends the training at once; it can be gone on with later.

    Raises:
        TrainingError: it cannot be done, or the process was lost.
    """
    result = folder / RESULT_FILE
    if result.is_file():
        return Trained.from_dict(json.loads(result.read_text(encoding="utf-8")))
    with (folder / LOG_FILE).open("ab") as log:
        process = _start(folder, log)
        lines: queue.Queue[str | None] = queue.Queue()
        reader = threading.Thread(target=_read_lines, args=(process, lines), daemon=True)
        reader.start()
        try:
            last = _listen(lines, on_event)
            process.wait(END_TIMEOUT_S)
        finally:
            _end(process, reader)
    if result.is_file():
        return Trained.from_dict(json.loads(result.read_text(encoding="utf-8")))
    if last is not None and last.get("kind") == "failed":
        raise TrainingError(str(last["problem"]))
    raise TrainingError(
        f"the training's process ended (exit code {process.returncode}) without a result, as for want of memory;"
        f" {folder / LOG_FILE} has its last words; start it again and it goes on from its last epoch"
    )


def _start(folder: Path, log: Any) -> subprocess.Popen[str]:
    # -P: a folder of some name in the working directory must not hide a package.
    argv = [os.path.abspath(sys.executable), "-P", "-m", "ml_backend.training", str(folder)]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, encoding="utf-8")


def _listen(lines: queue.Queue[str | None], on_event: OnEvent) -> Mapping[str, Any] | None:
    """Tell all that the process tells, until it ends; return the last thing it told."""
    last: Mapping[str, Any] | None = None
    while True:
        try:
            line = lines.get(timeout=POLL_S)
        except queue.Empty:
            on_event(None)
            continue
        if line is None:
            return last
        last = json.loads(line)
        on_event(last)


def _read_lines(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line)
    lines.put(None)


def _end(process: subprocess.Popen[str], reader: threading.Thread) -> None:
    """See to it that the process is gone: all that counts it has written whole or not at all."""
    process.kill()
    process.wait(END_TIMEOUT_S)
    # At the end of what was told, which is the process's own.
    reader.join(END_TIMEOUT_S)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
