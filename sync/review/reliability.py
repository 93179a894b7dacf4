"""The reliability plot: the share of boxes that were right, by the probability the model gave them, as SVG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Final

from ml_backend.models.calibration_fit import Bin

SIZE_INCHES: Final = (6.2, 5.0)
SMALLEST_DOT: Final = 12.0
LARGEST_DOT: Final = 90.0


def draw_reliability(before: Sequence[Bin], after: Sequence[Bin], *, title: str) -> bytes:
    """Return the plot; on the diagonal the model is right as often as it says. The same bins give the same bytes."""
    import matplotlib as mpl  # half a second, and only for this
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#999999", linestyle="--", linewidth=1, label="right as often as it says")
    for name, bins, colour in (("before", before, "#d95f02"), ("after, on images held back", after, "#1b7837")):
        ordered = sorted(bins, key=lambda one: one.mean_probability)
        said, right = [one.mean_probability for one in ordered], [one.right_share for one in ordered]
        most = max((one.count for one in ordered), default=1)
        # The larger the dot, the more boxes speak for it.
        sizes = [SMALLEST_DOT + (LARGEST_DOT - SMALLEST_DOT) * one.count / most for one in ordered]
        axes.plot(said, right, color=colour, linewidth=1.2)
        axes.scatter(said, right, s=sizes, color=colour, label=name, zorder=3)
    axes.set(title=title, xlabel="probability the model gave", ylabel="share that was right")
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.grid(color="#dddddd")
    axes.legend(loc="upper left", frameon=False)
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "labelloop"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
