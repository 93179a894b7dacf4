"""The panel «Duplicates» in the FiftyOne App, by mouse and by key, on a dataset of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageOps
from playwright.sync_api import Browser, Locator, Page, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError

from fiftyone_plugins.app.work import Tools, find_work
from labels import fields
from tests.e2e.conftest import RunningStack, open_window

PANEL_MS = 30_000


@dataclass(frozen=True)
class Curated:
    """A dataset with two groups, and the panel on it."""

    dataset: Any
    page: Page

    @property
    def panel(self) -> Locator:
        return self.page.locator(
            "[data-cy^=panel-content-]", has=self.page.get_by_role("button", name="Find duplicates")
        )

    def press(self, name: str, place: int = 0) -> None:
        self.panel.get_by_role("button", name=name, exact=True).nth(place).click()

    def tags(self) -> dict[str, list[str]]:
        self.dataset.reload()
        values = self.dataset.values(["filepath", "tags"])
        return {Path(path).stem: tags for path, tags in zip(*values, strict=True)}

    def wait_for_tags(self, **expected: list[str]) -> None:
        for _ in range(100):
            if {name: self.tags()[name] for name in expected} == expected:
                return
            self.page.wait_for_timeout(200)
        assert {name: self.tags()[name] for name in expected} == expected


@pytest.fixture
def curated(stack: RunningStack, browser: Browser, tmp_path: Path) -> Iterator[Curated]:
    """Photos of the demo: one three times, one mirrored, in two splits, and one like no other."""
    with stack.open():
        import fiftyone as fo
    photos = stack.home.path / "demo_images" / "photos"
    first, second, third = (
        Image.open(photos / name).convert("RGB") for name in ("bus.jpg", "chelsea.png", "astronaut.png")
    )
    first.resize((480, 360)).save(tmp_path / "bus.png")
    first.resize((480, 360)).save(tmp_path / "bus_poor.jpg", quality=15)
    first.resize((240, 180)).save(tmp_path / "bus_small.png")
    second.save(tmp_path / "cat.png")
    ImageOps.mirror(second).save(tmp_path / "cat_mirrored.png")
    third.save(tmp_path / "astronaut.png")
    dataset = fo.Dataset("duplicates-in-the-app", overwrite=True, persistent=True)
    dataset.add_images_dir(str(tmp_path), progress=False)
    dataset.compute_metadata(progress=False)
    for name, split in (("cat.png", "train"), ("cat_mirrored.png", "test")):
        dataset.select_by("filepath", str(tmp_path / name)).tag_samples(split)
    tools = Tools(stack.home.curation)
    assert find_work("duplicates").perform(dataset, {"methods": ["exact", "phash"]}, tools).moved == 5
    window = open_window(browser)
    page = window.new_page()
    page.add_locator_handler(page.get_by_role("button", name="Dismiss"), lambda button: button.click())
    page.goto(f"{stack.addresses.app}/datasets/{dataset.name}")
    page.locator("[data-cy=looker]").first.wait_for(timeout=PANEL_MS)
    open_panel(page)
    yield Curated(dataset, page)
    window.close()
    dataset.delete()


def open_panel(page: Page) -> None:
    """Open the panel beside the grid; the list of panels holds it as soon as the plugins are loaded."""
    option = page.locator("[data-cy=new-panel-option-Duplicates], [data-cy=new-panel-option-duplicates]").first
    for _ in range(20):
        if page.locator("[data-cy^=panel-content-]").get_by_role("button", name="Find duplicates").count():
            # The server keeps what was open in the window before.
            return
        page.locator("[data-cy=new-panel-btn]").first.click()
        try:
            option.click(timeout=2_000)
        except PlaywrightTimeoutError:
            page.keyboard.press("Escape")
        page.wait_for_timeout(1_000)
    raise AssertionError("the App has no panel «Duplicates»")


def test_a_curator_keeps_drops_and_parts_in_the_panel_and_takes_it_back(curated: Curated) -> None:
    panel = curated.panel
    # The group that leaks from one split to another comes first.
    expect(panel.get_by_text("it is in the splits test and train")).to_be_visible(timeout=PANEL_MS)
    expect(panel.get_by_text("group 1 of 2")).to_be_visible(timeout=PANEL_MS)
    pictures = panel.locator("img")
    expect(pictures).to_have_count(2, timeout=PANEL_MS)
    assert all(picture.evaluate("one => one.complete && one.naturalWidth > 0") for picture in pictures.all())
    curated.press("Drop", 1)
    curated.wait_for_tags(cat=["train"], cat_mirrored=["test", fields.DUPLICATE_TAG])
    curated.press("Undo")
    curated.wait_for_tags(cat_mirrored=["test"])
    curated.press("Next")
    expect(panel.get_by_text("group 2 of 2")).to_be_visible(timeout=PANEL_MS)
    expect(pictures).to_have_count(3, timeout=PANEL_MS)
    # By key: a button that has the focus is pressed by the space bar. One that is drawn anew just then loses the focus.
    third = panel.get_by_role("button", name="Not a duplicate", exact=True).nth(2)
    for _ in range(10):
        curated.page.wait_for_timeout(1_000)
        if third.count() == 0:
            break
        third.press("Space")
    expect(pictures).to_have_count(2, timeout=PANEL_MS)
    curated.press("Keep ★, drop the others")
    curated.wait_for_tags(bus=[], bus_poor=[fields.DUPLICATE_TAG], bus_small=[])
    assert len(curated.dataset) == 6
