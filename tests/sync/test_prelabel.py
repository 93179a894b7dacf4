"""Prelabel lives through what an ML backend does on a bad day, and mixes no two models."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from labels import fields
from labels.errors import LabelingError, ServiceError
from labels.report import Failure, Report
from sync.backend import BackendBusyError, MLBackend
from sync.catalogue.samples import SampleState
from sync.jobs.context import Context
from sync.jobs.exchange.drawing import Limits
from sync.jobs.exchange.prelabel import prelabel
from sync.jobs.exchange.push import push
from sync.runs.live_run import JobCancelledError
from tests.fakes.flaky_backend import FlakyBackend, serve_flaky_backend
from tests.fakes.project import FakeProject, open_fake_project

IMAGES = 40
LIMITS = Limits(per_request=8, requests=2, lost_s=5.0, busy_s=5.0, first_delay_s=0.01, longest_delay_s=0.02)


@pytest.fixture
def project() -> Iterator[FakeProject]:
    with open_fake_project(images=IMAGES) as project:
        yield project


@pytest.fixture
def flaky() -> Iterator[FlakyBackend]:
    with serve_flaky_backend(FlakyBackend()) as backend:
        yield backend


@pytest.fixture
def context(project: FakeProject, flaky: FlakyBackend) -> Context:
    return replace(project.context, backend=MLBackend(flaky.url))


def versions(project: FakeProject) -> list[str | None]:
    """Return the version that drew on each sample."""
    return [
        None if one.prediction is None else one.prediction.model_version for one in project.dataset.samples.values()
    ]


def test_a_model_that_gives_nothing_by_this_label_config_keeps_nobody_from_working(project: FakeProject) -> None:
    project.backend.problem = "the label config has no <RectangleLabels>, which a model for 'detect' needs"

    report = prelabel(project.context, limits=LIMITS)

    assert (report.moved, report.unchanged, report.is_clean) == (0, IMAGES, True)
    assert report.notes[1].startswith("nothing is pre-drawn: the label config has no <RectangleLabels>")
    assert versions(project) == [None] * IMAGES
    assert push(project.context).moved == IMAGES


def path_of(project: FakeProject, sample_id: str) -> str:
    return str(project.dataset.samples[sample_id].image.path)


def test_every_image_is_drawn_on_once_and_the_second_time_nobody_is_asked(
    project: FakeProject, context: Context, flaky: FlakyBackend
) -> None:
    first = prelabel(context, limits=LIMITS)
    asked = len(flaky.bodies)
    second = prelabel(context, limits=LIMITS)

    assert first == Report("prelabel", moved=IMAGES, notes=("model flaky-1",))
    assert second == Report("prelabel", unchanged=IMAGES, notes=("model flaky-1",))
    assert len(flaky.bodies) == asked == IMAGES // 8
    assert sorted(flaky.answered) == sorted(project.sample_ids)
    prediction = project.dataset.samples[project.sample_ids[0]].prediction
    assert prediction is not None
    assert (prediction.uncertainty, prediction.scores) == (0.25, {"u_sum": 0.25, "u_disagree": None, "u_rare": 0.5})


@pytest.mark.parametrize("mishap", ["busy", "reset", "half", "500", "short", "html"])
def test_a_request_that_goes_wrong_is_made_again(
    mishap: str, project: FakeProject, context: Context, flaky: FlakyBackend
) -> None:
    flaky.mishaps = [mishap, "", mishap, mishap]

    report = prelabel(context, limits=LIMITS)

    assert (report.moved, report.failed) == (IMAGES, ())
    assert versions(project) == ["flaky-1"] * IMAGES


def test_an_image_that_breaks_every_request_it_is_in_is_reported_alone(
    project: FakeProject, context: Context, flaky: FlakyBackend
) -> None:
    bad = project.sample_ids[3]
    flaky.poison = {bad}

    report = prelabel(context, limits=LIMITS)

    problem = f"ML backend at {flaky.url}: 500 internal error"
    assert report.failed == (Failure(path_of(project, bad), problem, bad),)
    assert (report.moved, report.unchanged) == (IMAGES - 1, 0)
    assert versions(project).count("flaky-1") == IMAGES - 1


def test_an_image_that_failed_once_is_asked_for_again_and_one_that_fails_twice_is_reported(
    project: FakeProject, context: Context, flaky: FlakyBackend
) -> None:
    once, always = project.sample_ids[0], project.sample_ids[1]
    flaky.unusable = {once: 1, always: 9}

    report = prelabel(context, limits=LIMITS)

    assert report.failed == (Failure(path_of(project, always), "the image cannot be read", always),)
    assert report.moved == IMAGES - 1


def test_a_backend_that_fails_on_every_image_ends_the_job_and_not_each_image(
    project: FakeProject, context: Context, flaky: FlakyBackend
) -> None:
    flaky.poison = set(project.sample_ids)

    with pytest.raises(ServiceError, match=r"500 internal error \(on 5 images in a row\)"):
        prelabel(context, limits=replace(LIMITS, most_broken=5))
    assert versions(project) == [None] * IMAGES


def test_a_backend_that_refuses_is_not_asked_again(context: Context, flaky: FlakyBackend) -> None:
    flaky.mishaps = ["refuse"]

    with pytest.raises(LabelingError, match="400 label_config: not well-formed") as refused:
        prelabel(context, limits=replace(LIMITS, requests=1))

    assert not isinstance(refused.value, ServiceError)
    assert len(flaky.bodies) == 1


def test_a_backend_that_stays_busy_ends_the_job_when_patience_is_over(context: Context, flaky: FlakyBackend) -> None:
    flaky.mishaps = ["busy"] * 1000

    with pytest.raises(BackendBusyError):
        prelabel(context, limits=replace(LIMITS, busy_s=0.3))


def test_a_backend_that_goes_away_ends_the_job_and_the_next_one_draws_the_rest(
    project: FakeProject, context: Context, flaky: FlakyBackend
) -> None:
    flaky.mishaps = ["", ""] + ["reset"] * 1000
    with pytest.raises(ServiceError, match="no answer"):
        prelabel(context, limits=replace(LIMITS, lost_s=0.3))
    drawn = sum(version is not None for version in versions(project))
    flaky.mishaps.clear()

    report = prelabel(context, limits=LIMITS)

    assert 0 < drawn < IMAGES
    assert (report.moved, report.unchanged, report.failed) == (IMAGES - drawn, drawn, ())
    assert set(flaky.answered) == set(project.sample_ids)
    # An answer that was under way when the job ended may be asked for again, and no other.
    assert len(flaky.answered) - IMAGES <= 2 * LIMITS.per_request


def test_a_job_that_is_cancelled_keeps_what_it_has_drawn(
    project: FakeProject, context: Context, flaky: FlakyBackend
) -> None:
    def cancel_after_some(_done: float | None, _message: str) -> None:
        if len(flaky.answered) >= 16:
            raise JobCancelledError

    with pytest.raises(JobCancelledError):
        prelabel(context, limits=replace(LIMITS, per_request=4), on_progress=cancel_after_some)
    drawn = sum(version is not None for version in versions(project))
    report = prelabel(context, limits=LIMITS)

    assert 0 < drawn < IMAGES
    assert (report.moved, report.unchanged) == (IMAGES - drawn, drawn)


def test_weights_swapped_in_the_middle_are_noticed_and_in_the_end_one_model_drew_everything(
    project: FakeProject, context: Context, flaky: FlakyBackend
) -> None:
    flaky.swap_after = 20

    report = prelabel(context, limits=LIMITS)

    assert report.moved == IMAGES
    assert report.notes == ("model flaky-2", "the model changed meanwhile, from flaky-1 to flaky-2")
    assert versions(project) == ["flaky-2"] * IMAGES
    assert [model.model_version for model in context.ledger.models()] == ["flaky-1", "flaky-2"]


def test_each_prediction_carries_the_version_that_drew_it_even_when_the_job_ends_in_the_middle(
    project: FakeProject, context: Context, flaky: FlakyBackend
) -> None:
    flaky.swap_after = 8

    def stop_after_the_swap(_done: float | None, _message: str) -> None:
        if len(flaky.answered) >= 24:
            raise JobCancelledError

    with pytest.raises(JobCancelledError):
        prelabel(context, limits=replace(LIMITS, per_request=4, requests=1), on_progress=stop_after_the_swap)

    for sample_id, version in zip(project.sample_ids, versions(project), strict=True):
        expected = "flaky-1" if sample_id in flaky.answered[:8] else "flaky-2"
        assert version in (None, expected)
    assert {"flaky-1", "flaky-2"} <= set(versions(project))


def test_more_requests_than_allowed_are_never_under_way(context: Context, flaky: FlakyBackend) -> None:
    under_way, most = 0, 0
    lock = threading.Lock()
    meet = threading.Barrier(2, timeout=5)

    def count() -> None:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        # Both places must be taken for either to go on.
        meet.wait()
        with lock:
            under_way -= 1

    flaky.on_predict = count
    prelabel(context, limits=replace(LIMITS, per_request=10, requests=2))

    assert most == 2


def test_tasks_that_wait_get_the_new_models_predictions_and_show_them(
    project: FakeProject, context: Context, flaky: FlakyBackend
) -> None:
    prelabel(context, limits=LIMITS)
    push(context)
    reviewed = project.sample_ids[0]
    context.ledger.record_states({reviewed: "reviewed"})
    flaky.version = "flaky-2"

    report = prelabel(context, limits=LIMITS)

    assert report.details == {"predictions sent": IMAGES - 1}
    assert context.label_studio.fetch_model_version() == "flaky-2"
    stored = {
        task.sample_id: sorted(prediction.model_version for prediction in task.predictions)
        for task in context.label_studio.fetch_tasks(list(project.task_ids().values()))
    }
    assert stored.pop(reviewed) == ["flaky-1"]
    assert set(map(tuple, stored.values())) == {("flaky-1", "flaky-2")}
    assert prelabel(context, limits=LIMITS).details == {}


def test_a_new_model_for_a_few_tasks_does_not_take_the_predictions_of_all_others_away(
    project: FakeProject, context: Context, flaky: FlakyBackend
) -> None:
    prelabel(context, limits=LIMITS)
    push(context)
    flaky.version = "flaky-2"

    report = prelabel(context, sample_ids=project.sample_ids[:3], limits=LIMITS)

    assert report.details == {"predictions sent": 3}
    assert report.notes[1] == "shown once most tasks have it: 37 of those that wait have only older predictions"
    assert context.label_studio.fetch_model_version() == "flaky-1"
    assert prelabel(context, limits=LIMITS).details == {"predictions sent": IMAGES - 3}
    assert context.label_studio.fetch_model_version() == "flaky-2"


def test_a_job_killed_before_the_tasks_got_what_it_drew_sends_it_the_next_time(
    project: FakeProject, context: Context, flaky: FlakyBackend
) -> None:
    prelabel(context, limits=LIMITS)
    push(context)
    flaky.version = "flaky-2"

    def stop_before_sending(_done: float | None, message: str) -> None:
        if message.startswith("sending"):
            raise JobCancelledError

    with pytest.raises(JobCancelledError):
        prelabel(context, limits=LIMITS, on_progress=stop_before_sending)
    asked = len(flaky.bodies)
    report = prelabel(context, limits=LIMITS)

    assert (report.moved, report.details) == (0, {"predictions sent": IMAGES})
    assert len(flaky.bodies) == asked
    assert context.label_studio.fetch_model_version() == "flaky-2"


def test_a_sample_that_is_gone_is_reported(project: FakeProject, context: Context) -> None:
    report = prelabel(context, sample_ids=["f" * 24, project.sample_ids[0]], everything=True, limits=LIMITS)

    assert report.failed == (Failure(f"sample {'f' * 24}", "is gone", "f" * 24),)
    assert report.moved == 1


def test_progress_tells_how_many_how_fast_and_how_long(context: Context) -> None:
    told: list[tuple[float | None, str]] = []

    prelabel(context, limits=LIMITS, on_progress=lambda done, message: told.append((done, message)))

    assert told[0] == (0.0, f"pre-labelling with flaky-1, 0/{IMAGES}")
    done, message = told[-1]
    assert done is not None
    assert 0 < done <= 1
    assert "images/s" in message
    assert message.endswith(" left")


def test_labels_that_are_never_drawn_are_named(project: FakeProject) -> None:
    project.backend.unmapped_labels = ("Forklft", *(f"Tool {number}" for number in range(11)))

    report = prelabel(project.context)

    assert report.notes == (
        "model fake-1",
        "never pre-drawn, no class of the model stands for them (predicted_values would map them): "
        + ", ".join(["Forklft", *(f"Tool {number}" for number in range(9))])
        + " and 2 more",
    )


def test_after_another_model_took_over_what_was_reviewed_keeps_what_people_saw(
    project: FakeProject, context: Context, flaky: FlakyBackend
) -> None:
    prelabel(context, limits=LIMITS)
    reviewed, contested, skipped, *_ = project.sample_ids
    said = {reviewed: fields.REVIEWED, contested: fields.CONFLICT, skipped: fields.SKIPPED}
    project.dataset.write_states({key: SampleState(state, 1) for key, state in said.items()})
    flaky.version = "flaky-2"

    report = prelabel(context, unreviewed=True, limits=LIMITS)

    assert report.moved == IMAGES - 2
    kept = dict(zip(project.sample_ids, versions(project), strict=True))
    assert {key for key, version in kept.items() if version == "flaky-1"} == {reviewed, contested}
