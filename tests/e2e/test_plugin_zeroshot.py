"""A curator classifies images and crops with a CLIP in the FiftyOne App, and looks into the table of agreement."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest
from playwright.sync_api import Browser, Locator, expect

from tests.e2e.conftest import RunningStack
from tests.e2e.plugin_panels import LOOK_MS, CurationApp, open_curation_app, serve_lone_app
from tests.fiftyone_plugins.tiny_clip import write_tiny_clip

CLASSES = ("bus", "cat", "person")
PHOTOS = {"bus.jpg": "bus", "chelsea.png": "cat", "astronaut.png": "person", "coffee.png": "cat"}


@pytest.fixture(scope="module")
def photos(stack: RunningStack) -> Iterator[Any]:
    """Four photos of the demo, each with a class and, but for the last, a box of it."""
    dataset = fo.Dataset(f"zeroshot-{os.getpid()}", persistent=True)
    for name, label in PHOTOS.items():
        sample = fo.Sample(filepath=str(stack.home.path / "demo_images" / "photos" / name))
        sample["said"] = fo.Classification(label=label)
        box = fo.Detection(label=label, bounding_box=[0.2, 0.2, 0.6, 0.6])
        sample["ground_truth"] = fo.Detections(detections=[box] if name != "coffee.png" else [])
        dataset.add_sample(sample)
    yield dataset
    dataset.delete()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def app(
    browser: Browser, stack: RunningStack, photos: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CurationApp]:
    with (
        serve_lone_app(stack, tmp_path_factory.mktemp("home")) as address,
        open_curation_app(browser, address, photos.name) as app,
    ):
        yield app


@pytest.fixture(scope="module")
def panel(app: CurationApp) -> Locator:
    return app.open_panel("agreement")


def count_pairs(dataset: Any, first: str, second: str) -> dict[tuple[str, str], int]:
    """Return how often two paths say what."""
    dataset.reload()
    pairs = list(zip(*dataset.values([first, second], unwind=True), strict=True))
    return {pair: pairs.count(pair) for pair in pairs}


def test_images_are_classified_and_a_cell_filters_the_grid(
    app: CurationApp, panel: Locator, photos: Any, clip: Path
) -> None:
    panel.get_by_text("No image was classified yet.").wait_for(timeout=LOOK_MS)
    form = app.open_form(panel, "Classify")
    app.fill(form, "Class names", ", ".join(CLASSES))
    app.choose(form, "Model", "another one")
    app.fill(form, "Name of the model", "open_clip:tiny")
    app.fill(form, "File of weights", str(clip))
    form.get_by_text("4 images get one of 3 classes").wait_for(timeout=LOOK_MS)
    assert app.submit(form, "Classify") == "zeroshot: 4 classified, 0 unchanged"

    pairs = count_pairs(photos, "zero_shot.label", "said.label")
    agreed = sum(count for (first, second), count in pairs.items() if first == second)
    panel.get_by_text(f"agree on {agreed} of 4").wait_for(timeout=LOOK_MS)
    app.click(panel.locator(".heatmaplayer text").filter(has_text=str(max(pairs.values()))).first)
    app.wait_for_count(f"{max(pairs.values())} sample" + ("s" if max(pairs.values()) > 1 else ""))
    panel.get_by_role("button", name="Show all").click()
    app.wait_for_count("4 samples")


def test_crops_are_classified_and_a_cell_shows_its_crops(app: CurationApp, panel: Locator, photos: Any) -> None:
    form = app.open_form(panel, "Classify")
    form.get_by_text("Crops of ground_truth", exact=True).click()
    app.fill(form, "Class names", ", ".join(CLASSES))
    # The model of the first time is offered again, by itself.
    form.get_by_text("3 crops of ground_truth get one of 3 classes").wait_for(timeout=LOOK_MS)
    assert app.submit(form, "Classify") == "zeroshot: 3 classified, 0 unchanged"

    app.choose(panel, "Compare with", "crops of ground_truth")
    panel.get_by_text("of 3").first.wait_for(timeout=LOOK_MS)
    root = "ground_truth.detections"
    pairs = count_pairs(photos, f"{root}.zero_shot", f"{root}.label")
    expect(panel.locator(".heatmaplayer text").filter(has_text="1")).to_have_count(len(pairs), timeout=LOOK_MS)
    app.click(panel.locator(".heatmaplayer text").filter(has_text="1").first)
    app.wait_for_count("1 patch")
