"""What Label Studio's tasks are to us: an id to answer to, an image's address, an identity for region ids. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from labels.errors import ItemError, LabelingError
from ml_backend.imaging.images import to_line
from ml_backend.serving.batching import Lane, is_out_of_memory
from ml_backend.settings import Settings

# Folders before a file's name, in no address of the network.
FOLDERS: Final = re.compile(r"(?<![\w.:/~-])~?/(?:[^\s/:'\",;()]+/)*")
# A request for more tasks than this is no person's.
PERSON_TASKS: Final = 4


@dataclass(frozen=True)
class TaskImage:
    """Where a task's image is, how messages call the task, and what its region ids are made from."""

    name: str
    url: str
    identity: str


def read_task_id(task: Any) -> Any:
    """Return the id of a task; None where there is none, or one that could not be answered: nested, or no number.

    >>> read_task_id({"id": 41}), read_task_id({"id": "a"}), read_task_id({"id": [41]}), read_task_id({"id": 1e999})
    (41, 'a', None, None)
    """
    task_id = task.get("id") if isinstance(task, Mapping) else None
    is_answerable = isinstance(task_id, str | int) or (isinstance(task_id, float) and math.isfinite(task_id))
    return task_id if is_answerable else None


def name_task(task_id: Any) -> str:
    """Return what messages call a task.

    >>> name_task(41), name_task(None)
    ('task 41', 'task ?')
    """
    # Ids are the caller's: some would go into the log at full length, or break its lines.
    return "task ?" if task_id is None else f"task {to_line(str(task_id), 40)}"


def read_task(task: Any, *, image_key: str) -> TaskImage:
    """Return what there is to know of a task.

    Raises:
        ItemError: it has no image's address.
    """
    task_id = read_task_id(task)
    name = name_task(task_id)
    data = task.get("data") if isinstance(task, Mapping) else None
    if not isinstance(data, Mapping):
        raise ItemError(name, "has no data (expected an object with the image's address)")
    url = data.get(image_key)
    if not isinstance(url, str) or not url.strip():
        raise ItemError(name, f"data has no image address under {image_key!r}")
    url, sample_id = url.strip(), data.get("sample_id")
    is_sample = isinstance(sample_id, str) and sample_id
    return TaskImage(name, url, f"sample {sample_id}" if is_sample else f"task {task_id} {url}")


def choose_lane(tasks: Sequence[Any], *, is_batch: bool) -> Lane:
    """Return for whom a request is: who says so, and who asks for many tasks, is a batch job; else it is a person.

    >>> choose_lane([{}], is_batch=False), choose_lane([{}] * 5, is_batch=False)
    (<Lane.PERSON: 'person'>, <Lane.BATCH: 'batch'>)
    """
    return Lane.BATCH if is_batch or len(tasks) > PERSON_TASKS else Lane.PERSON


def explain_failure(error: BaseException, settings: Settings) -> tuple[str, str]:
    """Return the kind of an error, to be counted, and what to say of it: nothing that a library wrote, and no path.

    >>> settings = Settings(models_dir=Path("/m"), media_root=Path("/media"))
    >>> explain_failure(RuntimeError("at /secret/path"), settings)
    ('detector', 'the detector failed (RuntimeError)')
    >>> explain_failure(LabelingError("no weights: /m/sam.pt"), settings)
    ('image', 'no weights: sam.pt')
    """
    if isinstance(error, ItemError):
        return "image", error.problem
    if isinstance(error, LabelingError):
        return "image", hide_paths(str(error), settings)
    if is_out_of_memory(error):
        return "memory", "the image does not fit into the memory"
    return "detector", f"the detector failed ({type(error).__name__})"


def hide_paths(text: str, settings: Settings) -> str:
    """Return a message without paths of this machine: a file's name stays, its folders do not.

    >>> settings = Settings(models_dir=Path("/our home/models"), media_root=Path("/m"), model="/my data/a b.pt")
    >>> hide_paths("/my data/a b.pt: damaged; /our home/models has no x.pt, nor /opt/w/y.pt", settings)
    'a b.pt: damaged; the models folder has no x.pt, nor y.pt'
    """
    for folder in (settings.models_dir, settings.models_dir.absolute()):
        text = text.replace(f"{folder}/", "").replace(str(folder), "the models folder")
    for member in (settings.model, *settings.model.split(",")):
        path = Path(member.strip())
        for known in (path, path.absolute()):
            text = text.replace(str(known), path.name) if known.is_absolute() else text
    return FOLDERS.sub("", text)


def locate_bug(error: BaseException) -> str:
    """Return the type of an error and the places it came through, innermost first: no message, no folder, no value.

    >>> try:
    ...     [][1]
    ... except IndexError as error:
    ...     locate_bug(error).partition(" ")[0]
    'IndexError'
    """
    places = []
    trace = error.__traceback__
    while trace is not None:
        places.append(f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}")
        trace = trace.tb_next
    return f"{type(error).__name__} at {' < '.join(reversed(places[-8:])) or 'an unknown place'}"
