"""A curator works in the FiftyOne App: looks at pre-labels, sends the samples they choose, and brings reviews back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from PIL import Image, ImageChops, ImageOps
from playwright.sync_api import Browser, Page

from labels.geometry import ImageSize
from labels.results import Label, from_result, is_same
from sync.catalogue.samples import SampleLabels, SamplePrediction, SampleState
from sync.jobs.registry import run_job
from sync.ledger import Run
from tests.e2e.conftest import RunningStack, open_window, to_json
from tests.e2e.editor import Editor
from tests.e2e.fiftyone_app import App

# Photos of the demo that the detector is sure of, turned over: their tasks come last in the list of tasks.
NEW_PHOTOS = ("bus.jpg", "chelsea.png", "astronaut.png")
# Lines are a pixel or two wide, and tiles stand between pixels.
LINE_PX = 4
SEEN = 24

Hull = tuple[float, float, float, float]


@dataclass(frozen=True)
class Sent:
    """Two samples of three were sent from the App, and what it said."""

    tasks_before: list[str | None]
    sent: list[str]
    kept: str
    selected_count: int
    form: list[str]
    chosen: str
    result: list[str]


@pytest.fixture(scope="module")
def new_samples(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Three samples with pre-labels that were not sent; what is left of them is sent at the end, as all others were."""
    folder = tmp_path_factory.mktemp("new")
    for name in NEW_PHOTOS:
        with Image.open(stack.home.path / "demo_images" / "photos" / name) as photo:
            turned = ImageOps.mirror(photo.convert("RGB"))
            turned.resize((480, 480 * photo.height // photo.width + 16)).save(folder / f"{name}.jpg")
    with stack.open() as context:
        before = set(context.dataset.sample_ids())
        added = run_job(context, "ingest", {"folder": str(folder)})
        prelabelled = run_job(context, "prelabel", {})
        samples = [sample_id for sample_id in context.dataset.sample_ids() if sample_id not in before]
    assert (added.moved, prelabelled.moved) == (3, 3)
    yield samples
    assert stack.run("push").returncode == 0


@contextmanager
def open_app(browser: Browser, stack: RunningStack, address: str | None = None) -> Iterator[App]:
    """Open the dataset in an App server, the stack's where no other is named, in a window of its own."""
    window = open_window(browser)
    yield App(window.new_page(), address or stack.addresses.app, stack.project.name)
    window.close()


@pytest.fixture
def app(browser: Browser, stack: RunningStack) -> Iterator[App]:
    """The App in front of a curator."""
    with open_app(browser, stack) as app:
        yield app


@pytest.fixture(scope="module")
def sent(browser: Browser, stack: RunningStack, new_samples: list[str]) -> Sent:
    """Two of the new samples, selected by the mouse and sent by the button."""
    *chosen, kept = new_samples
    with stack.open() as context:
        before = [ref.sample_id for ref in context.label_studio.fetch_task_refs()]
    with open_app(browser, stack) as app:
        select(app, stack, chosen)
        selected_count = app.selected_count
        form = app.open_form("send_to_label_studio")
        said, choice = form.lines, form.chosen
        result = form.submit("Send")
        return Sent(before, chosen, kept, selected_count, said, choice, result.lines)


def select(app: App, stack: RunningStack, sample_ids: list[str]) -> None:
    with stack.open() as context:
        places = context.dataset.sample_ids()
    app.select(*(places.index(sample_id) for sample_id in sample_ids))


def test_the_grid_shows_every_readable_photo_of_the_demo(app: App, stack: RunningStack):
    with stack.open() as context:
        images = context.dataset.images().values()
    photos = {path for path in (stack.home.path / "demo_images").rglob("*.*") if path.name != "broken.jpg"}
    assert len(photos) == 22
    assert photos <= {image.source_path or image.path for image in images}
    assert app.sample_count == len(images)


def test_the_grid_draws_each_pre_label_where_the_detector_saw_it(app: App, stack: RunningStack):
    with stack.open() as context:
        places, images, predictions = (
            context.dataset.sample_ids(),
            context.dataset.images(),
            context.dataset.predictions(),
        )
    app.toggle_field("ground_truth")
    with_boxes = app.read_tiles()
    app.toggle_field("predictions")
    without_boxes = app.read_tiles()
    assert len(with_boxes) == len(without_boxes) == len(places)
    drawn = 0
    for sample_id, one, other in zip(places, with_boxes, without_boxes, strict=True):
        prediction = predictions[sample_id]
        assert isinstance(prediction, SamplePrediction)
        expected = find_hull(prediction.labels, images[sample_id].size, one.width)
        changed = ImageChops.difference(one, other).convert("L").point(lambda value: 255 * (value > SEEN)).getbbox()
        assert changed == (None if expected is None else pytest.approx(expected, abs=LINE_PX)), images[sample_id].path
        drawn += expected is not None
    assert drawn >= 15


def find_hull(labels: tuple[Label, ...], size: ImageSize, width_px: int) -> Hull | None:
    """Return the smallest box around all labels on a tile of this width, None where there is no label."""
    sides = [label.geometry.to_xyxy() for label in labels if label.geometry is not None]
    if not sides:
        return None
    left, top, right, bottom = zip(*sides, strict=True)
    scale = width_px / size.width
    return min(left) * scale, min(top) * scale, max(right) * scale, max(bottom) * scale


def test_the_form_says_how_many_samples_are_sent(sent: Sent):
    assert sent.selected_count == 2
    assert sent.chosen == "Selected samples (2)"
    assert sent.form == [
        "Send to Label Studio",
        "What to send",
        "Selected samples (2)",
        "Everything not sent yet (3)",
        "2 samples go to Label Studio as new tasks.",
    ]


def test_exactly_the_selected_samples_become_tasks(sent: Sent, stack: RunningStack):
    with stack.open() as context:
        tasks = {ref.sample_id: ref.task_id for ref in context.label_studio.fetch_task_refs()}
        links, states = context.ledger.links(), context.dataset.states()
    assert set(tasks) == {*sent.tasks_before, *sent.sent}
    assert set(links) == set(tasks)
    assert states[sent.kept] == SampleState(None, None)
    for sample_id in sent.sent:
        assert links[sample_id].task_id == tasks[sample_id]
        assert states[sample_id] == SampleState("queued", tasks[sample_id])


def test_the_tasks_carry_the_pre_labels_of_the_samples(sent: Sent, stack: RunningStack):
    with stack.open() as context:
        samples = {link.task_id: sample_id for sample_id, link in context.ledger.links(sent.sent).items()}
        predictions = context.dataset.predictions(sent.sent)
        tasks = list(context.label_studio.fetch_tasks(list(samples)))
        config = context.config
    assert len(tasks) == 2
    for task in tasks:
        expected = predictions[samples[task.task_id]]
        assert isinstance(expected, SamplePrediction)
        (prediction,) = task.predictions
        assert prediction.model_version == expected.model_version
        received = {label.id: label for label in from_result(prediction.result, config, item=f"task {task.task_id}")}
        assert set(received) == {label.id for label in expected.labels} != set()
        assert all(is_same(received[label.id], label) for label in expected.labels)


def test_the_app_shows_the_report_of_the_job(sent: Sent, stack: RunningStack):
    assert sent.result == ["push: 2 sent, 0 unchanged", "predictions added 0, tasks created 2"]
    with stack.open() as context:
        reports = [read_report(run) for run in context.ledger.runs() if run.job == "push"]
    assert sent.result in reports


def read_report(run: Run) -> list[str]:
    """Return the lines of a finished run's report as the App shows them."""
    assert run.report is not None
    return [line.strip() for line in run.report["lines"]]


def test_sending_the_same_samples_again_makes_nothing_twice(sent: Sent, app: App, stack: RunningStack):
    before = read_tasks(stack)
    select(app, stack, sent.sent)
    form = app.open_form("send_to_label_studio")
    assert form.lines[-1] == "No new task. 2 were already sent: they get newer pre-labels at most."
    assert form.submit("Send").lines == ["push: 0 sent, 2 unchanged"]
    assert read_tasks(stack) == before


def read_tasks(stack: RunningStack) -> str:
    """Return all that Label Studio holds of the tasks, and the ledger's links to them, as text."""
    with stack.open() as context:
        links = context.ledger.links()
        tasks = list(context.label_studio.fetch_tasks([link.task_id for link in links.values()]))
    return to_json([sorted(map(str, links.values())), sorted(map(str, tasks))])


def test_a_review_comes_back_by_the_button(sent: Sent, app: App, annotator: Page, stack: RunningStack):
    sample_id = sent.sent[0]
    with stack.open() as context:
        task_id = context.ledger.links()[sample_id].task_id
        runs = {run.id for run in context.ledger.runs()}
    annotator.goto(f"{stack.project_url}&task={task_id}")
    assert Editor(annotator).submit().status == 201
    result = app.open_form("pull_reviewed_labels").submit("Pull")
    with stack.open() as context:
        pulls = [run for run in context.ledger.runs() if run.id not in runs and run.state == "done"]
        labels, predictions = context.dataset.labels([sample_id]), context.dataset.predictions([sample_id])
        state = context.dataset.states()[sample_id]
    # The console pulls by itself when Label Studio tells it of the review: that one may have been faster.
    assert result.lines in [read_report(run) for run in pulls]
    assert sum(run.report["moved"] for run in pulls if run.report is not None) == 1
    assert state == SampleState("reviewed", task_id)
    reviewed, predicted = labels[sample_id], predictions[sample_id]
    assert isinstance(reviewed, SampleLabels)
    assert isinstance(predicted, SamplePrediction)
    assert {label.id for label in reviewed.labels} == {label.id for label in predicted.labels}


def test_a_pull_says_in_the_app_what_it_says_on_the_command_line(app: App, stack: RunningStack):
    on_command_line = stack.run("pull")
    result = app.open_form("pull_reviewed_labels").submit("Pull")
    assert result.lines == [line.strip() for line in on_command_line.stdout.splitlines()]


def test_the_status_says_in_the_app_what_it_says_on_the_command_line(app: App, stack: RunningStack):
    on_command_line = stack.run("status").stdout
    status = app.run("sync_status")
    counts = dict(line.split("\t") for line in status.lines if "\t" in line)
    assert counts.pop("state") == "samples"
    assert list(counts) == ["not sent", "queued", "reviewed", "skipped", "conflicts", "failed", "task deleted"]
    assert ", ".join(f"{name} {count}" for name, count in counts.items()) in on_command_line
    (model,) = [line.removeprefix("Pre-labels by: ") for line in status.lines if line.startswith("Pre-labels by: ")]
    assert f"model          {model}\n" in on_command_line
    assert status.links == [stack.project_url, f"{stack.addresses.app}/datasets/{stack.project.name}"]
    assert all(f" {link}\n" in on_command_line for link in status.links)
    with stack.open() as context:
        newest = context.ledger.runs(1)[0]
    first_run = status.lines[status.lines.index("Last runs:") + 1]
    assert first_run.startswith(f"{read_report(newest)[0]} (")


def test_a_second_curator_has_a_view_of_their_own(app: App, browser: Browser, stack: RunningStack):
    started = stack.run("app", "--curator", "ana")
    assert started.returncode == 0, started.stderr
    address, _, dataset = started.stdout.strip().partition("/datasets/")
    assert dataset == stack.project.name
    assert address != stack.addresses.app
    assert stack.run("app", "--curator", "ana").stdout == started.stdout
    listed = re.compile(rf"^app-ana +(starting|running) +{re.escape(address.removeprefix('http://'))} ", re.MULTILINE)
    assert listed.search(stack.run("status").stdout)

    everything, selected = app.sample_count, app.selected_count
    with open_app(browser, stack, address) as anas:
        assert anas.sample_count == everything
        anas.limit(4)
        assert anas.sample_count == 4
        anas.select(0)
        app.reload()
        assert app.sample_count == everything
        assert app.selected_count == selected
        # The server keeps view and selection, not the browser: that is why each person has a server.
        with open_app(browser, stack, address) as anas_other_window:
            assert (anas_other_window.sample_count, anas_other_window.selected_count) == (4, 1)
