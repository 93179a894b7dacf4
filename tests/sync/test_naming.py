"""Samples and labels by the names people type: what is nobody's is said, and never taken for «all is well»."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click.testing
import pytest
from click.testing import CliRunner

from labels.errors import LabelingError
from labels.report import Failure
from labels.results import Label
from sync.cli import main
from sync.jobs.naming import find_named
from sync.jobs.registry import call_job
from sync.ledger import Ledger, Link, Review
from sync.review.merge import Conflict
from sync.settings import Home
from tests.fakes.project import FakeProject, open_fake_project

EXPECTED = "is not in the dataset; expected the id of a sample, as the FiftyOne App shows it, or the name of its file"
SAMPLE, DECIDED = "a" * 24, "b" * 24
CAR = Label("1" * 24, "label", ("car",))
BUS = Label("1" * 24, "label", ("bus",))


@pytest.fixture
def project() -> Iterator[FakeProject]:
    with open_fake_project(images=3) as project:
        yield project


def test_a_sample_is_named_by_its_id_or_its_file(project: FakeProject) -> None:
    first, second, _ = project.sample_ids
    named = find_named(project.context.dataset, ["0001.png", first, second, "nosuch"])
    assert named.sample_ids == [second, first]
    assert named.failed == (Failure("sample nosuch", EXPECTED),)


def test_a_name_of_several_files_is_refused_with_their_ids(project: FakeProject) -> None:
    first, *_ = project.sample_ids
    image = project.dataset.samples[first].image
    project.dataset.write_images([image])
    with pytest.raises(LabelingError, match=rf"2 images have this name; give the id of one: {first}, "):
        find_named(project.context.dataset, ["0000.png"])


@pytest.mark.parametrize("job", ["prelabel", "push"])
def test_a_job_for_unknown_samples_fails_and_one_for_a_file_runs(project: FakeProject, job: str) -> None:
    with pytest.raises(LabelingError, match=f"sample nosuch: {EXPECTED}"):
        call_job(project.context, job, {"sample_ids": ["nosuch"]})
    report = call_job(project.context, job, {"sample_ids": ["0001.png", "f" * 24]})
    assert (report.moved, report.failed) == (1, (Failure(f"sample {'f' * 24}", EXPECTED),))


def test_a_decision_for_an_unknown_sample_fails(project: FakeProject) -> None:
    decisions = {"nosuch": "reviewed", project.sample_ids[0]: "reviewed"}
    report = call_job(project.context, "resolve", {"decisions": decisions})
    assert (report.moved, report.unchanged) == (0, 1)
    assert report.failed == (Failure("sample nosuch", EXPECTED, "nosuch"),)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A state folder with one sample in conflict and one that is not; the tools do not run."""
    with Ledger.open(Home(tmp_path).ledger) as ledger:
        ledger.record_links([Link(SAMPLE, 1, "sum", None, "queued"), Link(DECIDED, 2, "sum", None, "queued")])
        conflict = (Conflict(CAR.id, CAR, BUS, None),)
        ledger.record_review(
            Review(SAMPLE, 1, 1, "2026-01-01T00:00:00.000000Z", None, None, "conflict", (CAR,), conflict)
        )
    return tmp_path


def run(home: Path, *arguments: str) -> click.testing.Result:
    variables = {"LABEL_STUDIO_URL": None, "LABELLOOP_ML_BACKEND_URL": None}
    return CliRunner(env=variables).invoke(main, ["--home", str(home), "resolve", *arguments])


def test_open_conflicts_are_listed_also_where_no_tool_knows_the_files(home: Path) -> None:
    shown = run(home)
    assert (shown.exit_code, shown.output) == (
        0,
        f"sample {SAMPLE}\n  label {CAR.id}: FiftyOne bus, Label Studio deleted it\n",
    )
    assert run(home, DECIDED).output == f"sample {DECIDED}: no open conflict\n"


def test_an_unknown_sample_is_never_without_conflicts(home: Path) -> None:
    shown = run(home, "nosuch")
    assert shown.exit_code == 1
    assert shown.output.endswith("the stack does not run, start it with: labelloop up\n")


@pytest.mark.parametrize("take", [(), ("--take", "curated")])
def test_an_unknown_label_is_named_with_those_in_conflict(home: Path, take: tuple[str, ...]) -> None:
    shown = run(home, SAMPLE, "--label", "nosuch", *take)
    assert (shown.exit_code, shown.output) == (
        1,
        f"Error: sample {SAMPLE}: label nosuch is not in conflict (in conflict: {CAR.id})\n",
    )
    assert "(it has no open conflict)" in run(home, DECIDED, "--label", CAR.id).output
