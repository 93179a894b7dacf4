"""The page of models: what is current, what wants to be, and the buttons, each asked for once more before it acts."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from sync.console.intervals import draw_intervals
from sync.ledger import Promotion
from sync.models.candidate import Candidate
from sync.models.gate import ClassChange
from sync.models.registry import Card
from sync.models.results import GateResult, Result
from sync.models.shelf import SeenCandidate, Shelf
from tests.fakes.measured import ANSWERS, EVALUATION, make_comparison
from tests.sync.console.conftest import RUNNING, STATUS, FakeCatalogue, FakeRunner, submit

SUM = "ab" * 32
AT = "2026-01-02T03:04:05+00:00"
COMPARISON = make_comparison(
    ClassChange("<car>", 300, 0.45, 0.5, 0.01, 0.08), ClassChange("bus", 20, 0.5, 0.4, -0.2, -0.01)
)
CARD = Card(
    id="better-1a2b3c4d",
    weights="better.pt",
    files={"better.pt": SUM},
    source="candidate better-00000001",
    registered_at=AT,
    registered_by="ana",
    task="detect",
    licence="AGPL-3.0",
    trained_on="v3-00000000",
    tested_on="v3-00000000",
    evaluation=EVALUATION,
    replaces="yolo11n-c130b90b",
    comparison=COMPARISON,
    decision="not better",
    reasons=("mAP50-95 0.4123 against 0.3700",),
    forced_by="ana",
    forced_reason="sees <dogs>",
    thresholds={"<car>": 0.35},
    curves=("precision-recall.svg",),
)
OLD = Card("yolo11n-c130b90b", "yolo11n.onnx", {"yolo11n.onnx": SUM}, "yolo11n (package x)", AT, "ana")


@pytest.fixture
def shelf(catalogue: FakeCatalogue) -> Shelf:
    candidate = Candidate(
        id="next-00000002",
        folder=Path("next"),
        state="trained",
        version_id="v3-00000000",
        model="yolo11n.pt",
        family="ultralytics",
        classes=("car", "dog"),
        seed=0,
        model_version="next-9f9f9f9f",
        scores={"map50_95": 0.44},
    )
    gate = GateResult(
        "next-9f9f9f9f", CARD.id, "v3-00000000", AT, "undecided", ("12 test images are too few",), COMPARISON
    )
    result = Result("next-9f9f9f9f", "v3-00000000", "test", AT, EVALUATION, {"<car>": 0.3})
    history = Promotion(CARD.id, OLD.id, "forced", "ana", "v3-00000000", "sees <dogs>", recorded_at=AT)
    made = Shelf(
        current=CARD.id,
        card=CARD,
        cards=(CARD, OLD),
        candidates=(SeenCandidate(candidate, result, gate, is_registered=False),),
        promotions=(history,),
        damaged={"bad-00000000": "card.json: is damaged"},
    )
    catalogue.shelf = made
    return made


@pytest.mark.usefixtures("shelf")
def test_the_page_has_the_current_model_the_candidates_the_registry_and_the_history(admin: FlaskClient) -> None:
    page = admin.get("/models/").text

    for text in ("better-1a2b3c4d", "next-00000002", "undecided", "0.412", "forced", "sees &lt;dogs&gt;", "is damaged"):
        assert text in page
    # The current one needs no way back to it.
    assert "/models/registered/yolo11n-c130b90b/back" in page
    assert "/models/registered/better-1a2b3c4d/back" not in page


def test_a_training_that_nothing_works_on_was_interrupted(
    admin: FlaskClient, runner: FakeRunner, catalogue: FakeCatalogue, shelf: Shelf
) -> None:
    begun = replace(shelf.candidates[0].candidate, state="training", model_version=None, run_ids=(5, 7))
    catalogue.shelf = replace(shelf, candidates=(SeenCandidate(begun, None, None, is_registered=False),))
    paths = ("/models/", "/models/candidates/next-00000002")
    runner.runs = [replace(RUNNING, id=8, job="train")]
    for path in paths:
        assert "interrupted, the same <code>labelloop train</code> goes on with it" in admin.get(path).text

    runner.runs = [replace(RUNNING, id=7, job="train")]
    for path in paths:
        assert "interrupted" not in admin.get(path).text


@pytest.mark.parametrize(("not_sent", "queued", "is_left"), [(0, 0, False), (3, 0, True), (0, 2, True)])
def test_the_served_model_is_brought_to_annotators_only_where_an_image_waits(
    admin: FlaskClient, catalogue: FakeCatalogue, not_sent: int, queued: int, is_left: bool
) -> None:
    counts = replace(STATUS.counts, not_sent=not_sent, queued=queued)
    catalogue.status = replace(STATUS, counts=counts, model_version="old-00000000")
    page = admin.get("/models/").text

    assert "another version than is served" in page
    assert ("pre-label and push bring the new one" in page) is is_left
    assert ("no image waits that it could draw" in page) is not is_left


@pytest.mark.usefixtures("shelf")
def test_a_registered_model_shows_its_numbers_its_interval_and_its_sums(admin: FlaskClient) -> None:
    page = admin.get("/models/registered/better-1a2b3c4d").text

    for text in (
        "Gate: not better",
        "Forced by ana",
        'chart-narrow intervals"',
        "&lt;car&gt;",
        "AGPL-3.0",
        SUM[:16],
        "0.350",
    ):
        assert text in page
    assert "all classes: +0.0500, from +0.0120 to +0.0900" in page
    # No example, no number.
    assert page.count("no example") == 1
    assert admin.get("/models/registered/nothing").status_code == 404


def test_a_classifier_shows_what_it_took_for_what(admin: FlaskClient, catalogue: FakeCatalogue, shelf: Shelf) -> None:
    card = replace(CARD, task="classify", control="weather", evaluation=ANSWERS, thresholds={}, curves=())
    (seen,) = shelf.candidates
    assert seen.result is not None
    result = replace(seen.result, evaluation=ANSWERS, thresholds={})
    catalogue.shelf = replace(shelf, card=card, cards=(card, OLD), candidates=(replace(seen, result=result),))

    assert admin.get("/models/").text.count("0.812 <small>top-1</small>") == 2
    for path in (f"/models/registered/{CARD.id}", "/models/candidates/next-00000002"):
        page = admin.get(path).text
        assert "What was taken for what" in page
        words = " ".join(re.sub("<[^>]+>", " ", page.partition("What was taken for what")[2]).split())
        assert "People say &lt;sun&gt; rain snow no prediction &lt;sun&gt; 27 2 0 1 rain 5 13 0 2 snow 0 0 0 0" in words
        assert "50 images with an answer of weather" in page
        assert 'data-name="top-5">0.960</td>' in page
        assert "mAP50-95" not in page.partition("What was taken")[0].partition("<table")[2].partition("</thead>")[0]


@pytest.mark.usefixtures("shelf")
def test_only_drawings_of_the_card_are_served(admin: FlaskClient, make_settings: object) -> None:
    folder = make_settings().home.models / "registry" / CARD.id  # type: ignore[operator]
    folder.mkdir(parents=True)
    (folder / "precision-recall.svg").write_text("<svg/>")
    (folder / "better.pt").write_text("weights")

    with admin.get(f"/models/registered/{CARD.id}/precision-recall.svg") as drawing:
        assert (drawing.status_code, drawing.mimetype) == (200, "image/svg+xml")
    for name in ("better.pt", "card.json", "..%2f..%2fsecrets%2fconsole_password", "training.svg"):
        assert admin.get(f"/models/registered/{CARD.id}/{name}").status_code == 404


@pytest.mark.usefixtures("shelf")
def test_the_gate_is_asked_without_changing_anything(admin: FlaskClient, runner: FakeRunner) -> None:
    answer = submit(admin, "/models/candidates/next-00000002/check")

    assert (answer.status_code, answer.location) == (303, "/runs/7")
    asked = {"candidate": "next-00000002", "by": "the console", "dry_run": True}
    assert runner.submitted == [("promote", asked, "console")]


@pytest.mark.usefixtures("shelf")
def test_a_promotion_is_confirmed_on_a_page_of_its_own(admin: FlaskClient, runner: FakeRunner) -> None:
    page = admin.get("/models/candidates/next-00000002/promote").text
    assert "Promote next-00000002?" in page
    assert "12 test images are too few" in page

    submit(admin, "/models/candidates/next-00000002/promote", reason="  ")
    submit(admin, "/models/candidates/next-00000002/promote", force="yes", reason="sees dogs")

    plain = {"candidate": "next-00000002", "by": "the console"}
    forced = plain | {"reason": "sees dogs", "force": True}
    assert runner.submitted == [("promote", plain, "console"), ("promote", forced, "console")]


@pytest.mark.usefixtures("shelf")
def test_a_model_is_forced_for_a_reason_alone(admin: FlaskClient, runner: FakeRunner) -> None:
    answer = submit(admin, "/models/candidates/next-00000002/promote", force="yes", reason="")

    assert (answer.status_code, runner.submitted) == (303, [])
    assert "say why" in admin.get(answer.location).text


@pytest.mark.usefixtures("shelf")
def test_a_way_back_is_confirmed_too_and_says_why(admin: FlaskClient, runner: FakeRunner) -> None:
    assert "Roll back to yolo11n-c130b90b?" in admin.get("/models/registered/yolo11n-c130b90b/back").text

    submit(admin, "/models/registered/yolo11n-c130b90b/back", reason="too slow")

    said = {"to": "yolo11n-c130b90b", "by": "the console", "reason": "too slow"}
    assert runner.submitted == [("rollback", said, "console")]


@pytest.mark.usefixtures("shelf")
@pytest.mark.parametrize(
    "path",
    [
        "/models/candidates/next-00000002/check",
        "/models/candidates/next-00000002/promote",
        "/models/registered/yolo11n-c130b90b/back",
    ],
)
def test_nothing_is_changed_without_the_forms_token_or_a_login(
    admin: FlaskClient, runner: FakeRunner, path: str
) -> None:
    assert admin.post(path).status_code == 400
    assert admin.application.test_client().post(path).status_code in (302, 303, 400, 401)
    assert runner.submitted == []


def test_an_interval_is_drawn_to_scale_the_worst_classes_first() -> None:
    wide, narrow = draw_intervals(COMPARISON)

    for drawing in (wide, narrow):
        whole, bus, car = drawing.rows
        assert [row.kind for row in (whole, bus, car)] == ["better", "worse", "better"]
        assert bus.low < bus.middle < bus.high < drawing.zero < whole.low < whole.middle < whole.high <= drawing.width
        # The same change is the same way on the drawing: 0.2 left of 0 is four times as far as 0.05 right of it.
        scale = (drawing.zero - bus.low) / 0.2
        assert (car.middle - drawing.zero) / 0.05 == pytest.approx(scale, rel=0.02)
    assert draw_intervals(replace(COMPARISON, difference=None, low=None, high=None, classes=())) == ()


def test_a_long_name_is_cut_and_keeps_its_number_of_examples() -> None:
    named = replace(COMPARISON, classes=(ClassChange("a name that goes on and on", 20, 0.5, 0.4, -0.2, -0.01),))

    _, narrow = draw_intervals(named)

    assert narrow.rows[1].name == "a name that g… (20)"
