"""The console over a fake runner and a fake catalogue: what it is told, it shows; what it is asked, it keeps."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from jinja2 import FileSystemBytecodeCache
from PIL import Image
from werkzeug.security import generate_password_hash

from labels.errors import LabelingError
from labels.geometry import Box, ImageSize
from labels.report import Failure, Report
from labels.results import Label
from sync.backend import ServedWeights
from sync.catalogue.samples import SampleImage, SamplePrediction
from sync.console.app import create_app
from sync.console.catalogue import GroupBy, OpenConflict, ProjectFacts, Recorded
from sync.console.health import Health
from sync.console.settings import ConsoleSettings
from sync.console.status import Counts, Status, Tool
from sync.jobs.context import Services
from sync.jobs.exchange.queue import Choice
from sync.jobs.parameters import check_params
from sync.jobs.registry import JOBS
from sync.ledger import FrozenVersion
from sync.ledger.overview import Day
from sync.ledger.rows import FeedbackRow
from sync.ledger.runs import Run
from sync.models.shelf import Shelf
from sync.review.feedback_summary import FeedbackSummary, group_feedback, summarize_feedback
from sync.review.merge import Conflict
from sync.settings import Home, Project

PASSWORD = "the password of the admin"
AUTH = {"Authorization": "Bearer the-token"}
SECRET = {"X-Labelloop-Secret": "the-secret"}
SIZE = ImageSize(400, 200)
SAMPLE = "65f0aa000000000000000001"
OTHER_SAMPLE = "65f0aa000000000000000002"
CAR, LORRY, CAT = "a" * 24, "b" * 24, "c" * 24
TOOLS = (
    Tool("label_studio", "Label Studio", "http://127.0.0.1:8080/projects/1/data", "most uncertain first"),
    Tool("app", "FiftyOne App", "http://127.0.0.1:5151/datasets/photos"),
)
PUSHED = Report("push", moved=2, failed=(Failure("street/b.jpg", "is <b>truncated</b>", SAMPLE),), conflicts=(SAMPLE,))
STATUS = Status(
    counts=Counts(not_sent=1204, queued=96, reviewed=32, skipped=0, conflicts=2, failed=1, task_deleted=0),
    dataset="photos",
    model_version="yolo11n-c130b90b",
    served_version="yolo11n-c130b90b",
    runs=(),
    tools=TOOLS,
)
RUNNING = Run(
    7, "push", {}, "running", "cli", "2026-01-02T03:04:05+00:00", "2026-01-02T03:04:06+00:00", progress=0.5,
    message="sent 3 of 6",
)  # fmt: skip
DONE = replace(
    RUNNING,
    id=6,
    state="done",
    ended_at="2026-01-02T03:05:09+00:00",
    progress=1.0,
    summary="push: 2 sent, 0 unchanged, 1 failed, 1 in conflict",
    failed=1,
    conflicts=1,
    failed_samples=1,
    report=PUSHED.to_dict(),
)


def make_box(label_id: str, name: str, x: float) -> Label:
    return Label(label_id, "label", (name,), Box(x, 20, 80, 60))


CONFLICTS = (
    Conflict(CAR, make_box(CAR, "car", 10), make_box(CAR, "car", 30), make_box(CAR, "truck", 10)),
    Conflict(LORRY, make_box(LORRY, "truck", 200), None, make_box(LORRY, "truck", 230)),
)


@dataclass
class FakeRunner:
    """Keeps what it is asked."""

    runs: list[Run] = field(default_factory=list)
    submitted: list[tuple[str, Mapping[str, Any] | None, str]] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)
    retried: list[tuple[int, bool, str]] = field(default_factory=list)
    dismissed: dict[str, int] = field(default_factory=dict)
    wakes: int = 0
    problem: LabelingError | None = None

    @property
    def job_names(self) -> tuple[str, ...]:
        return tuple(sorted(JOBS))

    def submit(self, job: str, params: Mapping[str, Any] | None = None, *, started_by: str = "api") -> Run:
        if job not in JOBS:
            raise LabelingError(f"job {job!r} is not known (known: push)")
        check_params(job, params or {})
        if self.problem is not None:
            raise self.problem
        self.submitted.append((job, params, started_by))
        return RUNNING

    def wake(self) -> None:
        self.wakes += 1

    def read_runs(self, limit: int = 25, offset: int = 0, *, job: str | None = None) -> list[Run]:
        return [run for run in self.runs if job in (None, run.job)][offset : offset + limit]

    def count_runs(self, *, job: str | None = None) -> int:
        return len(self.read_runs(1_000_000, job=job))

    def read_run(self, run_id: int) -> Run | None:
        return next((run for run in self.runs if run.id == run_id), None)

    def read_active(self) -> list[Run]:
        return [run for run in self.runs if not run.is_over]

    def cancel(self, run_id: int) -> Run:
        self.cancelled.append(run_id)
        return replace(RUNNING, id=run_id, cancel_requested=True)

    def dismiss(self, run_id: int) -> None:
        run = self.read_run(run_id)
        if run is None or not run.is_over:
            raise LabelingError(f"run {run_id} is not over; nothing was dismissed")
        self.dismissed[run.job] = run_id

    def read_dismissed(self) -> Mapping[str, int]:
        return self.dismissed

    def retry(self, run_id: int, *, only_failed: bool = False, started_by: str = "console") -> Run:
        if not any(run.id == run_id and run.is_over for run in self.runs):
            raise LabelingError(f"run {run_id} is not over yet")
        self.retried.append((run_id, only_failed, started_by))
        return replace(RUNNING, id=99, retry_of=run_id)


@dataclass
class FakeCatalogue:
    """A project in memory."""

    image_path: Path
    status: Status | Exception = STATUS
    days: list[Day] = field(default_factory=lambda: [Day("2026-01-01"), Day("2026-01-02", 96, 32, 1)])
    conflicts: dict[str, tuple[Conflict, ...]] = field(default_factory=dict)
    rows: list[FeedbackRow] = field(default_factory=list)
    reviews: list[dict[str, Any]] = field(default_factory=list)
    choice: Choice | Exception | None = None
    predictions: dict[str, SamplePrediction] = field(default_factory=dict)
    exports: list[Recorded] = field(default_factory=list)
    versions: list[FrozenVersion] = field(default_factory=list)
    models: list[Recorded] = field(default_factory=list)
    served: ServedWeights | Exception = field(default_factory=lambda: ServedWeights("yolo11n-c130b90b", "package x"))
    shelf: Shelf = field(default_factory=lambda: Shelf("yolo11n", None, (), (), (), {}))
    samples: set[str] = field(default_factory=lambda: {SAMPLE, OTHER_SAMPLE})
    asked: list[tuple[str, int]] = field(default_factory=list)

    def read_status(self) -> Status:
        return or_raise(self.status)

    def read_days(self, count: int) -> list[Day]:
        return self.days[-count:]

    def count_conflicts(self) -> int:
        return len(self.conflicts)

    def conflict_ids(self) -> list[str]:
        return sorted(self.conflicts)

    def read_conflicts(self, sample_ids: Sequence[str]) -> dict[str, tuple[Conflict, ...]]:
        return {key: self.conflicts[key] for key in sorted(sample_ids) if key in self.conflicts}

    def read_conflict(self, sample_id: str) -> OpenConflict | None:
        found = self.conflicts.get(sample_id)
        image = self.find_images([sample_id]).get(sample_id)
        held = (make_box(CAR, "car", 30), make_box(CAT, "cat", 300))
        return OpenConflict(image, found, held) if found and image else None

    def find_images(self, sample_ids: Sequence[str]) -> dict[str, SampleImage]:
        return {
            key: SampleImage(key, self.image_path, SIZE, "ab" * 32, None) for key in sample_ids if key in self.samples
        }

    def read_predictions(self, sample_ids: Sequence[str]) -> dict[str, SamplePrediction]:
        return {key: self.predictions[key] for key in sample_ids if key in self.predictions}

    def summarize_feedback(self, by: GroupBy | None = None) -> dict[str, FeedbackSummary]:
        if by is None:
            return {"": summarize_feedback(self.rows, self.reviews)}
        return group_feedback(self.rows, self.reviews, by=by)

    def read_feedback(self) -> list[FeedbackRow]:
        return self.rows

    def choose(self, by: str, count: int) -> Choice:
        self.asked.append((by, count))
        assert self.choice is not None
        return or_raise(self.choice)

    def read_exports(self) -> list[Recorded]:
        return self.exports

    def read_versions(self) -> list[FrozenVersion]:
        return self.versions

    def read_models(self) -> list[Recorded]:
        return self.models

    def read_shelf(self) -> Shelf:
        return self.shelf

    def fetch_served(self) -> ServedWeights:
        return or_raise(self.served)

    def read_facts(self) -> ProjectFacts:
        services = Services("http://127.0.0.1:8080", "http://127.0.0.1:9090", "mongodb://me:hush@db/")
        return ProjectFacts(
            Project("photos"), services, Path("label_config.xml"), {"label (RectangleLabels)": ("car", "cat")}
        )


def or_raise(value: Any) -> Any:
    if isinstance(value, Exception):
        raise value
    return value


# As the real one, but made so that a login takes no time.
QUICK_HASH = generate_password_hash(PASSWORD, method="scrypt:1024:8:1")


@pytest.fixture
def runner() -> FakeRunner:
    return FakeRunner()


@pytest.fixture
def catalogue(tmp_path: Path) -> FakeCatalogue:
    path = tmp_path / "street, a very long name of an image that goes on and on.jpg"
    Image.new("RGB", SIZE_OF_FILE, "teal").save(path)
    return FakeCatalogue(path)


SIZE_OF_FILE = (SIZE.width, SIZE.height)
MakeSettings = Callable[..., ConsoleSettings]


@pytest.fixture
def make_settings(tmp_path: Path) -> MakeSettings:
    def make(**changes: Any) -> ConsoleSettings:
        home = Home(tmp_path / "home")
        home.make()
        password_file = home.secrets / "console_password"
        password_file.write_text(QUICK_HASH)
        return ConsoleSettings(home, "the-token", "the-secret", "the-key", password_file, **changes)

    return make


@dataclass
class Clock:
    """A clock that stands still until it is set."""

    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


MakeApp = Callable[..., Flask]


@pytest.fixture(scope="session")
def compiled_templates(tmp_path_factory: pytest.TempPathFactory) -> FileSystemBytecodeCache:
    """Templates that one app compiled and the next one need not."""
    return FileSystemBytecodeCache(str(tmp_path_factory.mktemp("templates")))


@pytest.fixture
def make_app(
    runner: FakeRunner,
    catalogue: FakeCatalogue,
    make_settings: MakeSettings,
    clock: Clock,
    compiled_templates: FileSystemBytecodeCache,
) -> MakeApp:
    def make(**settings: Any) -> Flask:
        health = {"label_studio": Health("up"), "app": Health("down", "does not answer")}
        made = make_settings(**settings)
        app = create_app(made, runner, catalogue, fetch_health=lambda tools: health, clock=clock)
        app.jinja_env.bytecode_cache = compiled_templates
        return app

    return make


@pytest.fixture
def client(make_app: MakeApp) -> FlaskClient:
    """A browser that nobody has logged in with."""
    return make_app().test_client()


@pytest.fixture
def admin(client: FlaskClient) -> FlaskClient:
    """A browser in which the admin is logged in."""
    assert log_in(client).status_code == 303
    return client


def log_in(client: FlaskClient, password: str = PASSWORD, **more: str) -> Any:
    return client.post("/login", data={"password": password, "csrf_token": read_token(client, "/login"), **more})


def read_token(client: FlaskClient, path: str) -> str:
    """Return the form's token as it stands in a page."""
    found = re.search(r'name="csrf_token" value="([^"]+)"', client.get(path).text)
    assert found is not None
    return found[1]


def submit(client: FlaskClient, path: str, **fields: str) -> Any:
    """Send a form as the page would."""
    return client.post(path, data={"csrf_token": read_token(client, "/models/"), **fields})
