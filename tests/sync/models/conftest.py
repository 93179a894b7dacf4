"""A project with a frozen version and a current model that errs a little, all small enough for the real engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ml_backend.models.weights import compute_version
from sync.jobs.context import Context
from sync.settings import Home, Project
from sync.versions.manifest import write_version
from sync.versions.version import Version
from tests.fakes.backend import FakeBackend
from tests.fakes.detectors import make_version, write_detector
from tests.fakes.project import open_fake_project

TEST_IMAGES = 40


@dataclass(frozen=True)
class Bench:
    """A project whose current model is a file, and a version to judge others by."""

    context: Context
    backend: FakeBackend
    version: Version
    current: Path
    folder: Path

    @property
    def home(self) -> Home:
        return self.context.home

    def write_candidate(self, name: str, *, errs_by: float, score: float = 0.9) -> Path:
        return write_detector(self.folder / f"{name}.onnx", errs_by=errs_by, score=score)

    def read_current(self) -> str:
        project = Project.read(self.home)
        assert project is not None
        return project.model

    def runs(self) -> list[tuple[str, str, dict[str, object]]]:
        """Return job, state and parameters of every run, the newest first."""
        ledger = self.context.ledger
        return [(run.job, run.state, dict(ledger.run_params(run.id))) for run in ledger.runs(25)]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("LABELLOOP_OFFLINE", "1")
    with open_fake_project(images=2) as project:
        home = project.context.home
        home.models.mkdir()
        version = make_version(tmp_path / "pictures", test=TEST_IMAGES)
        write_version(home, version)
        current = write_detector(tmp_path / "old.onnx", errs_by=5.0)
        chosen = replace(project.context.project, model=str(current))
        chosen.write(home)
        project.backend.model_version = compute_version(current)
        yield Bench(replace(project.context, project=chosen), project.backend, version, current, tmp_path)
