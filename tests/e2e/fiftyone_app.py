"""The FiftyOne App, driven as a curator drives it: samples are picked in the grid, buttons pressed, reports read."""

from __future__ import annotations

import io

from PIL import Image
from playwright.sync_api import Locator, Page, expect

PLUGIN = "@labelloop/review"
STILL_MS = 400
FORM_TIMEOUT_MS = 30_000
RESULT_TIMEOUT_MS = 60_000
# High enough for every photo of the tests: the grid draws no tile that is out of sight.
WINDOW = {"width": 1500, "height": 1500}


class App:
    """A dataset's grid in one browser window."""

    def __init__(self, page: Page, address: str, dataset: str) -> None:
        self._page = page
        page.set_viewport_size(WINDOW)  # type: ignore[arg-type]  # a literal of two keys is what it takes
        # An advertisement comes when it likes, over whatever is there.
        advertisement = page.get_by_role("button", name="Dismiss")
        page.add_locator_handler(advertisement, lambda button: button.click())
        page.goto(f"{address}/datasets/{dataset}")
        self._wait_until_drawn()

    @property
    def sample_count(self) -> int:
        """How many samples the App says there are in the view."""
        return int(self._page.locator("[data-cy=entry-counts]").inner_text().split()[0].replace(",", ""))

    @property
    def selected_count(self) -> int:
        """How many samples are selected, as the grid's button says."""
        return int(self._selection.inner_text()) if self._selection.count() else 0

    def select(self, *numbers: int) -> None:
        """Tick the samples at these places of the grid, the first is 0, and no others."""
        if self.selected_count:
            # The server keeps a selection: it is there in the next window too.
            self._selection.click()
            self._page.get_by_text("Clear selected samples").click()
            self._selection.wait_for(state="detached")
        for number in numbers:
            tile = self._tiles.nth(number)
            tile.hover()
            tile.locator('[data-cy="looker-checkbox-"]').first.click()
        expect(self._selection).to_have_text(str(len(numbers)))

    def toggle_field(self, name: str) -> None:
        """Show or hide a field by its box in the sidebar."""
        self._page.locator(f"[data-cy=checkbox-{name}]").click()

    def limit(self, count: int) -> None:
        """Make a view of the first samples, in the bar of views."""
        self._page.locator("[data-cy=view-stage-container]").click()
        for word in ("Limit", str(count)):
            self._page.keyboard.type(word)
            self._page.keyboard.press("Enter")
        self._page.locator("[data-cy=entry-counts]").get_by_text(str(count), exact=True).wait_for()

    def reload(self) -> None:
        """Load the page again."""
        self._page.reload()
        self._wait_until_drawn()

    def read_tiles(self) -> list[Image.Image]:
        """Return the pixels of every tile, in the order of the grid, when nothing moves any more."""
        self._page.mouse.move(WINDOW["width"] - 20, WINDOW["height"] - 20)
        last = self._page.screenshot()
        while True:
            self._page.wait_for_timeout(STILL_MS)
            now = self._page.screenshot()
            if now == last:
                break
            last = now
        with Image.open(io.BytesIO(now)) as picture:
            return [picture.convert("RGB").crop(place) for place in self._read_places()]

    def open_form(self, operator: str, *, choose: str | None = None) -> Form:
        """Press an operator's button and return the form that comes, with a choice made where it asks for one."""
        self._press(operator)
        return Form(self._page, choose)

    def run(self, operator: str) -> Result:
        """Press the button of an operator that asks nothing and return what it shows."""
        self._press(operator)
        return Result(self._page, "table")

    @property
    def _selection(self) -> Locator:
        return self._page.locator("[data-cy=action-manage-selected]")

    @property
    def _tiles(self) -> Locator:
        return self._page.locator("[data-cy=looker]")

    def _press(self, operator: str) -> None:
        self._page.locator(f'[data-item-id="{PLUGIN}/{operator}"]').click()

    def _read_places(self) -> list[tuple[int, int, int, int]]:
        places = [tile.bounding_box() for tile in self._tiles.all()]
        return [
            (
                round(place["x"]),
                round(place["y"]),
                round(place["x"] + place["width"]),
                round(place["y"] + place["height"]),
            )
            for place in places
            if place is not None
        ]

    def _wait_until_drawn(self) -> None:
        """Wait for the plugin's buttons, and for a canvas in as many tiles as there are samples; none moves now."""
        self._page.locator(f'[data-item-id^="{PLUGIN}/"]').first.wait_for()
        self._tiles.first.wait_for()
        last: list[tuple[int, int, int, int]] = []
        while True:
            self._page.wait_for_timeout(STILL_MS)
            places = self._read_places()
            if places == last and self._tiles.locator("canvas").count() == len(places) == self.sample_count:
                return
            last = places


class Form:
    """The form an operator shows before it runs, when it can be submitted."""

    def __init__(self, page: Page, choose: str | None = None) -> None:
        self._page = page
        self._modal = page.locator("[data-cy=operators-prompt-modal]")
        if choose is not None:
            self._modal.get_by_text(choose, exact=True).click(timeout=FORM_TIMEOUT_MS)
        expect(self._modal.get_by_role("button").last).to_be_enabled(timeout=FORM_TIMEOUT_MS)

    @property
    def lines(self) -> list[str]:
        """What it says, from top to bottom, without its two buttons."""
        return _read_lines(self._modal)[:-2]

    @property
    def chosen(self) -> str:
        """The choice that is made."""
        return self._modal.locator("label", has=self._page.locator("input:checked")).inner_text()

    def fill(self, label: str, text: str) -> None:
        """Type into the field of that name."""
        # The App ties no label to its field: it is the next one on the page.
        self._modal.get_by_text(label, exact=True).locator("xpath=following::input[1]").fill(text)

    def tick(self, label: str) -> None:
        """Tick the box of that name."""
        self._modal.get_by_label(label).check()

    def submit(self, button: str) -> Result:
        """Press its button and return what comes of it."""
        self._modal.get_by_role("button", name=button, exact=True).click()
        return Result(self._page, "[role=alert]")


class Result:
    """What an operator shows when it is done."""

    def __init__(self, page: Page, sign: str) -> None:
        """Wait for it; ``sign`` selects what is there at the end, and not while it works."""
        self._modal = page.locator("[data-cy=operators-prompt-view-modal]")
        self._modal.locator(sign).first.wait_for(timeout=RESULT_TIMEOUT_MS)

    @property
    def lines(self) -> list[str]:
        """What it says, from top to bottom, without its button; the cells of a table's row are parted by tabs."""
        return _read_lines(self._modal)[:-1]

    @property
    def links(self) -> list[str]:
        """Where its links lead."""
        return [link.get_attribute("href") or "" for link in self._modal.locator("a").all()]

    def close(self) -> None:
        """Press its button."""
        self._modal.get_by_role("button", name="Done").click()
        self._modal.wait_for(state="detached")


def _read_lines(modal: Locator) -> list[str]:
    return [line.strip() for line in modal.inner_text().splitlines() if line.strip()]
