"""Label Studio's labelling editor, driven as a person drives it."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Locator, Page, Response

READY = """() => {
  const shown = window.Htx && Htx.annotationStore.selected;
  return shown && shown.regions.length > 0 && shown.regions[0].object.stageWidth > 100;
}"""
REGIONS = """() => Htx.annotationStore.selected.regions.map(region => ({
  id: region.cleanId, x: region.x, y: region.y, width: region.width, height: region.height, label: region.labels[0],
}))"""
STAGE = """() => {
  const image = Htx.annotationStore.selected.regions[0].object;
  return [image.stageWidth, image.stageHeight];
}"""


class Editor:
    """The open task."""

    def __init__(self, page: Page) -> None:
        self._page = page
        page.wait_for_function(READY)
        self._width, self._height = page.evaluate(STAGE)

    @property
    def regions(self) -> list[dict[str, Any]]:
        """What is drawn now, positions in percent of the image."""
        found: list[dict[str, Any]] = self._page.evaluate(REGIONS)
        return found

    @property
    def _rows(self) -> Locator:
        return self._page.locator(".lsf-outliner-item")

    def select(self, region_id: str) -> None:
        """Pick a region in the list of regions."""
        self.unselect()
        number = [region["id"] for region in self.regions].index(region_id)
        self._rows.nth(number).click()
        self._page.wait_for_function(_is_selected(region_id))

    def unselect(self) -> None:
        """Pick nothing."""
        self._page.keyboard.press("Escape")

    def move(self, region_id: str, across_px: float, down_px: float) -> None:
        """Drag a region by its middle."""
        self.select(region_id)
        region = next(region for region in self.regions if region["id"] == region_id)
        middle = region["x"] + region["width"] / 2, region["y"] + region["height"] / 2
        start = self._to_point(*middle)
        self._drag(start, (start[0] + across_px, start[1] + down_px))
        self.unselect()

    def relabel(self, region_id: str, hotkey: str) -> None:
        """Give a region another class by the class's key."""
        self.select(region_id)
        self._page.keyboard.press(hotkey)
        self.unselect()

    def delete(self, region_id: str) -> None:
        """Delete a region by the keyboard."""
        count = len(self.regions)
        self.select(region_id)
        self._page.keyboard.press("Backspace")
        self._page.wait_for_function(f"() => Htx.annotationStore.selected.regions.length === {count - 1}")

    def draw(self, hotkey: str, left: float, top: float, right: float, bottom: float) -> None:
        """Draw a box of a class between two corners given in percent of the image."""
        self.unselect()
        count = len(self.regions)
        self._page.keyboard.press(hotkey)
        self._drag(self._to_point(left, top), self._to_point(right, bottom))
        self._page.wait_for_function(f"() => Htx.annotationStore.selected.regions.length === {count + 1}")
        self.unselect()

    def submit(self) -> Response:
        """Press Submit and return Label Studio's answer."""
        with self._page.expect_response(
            lambda answer: "/annotations" in answer.url and answer.request.method == "POST"
        ) as answer:
            self._page.click("[data-testid=bottombar-submit-button]")
        return answer.value

    def _to_point(self, x_percent: float, y_percent: float) -> tuple[float, float]:
        canvas = self._page.locator(".konvajs-content canvas").first.bounding_box()
        assert canvas is not None
        return canvas["x"] + x_percent / 100 * self._width, canvas["y"] + y_percent / 100 * self._height

    def _drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        mouse = self._page.mouse
        mouse.move(*start)
        mouse.down()
        # The editor takes a jump for a click: a hand moves through points between.
        mouse.move((start[0] * 2 + end[0]) / 3, (start[1] * 2 + end[1]) / 3, steps=4)
        mouse.move(*end, steps=6)
        mouse.up()


def _is_selected(region_id: str) -> str:
    return f"() => Htx.annotationStore.selected.regions.some(one => one.inSelection && one.cleanId === {region_id!r})"
