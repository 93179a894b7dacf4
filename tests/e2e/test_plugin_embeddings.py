"""A curator in the FiftyOne App computes embeddings, groups, and a map, and clicks on what they show."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import fiftyone as fo
import pytest
import requests
from playwright.sync_api import Browser, Locator, Page, expect

from sync.services.ports import find_free_port
from tests.e2e.conftest import RunningStack, open_window
from tests.sync.job_queues import wait_for

START_TIMEOUT_S = 120
WORK_TIMEOUT_MS = 90_000
LOOK_TIMEOUT_MS = 30_000


@pytest.fixture(scope="module")
def photos(stack: RunningStack) -> Iterator[Any]:
    """A dataset of the demo's photos."""
    dataset = fo.Dataset(f"embeddings-{os.getpid()}", persistent=True)
    paths = sorted((stack.home.path / "demo_images" / "photos").iterdir())
    dataset.add_samples([fo.Sample(filepath=str(path)) for path in paths], progress=False)
    yield dataset
    dataset.delete()


@pytest.fixture(scope="module")
def address(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An App server of its own, without a console: plugins work in its process."""
    home, port = tmp_path_factory.mktemp("home"), find_free_port()
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


@pytest.fixture
def page(browser: Browser, address: str, photos: Any) -> Iterator[Page]:
    """The dataset's grid in a window."""
    window = open_window(browser)
    opened = window.new_page()
    opened.add_locator_handler(opened.get_by_role("button", name="Dismiss"), lambda button: button.click())
    opened.goto(f"{address}/datasets/{photos.name}")
    opened.locator("[data-cy=looker]").first.wait_for(timeout=LOOK_TIMEOUT_MS)
    yield opened
    window.close()


def run(page: Page, button: str, submit: str, choose: str | None = None) -> str:
    """Press a button of the panel, submit its form, and return the report's first line."""
    page.get_by_role("button", name=button, exact=True).first.click()
    form = page.locator("[data-cy=operators-prompt-modal]")
    if choose is not None:
        form.get_by_text(choose).first.click()
    start = form.get_by_role("button", name=submit, exact=True)
    expect(start).to_be_enabled(timeout=LOOK_TIMEOUT_MS)
    start.click()
    result = page.locator("[data-cy=operators-prompt-view-modal]")
    result.locator("[role=alert]").first.wait_for(timeout=WORK_TIMEOUT_MS)
    told = result.locator("[role=alert]").first.inner_text().strip()
    result.get_by_role("button", name="Done").click()
    result.wait_for(state="detached")
    return told


def click_bar(page: Page, bar: Locator) -> None:
    place = bar.bounding_box()
    assert place is not None
    page.mouse.click(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)


def test_groups_and_a_map_are_made_in_the_panel_and_a_click_filters_the_grid(page: Page, photos: Any) -> None:
    page.locator("[data-cy=new-panel-btn]").last.click()
    page.get_by_text("Groups and outliers", exact=True).click()
    page.get_by_text("No embeddings yet.").wait_for(timeout=LOOK_TIMEOUT_MS)

    count = len(photos)
    assert run(page, "Compute", "Compute") == f"embed: {count} embedded, 0 unchanged"
    assert run(page, "Group", "Group") == f"cluster: {count} grouped, 0 unchanged"
    photos.reload()
    sizes = sorted(photos.count_values("cluster").values(), reverse=True)
    bars = page.locator("g.bars path")
    expect(bars).to_have_count(len(sizes), timeout=LOOK_TIMEOUT_MS)
    click_bar(page, bars.first)
    expect(page.locator("[data-cy=entry-counts]")).to_contain_text(f"{sizes[0]} ", timeout=LOOK_TIMEOUT_MS)
    page.get_by_role("button", name="Show all").click()
    expect(page.locator("[data-cy=entry-counts]")).to_contain_text(f"{count} ", timeout=LOOK_TIMEOUT_MS)

    assert run(page, "Visualize", "Compute", "PCA") == f"visualize: {count} placed, 0 unchanged"
    page.locator("[data-cy=new-panel-btn]").last.click()
    page.locator("[data-cy=new-panel-option-Embeddings]").click()
    page.get_by_text("pca_efficientnet_lite0_57934424").first.click(timeout=LOOK_TIMEOUT_MS)
    page.get_by_text(f"{count} points").wait_for(timeout=LOOK_TIMEOUT_MS)
