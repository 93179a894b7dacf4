"""The panels «Image quality» and «Claims» in the FiftyOne App, on a dataset of their own, without the console."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageFilter
from playwright.sync_api import Browser, Locator, Page, expect

from tests.e2e.conftest import RunningStack, open_window

PANEL_MS = 30_000
WORK_MS = 60_000
# Name of the photo, the folder it lies in, and how sure a detector is of a person there.
PHOTOS = {"bus": ("person", 0.9), "blurred": ("person", 0.0), "black": ("others", 0.1), "astronaut": ("others", 0.8)}


@dataclass(frozen=True)
class Curated:
    """A dataset, and the App on it."""

    dataset: Any
    page: Page

    def open_panel(self, name: str, button: str) -> Locator:
        self.page.locator("[data-cy=new-panel-btn]").last.click()
        self.page.locator(f"[data-cy=new-panel-option-{name}]").click()
        panel = self.page.locator("[data-cy^=panel-content-]", has=self.page.get_by_role("button", name=button))
        panel.get_by_role("button", name=button).wait_for(timeout=PANEL_MS)
        return panel

    def submit(self, panel: Locator, button: str, submit: str) -> None:
        """Open a form from the panel, submit it, and wait for its report."""
        panel.get_by_role("button", name=button, exact=True).click()
        form = self.page.locator("[data-cy=operators-prompt-modal]")
        done = form.get_by_role("button", name=submit, exact=True)
        expect(done).to_be_enabled(timeout=PANEL_MS)
        done.click()
        report = self.page.locator("[data-cy=operators-prompt-view-modal]")
        report.locator("[role=alert]").first.wait_for(timeout=WORK_MS)
        report.get_by_role("button", name="Done").click()
        report.wait_for(state="detached")

    def tags(self) -> dict[str, list[str]]:
        """Return the tags of each photo that has some."""
        self.dataset.reload()
        values = self.dataset.values(["filepath", "tags"])
        return {Path(path).stem: sorted(tags) for path, tags in zip(*values, strict=True) if tags}

    def wait_for_count(self, text: str) -> None:
        self.page.locator("[data-cy=entry-counts]").get_by_text(text, exact=True).wait_for(timeout=PANEL_MS)


@pytest.fixture
def curated(stack: RunningStack, browser: Browser, tmp_path: Path) -> Iterator[Curated]:
    with stack.open():
        import fiftyone as fo
    photos = stack.home.path / "demo_images" / "photos"
    bus = Image.open(photos / "bus.jpg").convert("RGB").resize((640, 480))
    astronaut = Image.open(photos / "astronaut.png").convert("RGB").resize((640, 480))
    pictures = {
        "bus": bus,
        "blurred": bus.filter(ImageFilter.GaussianBlur(8)),
        "black": Image.new("RGB", (640, 480)),
        "astronaut": astronaut,
    }
    samples = []
    for name, (folder, confidence) in PHOTOS.items():
        path = tmp_path / folder / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        pictures[name].save(path)
        box = fo.Detection(label="person", bounding_box=[0.2, 0.2, 0.4, 0.6], confidence=confidence)
        samples.append(fo.Sample(filepath=str(path), predictions=fo.Detections(detections=[box] if confidence else [])))
    dataset = fo.Dataset("quality-in-the-app", overwrite=True, persistent=True)
    dataset.add_samples(samples, progress=False)
    dataset.compute_metadata(progress=False)
    window = open_window(browser)
    page = window.new_page()
    page.set_viewport_size({"width": 1500, "height": 1300})
    page.add_locator_handler(page.get_by_role("button", name="Dismiss"), lambda button: button.click())
    page.goto(f"{stack.addresses.app}/datasets/{dataset.name}")
    page.locator("[data-cy=looker]").first.wait_for(timeout=PANEL_MS)
    yield Curated(dataset, page)
    window.close()
    dataset.delete()


def test_a_curator_measures_looks_tags_and_takes_it_back(curated: Curated) -> None:
    panel = curated.open_panel("quality", "Check image quality")
    expect(panel.get_by_text("Nothing is measured yet.")).to_be_visible(timeout=PANEL_MS)
    curated.submit(panel, "Check image quality", "Measure")
    expect(panel.get_by_text("4 images measured")).to_be_visible(timeout=PANEL_MS)
    curated.dataset.reload()
    proposed = dict(zip(PHOTOS, curated.dataset.values("quality_proposal"), strict=True))
    assert proposed == {"bus": "keep", "blurred": "trash", "black": "trash", "astronaut": "keep"}

    bars = panel.locator(".js-plotly-plot").first.locator(".bars path")
    expect(bars).to_have_count(20, timeout=PANEL_MS)
    counts, _, _ = curated.dataset.histogram_values("quality_blurry", bins=20, range=(0, 1.0001))
    highest = max(number for number, count in enumerate(counts) if count)
    bars.nth(highest).click(force=True)
    curated.wait_for_count(f"{counts[highest]} sample" + ("s" if counts[highest] > 1 else ""))

    panel.get_by_role("button", name="Show proposed trash", exact=True).click()
    curated.wait_for_count("2 samples")
    panel.get_by_role("button", name="Show all", exact=True).click()
    curated.wait_for_count("4 samples")
    curated.submit(panel, "Tag trash", "Tag")
    assert curated.tags() == {"blurred": ["trash"], "black": ["trash"]}
    expect(panel.get_by_text("2 tagged trash")).to_be_visible(timeout=PANEL_MS)
    curated.submit(panel, "Take back", "Take back")
    assert curated.tags() == {}


def test_a_curator_sees_contradictions_confirms_one_and_acts_on_the_other(curated: Curated) -> None:
    panel = curated.open_panel("claims", "Check claims")
    panel.get_by_role("button", name="Check claims", exact=True).click()
    form = curated.page.locator("[data-cy=operators-prompt-modal]")
    form.get_by_text("What the images should hold", exact=True).locator("xpath=following::input[1]").fill("person")
    form.get_by_text("Their folder", exact=False).first.click()
    form.get_by_text("The boxes in predictions", exact=True).click()
    check = form.get_by_role("button", name="Check", exact=True)
    expect(check).to_be_enabled(timeout=PANEL_MS)
    check.click()
    report = curated.page.locator("[data-cy=operators-prompt-view-modal]")
    report.locator("[role=alert]").first.wait_for(timeout=WORK_MS)
    report.get_by_role("button", name="Done").click()

    expect(panel.get_by_text("Contradictions 1 to 2")).to_be_visible(timeout=PANEL_MS)
    pictures = panel.locator("img")
    expect(pictures).to_have_count(2, timeout=PANEL_MS)
    assert all(picture.evaluate("one => one.complete && one.naturalWidth > 0") for picture in pictures.all())
    cell = panel.get_by_text("1 FN", exact=True)
    place = cell.bounding_box()
    assert place is not None
    curated.page.mouse.click(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    curated.wait_for_count("1 sample")

    panel.get_by_role("button", name="The claim is right", exact=True).first.click()
    expect(panel.get_by_text("Contradictions 1 to 1")).to_be_visible(timeout=PANEL_MS)
    panel.get_by_role("button", name="Show all", exact=True).click()
    curated.wait_for_count("4 samples")
    curated.submit(panel, "Retag, copy, move", "Do it")
    assert curated.tags() == {"blurred": ["claim confirmed: person"], "astronaut": ["with person"]}
    curated.submit(panel, "Take back", "Take back")
    assert curated.tags() == {"blurred": ["claim confirmed: person"]}
