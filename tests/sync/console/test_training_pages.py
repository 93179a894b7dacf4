"""The page that starts a training, and the curves on a training's run: while it runs, and when it is done."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from labels.errors import LabelingError
from ml_backend.training import write_json
from sync.console.charts import draw_lines
from sync.models.candidate import Candidate, candidates_dir
from sync.settings import Home
from tests.sync.console.conftest import DONE, RUNNING, FakeRunner, submit

TRAINING_RUN = replace(RUNNING, job="train", params={"model": "yolo11n.pt"}, message="net-1: epoch 2/5")


@pytest.fixture
def candidate(tmp_path: Path) -> Candidate:
    """The training of run 7, at its second epoch."""
    home = Home(tmp_path / "home")
    made = Candidate(
        "net-1a2b3c4d",
        candidates_dir(home) / "net-1a2b3c4d",
        "training",
        "v3-00000000",
        "yolo11n.pt",
        "ultralytics",
        ("car", "<b>dog</b>"),
        seed=0,
        settings={"epochs": 5},
        counts={"train images": 1234},
        run_ids=(7,),
    )
    made.write()
    made.work.mkdir()
    write_epochs(made, 2)
    return made


def write_epochs(candidate: Candidate, count: int) -> None:
    history = [
        {
            "epoch": number,
            "losses": {"box_loss": 1.0 / number, "loss": 3.0 / number},
            "scores": {"map50_95": 0.1 * number, "map50": 0.2 * number},
            "lr": 0.01,
            "seconds": 12.5,
        }
        for number in range(1, count + 1)
    ]
    write_json(candidate.work / "history.json", history)


def test_the_form_starts_the_job_with_what_was_filled_in(admin: FlaskClient, runner: FakeRunner) -> None:
    form = {"version": "", "model": " yolo11n.pt ", "epochs": "30", "imgsz": "", "corrections_weight": "2.5"}

    answer = submit(admin, "/training/", **form)

    assert answer.headers["Location"].endswith("/runs/7")
    assert runner.submitted == [("train", {"model": "yolo11n.pt", "epochs": 30, "corrections_weight": 2.5}, "console")]


@pytest.mark.parametrize(
    ("form", "problem"),
    [
        ({"epochs": "many"}, "epochs &#39;many&#39;: expected a whole number"),
        ({"corrections_weight": "2,5"}, "corrections_weight &#39;2,5&#39;"),
        ({"epochs": "0"}, "epochs 0: expected a whole number from 1 to 100000"),
    ],
)
def test_what_cannot_be_is_said_on_the_page(
    admin: FlaskClient, runner: FakeRunner, form: dict[str, str], problem: str
) -> None:
    answer = submit(admin, "/training/", **form)

    assert problem in admin.get(answer.headers["Location"]).text
    assert runner.submitted == []


def test_the_form_shows_what_the_last_training_was_told(admin: FlaskClient, candidate: Candidate) -> None:
    usual = admin.get("/training/").text
    told = {"epochs": 7, "side": 320, "batch": 2, "seed": 4, "corrections_weight": 2.5}
    replace(candidate, state="trained", model="yolo11s.pt", control="boxes", settings=told).write()
    page = admin.get("/training/").text

    for shown in ("the served model", "50", "640", "8", "0", "1", "all controls"):
        assert f'placeholder="{shown}"' in usual
    for shown in ("yolo11s.pt", "7", "320", "2", "4", "2.5", "boxes"):
        assert f'placeholder="{shown}"' in page
    assert "which changes nothing unless more was reviewed since" in page


@pytest.mark.parametrize("path", ["/etc/passwd", "../best.pt", "~/best.pt"])
def test_no_path_is_started_from(admin: FlaskClient, runner: FakeRunner, path: str) -> None:
    answer = submit(admin, "/training/", model=path)

    assert "only the command line may name a path" in admin.get(answer.headers["Location"]).text
    assert runner.submitted == []


def test_the_page_lists_the_trainings_and_why_one_failed(admin: FlaskClient, runner: FakeRunner) -> None:
    runner.runs = [replace(DONE, job="train", state="failed", error="nothing to train on"), replace(DONE, id=5)]

    page = admin.get("/training/").text

    assert "run 6" in page
    assert "nothing to train on" in page
    assert "run 5" not in page


def test_a_dry_run_is_marked_among_the_trainings(admin: FlaskClient, runner: FakeRunner) -> None:
    runner.runs = [replace(DONE, job="train", params={"model": "yolo11n.pt", "dry_run": True})]
    assert "dry run" in admin.get("/training/").text
    runner.runs = [replace(DONE, job="train", params={"model": "yolo11n.pt"})]
    assert "dry run" not in admin.get("/training/").text


def test_the_run_shows_its_curves_while_it_trains(admin: FlaskClient, runner: FakeRunner, candidate: Candidate) -> None:
    runner.runs = [TRAINING_RUN]

    page = admin.get("/runs/7").text

    # Two lines of scores and one of losses, each drawn wide and narrow.
    assert page.count('class="line ') == 6
    assert "Loss on the train split, epoch 1 to 2" in page
    assert "mAP50-95" in page
    assert "v3-00000000" in page
    assert "1,234" in page
    assert "<b>dog</b>" not in page


def test_an_open_page_is_asked_for_again_when_an_epoch_is_over(
    admin: FlaskClient, runner: FakeRunner, candidate: Candidate
) -> None:
    runner.runs = [TRAINING_RUN]
    before = admin.get("/live.json").get_json()["revision"]
    assert admin.get("/live.json").get_json()["revision"] == before

    write_epochs(candidate, 3)

    assert admin.get("/live.json").get_json()["revision"] != before


def test_before_the_first_epoch_the_page_says_so(admin: FlaskClient, runner: FakeRunner, candidate: Candidate) -> None:
    runner.runs = [TRAINING_RUN]
    write_epochs(candidate, 0)

    assert "The first epoch is not over yet" in admin.get("/runs/7").text


def test_a_training_that_has_no_candidate_yet_and_other_runs_show_no_curves(
    admin: FlaskClient, runner: FakeRunner, candidate: Candidate
) -> None:
    runner.runs = [replace(TRAINING_RUN, id=8), RUNNING]

    assert 'id="training-title"' not in admin.get("/runs/8").text
    assert 'id="training-title"' not in admin.get("/runs/7").text


def test_a_classifier_shows_what_it_took_for_what(admin: FlaskClient, runner: FakeRunner, candidate: Candidate) -> None:
    runner.runs = [replace(DONE, id=7, job="train")]
    report: dict[str, Any] = {"classes": ["sun", "rain"], "confusion": [[1203, 2], [3, 4]]}
    replace(candidate, report=report, state="trained", best_epoch=2, model_version="net-5e6f").write()

    page = admin.get("/runs/7").text

    assert "1,203" in page
    assert "net-5e6f" in page


def test_a_line_has_a_gap_where_nothing_was_measured_and_a_dash_for_a_single_value() -> None:
    drawn = draw_lines("a", ("1", "2", "3"), {"loss": (1.0, None, 3.0), "score": (0.5, 0.5, 0.5)})
    single = draw_lines("b", ("1",), {"loss": (2.0,)})

    assert str(drawn).count('class="line line-0"') == str(drawn).count('class="line line-1"') == 2
    assert 'class="line line-0"><title>loss</title><path' in str(single)
    assert "style=" not in str(drawn)


def test_a_refusal_of_the_queue_is_shown(admin: FlaskClient, runner: FakeRunner) -> None:
    runner.problem = LabelingError("the job queue cannot be written to")

    answer = submit(admin, "/training/", model="yolo11n.pt")

    assert "the job queue cannot be written to" in admin.get(answer.headers["Location"]).text
