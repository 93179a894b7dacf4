"""What the pages read of the project: one protocol, and its implementation over the ledger, the dataset and the tools.

The only module of the console that opens them; the pages get values. Nothing here writes.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from labels.errors import ItemError, LabelingError
from labels.results import Label
from sync.backend import ServedWeights
from sync.catalogue.samples import SampleImage, SamplePrediction
from sync.console.status import Status
from sync.jobs.context import Services, connect_backend, open_context, open_dataset
from sync.jobs.exchange.queue import Choice, choose
from sync.ledger import FrozenVersion, Ledger
from sync.ledger.overview import Day
from sync.ledger.rows import Export, FeedbackRow, Model
from sync.models.shelf import Shelf, read_shelf
from sync.project_status import read_status
from sync.review.feedback_summary import FeedbackSummary, group_feedback, summarize_feedback
from sync.review.merge import Conflict
from sync.settings import Home, Project, find_label_config, read_label_config

if TYPE_CHECKING:
    from sync.catalogue.dataset import Dataset

GroupBy = Literal["reviewer", "version"]


@dataclass(frozen=True, slots=True)
class OpenConflict:
    """One sample with labels that both sides changed, and what FiftyOne holds of it now."""

    image: SampleImage
    conflicts: tuple[Conflict, ...]
    held: tuple[Label, ...]


@dataclass(frozen=True, slots=True)
class Recorded:
    """An export or a model, with when it was recorded (ISO 8601, UTC)."""

    what: Export | Model
    at: str


@dataclass(frozen=True, slots=True)
class ProjectFacts:
    """The project's settings as a person may read them; no secret is among them."""

    project: Project | None
    services: Services
    config_path: Path
    classes: Mapping[str, tuple[str, ...]]


class Catalogue(Protocol):
    """What the pages need to know. Every method may raise LabelingError, where what it reads does not answer."""

    def read_status(self) -> Status:
        """Return the counts, the last runs and where the tools are."""

    def read_days(self, count: int) -> list[Day]:
        """Return the last days, today (UTC) last; one on which nothing happened has zeros."""

    def count_conflicts(self) -> int:
        """Return how many samples are in conflict."""

    def conflict_ids(self) -> list[str]:
        """Return the samples in conflict, sorted."""

    def read_conflicts(self, sample_ids: Sequence[str]) -> dict[str, tuple[Conflict, ...]]:
        """Return the open conflicts of these samples."""

    def read_conflict(self, sample_id: str) -> OpenConflict | None:
        """Return the open conflict of a sample; None: there is none, or the sample is gone."""

    def find_images(self, sample_ids: Sequence[str]) -> dict[str, SampleImage]:
        """Return the images of those samples that are in the dataset."""

    def read_predictions(self, sample_ids: Sequence[str]) -> dict[str, SamplePrediction]:
        """Return what the detector drew on samples; one it never saw, or that cannot be read, is left out."""

    def summarize_feedback(self, by: GroupBy | None = None) -> dict[str, FeedbackSummary]:
        """Return the feedback of each reviewer or model version (``by``), or of all under an empty name."""

    def read_feedback(self) -> list[FeedbackRow]:
        """Return every verdict."""

    def choose(self, by: str, count: int) -> Choice:
        """Return what the queue job would send."""

    def read_exports(self) -> list[Recorded]:
        """Return the exports, the newest first."""

    def read_versions(self) -> list[FrozenVersion]:
        """Return the frozen versions of the dataset, the newest first."""

    def read_models(self) -> list[Recorded]:
        """Return the known models, the newest first."""

    def read_shelf(self) -> Shelf:
        """Return the models to choose from, and what became of those before."""

    def fetch_served(self) -> ServedWeights:
        """Return the weights that draw the pre-labels now."""

    def read_facts(self) -> ProjectFacts:
        """Return the project's settings."""


class ProjectCatalogue:
    """The catalogue of one home; may be asked from several threads at once."""

    def __init__(self, home: Home, services: Services) -> None:
        self._home = home
        self._services = services
        # FiftyOne makes no promise to threads: one of them reads at a time.
        self._lock = threading.Lock()
        # Of very many reviews a summary takes seconds, and every look at the overview asks for it.
        self._summaries: dict[GroupBy | None, tuple[str, dict[str, FeedbackSummary]]] = {}

    def read_status(self) -> Status:
        """See ``Catalogue``."""
        with self._lock:
            return read_status(self._home, self._services)

    def read_days(self, count: int) -> list[Day]:
        """See ``Catalogue``."""
        today = datetime.now(UTC).date()
        dates = [(today - timedelta(days=back)).isoformat() for back in range(count - 1, -1, -1)]
        with self._ledger() as ledger:
            known = {day.date: day for day in ledger.days(dates[0])}
        return [known.get(date, Day(date)) for date in dates]

    def count_conflicts(self) -> int:
        """See ``Catalogue``."""
        with self._ledger() as ledger:
            return ledger.count_conflicts()

    def conflict_ids(self) -> list[str]:
        """See ``Catalogue``."""
        with self._ledger() as ledger:
            return ledger.conflict_sample_ids()

    def read_conflicts(self, sample_ids: Sequence[str]) -> dict[str, tuple[Conflict, ...]]:
        """See ``Catalogue``."""
        with self._ledger() as ledger:
            return ledger.conflicts(sample_ids)

    def read_conflict(self, sample_id: str) -> OpenConflict | None:
        """See ``Catalogue``."""
        conflicts = self.read_conflicts([sample_id]).get(sample_id)
        if not conflicts:
            return None
        with self._lock:
            dataset = self._dataset()
            image = dataset.images([sample_id]).get(sample_id)
            held = dataset.labels([sample_id]).get(sample_id)
        if image is None:
            return None
        if isinstance(held, ItemError):
            raise held
        return OpenConflict(image, conflicts, () if held is None else held.labels)

    def find_images(self, sample_ids: Sequence[str]) -> dict[str, SampleImage]:
        """See ``Catalogue``."""
        with self._lock:
            return self._dataset().images(list(sample_ids))

    def read_predictions(self, sample_ids: Sequence[str]) -> dict[str, SamplePrediction]:
        """See ``Catalogue``."""
        with self._lock:
            found = self._dataset().predictions(list(sample_ids))
        return {key: one for key, one in found.items() if isinstance(one, SamplePrediction)}

    def summarize_feedback(self, by: GroupBy | None = None) -> dict[str, FeedbackSummary]:
        """See ``Catalogue``."""
        with self._ledger() as ledger:
            version = ledger.feedback_version()
            known = self._summaries.get(by)
            if known is not None and known[0] == version:
                return known[1]
            rows, reviews = ledger.feedback(), ledger.reviews()
        found = {"": summarize_feedback(rows, reviews)} if by is None else group_feedback(rows, reviews, by=by)
        self._summaries[by] = (version, found)
        return found

    def read_feedback(self) -> list[FeedbackRow]:
        """See ``Catalogue``."""
        with self._ledger() as ledger:
            return ledger.feedback()

    def choose(self, by: str, count: int) -> Choice:
        """See ``Catalogue``."""
        with open_context(self._home, self._services) as context:
            return choose(context, by=by, count=count)

    def read_exports(self) -> list[Recorded]:
        """See ``Catalogue``."""
        with self._ledger() as ledger:
            times = ledger.recorded_at("exports")
            return _newest_first([Recorded(one, times[one.path]) for one in ledger.exports()])

    def read_versions(self) -> list[FrozenVersion]:
        """See ``Catalogue``."""
        with self._ledger() as ledger:
            return ledger.versions()[::-1]

    def read_models(self) -> list[Recorded]:
        """See ``Catalogue``."""
        with self._ledger() as ledger:
            times = ledger.recorded_at("models")
            return _newest_first([Recorded(one, times[one.model_version]) for one in ledger.models()])

    def read_shelf(self) -> Shelf:
        """See ``Catalogue``."""
        with self._ledger() as ledger:
            return read_shelf(self._home, ledger)

    def fetch_served(self) -> ServedWeights:
        """See ``Catalogue``."""
        return connect_backend(self._home, self._services.ml_backend).fetch_weights()

    def read_facts(self) -> ProjectFacts:
        """See ``Catalogue``."""
        config = read_label_config(self._home)
        classes = {f"{control.name} ({control.kind})": tuple(control.classes) for control in config.controls}
        return ProjectFacts(Project.read(self._home), self._services, find_label_config(self._home), classes)

    def _ledger(self) -> Ledger:
        if not self._home.ledger.parent.is_dir():
            raise LabelingError(f"{self._home.path}: there is no such home")
        return Ledger.open(self._home.ledger)

    def _dataset(self) -> Dataset:
        project = Project.read(self._home)
        if project is None:
            raise LabelingError("there is no project yet, start with: labelloop up --images DIR")
        return open_dataset(project.name, read_label_config(self._home), self._services.database_uri)


def _newest_first(found: list[Recorded]) -> list[Recorded]:
    return sorted(found, key=lambda one: one.at, reverse=True)
