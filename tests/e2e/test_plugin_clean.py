"""The panel «Claims» in the FiftyOne App: what contradicts a claim is acted on, what is unsure goes to people."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, expect

from tests.e2e.conftest import RunningStack
from tests.e2e.job_home import JobHome, open_app_server, open_console, open_job_home
from tests.e2e.plugin_panels import LOOK_MS, CurationApp, make_pictures, open_curation_app

# Name of the photo, the folder it lies in, and how sure a detector is of a person there.
PHOTOS = {"bus": ("person", 0.9), "blurred": ("person", 0.0), "black": ("others", 0.1), "astronaut": ("others", 0.8)}
UNSURE = (1, 3)
"""Places of the images of which the detector is unsure, in the project with a console."""


@pytest.fixture
def photos(stack: RunningStack, tmp_path: Path) -> Iterator[Any]:
    """Two photos of the demo, one of them blurred as well, and a black one, in two folders."""
    with stack.open():
        import fiftyone as fo
    pictures = make_pictures(stack)
    dataset = fo.Dataset("claims-in-the-app", overwrite=True, persistent=True)
    for name, (folder, confidence) in PHOTOS.items():
        path = tmp_path / folder / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        pictures[name].save(path)
        box = fo.Detection(label="person", bounding_box=[0.2, 0.2, 0.4, 0.6], confidence=confidence)
        drawn = fo.Detections(detections=[box] if confidence else [])
        dataset.add_sample(fo.Sample(filepath=str(path), predictions=drawn))
    yield dataset
    dataset.delete()


@pytest.fixture
def app(browser: Browser, stack: RunningStack, photos: Any) -> Iterator[CurationApp]:
    with open_curation_app(browser, stack.addresses.app, photos.name) as app:
        yield app


@pytest.fixture
def job_home(stack: RunningStack, tmp_path: Path) -> Iterator[JobHome]:
    """Five images that nobody has sent: on two of them the detector sees a car, and is not sure."""
    with open_job_home(stack, tmp_path, images=5) as job_home:
        for place, sample in enumerate(job_home.project.fiftyone.sort_by("id")):
            sample.predictions.detections[0].confidence = 0.75 if place in UNSURE else 0.95
            sample.save()
        yield job_home


def read_tags(dataset: Any) -> dict[str, list[str]]:
    """Return the tags of each photo that has some."""
    dataset.reload()
    values = dataset.values(["filepath", "tags"])
    return {Path(path).stem: sorted(tags) for path, tags in zip(*values, strict=True) if tags}


def judge(app: CurationApp, panel: Locator, of: str, *choices: str, **numbers: str) -> str:
    """Fill the form that judges by the boxes in predictions, submit it, and return the report's first line."""
    form = app.open_form(panel, "Check claims")
    app.fill(form, "What the images should hold", of)
    for choice in (*choices, "The boxes in predictions"):
        form.get_by_text(choice).first.click()
    for label, number in numbers.items():
        app.fill(form, label, number)
    return app.submit(form, "Check")


def test_a_curator_sees_contradictions_confirms_one_and_acts_on_the_other(app: CurationApp, photos: Any) -> None:
    panel = app.open_panel("claims")
    assert judge(app, panel, "person", "Their folder") == "clean: 4 judged, 0 unchanged"

    panel.get_by_text("Contradictions 1 to 2").wait_for(timeout=LOOK_MS)
    pictures = panel.locator("img")
    expect(pictures).to_have_count(2, timeout=LOOK_MS)
    for picture in pictures.all():
        expect(picture).not_to_have_js_property("naturalWidth", 0, timeout=LOOK_MS)
    app.click(panel.get_by_text("1 FN", exact=True))
    app.wait_for_count("1 sample")

    panel.get_by_role("button", name="The claim is right", exact=True).first.click()
    panel.get_by_text("Contradictions 1 to 1").wait_for(timeout=LOOK_MS)
    panel.get_by_role("button", name="Show all", exact=True).click()
    app.wait_for_count("4 samples")
    app.submit(app.open_form(panel, "Retag, copy, move"), "Do it")
    assert read_tags(photos) == {"blurred": ["claim confirmed: with person"], "astronaut": ["with person"]}
    app.submit(app.open_form(panel, "Take back"), "Take back")
    assert read_tags(photos) == {"blurred": ["claim confirmed: with person"]}


def test_what_the_detector_is_unsure_of_becomes_tasks_in_label_studio(browser: Browser, job_home: JobHome) -> None:
    project = job_home.project
    unsure = [str(one) for place, one in enumerate(sorted(project.fiftyone.values("id"))) if place in UNSURE]
    with contextlib.ExitStack() as opened:
        console = opened.enter_context(open_console(job_home))
        address = opened.enter_context(open_app_server(job_home, console))
        app = opened.enter_context(open_curation_app(browser, address, project.fiftyone.name))
        panel = app.open_panel("claims")
        told = judge(app, panel, "car", **{"From this confidence on it is seen": "0.9"})
        assert told == "clean: 5 judged, 0 unchanged"

        panel.get_by_text("2 unsure").first.wait_for(timeout=LOOK_MS)
        form = app.open_form(panel, "Send unsure")
        form.get_by_text("The detector is unsure of 2 images; 2 have no task yet, and get one.").wait_for(
            timeout=LOOK_MS
        )
        assert app.submit(form, "Send").startswith("push: 2 sent")
        form = app.open_form(panel, "Send unsure")
        form.get_by_text("unsure of 2 images, and each of them has its task already").first.wait_for(timeout=LOOK_MS)

    assert sorted(project.task_ids()) == unsure
    project.fiftyone.reload()
    states = dict(zip(*project.fiftyone.values(["id", "review_state"]), strict=True))
    assert {one for one, state in states.items() if state == "queued"} == set(unsure)
