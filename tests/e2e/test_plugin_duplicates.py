"""The panel «Duplicates» in the FiftyOne App, by mouse and by key, on a dataset of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageOps
from playwright.sync_api import Browser, Locator, Page, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError

from fiftyone_plugins import duplicates
from fiftyone_plugins.app.work import Tools, find_work
from fiftyone_plugins.duplicates.fingerprint_store import to_folder
from fiftyone_plugins.duplicates.scanning import EXAMPLES_FILE
from fiftyone_plugins.duplicates.showing import PAIRS_SHOWN
from labels import fields
from tests.e2e.conftest import RunningStack, open_window

PANEL_MS = 30_000
SLOW_PANEL = """
let delayMs = 0, place = 0, decided = [], isListedOut = false;
let groups = [['a1', 'a2', 'a3'], ['b1', 'b2'], ['c1', 'c2']];
function draw() {
  const panel = document.querySelector('[data-cy=panel-content-duplicates]'), group = groups[place];
  const button = (label, act) => `<button onclick="later('${act}')"><p>${label}</p></button>`;
  panel.innerHTML = `<p>group ${place + 1} of ${groups.length} · ${group[0][0]}</p>`
    + button('Back', 'back') + button('Next', 'next') + button('Keep ★, drop the others', 'accept ' + group[0][0])
    + group.map((one) => `<div class=card><img src="/${one}.png" alt=${one}>${button('Keep', 'keep ' + one)}`
      + `${button('Drop', 'drop ' + one)}${button('Not a duplicate', 'apart ' + one)}</div>`).join('');
}
function later(act) { setTimeout(() => { answer(act); draw(); }, delayMs); }
function answer(act) {
  if (!/next|back/.test(act)) decided.push(act);
  const by = act === 'back' ? -1 : /next|accept/.test(act) ? 1 : 0;
  if (isListedOut && by === 0) groups.splice(place, 1);
  else place = Math.min(Math.max(place + by, 0), groups.length - 1);
}
"""
"""A panel like ours without FiftyOne; with ``isListedOut`` a group leaves the list as soon as it is decided."""

EXAMPLES = [round(number / 50 + 0.003, 3) for number in range(25)]
"""Distances of the pairs that are there to be looked at."""


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

    def read_distances(self) -> list[float]:
        """The distances of the pairs that are shown."""
        told = self.panel.locator("p strong").all_inner_texts()
        return [float(one) for one in told if one.startswith("0.")]

    def wait_for_pairs_near(self, distance: float) -> None:
        expect(self.panel.get_by_text(f"The pairs nearest to {distance:.2f}.")).to_be_visible(timeout=PANEL_MS)
        shown = self.read_distances()
        assert shown == sorted(shown)
        assert shown == sorted(sorted(EXAMPLES, key=lambda one: abs(one - distance))[:PAIRS_SHOWN])

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
    write_examples(to_folder(tools.folder, dataset.name) / EXAMPLES_FILE, dataset.values("id"))
    window = open_window(browser)
    page = window.new_page()
    page.add_locator_handler(page.get_by_role("button", name="Dismiss"), lambda button: button.click())
    page.goto(f"{stack.addresses.app}/datasets/{dataset.name}")
    page.locator("[data-cy=looker]").first.wait_for(timeout=PANEL_MS)
    open_panel(page)
    yield Curated(dataset, page)
    window.close()
    dataset.delete()


def write_examples(file: Path, ids: list[str]) -> None:
    """Pairs of every distance, as the search by embeddings keeps them: those take a model, and longer."""
    pairs = [{"first": ids[0], "second": ids[1], "distance": one, "likeness": 0.9} for one in EXAMPLES]
    file.write_text(json.dumps({"threshold": 0.35, "check": True, "pairs": pairs}), encoding="utf-8")


def draw_slowly(browser: Browser, script: str = "", delay_ms: int = 300) -> Page:
    """Open a page with the panel's buttons and keys, whose server takes its time; ``decided`` is what it was told."""
    page = browser.new_page()
    page.set_content(f"<div data-cy='panel-content-duplicates'></div><script>{SLOW_PANEL}{script}</script>")
    page.evaluate("delay => { delayMs = delay; draw(); }", delay_ms)
    page.add_script_tag(path=str(Path(duplicates.__file__).with_name("keys.js")))
    page.get_by_text(" of 3").click()
    return page


def type_at_once(page: Page, *keys: str) -> list[str]:
    """Type keys without waiting for what they do, and return what was decided when all is quiet."""
    for key in keys:
        page.keyboard.press(key)
    page.wait_for_timeout(3_000)
    return list(page.evaluate("decided"))


def list_framed(page: Page) -> list[str]:
    return [one.get_attribute("alt") or "" for one in page.locator(".card[style*=solid] img").all()]


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
    curated.press("Not a duplicate", 2)
    expect(pictures).to_have_count(2, timeout=PANEL_MS)
    curated.press("Keep ★, drop the others")
    curated.wait_for_tags(bus=[], bus_poor=[fields.DUPLICATE_TAG], bus_small=[])
    assert len(curated.dataset) == 6


def test_everything_is_decided_by_key(curated: Curated) -> None:
    panel, press = curated.panel, curated.page.keyboard.press
    pictures = panel.locator("img")
    expect(pictures).to_have_count(2, timeout=PANEL_MS)
    assert pictures.first.get_attribute("alt") == "cat.png"
    # A letter typed elsewhere decides nothing; the panel listens from the first click in it.
    curated.page.locator("[data-cy=entry-counts]").click()
    press("d")
    panel.get_by_text("group 1 of 2").click()
    # Nothing is chosen yet: this is for no image.
    press("d")
    press("2")
    press("k")
    expect(panel.get_by_text("✓ kept")).to_be_visible(timeout=PANEL_MS)
    press("ArrowLeft")
    press("d")
    expect(panel.get_by_text("✗ dropped")).to_be_visible(timeout=PANEL_MS)
    curated.wait_for_tags(cat=["train", fields.DUPLICATE_TAG], cat_mirrored=["test"])
    # Typed without waiting: each is done when the one before was drawn.
    for key in ("u", "n", "3", "x"):
        press(key)
    expect(panel.locator("img[alt^=bus]")).to_have_count(2, timeout=PANEL_MS)
    # A focused button takes Enter for itself, which the App's bar of views would keep from it.
    panel.get_by_role("button", name="Back", exact=True).focus()
    press("Enter")
    expect(panel.get_by_text("group 1 of 2")).to_be_visible(timeout=PANEL_MS)
    panel.get_by_text("group 1 of 2").click()
    press("Enter")
    # What was marked to be kept stays.
    curated.wait_for_tags(cat=["train", fields.DUPLICATE_TAG], cat_mirrored=["test"])
    expect(panel.get_by_text("group 2 of 2")).to_be_visible(timeout=PANEL_MS)


def test_what_is_typed_while_the_panel_works_is_done_when_it_was_drawn_anew(browser: Browser) -> None:
    page = draw_slowly(browser)
    assert type_at_once(page, "2", "k", "1", "d", "n", "2", "d") == ["keep a2", "drop a1", "drop b2"]
    assert list_framed(page) == ["b2"]
    page.close()


def test_a_second_enter_is_ignored_and_what_follows_is_for_the_next_group(browser: Browser) -> None:
    page = draw_slowly(browser)
    assert type_at_once(page, "Enter", "Enter", "1", "k") == ["accept a", "keep b1"]
    expect(page.get_by_text("group 2 of 3")).to_be_visible()
    page.close()


@pytest.mark.parametrize(
    ("script", "typed", "decided"),
    [
        ("isListedOut = true;", ["2", "k", "1", "d", "Enter"], ["keep a2"]),
        ("place = 2;", ["Enter", "1", "d"], ["accept c"]),
    ],
    ids=["the group left the list", "there is no next group"],
)
def test_no_key_is_for_another_group_than_it_was_typed_for(
    browser: Browser, script: str, typed: list[str], decided: list[str]
) -> None:
    page = draw_slowly(browser, script)
    assert type_at_once(page, *typed) == decided
    page.close()


def test_after_a_click_keys_wait_too_and_at_most_eight_of_them(browser: Browser) -> None:
    page = draw_slowly(browser)
    page.get_by_role("button", name="Next").click()
    assert type_at_once(page, *"12121212", "d") == []
    assert list_framed(page) == ["b2"]
    page.close()


def test_nothing_is_decided_of_an_image_that_was_not_chosen(browser: Browser) -> None:
    page = draw_slowly(browser, delay_ms=0)
    assert list_framed(page) == []
    assert type_at_once(page, "d", "k", "x") == []
    page.keyboard.press("ArrowRight")
    assert list_framed(page) == ["a1"]
    page.keyboard.press("7")
    assert list_framed(page) == []
    assert type_at_once(page, "d") == []
    page.keyboard.press("ArrowLeft")
    assert list_framed(page) == ["a3"]
    # Whoever comes back chooses anew.
    assert type_at_once(page, "n", "p", "d") == []
    assert list_framed(page) == []
    page.close()


def test_the_slider_shows_pairs_at_its_distance_by_mouse_and_by_arrow_keys(curated: Curated) -> None:
    curated.press("Choose the threshold by eye")
    curated.wait_for_pairs_near(0.35)
    slider = curated.panel.locator("input[type=range]")
    track = curated.panel.locator(".MuiSlider-root").bounding_box()
    assert track is not None
    curated.page.mouse.click(track["x"] + track["width"] / 2, track["y"] + track["height"] / 2)
    curated.wait_for_pairs_near(0.3)
    for _ in range(6):
        curated.page.keyboard.press("ArrowRight")
    curated.wait_for_pairs_near(0.36)
    # It stays where it was put: an answer that came late would move it back.
    curated.page.wait_for_timeout(1_000)
    assert slider.input_value() == "0.36"
    curated.press("Find duplicates")
    form = curated.page.locator("[data-cy=operators-prompt-modal]")
    expect(form.locator("input[type=range]").first).to_have_value("0.36", timeout=PANEL_MS)
