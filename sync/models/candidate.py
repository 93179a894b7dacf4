"""A model that was trained here, or is being trained: a folder of its own, and what is known of it.

Its id is made of what it is trained from and how: the same training has the same folder, and goes on in it.
"""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from labels.errors import LabelingError
from ml_backend.models.weights import compute_version
from ml_backend.training import HISTORY_FILE, SETTINGS_FILE, Trained, read_history, write_json
from ml_backend.training.process import LOG_FILE
from sync.settings import Home

CANDIDATES_NAME: Final = "candidates"
CANDIDATE_FILE: Final = "candidate.json"
WORK_NAME: Final = "work"
TRAINING: Final = "training"
TRAINED: Final = "trained"
TOOLS: Final = ("labelloop", "torch", "torchvision", "ultralytics", "timm", "hotcoco", "numpy")


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a model was trained from, how, and what came of it; None is not known yet, or does not apply.

    ``state`` is training or trained. ``version_id`` names the dataset version, ``base_version`` the weights it started
    from (None: random numbers), ``control`` the control of the label config whose classes it learns (None: all that
    draw). ``weights`` is a file's name in ``folder``. ``scores`` are those of the best epoch on the val split; what the
    test split says is not for here. ``run_ids`` are the runs that worked on it.
    """

    id: str
    folder: Path
    state: str
    version_id: str
    model: str
    family: str
    classes: tuple[str, ...]
    seed: int
    task: str | None = None
    control: str | None = None
    base_version: str | None = None
    weights: str | None = None
    model_version: str | None = None
    licence: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)
    best_epoch: int | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)
    run_ids: tuple[int, ...] = ()
    created_at: str | None = None
    trained_at: str | None = None

    @classmethod
    def read(cls, folder: Path) -> Candidate:
        """Return the candidate of a folder.

        Raises:
            LabelingError: there is none, or its file is damaged.
        """
        path = folder / CANDIDATE_FILE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            known = {item.name for item in fields(cls)} - {"folder"}
            if not isinstance(values, dict) or not set(values) <= known:
                raise ValueError("unknown content")
            lists = {name: tuple(values.get(name, ())) for name in ("classes", "run_ids")}
            return cls(folder=folder, **values | lists)
        except OSError as error:
            raise LabelingError(f"{path}: cannot be read ({error.strerror})") from error
        except (ValueError, TypeError) as error:
            raise LabelingError(f"{path}: is damaged ({error})") from error

    def write(self) -> None:
        """Keep the candidate in its folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        values = asdict(self)
        del values["folder"]
        write_json(self.folder / CANDIDATE_FILE, values)

    def with_run(self, run_id: int | None) -> Candidate:
        """Return the candidate with one more run that worked on it."""
        if run_id is None or run_id in self.run_ids:
            return self
        return replace(self, run_ids=(*self.run_ids, run_id))

    @property
    def weights_path(self) -> Path | None:
        """Where its weights are; None: it is not trained yet."""
        return None if self.weights is None else self.folder / self.weights

    @property
    def work(self) -> Path:
        """Where it is trained; gone when it is."""
        return self.folder / WORK_NAME

    def history(self) -> list[dict[str, Any]]:
        """Return its epochs so far."""
        return read_history(self.folder if (self.folder / HISTORY_FILE).is_file() else self.work)


def candidates_dir(home: Home) -> Path:
    """Return the folder of all candidates."""
    return home.models / CANDIDATES_NAME


def list_candidates(home: Home) -> list[Candidate]:
    """Return all candidates, the oldest first; a folder that cannot be read is none."""
    found = []
    for path in candidates_dir(home).glob(f"*/{CANDIDATE_FILE}"):
        try:
            found.append(Candidate.read(path.parent))
        except LabelingError:
            continue
    return sorted(found, key=lambda one: (one.created_at or "", one.id))


def find_candidate(home: Home, name: str) -> Candidate:
    """Return a candidate by its id, the beginning of it, or its model version.

    Raises:
        LabelingError: there is none, or several are meant.
    """
    known = list_candidates(home)
    found = [one for one in known if name in (one.id, one.model_version)] or [
        one for one in known if name and one.id.startswith(name)
    ]
    if len(found) == 1:
        return found[0]
    what = "is meant by several" if found else "is not known"
    names = ", ".join(one.id for one in found or known) or "none; labelloop train makes one"
    raise LabelingError(f"candidate {name!r} {what} (known: {names})")


def find_of_run(home: Home, run_id: int) -> Candidate | None:
    """Return the candidate that a run works or worked on; None: it works on none."""
    return next((one for one in reversed(list_candidates(home)) if run_id in one.run_ids), None)


def finish(candidate: Candidate, trained: Trained) -> Candidate:
    """Put what came of a training in its place and return the candidate; a second call after a kill ends the same."""
    card = Path(trained.weights).with_suffix(".json").name
    names = [trained.weights, HISTORY_FILE, SETTINGS_FILE, LOG_FILE, *([card] if trained.card is not None else [])]
    for name in names:
        if (candidate.work / name).is_file():
            (candidate.work / name).replace(candidate.folder / name)
    done = replace(
        candidate,
        state=TRAINED,
        task=trained.task,
        weights=trained.weights,
        model_version=compute_version(candidate.folder / trained.weights),
        licence=trained.licence,
        best_epoch=trained.best_epoch,
        scores=dict(trained.scores),
        report=dict(trained.report),
        trained_at=now(),
    )
    done.write()
    shutil.rmtree(candidate.work, ignore_errors=True)
    return done


def find_tools() -> dict[str, str]:
    """Return the versions of what trains."""
    found = {}
    for name in TOOLS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def now() -> str:
    """Return the time in UTC, as it is kept."""
    return datetime.now(UTC).isoformat(timespec="seconds")
