"""Charts as SVG that stands in the page itself: no script, no style of its own, so that console.css colours them.

matplotlib draws them. Each is drawn twice, wide and narrow, and the style sheet shows the one that fits: shrunk text
cannot be read. What a chart shows also stands in a table; to a screen reader the chart is one picture with a name.
The same data give the same bytes.
"""

from __future__ import annotations

import io
import math
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from xml.etree.ElementTree import Element, tostring

from defusedxml.ElementTree import fromstring
from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDE_PX: Final = 900
NARROW_PX: Final = 340
HEIGHT_PX: Final = 230
ROW_PX: Final = 24
FOOT_PX: Final = 34
LABEL_PX: Final = 56
# Matplotlib counts in points, of which an SVG has as many as pixels when an inch has 72 of them.
PX_PER_INCH: Final = 72
FONT_PX: Final = 12
SVG: Final = "{http://www.w3.org/2000/svg}"
# Matplotlib's settings are the process's own: one chart at a time.
_LOCK: Final = threading.Lock()

Values = Sequence[float | None]
Series = tuple[tuple[str, tuple[float | None, ...]], ...]


def draw_columns(name: str, labels: Sequence[str], series: Mapping[str, Values]) -> Markup:
    """Return one column a label and series; None draws nothing. ``name`` tells what the picture shows."""
    return _draw(_fill_columns, name, tuple(labels), _freeze(series), HEIGHT_PX)


def draw_lines(name: str, labels: Sequence[str], series: Mapping[str, Values]) -> Markup:
    """Return one line a series through its values, one a label; None leaves a gap. The scale begins at 0."""
    return _draw(_fill_lines, name, tuple(labels), _freeze(series), HEIGHT_PX)


def draw_stacked_rows(name: str, labels: Sequence[str], series: Mapping[str, Values]) -> Markup:
    """Return one bar a label, the series one after the other in it, the first label at the top."""
    return _draw(_fill_rows, name, tuple(labels), _freeze(series), FOOT_PX + ROW_PX * len(labels))


def _freeze(series: Mapping[str, Values]) -> Series:
    return tuple((title, tuple(values)) for title, values in series.items())


def _fill_columns(axes: Axes, labels: Sequence[str], series: Series, width_px: int) -> None:
    share = 0.8 / max(len(series), 1)
    for number, (_, values) in enumerate(series):
        for place, value in enumerate(values):
            if value is not None:
                left = place - 0.4 + number * share
                axes.bar(left, value, share, align="edge", gid=f"bar-{number}-{place}")
    _label_places(axes, labels, width_px)
    ticks = _ticks(max((value or 0 for _, values in series for value in values), default=0))
    axes.set_yticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.set_xlim(-0.6, max(len(labels), 1) - 0.4)


def _label_places(axes: Axes, labels: Sequence[str], width_px: int) -> None:
    step = max(-(-len(labels) * LABEL_PX // width_px), 1)
    # The last label is always there.
    places = [place for place in range(len(labels)) if (len(labels) - 1 - place) % step == 0]
    axes.set_xticks(places, [labels[place] for place in places], parse_math=False)


def _to_line(heights: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return places and heights of a line; a value between gaps has none to lie on, and a dash stands for it.

    >>> _to_line([0.2, math.nan, 0.3])
    ([-0.05, 0.05, 1, 1.95, 2.05], [0.2, 0.2, nan, 0.3, 0.3])
    """
    places, line = list[float](), list[float]()
    for place, height in enumerate(heights):
        beside = (*heights[max(place - 1, 0) : place], *heights[place + 1 : place + 2])
        dash = not math.isnan(height) and all(map(math.isnan, beside))
        places += [place - 0.05, place + 0.05] if dash else [place]
        line += [height, height] if dash else [height]
    return places, line


def _fill_lines(axes: Axes, labels: Sequence[str], series: Series, width_px: int) -> None:
    from matplotlib.ticker import MaxNLocator  # seconds, and only for this

    for number, (_, values) in enumerate(series):
        places, heights = _to_line([math.nan if value is None else value for value in values])
        axes.plot(places, heights, gid=f"line-{number}")
    _label_places(axes, labels, width_px)
    known = [value for _, values in series for value in values if value is not None and math.isfinite(value)]
    ticks = MaxNLocator(4).tick_values(0, max(known, default=0) or 1)
    axes.set_yticks(ticks)
    # A line at its highest is not cut in half.
    axes.set_ylim(0, 1.02 * ticks[-1])
    axes.set_xlim(-0.4, max(len(labels), 1) - 0.6)


def _fill_rows(axes: Axes, labels: Sequence[str], series: Series, width_px: int) -> None:
    ends = [0.0] * len(labels)
    for number, (_, values) in enumerate(series):
        for place, value in enumerate(values):
            axes.barh(place, value or 0, 0.8, left=ends[place], gid=f"bar-{number}-{place}")
            ends[place] += value or 0
    length = 28 if width_px == WIDE_PX else 14
    axes.set_yticks(range(len(labels)), [_cut(label, length) for label in labels], parse_math=False)
    ticks = _ticks(max(ends, default=0))
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.set_ylim(max(len(labels), 1) - 0.4, -0.6)


def _ticks(highest: float) -> list[int]:
    """Return whole numbers from 0 to at least the highest, four or five of them, round ones.

    >>> _ticks(3), _ticks(0), _ticks(37), _ticks(1204)
    ([0, 1, 2, 3], [0, 1], [0, 10, 20, 30, 40], [0, 500, 1000, 1500])
    """
    size = 1
    while True:
        for step in (size, 2 * size, 5 * size):
            if highest <= 4 * step:
                return list(range(0, max(math.ceil(highest / step), 1) * step + 1, step))
        size *= 10


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


@lru_cache(maxsize=64)
def _draw(fill: Callable[..., None], name: str, labels: tuple[str, ...], series: Series, height_px: int) -> Markup:
    drawn = []
    for kind, width_px in (("wide", WIDE_PX), ("narrow", NARROW_PX)):
        root = fromstring(_render(fill, labels, series, width_px, height_px))
        _clean(root, labels, series)
        root.attrib.update({"class": f"chart chart-{kind}", "role": "img", "aria-label": name, "focusable": "false"})
        drawn.append(tostring(root, encoding="unicode"))
    # Made of numbers and of names which the tree has escaped.
    return Markup("".join(drawn))  # noqa: S704  as said above


def _render(fill: Callable[..., None], labels: Sequence[str], series: Series, width_px: int, height_px: int) -> bytes:
    import matplotlib as mpl  # seconds, and only for this
    from matplotlib.figure import Figure

    written = io.BytesIO()
    # Text stays text, and what would be drawn by chance is made from a word.
    drawn_as = mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "labelloop", "font.size": FONT_PX})
    with _LOCK, drawn_as, warnings.catch_warnings():
        # It measures with a font that lacks some scripts; the browser draws with one that has them.
        warnings.simplefilter("ignore")
        size = (width_px / PX_PER_INCH, height_px / PX_PER_INCH)
        figure = Figure(figsize=size, dpi=PX_PER_INCH, layout="constrained")
        axes = figure.subplots()
        fill(axes, labels, series, width_px)
        figure.patch.set_visible(False)
        axes.patch.set_visible(False)
        axes.tick_params(left=False, bottom=False)
        for side, spine in axes.spines.items():
            spine.set_visible(side == ("left" if fill is _fill_rows else "bottom"))
            spine.set_gid("axis")
        axes.grid(axis="x" if fill is _fill_rows else "y", gid="guide")
        axes.set_axisbelow(True)
        figure.savefig(written, format="svg", metadata={"Date": None})
    return written.getvalue()


def _clean(root: Element, labels: Sequence[str], series: Series) -> None:
    """Leave shapes, text and places; what a strict page refuses goes, and each bar says what it stands for."""
    root.attrib = {"viewBox": root.attrib["viewBox"]}
    for parent in root.iter():
        for child in list(parent):
            if child.tag in (f"{SVG}defs", f"{SVG}metadata"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(SVG)
        element.text, element.tail = (element.text or "").strip(), None
        kind, *numbers = element.attrib.pop("id", "").split("-")
        if kind == "bar" and len(numbers) == 2:
            number, place = map(int, numbers)
            title, values = series[number]
            element.set("class", f"bar color-{number}")
            said = Element(f"{SVG}title")
            said.text = f"{labels[place]}: {title} {values[place] or 0:g}"
            element.insert(0, said)
        elif kind == "line" and len(numbers) == 1:
            element.set("class", f"line line-{numbers[0]}")
            said = Element(f"{SVG}title")
            said.text = series[int(numbers[0])][0]
            element.insert(0, said)
        elif kind in ("axis", "guide"):
            element.set("class", kind)
        style = _read_style(element.attrib.pop("style", ""))
        element.attrib.pop("clip-path", None)
        element.attrib.update({key: value for key, value in style.items() if key == "text-anchor"})


def _read_style(text: str) -> dict[str, Any]:
    parts = (part.partition(":") for part in text.split(";") if ":" in part)
    return {name.strip(): value.strip() for name, _, value in parts}
