"""The panel «Image quality» in the FiftyOne App, on a dataset of its own, without the console."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.conftest import RunningStack
from tests.e2e.plugin_panels import LOOK_MS, CurationApp, make_pictures, open_curation_app

PROPOSED = {"bus": "keep", "blurred": "trash", "black": "trash", "astronaut": "keep"}


@pytest.fixture
def photos(stack: RunningStack, tmp_path: Path) -> Iterator[Any]:
    """Two photos of the demo, one of them blurred as well, and a black one."""
    with stack.open():
        import fiftyone as fo
    pictures = make_pictures(stack)
    dataset = fo.Dataset("quality-in-the-app", overwrite=True, persistent=True)
    for name, picture in pictures.items():
        picture.save(tmp_path / f"{name}.png")
        dataset.add_sample(fo.Sample(filepath=str(tmp_path / f"{name}.png")))
    yield dataset
    dataset.delete()


@pytest.fixture
def app(browser: Browser, stack: RunningStack, photos: Any) -> Iterator[CurationApp]:
    with open_curation_app(browser, stack.addresses.app, photos.name) as app:
        yield app


def read_tags(dataset: Any) -> dict[str, list[str]]:
    """Return the tags of each photo that has some."""
    dataset.reload()
    values = dataset.values(["filepath", "tags"])
    return {Path(path).stem: sorted(tags) for path, tags in zip(*values, strict=True) if tags}


def test_a_curator_measures_looks_tags_and_takes_it_back(app: CurationApp, photos: Any) -> None:
    panel = app.open_panel("quality")
    panel.get_by_text("Nothing is measured yet.").wait_for(timeout=LOOK_MS)
    app.submit(app.open_form(panel, "Check image quality"), "Measure")
    panel.get_by_text("4 images measured").wait_for(timeout=LOOK_MS)
    photos.reload()
    assert dict(zip(PROPOSED, photos.values("quality_proposal"), strict=True)) == PROPOSED

    bars = panel.locator(".js-plotly-plot").first.locator(".bars path")
    expect(bars).to_have_count(20, timeout=LOOK_MS)
    counts, _, _ = photos.histogram_values("quality_blurry", bins=20, range=(0, 1.0001))
    highest = max(number for number, count in enumerate(counts) if count)
    bars.nth(highest).click(force=True)
    app.wait_for_count(f"{counts[highest]} sample" + ("s" if counts[highest] > 1 else ""))

    panel.get_by_role("button", name="This check is no reason for trash").click()
    panel.get_by_text("1 proposed as trash").wait_for(timeout=LOOK_MS)
    panel.get_by_role("button", name="Make this check a reason for trash").click()
    panel.get_by_text("2 proposed as trash").wait_for(timeout=LOOK_MS)
    panel.get_by_role("button", name="Show proposed trash", exact=True).click()
    app.wait_for_count("2 samples")
    panel.get_by_role("button", name="Show all", exact=True).click()
    app.wait_for_count("4 samples")
    app.submit(app.open_form(panel, "Tag trash"), "Tag")
    assert read_tags(photos) == {"blurred": ["trash"], "black": ["trash"]}
    panel.get_by_text("2 tagged trash").wait_for(timeout=LOOK_MS)
    app.submit(app.open_form(panel, "Take back"), "Take back")
    assert read_tags(photos) == {}
