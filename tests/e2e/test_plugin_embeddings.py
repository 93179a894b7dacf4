"""A curator in the FiftyOne App computes embeddings, groups, and a map, searches, and clicks on what is shown."""

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
    with serve_lone_app(stack, tmp_path_factory.mktemp("home")) as address:
        yield address


@pytest.fixture(scope="module")
def app(browser: Browser, address: str, photos: Any) -> Iterator[CurationApp]:
    with open_curation_app(browser, address, photos.name) as app:
        yield app


@pytest.fixture(scope="module")
def panel(app: CurationApp) -> Locator:
    return app.open_panel("clusters")


def test_groups_are_made_in_the_panel_and_a_click_filters_the_grid(
    app: CurationApp, panel: Locator, photos: Any
) -> None:
    panel.get_by_text("No embeddings yet.").wait_for(timeout=LOOK_MS)

    count = len(photos)
    told = app.submit(app.open_form(panel, "Compute"), "Compute")
    assert told == f"embed: {count} embedded, 0 unchanged"
    assert app.submit(app.open_form(panel, "Group"), "Group") == f"cluster: {count} grouped, 0 unchanged"
    photos.reload()
    sizes = sorted(photos.count_values("cluster").values(), reverse=True)
    bars = panel.locator("g.bars path")
    expect(bars).to_have_count(len(sizes), timeout=LOOK_MS)
    app.click(bars.first)
    app.wait_for_count(f"{sizes[0]} sample" + ("s" if sizes[0] > 1 else ""))
    panel.get_by_role("button", name="Show all").click()
    app.wait_for_count(f"{count} samples")


def test_the_panels_parts_stand_off_its_edge(panel: Locator) -> None:
    inner, outer = panel.get_by_role("button", name="Compute", exact=True).bounding_box(), panel.bounding_box()
    assert inner is not None
    assert outer is not None
    assert inner["x"] - outer["x"] >= 12


def test_a_text_is_searched_once_a_clip_has_embedded(
    app: CurationApp, panel: Locator, photos: Any, tmp_path: Path
) -> None:
    form = app.open_form(panel, "Search by text")
    form.get_by_text("There are no embeddings of a model that reads text").first.wait_for(timeout=LOOK_MS)
    expect(form.get_by_role("button", name="Search", exact=True)).to_be_disabled()
    form.get_by_role("button", name="Cancel").click()

    form = app.open_form(panel, "Compute")
    app.choose(form, "Model", "another one")
    app.fill(form, "Name of the model", "open_clip:tiny")
    app.fill(form, "File of weights", str(write_tiny_clip(tmp_path / "clip")))
    form.get_by_text(f"{len(photos)} vectors will be computed").wait_for(timeout=LOOK_MS)
    assert app.submit(form, "Compute") == f"embed: {len(photos)} embedded, 0 unchanged"

    form = app.open_form(panel, "Search by text")
    app.fill(form, "Text", "a bus in the city")
    app.fill(form, "How many", "3")
    app.press(form, "Search")
    app.wait_for_count("3 samples")
    panel.get_by_role("button", name="Show all").click()
    app.wait_for_count(f"{len(photos)} samples")


def test_a_map_is_made_for_the_apps_own_panel(app: CurationApp, panel: Locator, photos: Any) -> None:
    form = app.open_form(panel, "Visualize")
    form.get_by_text("PCA").first.click()
    assert app.submit(form, "Compute") == f"visualize: {len(photos)} placed, 0 unchanged"
    app.page.locator("[data-cy=new-panel-btn]").last.click()
    app.page.locator("[data-cy=new-panel-option-Embeddings]").click()
    # Which of the two models' vectors: the newest.
    app.page.get_by_text("pca_tiny").first.click(timeout=LOOK_MS)
    app.page.get_by_text(f"{len(photos)} points").wait_for(timeout=LOOK_MS)
