"""Charts: the right bars at the right height, no style or script in them, the same bytes for the same data."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest

from sync.console import charts
from sync.console.charts import draw_columns, draw_lines, draw_stacked_rows


def read_charts(text: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(f"<both>{text}</both>"))


def read_bars(chart: ElementTree.Element) -> dict[str, tuple[float, float, float, float]]:
    """Return left, top, right and bottom of each bar by its title."""
    bars = {}
    for bar in chart.iter("g"):
        if bar.get("class", "").startswith("bar"):
            numbers = [float(number) for number in re.findall(r"[\d.]+", bar.findall("path")[0].attrib["d"])]
            xs, ys = numbers[::2], numbers[1::2]
            bars[bar.findtext("title") or ""] = (min(xs), min(ys), max(xs), max(ys))
    return bars


def test_each_column_is_as_high_as_its_value() -> None:
    wide, narrow = read_charts(draw_columns("Days", ["mon", "tue"], {"sent": [10, 20], "reviewed": [None, 5]}))
    bars = read_bars(wide)
    heights = {title: bottom - top for title, (_, top, _, bottom) in bars.items()}

    assert list(bars) == ["mon: sent 10", "tue: sent 20", "tue: reviewed 5"]
    assert heights["tue: sent 20"] == pytest.approx(2 * heights["mon: sent 10"], rel=1e-3)
    assert heights["tue: reviewed 5"] == pytest.approx(heights["mon: sent 10"] / 2, rel=1e-3)
    assert bars["tue: sent 20"][2] == pytest.approx(bars["tue: reviewed 5"][0], abs=0.01)
    assert (wide.get("viewBox"), narrow.get("viewBox")) == ("0 0 900 230", "0 0 340 230")
    assert list(read_bars(narrow)) == list(bars)


def test_the_parts_of_a_row_follow_one_another_and_the_first_row_is_at_the_top() -> None:
    wide, _ = read_charts(draw_stacked_rows("Classes", ["car", "cat"], {"right": [6, 1], "wrong": [2, 0]}))
    bars = read_bars(wide)

    assert bars["car: right 6"][2] == pytest.approx(bars["car: wrong 2"][0], abs=0.01)
    assert bars["car: right 6"][1] < bars["cat: right 1"][1]


@pytest.mark.parametrize("highest", [4.3, 0.97, 21.0, 1.0])
def test_no_point_of_a_line_lies_above_the_highest_tick(highest: float) -> None:
    for chart in read_charts(draw_lines("Loss", ["1", "2", "3"], {"loss": [highest, highest / 2, None]})):
        line = next(one for one in chart.iter("g") if one.get("class", "").startswith("line"))
        guides = [float(one.attrib["d"].split()[2]) for one in chart.iterfind(".//g[@class='guide']/path")]
        assert min(guides) <= float(line.findall("path")[0].attrib["d"].split()[2]) + 0.01


@pytest.mark.parametrize("draw", [draw_columns, draw_stacked_rows])
@pytest.mark.parametrize("labels", [[], ["one"], [f"a class with a long name {number}" for number in range(40)]])
def test_none_one_and_many_can_be_drawn(draw: object, labels: list[str]) -> None:
    drawn = draw("Name", labels, {"a": [1.0] * len(labels), "b": [0.0] * len(labels)})  # type: ignore[operator]  # both

    assert [chart.tag for chart in read_charts(drawn)] == ["svg", "svg"]


def test_a_strict_page_may_hold_it_and_names_do_no_harm() -> None:
    drawn = draw_stacked_rows("<b>", ["$x$ </svg><script>", "猫", "_^{"], {"a&b": [1, 2, 3]})

    assert not re.search(r"<style|<script|style=| id=|url\(|on\w+=", drawn)
    assert "$x$ &lt;/svg" in drawn
    assert 'aria-label="&lt;b&gt;"' in drawn


def test_the_same_data_give_the_same_bytes() -> None:
    first = draw_columns("Days", ["mon"], {"sent": [3]})
    charts._draw.cache_clear()

    assert draw_columns("Days", ["mon"], {"sent": [3]}) == first
