"""Every page of the console: what it shows of much, of little and of nothing, and what its buttons ask for."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from flask.testing import FlaskClient
from PIL import Image

from labels.errors import LabelingError, ServiceError
from labels.geometry import Box, Mask
from labels.report import Failure, Report
from labels.results import Label
from sync.backend import ServedWeights
from sync.catalogue.samples import SamplePrediction
from sync.console.app import create_app
from sync.console.catalogue import Recorded
from sync.console.status import Counts, Status
from sync.jobs.exchange.queue import Choice
from sync.ledger.overview import Day
from sync.ledger.rows import Export, FeedbackRow, Model
from sync.ledger.runs import Run
from sync.review.choosing import Chosen
from sync.review.feedback import Verdict
from sync.review.merge import Conflict, conflicts_version
from tests.sync.console.conftest import (
    CAR,
    CONFLICTS,
    DONE,
    LORRY,
    OTHER_SAMPLE,
    RUNNING,
    SAMPLE,
    FakeCatalogue,
    FakeRunner,
    MakeSettings,
    log_in,
    make_box,
    submit,
)

REVIEW = {
    "annotation_id": 1,
    "sample_id": SAMPLE,
    "task_id": 1,
    "annotation_updated_at": "2026-01-02T00:00:00Z",
    "reviewer": "ana@example.org",
    "lead_time_s": 12.0,
    "state": "reviewed",
    "model_version": "yolo11n-1",
}
FAILED = replace(DONE, state="failed", started_by="console", summary=None, failed=None)
PAGES = ("/", "/runs/", "/conflicts/", "/queue/", "/feedback/", "/exports/", "/training/", "/models/", "/settings/")
NOTHING = Status(counts=Counts(0, 0, 0, 0, 0, 0, 0))


def make_row(number: int, kind: str, before: str | None, after: str | None, iou: float | None) -> FeedbackRow:
    verdict = Verdict(f"{number:024x}", "label", kind, before, after, iou, 0.5)  # type: ignore[arg-type]  # a kind
    return FeedbackRow(SAMPLE, 1, 1, "2026-01-02T00:00:00Z", "ana@example.org", 12.0, "yolo11n-1", verdict)


@pytest.mark.parametrize("path", PAGES)
def test_every_page_has_the_frame_a_title_and_no_inline_script_or_style(admin: FlaskClient, path: str) -> None:
    page = admin.get(path).text

    assert re.search(r"<title>\w+ · labelloop</title>", page)
    assert page.count("<h1>") == 1
    assert page.count('aria-current="page"') == 1
    assert 'href="#main"' in page
    assert re.findall(r"<script(?![^>]* src=)|<style| style=| on[a-z]+=", page) == []


@pytest.mark.parametrize("path", PAGES)
def test_every_page_can_say_that_there_is_nothing(
    admin: FlaskClient, catalogue: FakeCatalogue, runner: FakeRunner, path: str
) -> None:
    catalogue.status, catalogue.days, catalogue.samples = NOTHING, [Day("2026-01-02")], set()

    assert admin.get(path).status_code == 200


@pytest.mark.parametrize("path", PAGES)
def test_every_field_of_a_form_has_a_label(admin: FlaskClient, path: str) -> None:
    page = admin.get(path).text
    fields = re.findall(r'<(?:input(?![^>]*type="(?:hidden|radio|checkbox)")|select)[^>]* id="([^"]+)"', page)

    assert [name for name in fields if f'<label for="{name}">' not in page] == []


def test_what_is_not_there_is_a_page_with_a_way_back(admin: FlaskClient) -> None:
    answer = admin.get("/nope")

    assert answer.status_code == 404
    assert "To the overview" in answer.text


# Overview


def test_the_overview_shows_the_way_of_the_images(admin: FlaskClient, catalogue: FakeCatalogue) -> None:
    catalogue.exports = [Recorded(Export("/exports/coco", "coco", "ab" * 32, 31, 90), "2026-01-02T00:00:00+00:00")]
    page = admin.get("/").text

    assert re.findall(r"<b>([^<]+)</b>", page) == ["1,204", "96", "32", "31"]
    for shown in ("photos", "yolo11n-c130b90b", "1,334 images in all", "0 skipped", "does not answer"):
        assert shown in page
    assert 'href="http://127.0.0.1:8080/projects/1/data"' in page


def test_the_days_are_a_chart_and_a_table(admin: FlaskClient) -> None:
    page = admin.get("/").text

    assert page.count("<title>01-02: reviewed 32</title>") == 2
    assert re.search(r'2026-01-02</th><td class="number">96</td><td class="number">32</td><td class="number">1<', page)


def test_what_needs_a_decision_is_said_until_it_is_over(admin: FlaskClient, runner: FakeRunner) -> None:
    runner.runs = [replace(FAILED, error="GET /api/projects/3: 401"), DONE]
    page = admin.get("/").text

    assert "2 images are in conflict: both sides changed a label" in page
    assert "The last push failed: GET /api/projects/3: 401" in page

    runner.runs.insert(0, replace(DONE, id=8, failed=0))
    assert "The last push" not in admin.get("/").text


def test_a_run_that_failed_is_dismissed_until_the_job_fails_again(admin: FlaskClient, runner: FakeRunner) -> None:
    runner.runs = [replace(FAILED, error="GET /api/projects/3: 401")]
    assert f'action="/runs/{FAILED.id}/dismiss"' in admin.get("/").text

    assert submit(admin, f"/runs/{FAILED.id}/dismiss").location == "/"
    assert "The last push" not in admin.get("/").text

    runner.runs.insert(0, replace(FAILED, id=FAILED.id + 1, error="GET /api/projects/3: 500"))
    assert "The last push failed: GET /api/projects/3: 500" in admin.get("/").text


def test_a_run_that_goes_on_is_not_dismissed(admin: FlaskClient, runner: FakeRunner) -> None:
    runner.runs = [RUNNING]
    submit(admin, f"/runs/{RUNNING.id}/dismiss")

    assert runner.dismissed == {}
    assert "is not over; nothing was dismissed" in admin.get("/").text


def test_a_command_that_failed_in_its_terminal_needs_no_decision_and_hides_none(
    admin: FlaskClient, runner: FakeRunner
) -> None:
    typed = replace(DONE, id=9, job="queue", state="failed", summary=None, failed=None, error="--by 'nosuch'")
    runner.runs = [typed, replace(typed, id=5, started_by="schedule", error="MongoDB does not answer")]
    assert RUNNING.started_by == "cli"
    page = admin.get("/").text

    assert "The last queue failed: MongoDB does not answer" in page
    assert "The last queue failed: --by" not in page


def test_a_dry_run_needs_no_decision_and_hides_none(admin: FlaskClient, runner: FakeRunner) -> None:
    tried = Report("ingest", moved=60, failed=(Failure("a.txt", "is damaged"),) * 3, is_dry_run=True)
    real = Report("ingest", moved=5, failed=(Failure("b.jpg", "is truncated"),))
    shown = [
        replace(DONE, id=number, job="ingest", failed=len(one.failed), summary=next(one.lines()), report=one.to_dict())
        for number, one in ((9, tried), (8, real))
    ]
    # Of a long report a list knows the summary alone.
    long = replace(shown[0], id=10, params={"dry_run": True}, report=None)
    runner.runs = [long, *shown]
    page = admin.get("/").text

    assert f"The last {shown[1].summary}" in page
    assert "The last ingest: 60 would be added" not in page


class OvertakenRunner(FakeRunner):
    """Takes a run from the queue as soon as a page has read it."""

    def read_run(self, run_id: int) -> Run | None:
        found = super().read_run(run_id)
        self.runs = [replace(run, state="running") for run in self.runs]
        return found


def test_a_page_of_a_run_that_was_taken_while_it_was_made_is_asked_for_again(
    make_settings: MakeSettings, catalogue: FakeCatalogue
) -> None:
    runner = OvertakenRunner([replace(RUNNING, state="queued", started_at=None)])
    admin = create_app(make_settings(), runner, catalogue, fetch_health=lambda _: {}).test_client()
    log_in(admin)

    page = admin.get("/runs/7").text

    shown = re.search(r'data-live="(\w+)"', page)
    assert ">queued<" in page
    assert shown is not None
    assert shown[1] != admin.get("/live.json").get_json()["revision"]


def test_images_whose_task_was_deleted_do_not_count_as_waiting(admin: FlaskClient, catalogue: FakeCatalogue) -> None:
    catalogue.status = Status(counts=Counts(1, 2, 3, 0, 0, 0, 4))
    page = admin.get("/").text

    assert "4 with their task deleted" in page
    assert "10 images in all" in page


def test_a_class_the_detector_is_weak_at_is_named_when_enough_was_reviewed(
    admin: FlaskClient, catalogue: FakeCatalogue
) -> None:
    catalogue.rows = [make_row(1, "deleted", "cat", None, None)]
    catalogue.reviews = [REVIEW]
    assert "weak at" not in admin.get("/").text

    catalogue.rows = [make_row(number, "deleted", "cat", None, None) for number in range(100)]
    catalogue.rows += [make_row(number, "confirmed", "cat", "cat", 1.0) for number in range(100, 140)]
    assert "The detector is weak at cat: F1 " in admin.get("/").text


def test_a_running_job_is_shown_with_its_progress(admin: FlaskClient, runner: FakeRunner) -> None:
    runner.runs = [RUNNING]

    assert "sent 3 of 6" in admin.get("/").text
    assert admin.get("/live.json").json["active"] == [  # type: ignore[index]  # the test fails on None as it should
        {"id": 7, "job": "push", "state": "running", "progress": 0.5, "message": "sent 3 of 6"}
    ]


def test_an_empty_project_is_told_what_to_do(admin: FlaskClient, catalogue: FakeCatalogue) -> None:
    catalogue.status, catalogue.days = Status(counts=Counts(0, 0, 0, 0, 0, 0, 0), tools=()), [Day("2026-01-02")]
    page = admin.get("/").text

    for said in (
        "The dataset holds no images yet.",
        "No job has run yet.",
        "No tool is known yet.",
        "In the last 1 days nothing was sent or reviewed.",
    ):
        assert said in page


def test_images_that_were_never_sent_are_told_how_to_be(admin: FlaskClient, catalogue: FakeCatalogue) -> None:
    catalogue.status = Status(counts=Counts(5, 0, 0, 0, 0, 0, 0))

    assert "Nothing was sent yet." in admin.get("/").text


def test_a_state_that_cannot_be_read_is_not_shown_as_empty(admin: FlaskClient, catalogue: FakeCatalogue) -> None:
    catalogue.status = ServiceError("MongoDB does not answer")
    page = admin.get("/").text

    assert "MongoDB does not answer" in page
    assert re.findall(r"<b>([^<]+)</b>", page) == ["–", "–", "–", "0"]
    assert page.count("not known") == 3
    assert "No tool is known yet" not in page


def test_the_page_is_fetched_again_only_when_it_looks_different(
    admin: FlaskClient, catalogue: FakeCatalogue, runner: FakeRunner
) -> None:
    def read_revision() -> str:
        return str(admin.get("/live.json").json["revision"])  # type: ignore[index]  # as above

    runner.runs = [RUNNING]
    before = read_revision()
    runner.runs = [replace(RUNNING, progress=0.75)]
    assert read_revision() == before
    assert f'data-live="{before}"' in admin.get("/").text
    assert f'data-live="{before}"' in admin.get("/runs/").text

    runner.runs = [DONE]
    assert read_revision() != before


# Runs


@pytest.mark.parametrize("job", ["pull", "prelabel", "push", "export", "sweep", "verify"])
def test_a_button_starts_its_job_and_shows_the_run(admin: FlaskClient, runner: FakeRunner, job: str) -> None:
    answer = submit(admin, "/runs/", job=job)

    assert (answer.status_code, answer.location) == (303, "/runs/7")
    assert runner.submitted == [(job, {}, "console")]


def test_a_queue_that_cannot_be_written_is_said_on_the_page(admin: FlaskClient, runner: FakeRunner) -> None:
    runner.problem = ServiceError("jobs.db: the disk is full")
    answer = submit(admin, "/runs/", job="pull")

    assert answer.location == "/"
    assert "jobs.db: the disk is full" in admin.get("/").text


@pytest.mark.parametrize("job", ["", "drop", "relabel", "ingest"])
def test_a_job_without_a_button_is_not_started_by_one(admin: FlaskClient, runner: FakeRunner, job: str) -> None:
    assert submit(admin, "/runs/", job=job).status_code == 400
    assert runner.submitted == []


def test_the_runs_are_listed_page_by_page_and_by_job(admin: FlaskClient, runner: FakeRunner) -> None:
    runner.runs = [replace(DONE, id=number, job="push" if number % 2 else "pull") for number in range(60, 0, -1)]

    assert "60 " in admin.get("/runs/").text
    assert "page 1 of 3" in admin.get("/runs/").text
    second = admin.get("/runs/?page=2").text
    assert re.findall(r'href="/runs/(\d+)">\d+<', second) == [str(number) for number in range(35, 10, -1)]
    pulls = admin.get("/runs/?job=pull&page=2").text
    assert re.findall(r'href="/runs/(\d+)">\d+<', pulls) == ["10", "8", "6", "4", "2"]
    assert "page=1&amp;job=pull" in pulls


@pytest.mark.parametrize("query", ["page=0", "page=-3", "page=x", "page=999", "job=nothing"])
def test_a_list_that_is_not_there_is_an_empty_one(admin: FlaskClient, query: str) -> None:
    assert admin.get(f"/runs/?{query}").status_code == 200


def test_a_run_shows_its_report_with_items_and_reasons(admin: FlaskClient, runner: FakeRunner) -> None:
    runner.runs = [DONE]
    page = admin.get("/runs/6").text

    for shown in (
        "push: 2 sent, 0 unchanged, 1 failed, 1 in conflict",
        "1 min 3 s",
        SAMPLE,
        "Run again for what failed",
    ):
        assert shown in page
    assert "<code>street/b.jpg</code></td>" in page
    assert "is &lt;b&gt;truncated&lt;/b&gt;" in page


def test_a_run_that_goes_on_can_be_cancelled_and_not_repeated(admin: FlaskClient, runner: FakeRunner) -> None:
    runner.runs = [RUNNING]
    page = admin.get("/runs/7").text
    answer = submit(admin, "/runs/7/cancel")

    assert "Run again" not in page
    assert (answer.status_code, answer.location) == (303, "/runs/7")
    assert runner.cancelled == [7]


def test_cancelling_a_run_that_is_over_says_that_there_was_nothing_to_cancel(
    admin: FlaskClient, runner: FakeRunner
) -> None:
    runner.runs = [DONE]
    submit(admin, "/runs/6/cancel")

    assert "Run 6 was over already; there was nothing to cancel." in admin.get("/runs/6").text


def test_a_run_that_is_over_can_be_repeated_for_all_or_for_what_failed(admin: FlaskClient, runner: FakeRunner) -> None:
    runner.runs = [DONE]
    submit(admin, "/runs/6/retry")
    answer = submit(admin, "/runs/6/retry", only="failed")

    assert answer.location == "/runs/99"
    assert runner.retried == [(6, False, "console"), (6, True, "console")]


def test_what_cannot_be_repeated_is_said_on_the_page(admin: FlaskClient, runner: FakeRunner) -> None:
    runner.runs = [RUNNING]
    answer = submit(admin, "/runs/7/retry")

    assert answer.location == "/runs/7"
    assert "run 7 is not over yet" in admin.get("/runs/7").text


def test_a_run_that_is_not_kept_is_not_found(admin: FlaskClient) -> None:
    assert admin.get("/runs/123").status_code == 404


# Conflicts


@pytest.fixture
def _conflicts(catalogue: FakeCatalogue) -> None:
    catalogue.conflicts = {SAMPLE: CONFLICTS, OTHER_SAMPLE: CONFLICTS[:1]}


@pytest.mark.usefixtures("_conflicts")
def test_the_conflicts_are_listed_with_what_they_are_about(admin: FlaskClient) -> None:
    page = admin.get("/conflicts/").text

    assert "2 images where FiftyOne and Label Studio both changed a label" in page
    assert "2 labels: car or truck; other outline, overlap 60 % · deleted in FiftyOne, changed in Label Studio" in page
    assert f'href="/conflicts/{SAMPLE}"' in page


@pytest.mark.usefixtures("_conflicts")
def test_a_conflict_is_drawn_in_pixels_of_the_image_with_both_versions(admin: FlaskClient) -> None:
    page = " ".join(admin.get(f"/conflicts/{SAMPLE}").text.split())

    assert 'viewBox="0 0 400 200"' in page
    ours, theirs = (re.search(rf'<g class="layer {side}">(.*?)</g> </g>', page) for side in ("ours", "theirs"))
    assert ours is not None
    assert theirs is not None
    assert re.findall('points="([^"]+)"', ours[1]) == ["30.00,20.00 110.00,20.00 110.00,80.00 30.00,80.00"]
    assert re.findall('data-label="([^"]+)"', theirs[0]) == [CAR, LORRY]
    assert "deleted in FiftyOne, changed in Label Studio" in page
    assert "<title>cat</title>" in page
    assert f'src="/images/{SAMPLE}' not in page
    assert f'href="/images/{SAMPLE}/large.jpg"' in page


@pytest.mark.usefixtures("_conflicts")
def test_a_side_for_each_label_is_decided_and_the_next_conflict_follows(admin: FlaskClient, runner: FakeRunner) -> None:
    version = conflicts_version(CONFLICTS)
    sides = {f"side-{CAR}": "reviewed", f"side-{LORRY}": "curated"}
    answer = submit(admin, f"/conflicts/{SAMPLE}", version=version, **sides)

    assert (answer.status_code, answer.location) == (303, f"/conflicts/{OTHER_SAMPLE}")
    params = {"decisions": {SAMPLE: {CAR: "reviewed", LORRY: "curated"}}, "shown": {SAMPLE: version}}
    assert runner.submitted == [("resolve", params, "console")]


@pytest.mark.usefixtures("_conflicts")
def test_one_side_for_all_labels_is_decided(admin: FlaskClient, runner: FakeRunner) -> None:
    version = conflicts_version(CONFLICTS)
    submit(admin, f"/conflicts/{SAMPLE}", version=version, all="curated")

    params = {"decisions": {SAMPLE: "curated"}, "shown": {SAMPLE: version}}
    assert runner.submitted == [("resolve", params, "console")]


def test_after_the_last_conflict_the_list_follows(admin: FlaskClient, catalogue: FakeCatalogue) -> None:
    catalogue.conflicts = {SAMPLE: CONFLICTS}
    answer = submit(admin, f"/conflicts/{SAMPLE}", version=conflicts_version(CONFLICTS), all="curated")

    assert answer.location == "/conflicts/"


@pytest.mark.usefixtures("_conflicts")
def test_a_conflict_that_changed_meanwhile_is_not_decided_but_shown_again(
    admin: FlaskClient, catalogue: FakeCatalogue, runner: FakeRunner
) -> None:
    seen = conflicts_version(CONFLICTS)
    catalogue.conflicts[SAMPLE] = (replace(CONFLICTS[0], theirs=make_box(CAR, "bus", 11)), CONFLICTS[1])
    answer = submit(admin, f"/conflicts/{SAMPLE}", version=seen, all="reviewed")

    assert answer.location == f"/conflicts/{SAMPLE}"
    assert runner.submitted == []
    assert "The labels changed while you looked. Nothing was decided" in admin.get(f"/conflicts/{SAMPLE}").text


@pytest.mark.usefixtures("_conflicts")
@pytest.mark.parametrize(
    "sides", [{}, {f"side-{CAR}": "reviewed"}, {"all": "both"}, {f"side-{CAR}": "x", f"side-{LORRY}": "curated"}]
)
def test_half_a_decision_is_none(admin: FlaskClient, runner: FakeRunner, sides: dict[str, str]) -> None:
    answer = submit(admin, f"/conflicts/{SAMPLE}", version=conflicts_version(CONFLICTS), **sides)

    assert answer.status_code == 400
    assert runner.submitted == []


@pytest.mark.usefixtures("_conflicts")
def test_what_is_being_decided_is_not_offered_again(admin: FlaskClient, runner: FakeRunner) -> None:
    params = {"decisions": {OTHER_SAMPLE: "curated"}}
    runner.runs = [replace(RUNNING, job="resolve", params=params)]

    assert "being decided" in admin.get("/conflicts/").text
    assert "0 more images" in admin.get(f"/conflicts/{SAMPLE}").text


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_conflict_that_is_decided_leads_back_to_the_list(admin: FlaskClient, method: str) -> None:
    path = f"/conflicts/{SAMPLE}"
    answer = admin.get(path) if method == "GET" else submit(admin, path, all="curated")

    assert answer.location == "/conflicts/"
    assert "decided already" in admin.get("/conflicts/").text


def test_a_conflict_of_an_image_that_is_gone_is_listed_as_such(admin: FlaskClient, catalogue: FakeCatalogue) -> None:
    catalogue.conflicts, catalogue.samples = {SAMPLE: CONFLICTS}, set()

    assert "is not in the dataset any more" in admin.get("/conflicts/").text
    assert admin.get(f"/conflicts/{SAMPLE}").status_code == 303


def test_painted_labels_are_drawn_as_pictures(admin: FlaskClient, catalogue: FakeCatalogue) -> None:
    pixels = np.zeros((200, 400), dtype=np.bool_)
    pixels[50:100, 100:300] = True
    ours, theirs = (Label(CAR, "brush", ("bus",), Mask(painted)) for painted in (pixels, np.roll(pixels, 9, 1)))
    catalogue.conflicts = {SAMPLE: (Conflict(CAR, None, ours, theirs),)}

    assert f"/conflicts/{SAMPLE}/masks/{CAR}-ours.png" in admin.get(f"/conflicts/{SAMPLE}").text
    with Image.open(io.BytesIO(admin.get(f"/conflicts/{SAMPLE}/masks/{CAR}-theirs.png").data)) as picture:
        assert (picture.size, picture.getchannel("A").getbbox()) == ((400, 200), (109, 50, 309, 100))
    assert admin.get(f"/conflicts/{SAMPLE}/masks/{CAR}-base.png").status_code == 404
    assert admin.get(f"/conflicts/{SAMPLE}/masks/{LORRY}-ours.png").status_code == 404


def test_what_is_said_of_the_whole_image_is_decided_too(admin: FlaskClient, catalogue: FakeCatalogue) -> None:
    keep, trash = (Label(CAR, "quality", (answer,)) for answer in ("keep", "trash"))
    catalogue.conflicts = {SAMPLE: (Conflict(CAR, None, keep, trash),)}
    page = admin.get(f"/conflicts/{SAMPLE}").text

    assert "quality: keep or quality: trash" in page
    assert "whole image" in page


# Queue


def test_the_queue_page_asks_before_it_looks(admin: FlaskClient, catalogue: FakeCatalogue) -> None:
    page = admin.get("/queue/").text

    assert re.findall(r'name="by" value="(\w+)"', page) == ["uncertainty", "mistake", "diversity", "random", "field"]
    assert catalogue.asked == []


def test_the_preview_shows_images_boxes_and_scores(admin: FlaskClient, catalogue: FakeCatalogue) -> None:
    chosen = (Chosen(SAMPLE, 0.875), Chosen(OTHER_SAMPLE, None))
    catalogue.choice = Choice("uncertainty", "uncertainty", chosen, 40, 1, ("x", "y"))
    catalogue.predictions = {SAMPLE: SamplePrediction("v", 0.9, (make_box(CAR, "car", 10),))}
    page = admin.get("/queue/?by=uncertainty&count=2").text

    for shown in (
        "2 of 40 images",
        "uncertainty 0.875 · 1 shape",
        "1 have no value",
        "2 are held back",
        "Send 2 to Label Studio",
    ):
        assert shown in page
    assert 'points="10.00,20.00 90.00,20.00 90.00,80.00 10.00,80.00"' in page
    assert catalogue.asked == [("uncertainty", 2)]


def test_the_field_named_is_the_one_that_ranks(admin: FlaskClient, catalogue: FakeCatalogue) -> None:
    catalogue.choice = Choice("blur", "blur", (), 0, 0, ())
    page = admin.get("/queue/?by=field&field=blur&count=5").text

    assert catalogue.asked == [("blur", 5)]
    assert "There is nothing to send: every image was sent." in page


@pytest.mark.parametrize("query", ["by=field&count=5", "by=uncertainty&count=5"])
def test_what_cannot_be_chosen_by_is_said(admin: FlaskClient, catalogue: FakeCatalogue, query: str) -> None:
    catalogue.choice = LabelingError("no sample has the field")
    answer = admin.get(f"/queue/?{query}")

    assert answer.status_code == 200
    assert 'role="alert"' in answer.text


@pytest.mark.parametrize(("given", "count"), [("0", 1), ("-4", 1), ("x", 50), ("99999999", 10_000), ("7", 7)])
def test_a_number_out_of_range_is_brought_into_it(
    admin: FlaskClient, runner: FakeRunner, given: str, count: int
) -> None:
    submit(admin, "/queue/", by="random", count=given)

    assert runner.submitted == [("queue", {"by": "random", "count": count}, "console")]


def test_what_was_looked_at_is_sent_with_the_name_of_the_view(admin: FlaskClient, runner: FakeRunner) -> None:
    answer = submit(admin, "/queue/", by="field", field="blur", count="5", view=" blurred ")

    assert answer.location == "/runs/7"
    assert runner.submitted == [("queue", {"by": "blur", "count": 5, "view": "blurred"}, "console")]


# Feedback


@pytest.fixture
def _reviewed(catalogue: FakeCatalogue) -> None:
    catalogue.rows = [
        make_row(1, "confirmed", "car", "car", 1.0),
        make_row(2, "moved", "car", "car", 0.8),
        make_row(3, "relabelled", "car", "truck", 1.0),
        make_row(4, "deleted", "<b>cat</b>", None, None),
    ]
    catalogue.reviews = [REVIEW]


@pytest.mark.usefixtures("_reviewed")
@pytest.mark.parametrize(
    "query", ["", "by=version", "by=reviewer&of=ana@example.org", "by=nonsense", "by=reviewer&of=nobody"]
)
def test_feedback_is_a_chart_a_table_and_what_is_confused(admin: FlaskClient, query: str) -> None:
    page = admin.get(f"/feedback/?{query}").text

    assert page.count("<title>car: relabelled 1</title>") == 2
    assert "<td>car</td><td>truck</td>" in page
    assert "12.0 s" in page
    assert "<b>cat</b>" not in page


@pytest.mark.usefixtures("_reviewed")
def test_feedback_can_be_taken_along_as_csv(admin: FlaskClient) -> None:
    answer = admin.get("/feedback/feedback.csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))

    assert answer.mimetype == "text/csv"
    assert "feedback.csv" in answer.headers["Content-Disposition"]
    assert [row["kind"] for row in rows] == ["confirmed", "moved", "relabelled", "deleted"]


# Exports, models, settings


def test_exports_are_listed_and_their_manifest_can_be_taken_along(
    admin: FlaskClient, catalogue: FakeCatalogue, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("export")
    (folder / "labelloop.json").write_text('{"files": {}}')
    at = "2026-01-02T00:00:00+00:00"
    catalogue.exports = [
        Recorded(Export(str(folder), "coco", "ab" * 32, 1204, 9), at),
        Recorded(Export("/gone", "yolo", "cd" * 32, 0, 0), at),
    ]
    page = admin.get("/exports/").text

    assert "1,204" in page
    assert "folder is gone" in page
    with admin.get(f"/exports/{'ab' * 32}/manifest.json") as manifest:
        assert manifest.json == {"files": {}}
    assert admin.get(f"/exports/{'cd' * 32}/manifest.json").status_code == 404


def test_an_export_is_started_into_the_home_and_nowhere_else(admin: FlaskClient, runner: FakeRunner) -> None:
    submit(admin, "/exports/", format="yolo", images="link", out="/etc")

    assert runner.submitted == [("export", {"format": "yolo", "images": "link"}, "console")]


def test_models_show_what_is_served_and_what_annotators_see(admin: FlaskClient, catalogue: FakeCatalogue) -> None:
    catalogue.served = ServedWeights("yolo11n-00000002", "hub")
    catalogue.models = [Recorded(Model("yolo11n-00000002", "/m.pt", "ab" * 32, "hub", {"mAP": 0.5}), "2026-01-02")]
    page = admin.get("/models/").text

    assert "another version than is served" in page
    assert "mAP 0.5" in page


def test_a_backend_that_does_not_answer_is_said_and_the_rest_is_shown(
    admin: FlaskClient, catalogue: FakeCatalogue
) -> None:
    catalogue.served = ServiceError("ML backend: no answer")

    assert "ML backend: no answer" in admin.get("/models/").text


def test_settings_show_no_secret(admin: FlaskClient) -> None:
    page = admin.get("/settings/").text

    for secret in ("the-token", "the-secret", "the-key", "hush", "scrypt"):
        assert secret not in page
    assert "mongodb://me:••••••@db/" in page
    assert "console_password" in page


# Images


def test_an_image_is_small_upright_and_asked_for_once(
    admin: FlaskClient, catalogue: FakeCatalogue, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("images") / "lying.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (2000, 1000), "teal").save(path, exif=exif)
    catalogue.image_path = path
    answer = admin.get(f"/images/{SAMPLE}/small.jpg")

    with Image.open(io.BytesIO(answer.data)) as picture:
        assert picture.size == (160, 320)
    assert answer.headers["Cache-Control"].startswith("private")
    again = admin.get(f"/images/{SAMPLE}/small.jpg", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/images/nobody/small.jpg",
        f"/images/{SAMPLE}/huge.jpg",
        f"/images/{SAMPLE}/..%2f..%2fsmall.jpg",
        "/images/../../etc/passwd",
        "/images/%2fetc%2fpasswd/small.jpg",
    ],
)
def test_nothing_but_the_images_of_the_dataset_is_served(admin: FlaskClient, path: str) -> None:
    assert admin.get(path).status_code == 404


def test_a_file_that_is_no_image_is_not_served(admin: FlaskClient, catalogue: FakeCatalogue) -> None:
    catalogue.image_path.write_text("the secret of somebody")
    answer = admin.get(f"/images/{SAMPLE}/large.jpg")

    assert answer.status_code == 404
    assert b"secret" not in answer.data


def test_boxes_that_are_turned_are_drawn_turned(admin: FlaskClient, catalogue: FakeCatalogue) -> None:
    turned = replace(make_box(CAR, "car", 0), geometry=Box(100, 20, 50, 30, 90))
    catalogue.conflicts = {SAMPLE: (Conflict(CAR, None, turned, None),)}

    assert 'points="100.00,20.00 100.00,70.00 70.00,70.00 70.00,20.00"' in admin.get(f"/conflicts/{SAMPLE}").text
