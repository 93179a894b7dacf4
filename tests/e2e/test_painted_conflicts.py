"""Painted labels in conflict, in a real browser: a click takes the version that is painted there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from flask import Flask
from PIL import Image
from playwright.sync_api import Browser, Page
from werkzeug.security import generate_password_hash
from werkzeug.serving import make_server

from labels.geometry import Mask
from labels.results import Label
from sync.console.app import create_app
from sync.console.health import Health
from sync.console.settings import ConsoleSettings
from sync.review.merge import Conflict
from sync.settings import Home
from tests.sync.console.conftest import CAR, LORRY, PASSWORD, SAMPLE, SIZE, FakeCatalogue, FakeRunner


def paint(label_id: str, name: str, left: int, right: int) -> Label:
    """Return a label painted over the full height between two columns."""
    pixels = np.zeros((SIZE.height, SIZE.width), dtype=np.bool_)
    pixels[:, left:right] = True
    return Label(label_id, "brush", (name,), Mask(pixels))


# FiftyOne's cup lies over Label Studio's from 100 to 150; the spoon, of FiftyOne alone, is the uppermost of all.
CONFLICTS = (
    Conflict(CAR, None, paint(CAR, "cup", 20, 150), paint(CAR, "saucer", 100, 250)),
    Conflict(LORRY, paint(LORRY, "spoon", 300, 310), paint(LORRY, "spoon", 300, 350), None),
)


@pytest.fixture
def page(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    """The page of the image with these conflicts."""
    path = tmp_path / "cup.png"
    Image.new("RGB", (SIZE.width, SIZE.height), "teal").save(path)
    catalogue = FakeCatalogue(path, conflicts={SAMPLE: CONFLICTS})
    home = Home(tmp_path / "home")
    home.make()
    password_file = home.secrets / "console_password"
    password_file.write_text(generate_password_hash(PASSWORD, method="scrypt:1024:8:1"))
    settings = ConsoleSettings(home, "the-token", "the-secret", "the-key", password_file)
    app = create_app(settings, FakeRunner(), catalogue, fetch_health=lambda _tools: dict[str, Health]())
    with serve(app) as url:
        page = browser.new_context(base_url=url, viewport={"width": 1400, "height": 900}).new_page()
        page.on("pageerror", lambda error: pytest.fail(str(error)))
        page.goto("/login")
        page.get_by_label("Password of the console").fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()
        page.goto(f"/conflicts/{SAMPLE}")
        page.wait_for_load_state("networkidle")
        yield page
        page.context.close()


@contextmanager
def serve(app: Flask) -> Iterator[str]:
    """Answer requests in a thread of this process."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def click(page: Page, x: float) -> None:
    """Click on a column of the image, at half of its height."""
    place = page.evaluate(
        """([x, y]) => {
            const at = new DOMPoint(x, y).matrixTransform(document.querySelector('.drawing').getScreenCTM());
            return [at.x, at.y];
        }""",
        [x, SIZE.height / 2],
    )
    page.mouse.click(*place)


def chosen(page: Page) -> dict[str, str]:
    """Return the sides that are chosen, by label."""
    found = page.locator('.choice input[type="radio"]:checked')
    return {
        str(one.get_attribute("name")).removeprefix("side-"): str(one.get_attribute("value")) for one in found.all()
    }


def test_a_click_takes_the_version_that_is_painted_there(page: Page):
    click(page, 200)
    assert chosen(page) == {CAR: "reviewed"}
    click(page, 120)
    assert chosen(page) == {CAR: "curated"}
    click(page, 330)
    assert chosen(page) == {CAR: "curated", LORRY: "curated"}


def test_a_click_where_nothing_is_painted_takes_nothing(page: Page):
    click(page, 280)
    assert chosen(page) == {}
