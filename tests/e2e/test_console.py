"""The console as a person meets it: a real process on the real servers, driven in a browser by mouse and by keys."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import Browser, Locator, Page, expect

from sync.jobs.exchange.pull import pull
from sync.jobs.exchange.push import push
from sync.ledger import Ledger
from sync.services.console_login import make_console_login, write_password
from sync.services.ports import find_free_port
from sync.services.secrets import read_or_make_secret, write_secret
from sync.settings import Home
from tests.e2e.conftest import RunningStack
from tests.e2e.fresh_project import FreshProject, open_fresh_project

PASSWORD = "the password of this test"
IMAGES = 8
SENT = 6
START_TIMEOUT_S = 60.0
JOB_TIMEOUT_MS = 30_000
WIDE, NARROW = {"width": 1400, "height": 900}, {"width": 400, "height": 800}
PAGES = {
    "Overview": "/",
    "Runs": "/runs/",
    "Conflicts": "/conflicts/",
    "Queue": "/queue/",
    "Feedback": "/feedback/",
    "Exports": "/exports/",
    "Models": "/models/",
    "Settings": "/settings/",
}


@dataclass(frozen=True)
class RunningConsole:
    """A console of its own, with a project of its own on the stack's servers."""

    url: str
    project: FreshProject
    home: Home
    sample_ids: list[str]

    def read_conflicts(self) -> set[str]:
        """Return the samples that are in conflict."""
        with Ledger.open(self.home.ledger) as ledger:
            return set(ledger.conflicts())

    def read_starters(self) -> set[str | None]:
        """Return who has started runs."""
        with Ledger.open(self.home.ledger) as ledger:
            return {run.started_by for run in ledger.runs()}

    def classes_of(self, sample_id: str) -> list[str]:
        """Return the classes of a sample's labels in FiftyOne, in their order."""
        labels = self.project.context.dataset.labels([sample_id])[sample_id]
        return [label.class_name for label in labels.labels]  # type: ignore[union-attr]  # no error among them

    def open(self, browser: Browser, **options: Any) -> Page:
        """Return a page that has logged in, and complains of every error of its scripts."""
        page = browser.new_context(base_url=self.url, **{"viewport": WIDE, **options}).new_page()
        page.on("pageerror", lambda error: pytest.fail(str(error)))
        page.goto("/login")
        page.get_by_label("Password of the console").fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("heading", level=1)).to_have_text(self.project.context.project.name)
        return page


@pytest.fixture(scope="module")
def console(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningConsole]:
    """A console with eight images: three reviewed and in conflict, three queued, two never sent."""
    folder = tmp_path_factory.mktemp("console")
    with open_fresh_project(stack, folder, images=IMAGES) as project:
        sample_ids = project.context.dataset.sample_ids()
        push(project.context, sample_ids=sample_ids[:SENT])
        for sample_id in sample_ids[:3]:
            make_conflict(project, sample_id)
        pull(project.context)
        home = make_home(stack, project, folder)
        port = find_free_port()
        process = start_console(stack, home, port)
        try:
            yield RunningConsole(f"http://127.0.0.1:{port}", project, home, sample_ids)
        finally:
            process.terminate()
            process.wait(30)
            log = (folder / "console.log").read_text(encoding="utf-8")
    assert "Traceback" not in log, log


def make_conflict(project: FreshProject, sample_id: str) -> None:
    """Let the curator say bus and the annotator truck of the same box, which both had confirmed as a car."""
    task_id = project.task_ids()[sample_id]
    annotation_id = project.submit(task_id, lambda regions: regions)
    pull(project.context)
    agreed = project.context.dataset.labels([sample_id])[sample_id].labels  # type: ignore[union-attr]  # as above
    project.context.dataset.write_labels({sample_id: [replace(agreed[0], classes=("bus",)), *agreed[1:]]})
    (task,) = project.context.label_studio.fetch_tasks([task_id])
    assert task.review is not None
    theirs = [dict(region) for region in task.review.result]
    theirs[0] = {**theirs[0], "value": {**theirs[0]["value"], "rectanglelabels": ["truck"]}}
    project.sdk.annotations.update(id=annotation_id, result=theirs)


def make_home(stack: RunningStack, project: FreshProject, folder: Path) -> Home:
    """Return a home that holds the fresh project, its ledger, and the stack's images."""
    home = Home(folder / "home")
    home.path.mkdir()
    home.media.symlink_to(stack.home.media)
    home.ledger.symlink_to(project.context.ledger.path)
    project.context.project.write(home)
    home.make()
    home.label_config.write_text(project.context.config.xml, encoding="utf-8")
    shutil.copy(stack.home.secrets / "label_studio_token", home.secrets)
    for name in ("console_token", "webhook_secret"):
        read_or_make_secret(home.secrets / name)
    write_secret(home.secrets / "admin_password", PASSWORD)
    make_console_login(home.secrets)
    return home


def start_console(stack: RunningStack, home: Home, port: int) -> subprocess.Popen[bytes]:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("LABELLOOP_", "LABEL_STUDIO_"))},
        "LABELLOOP_HOME": str(home.path),
        "LABELLOOP_PORT": str(port),
        "LABEL_STUDIO_URL": stack.addresses.label_studio,
        "LABELLOOP_ML_BACKEND_URL": stack.addresses.ml_backend,
        "LABELLOOP_APP_URL": stack.addresses.app,
        "FIFTYONE_DATABASE_URI": stack.addresses.database_uri,
        "LABELLOOP_PULL_EVERY_MIN": "0",
        "LABELLOOP_SWEEP_AT": "",
    }
    with (home.path.parent / "console.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "sync.console"], env=environment, stdout=log, stderr=log)
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while not is_up(port):
        assert process.poll() is None, (home.path.parent / "console.log").read_text(encoding="utf-8")
        assert time.monotonic() < deadline_s, "the console is not up"
        time.sleep(0.1)
    return process


def is_up(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/health", timeout=2).ok
    except requests.RequestException:
        return False


@pytest.fixture(scope="module")
def admin(console: RunningConsole, browser: Browser) -> Iterator[Page]:
    page = console.open(browser)
    yield page
    page.context.close()


def run_of(page: Page) -> str:
    """Wait until the run that is shown is over, by itself, and return its first line."""
    expect(page.locator("main .mark").first).to_have_text("done", timeout=JOB_TIMEOUT_MS)
    return page.locator(".summary").inner_text()


def fits(page: Page) -> bool:
    """Return whether nothing is wider than the window."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


def test_who_does_not_know_the_password_sees_nothing(console: RunningConsole, browser: Browser) -> None:
    page = browser.new_context(base_url=console.url).new_page()
    page.goto("/runs/")
    page.get_by_label("Password of the console").fill("a guess")
    page.keyboard.press("Enter")

    expect(page.get_by_role("alert")).to_have_text("This is not the password.")
    assert page.get_by_role("navigation").count() == 0
    page.get_by_label("Password of the console").fill(PASSWORD)
    page.keyboard.press("Enter")
    # The first page of a console that has just started waits for FiftyOne.
    expect(page.get_by_role("heading", level=1)).to_have_text("Runs", timeout=JOB_TIMEOUT_MS)
    page.context.close()


@pytest.mark.parametrize(("title", "path"), PAGES.items())
def test_every_page_is_reached_by_the_navigation_and_fits(admin: Page, title: str, path: str) -> None:
    admin.set_viewport_size(WIDE)  # type: ignore[arg-type]  # a literal of two keys is what it takes
    admin.get_by_role("navigation", name="Pages").get_by_role("link", name=title).click()

    assert admin.url.endswith(path)
    expect(admin.locator("[aria-current=page]")).to_contain_text(title)
    assert fits(admin)
    admin.set_viewport_size(NARROW)  # type: ignore[arg-type]  # as above
    assert fits(admin)
    admin.set_viewport_size(WIDE)  # type: ignore[arg-type]  # as above


def test_the_overview_counts_what_there_is(admin: Page) -> None:
    admin.goto("/")

    assert admin.locator(".funnel b").all_inner_texts() == ["2", "3", "0", "0"]
    expect(admin.locator(".decisions")).to_contain_text("3 images are in conflict")
    assert admin.locator(".tools .dot.up").count() == 3


def test_a_job_is_started_and_followed_to_its_report_without_a_reload(admin: Page) -> None:
    admin.goto("/")
    admin.get_by_role("button", name="Pull").click()

    assert run_of(admin).startswith("pull: 0 merged")


def test_a_conflict_is_decided_by_the_mouse_and_the_next_one_follows(admin: Page, console: RunningConsole) -> None:
    admin.goto("/conflicts/")
    admin.locator(".tile a").first.click()
    first = admin.url.rpartition("/")[2]
    expect(admin.locator(".drawing image").first).to_be_visible()
    ours = find_shape(admin, "ours")
    theirs = find_shape(admin, "theirs")
    assert ours.bounding_box() == pytest.approx(theirs.bounding_box(), abs=2)

    admin.get_by_label("FiftyOne f").uncheck()
    expect(ours).to_be_hidden()
    click_middle(admin, theirs)
    expect(admin.get_by_role("radio", name="Label Studio")).to_be_checked()
    admin.get_by_role("button", name="Decide").click()

    expect(admin.locator(".note.good")).to_contain_text("decided")
    assert admin.url.rpartition("/")[2] not in (first, "")
    wait_until(lambda: first not in console.read_conflicts())
    assert sorted(console.classes_of(first)) == ["car", "car", "truck"]


def find_shape(page: Page, side: str) -> Locator:
    return page.locator(f".layer.{side} polygon").first


def click_middle(page: Page, shape: Locator) -> None:
    """Click where the shape is drawn, as a hand would."""
    box = shape.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def wait_until(condition: Any) -> None:
    deadline_s = time.monotonic() + JOB_TIMEOUT_MS / 1000
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen"
        time.sleep(0.1)


def test_a_conflict_is_decided_by_keys_alone(admin: Page, console: RunningConsole) -> None:
    waiting = sorted(console.read_conflicts())
    admin.goto(f"/conflicts/{waiting[0]}")
    whole = admin.locator(".drawing").get_attribute("viewBox")
    for key in "b1zl":
        admin.keyboard.press(key)

    expect(admin.get_by_label("agreed before b")).to_be_checked()
    expect(admin.get_by_label("Label Studio l")).not_to_be_checked()
    expect(admin.get_by_role("radio", name="FiftyOne")).to_be_checked()
    assert admin.locator(".drawing").get_attribute("viewBox") != whole
    admin.keyboard.press("2")
    expect(admin.get_by_role("radio", name="FiftyOne")).not_to_be_checked()
    admin.keyboard.press("1")
    admin.keyboard.press("Enter")

    expect(admin.locator(".note.good")).to_contain_text("decided")
    wait_until(lambda: waiting[0] not in console.read_conflicts())
    assert sorted(console.classes_of(waiting[0])) == ["bus", "car", "car"]


def test_a_conflict_that_changed_while_one_looked_is_shown_again(admin: Page, console: RunningConsole) -> None:
    (sample_id,) = console.read_conflicts()
    admin.goto(f"/conflicts/{sample_id}")
    labels = console.project.context.dataset.labels([sample_id])[sample_id].labels  # type: ignore[union-attr]  # as above
    console.project.context.dataset.write_labels({sample_id: [replace(labels[0], classes=("dog",)), *labels[1:]]})
    # As a webhook would have it; the job of the console that ran before is over.
    pull(console.project.context, everything=True)
    admin.get_by_role("button", name="All Label Studio").click()

    expect(admin.locator(".note.bad")).to_contain_text("Nothing was decided")
    assert console.read_conflicts() == {sample_id}
    admin.get_by_role("button", name="All Label Studio").click()
    wait_until(lambda: not console.read_conflicts())
    assert sorted(console.classes_of(sample_id)) == ["car", "car", "truck"]
    expect(admin.get_by_text("Nothing to decide.")).to_be_visible(timeout=JOB_TIMEOUT_MS)


def test_what_people_see_next_is_chosen_looked_at_and_sent(admin: Page, console: RunningConsole) -> None:
    admin.goto("/queue/")
    admin.get_by_label("How many").fill("1")
    admin.get_by_role("button", name="Preview").click()

    expect(admin.get_by_role("heading", level=2)).to_have_text("1 of 2 images that were not sent")
    assert admin.locator(".tile polygon").count() == 3
    expect(admin.locator(".tile .hint")).to_contain_text("uncertainty 0.070")
    admin.get_by_label("Save as view").fill("next ones")
    admin.get_by_role("button", name="Send 1 to Label Studio").click()
    assert run_of(admin).startswith("queue: 1 ")
    # The most uncertain one is the last one that was made.
    assert console.sample_ids[-1] in console.project.task_ids()
    assert console.sample_ids[-2] not in console.project.task_ids()


def test_an_export_is_written_and_listed(admin: Page, console: RunningConsole) -> None:
    admin.goto("/exports/")
    admin.get_by_role("button", name="Export").click()
    assert run_of(admin).startswith("export: 3 exported")
    admin.goto("/exports/")

    expect(admin.locator("tbody td code").first).to_have_text(str(console.home.exports / "coco"))
    with admin.expect_download() as download:
        admin.get_by_role("link", name="download").click()
    assert download.value.suggested_filename.startswith("coco-")


def test_feedback_shows_what_became_of_the_detectors_boxes(admin: Page) -> None:
    admin.goto("/feedback/")

    expect(admin.locator(".chart-wide")).to_be_visible()
    row = admin.get_by_role("row", name="car")
    assert row.get_by_role("cell").first.inner_text() == "9"
    with admin.expect_download() as download:
        admin.get_by_role("link", name="Download as CSV").click()
    lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert len(lines) == 10


def test_verify_finds_that_all_three_agree(admin: Page) -> None:
    admin.goto("/")
    admin.get_by_role("button", name="Verify").click()

    assert run_of(admin).endswith("0 differ")


def test_the_first_key_leads_past_the_navigation_and_focus_is_seen(admin: Page) -> None:
    admin.goto("/settings/")
    admin.keyboard.press("Tab")
    expect(admin.get_by_role("link", name="Skip to the content")).to_be_focused()
    admin.keyboard.press("Enter")
    assert admin.evaluate("document.activeElement.id") == "main"
    admin.keyboard.press("Tab")
    assert admin.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_light_and_dark_follow_the_machine_and_the_button(console: RunningConsole, browser: Browser) -> None:
    page = console.open(browser, color_scheme="dark")
    dark = read_ground(page)
    page.get_by_role("button", name="Light").click()
    light = read_ground(page)
    page.reload()

    assert sum(dark) < 150 < 600 < sum(light)
    assert read_ground(page) == light
    page.context.close()


def read_ground(page: Page) -> list[int]:
    colour: str = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return [int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]


def test_a_webhook_wakes_a_pull(console: RunningConsole, admin: Page) -> None:
    secret = (console.home.secrets / "webhook_secret").read_text(encoding="utf-8").strip()
    answer = requests.post(
        f"{console.url}/webhooks/label-studio", json={}, headers={"X-Labelloop-Secret": secret}, timeout=5
    )

    assert answer.status_code == 204
    wait_until(lambda: "webhook" in console.read_starters())
    admin.goto("/runs/?job=pull")
    expect(admin.get_by_role("cell", name="webhook").first).to_be_visible()


def test_a_new_password_logs_everybody_out(console: RunningConsole, browser: Browser) -> None:
    page = console.open(browser)
    write_password(console.home.secrets, "quite another password")
    page.get_by_role("link", name="Runs").click()

    expect(page.get_by_label("Password of the console")).to_be_visible()
    write_password(console.home.secrets, PASSWORD)
    page.context.close()
