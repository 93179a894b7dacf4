"""The curves of a simulation as SVG files, by matplotlib: against images, boxes, and spoiled labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sync.simulation.summary import CurvePoint, Interval, Point, to_curve, to_noise_curve

INCHES: Final = (7.0, 4.2)
SALT: Final = "labelloop"
MARKS: Final = "osD^vPX*"

Curves = Mapping[str, Sequence[CurvePoint]]


def write_plots(points: Sequence[Point], folder: Path, title: str) -> list[Path]:
    """Draw what there is and return the files; the same points give the same bytes."""
    curves = {name: to_curve(points, name) for name in dict.fromkeys(point.strategy for point in points)}
    drawn = [
        _write(folder / "images.svg", lambda axes: _fill_curves(axes, curves, "labelled images", _images), title),
        _write(folder / "boxes.svg", lambda axes: _fill_curves(axes, curves, "labelled boxes", _boxes), title),
    ]
    noise = to_noise_curve(points)
    if noise:
        drawn.append(_write(folder / "noise.svg", lambda axes: _fill_noise(axes, noise), title))
    return drawn


def _images(point: CurvePoint) -> float:
    return point.images


def _boxes(point: CurvePoint) -> float:
    return point.boxes


def _fill_curves(axes: Any, curves: Curves, x_name: str, x_of: Callable[[CurvePoint], float]) -> None:
    for (name, curve), mark in zip(curves.items(), MARKS * len(curves), strict=False):
        _draw(axes, [x_of(point) for point in curve], [point.score for point in curve], mark, name)
    axes.set_xlabel(x_name)
    axes.legend()


def _fill_noise(axes: Any, noise: Sequence[tuple[float, Interval]]) -> None:
    _draw(axes, [100 * rate for rate, _ in noise], [score for _, score in noise], MARKS[0], None)
    axes.set_xlabel("spoiled boxes, in percent")


def _draw(axes: Any, xs: Sequence[float], scores: Sequence[Interval], mark: str, name: str | None) -> None:
    down = [0.0 if score.low is None else score.mean - score.low for score in scores]
    up = [0.0 if score.high is None else score.high - score.mean for score in scores]
    axes.errorbar(xs, [score.mean for score in scores], [down, up], marker=mark, capsize=3, label=name)


def _write(path: Path, fill: Callable[[Any], None], title: str) -> Path:
    import matplotlib as mpl  # seconds, and only for this
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": SALT}):
        figure = Figure(figsize=INCHES, layout="constrained")
        axes = figure.subplots()
        fill(axes)
        axes.set_ylabel("mAP 50-95 on the test images")
        axes.set_title(title, parse_math=False)
        axes.grid(alpha=0.3)
        figure.savefig(path, format="svg", metadata={"Date": None})
    return path
