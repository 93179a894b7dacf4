"""The plugins' panels in the App, driven as a curator drives them; and an App without a console, to open them in."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
from PIL import Image, ImageFilter
from playwright.sync_api import Browser, Locator, Page, expect

from sync.services.ports import find_free_port
from tests.e2e.conftest import RunningStack, open_window
from tests.sync.job_queues import wait_for

START_TIMEOUT_S = 120
LOOK_MS = 30_000
WORK_MS = 90_000
# Half of it is the panel's.
WINDOW = {"width": 1500, "height": 1300}


def make_pictures(stack: RunningStack) -> dict[str, Image.Image]:
    """Return two photos of the demo, one of them blurred as well, and a black picture."""
    demo = stack.home.path / "demo_images" / "photos"
    bus = Image.open(demo / "bus.jpg").convert("RGB").resize((640, 480))
    return {
        "bus": bus,
        "blurred": bus.filter(ImageFilter.GaussianBlur(8)),
        "black": Image.new("RGB", (640, 480)),
        "astronaut": Image.open(demo / "astronaut.png").convert("RGB").resize((640, 480)),
    }


@dataclass(frozen=True)
class CurationApp:
    """A dataset in one window of the App, and the panels beside its grid."""

    page: Page

    def open_panel(self, name: str) -> Locator:
        """Open a panel by the name it is registered under."""
        self.page.locator("[data-cy=new-panel-btn]").last.click()
        self.page.locator(f"[data-cy=new-panel-option-{name}]").click()
        # Each panel has this button, and what the App shows beside it has none.
        return self.page.locator("[data-cy^=panel-content-]", has=self.page.get_by_role("button", name="Refresh")).last

    def open_form(self, panel: Locator, button: str) -> Locator:
        """Press a button of a panel, and return the form that comes."""
        panel.get_by_role("button", name=button, exact=True).click(timeout=LOOK_MS)
        form = self.page.locator("[data-cy=operators-prompt-modal]")
        form.wait_for(timeout=LOOK_MS)
        return form

    def fill(self, form: Locator, label: str, text: str) -> None:
        """Type into the field of that name."""
        # The App ties no label to its field: it is the next one on the page.
        form.get_by_text(label, exact=True).locator("xpath=following::*[self::input or self::textarea][1]").fill(text)

    def choose(self, form: Locator, label: str, choice: str) -> None:
        """Choose from the list of that name."""
        form.get_by_text(label, exact=True).locator("xpath=following::*[@role='combobox'][1]").click()
        self.page.get_by_role("option", name=choice).click()

    def press(self, form: Locator, button: str) -> None:
        """Press a form's button, when it can be pressed."""
        start = form.get_by_role("button", name=button, exact=True)
        expect(start).to_be_enabled(timeout=LOOK_MS)
        start.click()

    def submit(self, form: Locator, button: str) -> str:
        """Press a form's button, wait for the work's report, close it, and return its first line."""
        self.press(form, button)
        report = self.page.locator("[data-cy=operators-prompt-view-modal]")
        report.locator("[role=alert]").first.wait_for(timeout=WORK_MS)
        told = report.locator("[role=alert]").first.inner_text().strip()
        report.get_by_role("button", name="Done").click()
        report.wait_for(state="detached")
        return told

    def click(self, mark: Locator) -> None:
        """Click the middle of a mark in a chart: what lies over it there gets the click."""
        mark.wait_for(timeout=LOOK_MS)
        place = mark.bounding_box()
        assert place is not None
        self.page.mouse.click(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)

    def wait_for_count(self, text: str) -> None:
        """Wait until the grid says that it shows so many, as in ``4 samples``."""
        self.page.locator("[data-cy=entry-counts]").get_by_text(text, exact=True).wait_for(timeout=LOOK_MS)


@contextmanager
def open_curation_app(browser: Browser, address: str, dataset: str) -> Iterator[CurationApp]:
    """Open a dataset in a window of its own."""
    window = open_window(browser)
    page = window.new_page()
    page.set_viewport_size(WINDOW)  # type: ignore[arg-type]  # a literal of two keys is what it takes
    page.add_locator_handler(page.get_by_role("button", name="Dismiss"), lambda button: button.click())
    page.goto(f"{address}/datasets/{dataset}")
    page.locator("[data-cy=looker]").first.wait_for(timeout=LOOK_MS)
    yield CurationApp(page)
    window.close()


@contextmanager
def serve_lone_app(stack: RunningStack, home: Path) -> Iterator[str]:
    """Run an App server of its own, without a console: plugins work in its process; give its address."""
    port = find_free_port()
    told = {"LABELLOOP_HOME": str(home), "LABELLOOP_PORT": str(port)}
    told |= {"FIFTYONE_DATABASE_URI": stack.addresses.database_uri, "FIFTYONE_DATABASE_VALIDATION": "false"}
    known = {name: value for name, value in os.environ.items() if not name.startswith("LABELLOOP_CONSOLE")}
    log = home / "app.log"
    with log.open("w") as output:
        command = [sys.executable, "-m", "sync.services.app"]
        server = subprocess.Popen(command, env={**known, **told}, stdout=output, stderr=output)
        url = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            assert server.poll() is None, log.read_text(encoding="utf-8")[-2000:]
            try:
                return requests.get(f"{url}/fiftyone", timeout=10).ok
            except requests.ConnectionError:
                return False

        try:
            wait_for(answers, timeout_s=START_TIMEOUT_S)
            yield url
        finally:
            server.terminate()
            server.wait(START_TIMEOUT_S)
