"""Charts of panels: one look for all, as Plotly takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

COLOUR: Final = "#5b8def"
STRIKING: Final = "#e4572e"
ROW_PX: Final = 24


def to_plot(data: dict[str, Any], layout: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a panel's ``plot``.

    The height stands in the layout alone: what is given to the plot itself is a percentage of the panel's.
    """
    return {"data": [data], "layout": layout, "config": {"displayModeBar": False}}


def lay_out(title: str, *, height: int) -> dict[str, Any]:
    """Return a layout of that height in pixels, without a legend."""
    return {
        "title": {"text": title, "font": {"size": 14}},
        "height": height,
        "margin": {"l": 60, "r": 20, "t": 40, "b": 45},
        "bargap": 0.15,
        "showlegend": False,
    }


def draw_rows(title: str, names: Sequence[str], counts: Sequence[int], colour: str = COLOUR) -> dict[str, Any]:
    """Return a chart with one bar a name, the first on top."""
    bars: dict[str, Any] = {"type": "bar", "orientation": "h", "x": list(counts), "y": list(names)}
    # Left to itself, Plotly turns numbers that are wider than their bar.
    bars |= {"text": [count or "" for count in counts], "textangle": 0, "marker": {"color": colour}}
    layout = lay_out(title, height=90 + ROW_PX * len(names))
    layout["yaxis"] = {"autorange": "reversed", "automargin": True, "type": "category"}
    return to_plot(bars, layout)
