"""What the sync programs need to know: the home folder's layout, addresses, and the project they work on.

Read once at start from the environment and the home folder, then passed on. Holds no connection.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Final, Literal, get_args

from labels.config import LabelConfig, default_label_config_path
from labels.errors import LabelingError

DEFAULT_HOME: Final = ".labelloop"
DEFAULT_ADMIN_EMAIL: Final = "admin@labelloop.local"
DEFAULT_PROJECT: Final = "labelloop"
AnnotatorPolicy = Literal["latest", "ground_truth", "agreement"]
"""What counts where several people answered one task: the answer changed last, the starred one, what most agree on."""
ANNOTATOR_POLICIES: Final[tuple[str, ...]] = get_args(AnnotatorPolicy)
DEMO_FOLDER: Final = "demo_images"
OWN_FILES: Final = (
    *("project.json", "project.part", "label_config.xml", "label_config.part"),
    *(f"{name}.db{end}" for name in ("ledger", "jobs") for end in ("", "-wal", "-shm", "-journal")),
)


@dataclass(frozen=True, slots=True)
class Home:
    """The state folder: everything labelloop keeps; deleting it is a full reset."""

    path: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Home:
        """Return the home that LABELLOOP_HOME names, ``.labelloop`` in the working folder otherwise."""
        variables = os.environ if environment is None else environment
        return cls(Path(variables.get("LABELLOOP_HOME") or DEFAULT_HOME).absolute())

    @property
    def secrets(self) -> Path:
        """Passwords and tokens; folder mode 700, files 600."""
        return self.path / "secrets"

    @property
    def label_studio(self) -> Path:
        """Label Studio's own data."""
        return self.path / "label_studio"

    @property
    def mongodb(self) -> Path:
        """MongoDB's files."""
        return self.path / "mongodb"

    @property
    def models(self) -> Path:
        """Weights."""
        return self.path / "models"

    @property
    def exports(self) -> Path:
        """Training exports."""
        return self.path / "exports"

    @property
    def curation(self) -> Path:
        """What plugins keep: vectors of images, decisions of curators."""
        return self.path / "curation"

    @property
    def versions(self) -> Path:
        """Frozen dataset versions."""
        return self.path / "versions"

    @property
    def logs(self) -> Path:
        """One log a process."""
        return self.path / "logs"

    @property
    def run(self) -> Path:
        """What describes the running stack: process ids, ports, locks."""
        return self.path / "run"

    @property
    def media(self) -> Path:
        """Label Studio's document root for local files."""
        return self.path / "media"

    @property
    def images(self) -> Path:
        """Label Studio's storage path: links to the folders of images."""
        return self.media / "images"

    @property
    def ledger(self) -> Path:
        """The ledger's SQLite file."""
        return self.path / "ledger.db"

    @property
    def jobs_db(self) -> Path:
        """The job queue's SQLite file."""
        return self.path / "jobs.db"

    @property
    def project_file(self) -> Path:
        """The project this home holds."""
        return self.path / "project.json"

    @property
    def label_config(self) -> Path:
        """The label config that was accepted last."""
        return self.path / "label_config.xml"

    @property
    def is_home(self) -> bool:
        """Whether labelloop made this folder."""
        return self.project_file.is_file() or (self.run.is_dir() and self.secrets.is_dir())

    def make(self) -> None:
        """Create the folders with their modes; folders that are there stay as they are.

        Raises:
            LabelingError: the place cannot be written to, or is a folder with something else in it.
        """
        try:
            if not self.is_home and self.path.is_dir() and self._list_strangers():
                raise LabelingError(
                    f"{self.path}: is not empty and no home of labelloop; choose an empty or new folder"
                )
            self.path.mkdir(parents=True, exist_ok=True)
            self.secrets.mkdir(mode=0o700, exist_ok=True)
            self.secrets.chmod(0o700)
            for folder in (
                self.label_studio,
                self.mongodb,
                self.models,
                self.exports,
                self.versions,
                self.logs,
                self.run,
                self.images,
            ):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LabelingError(f"{self.path}: cannot be used as a home ({error.strerror})") from error

    def _list_strangers(self) -> list[Path]:
        folders = (
            self.secrets,
            self.label_studio,
            self.mongodb,
            self.models,
            self.exports,
            self.versions,
            self.logs,
            self.run,
            self.media,
        )
        own = {folder.name for folder in folders} | {DEMO_FOLDER, *OWN_FILES}
        return sorted(path for path in self.path.iterdir() if path.name not in own)

    def delete(self) -> list[Path]:
        """Delete what labelloop made here, and the folder itself when nothing else is in it; return what is left."""
        for folder in (self.secrets, self.label_studio, self.mongodb, self.models, self.exports, self.logs, self.run):
            shutil.rmtree(folder, ignore_errors=True)
        for folder in (self.versions, self.media, self.path / DEMO_FOLDER):
            # Links to people's folders are taken away; what they point to is not followed.
            shutil.rmtree(folder, ignore_errors=True)
        for name in OWN_FILES:
            (self.path / name).unlink(missing_ok=True)
        left = self._list_strangers()
        if not left:
            self.path.rmdir()
        return left


@dataclass(frozen=True, slots=True)
class Project:
    """The one project of a home: FiftyOne dataset, Label Studio project and model.

    ``label_studio_id`` is None until Label Studio has the project. ``images`` maps the name of a link under
    ``media/images`` to the person's folder. ``annotators`` is an ``AnnotatorPolicy``.
    """

    name: str = DEFAULT_PROJECT
    model: str = "yolo11n"
    label_studio_id: int | None = None
    label_studio_view: int | None = None
    images: Mapping[str, str] | None = None
    annotators: str = "latest"

    @classmethod
    def read(cls, home: Home) -> Project | None:
        """Return the home's project, or None when there is none yet.

        Raises:
            LabelingError: the file is damaged, or of another version of labelloop.
        """
        try:
            values = json.loads(home.project_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise LabelingError(f"{home.project_file}: cannot be read ({error})") from error
        known = {item.name for item in fields(cls)}
        if not isinstance(values, dict) or not set(values) <= known:
            raise LabelingError(f"{home.project_file}: unknown content (expected {', '.join(sorted(known))})")
        return cls(**values)

    def write(self, home: Home) -> None:
        """Keep the project in its home; a reader sees the old file or the new one, never half of it."""
        part = home.project_file.with_suffix(".part")
        part.write_text(json.dumps(asdict(self), indent=2, sort_keys=True) + "\n", encoding="utf-8")
        part.replace(home.project_file)


def find_label_config(home: Home) -> Path:
    """Return the home's label config: the one accepted last, or the one that comes with labelloop."""
    return home.label_config if home.label_config.exists() else default_label_config_path()


def read_label_config(home: Home) -> LabelConfig:
    """Return the home's label config.

    Raises:
        LabelConfigError: it cannot be used.
    """
    return LabelConfig.read(find_label_config(home))


def read_secret(home: Home, name: str) -> str | None:
    """Return a secret of the home, or None when it was never made."""
    try:
        return (home.secrets / name).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
