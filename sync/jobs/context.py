"""What a job works with: the home, its project, and an open connection to each tool."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fiftyone_plugins.app.brain import to_backend_environment
from labels.config import LabelConfig
from labels.errors import LabelingError, ServiceError
from sync.backend import MLBackend
from sync.ledger import Ledger
from sync.settings import Home, Project, read_label_config
from sync.workbench.label_studio import LabelStudio

if TYPE_CHECKING:
    from sync.catalogue.dataset import Dataset

SERVICE_VARIABLES: Final = ("LABEL_STUDIO_URL", "LABELLOOP_ML_BACKEND_URL", "FIFTYONE_DATABASE_URI")


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for Label Studio to finish what a job that is dead had asked of it, and by which clock.

    It makes 500 tasks in a few seconds, and in a minute where it has hardly any time to itself.
    """

    lasts_s: float = 90.0
    poll_s: float = 0.5
    now: Callable[[], datetime] = _now
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, slots=True)
class Context:
    """The tools of one job, for the thread that opened them."""

    home: Home
    project: Project
    config: LabelConfig
    ledger: Ledger
    dataset: Dataset
    label_studio: LabelStudio
    backend: MLBackend
    patience: Patience = field(default_factory=Patience)


@dataclass(frozen=True, slots=True)
class Services:
    """Addresses of the running tools."""

    label_studio: str
    ml_backend: str
    database_uri: str
    app: str | None = None
    label_studio_link: str | None = None

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Services:
        """Return the addresses an environment names.

        LABEL_STUDIO_URL, LABELLOOP_ML_BACKEND_URL, FIFTYONE_DATABASE_URI. Optional: LABELLOOP_APP_URL, and
        LABEL_STUDIO_HOST, where a browser reaches Label Studio under another address than we do.

        Raises:
            LabelingError: one is missing.
        """
        missing = [key for key in SERVICE_VARIABLES if not environ.get(key)]
        if missing:
            raise LabelingError(f"{missing[0]} is not set; 'labelloop up' starts the console with all it needs")
        label_studio, ml_backend, database_uri = (environ[key] for key in SERVICE_VARIABLES)
        return cls(
            label_studio, ml_backend, database_uri, environ.get("LABELLOOP_APP_URL"), environ.get("LABEL_STUDIO_HOST")
        )


def has_project(home: Home) -> bool:
    """Return whether the home has a project that jobs can work on."""
    project = Project.read(home)
    return project is not None and project.label_studio_id is not None


@contextmanager
def open_context(home: Home, services: Services) -> Iterator[Context]:
    """Open everything a job needs, and close it at the end.

    Raises:
        LabelingError: there is no project, or no token of Label Studio.
        ServiceError: MongoDB does not answer.
    """
    project = Project.read(home)
    if project is None or project.label_studio_id is None:
        raise LabelingError(f"{home.path}: there is no project yet, start with: labelloop up --images DIR")
    token = _read_token(home)
    config = read_label_config(home)
    dataset = open_dataset(project.name, config, services.database_uri)
    dataset.refresh()
    with (
        Ledger.open(home.ledger) as ledger,
        closing(LabelStudio(services.label_studio, token, project.label_studio_id)) as label_studio,
    ):
        yield Context(
            home=home,
            project=project,
            config=config,
            ledger=ledger,
            dataset=dataset,
            label_studio=label_studio,
            backend=connect_backend(home, services.ml_backend),
        )


def connect_backend(home: Home, url: str) -> MLBackend:
    """Return the client of the ML backend, with the home's password for it, if there is one."""
    file = os.environ.get("LABELLOOP_ML_BACKEND_PASSWORD_FILE")
    path = Path(file) if file else home.secrets / "ml_backend_password"
    password = os.environ.get("LABELLOOP_ML_BACKEND_PASSWORD") or (
        path.read_text(encoding="utf-8").strip() if path.exists() else ""
    )
    return MLBackend(url, password or None)


def _read_token(home: Home) -> str:
    file = os.environ.get("LABEL_STUDIO_API_KEY_FILE")
    path = Path(file) if file else home.secrets / "label_studio_token"
    token = os.environ.get("LABEL_STUDIO_API_KEY") or (
        path.read_text(encoding="utf-8").strip() if path.exists() else ""
    )
    if not token:
        raise ServiceError("no token of Label Studio; labelloop up makes one")
    return token


def open_dataset(name: str, config: LabelConfig, database_uri: str) -> Dataset:
    """Return the project's dataset.

    Raises:
        ServiceError: MongoDB does not answer.
    """
    set_database(database_uri)
    try:
        from sync.catalogue.dataset import Dataset
    except ConnectionError as error:
        raise ServiceError(f"MongoDB: {error}") from error
    return Dataset.open(name, config)


def set_database(database_uri: str) -> None:
    """Say where FiftyOne's database is: it reads that once, when it is first imported."""
    os.environ["FIFTYONE_DATABASE_URI"] = database_uri
    os.environ.setdefault("FIFTYONE_DATABASE_VALIDATION", "false")
    os.environ.setdefault("FIFTYONE_DO_NOT_TRACK", "1")
    os.environ.update(to_backend_environment())
