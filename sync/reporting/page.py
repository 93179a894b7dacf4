"""The report as one HTML file: text, tables and charts, with its style in it. Loads nothing when it is opened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sync.console.charts import draw_columns, draw_lines, draw_stacked_rows
from sync.models.results import Result
from sync.reporting.facts import KINDS, Facts, Learned
from sync.simulation.summary import Point, Saving, compute_savings, in_percent, to_curve, to_noise_curve

CLASSES_SHOWN: Final = 40
WEAKEST_SHOWN: Final = 15
RARE_SHOWN: Final = 10
MOST_SERIES: Final = 5
"""So many colours there are."""
MOST_BOXES: Final = 20


@dataclass(frozen=True, slots=True)
class SimulationPart:
    """One simulation as the page shows it; the charts are None where there is nothing to draw."""

    name: str
    strategies: tuple[str, ...]
    curve: Markup | None
    noise: Markup | None
    savings: tuple[Saving, ...]


def write_page(facts: Facts) -> str:
    """Return the report's HTML; the same facts give the same text."""
    environment = Environment(
        loader=PackageLoader("sync.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "percent": _percent, "seconds": _seconds, "share": in_percent}
    return environment.get_template(
        "report.html"
    ).render(
        facts=facts,
        style=Markup(files("sync.console").joinpath("static/console.css").read_text(encoding="utf-8")),  # noqa: S704  ours
        kinds=KINDS,
        classes_chart=_draw_classes(facts.classes),
        boxes_chart=_draw_boxes(facts.boxes),
        weeks_chart=_draw_weeks(facts.weeks),
        learned_chart=_draw_learned(facts.learned),
        learned_splits=_list_splits(_choose_comparable(facts.learned)),
        models=_newest(facts.results),
        simulations=[_to_part(name, points) for name, points in facts.simulations.items()],
        weakest=facts.feedback.classes[:WEAKEST_SHOWN],
        rare=sorted(facts.classes.items(), key=lambda entry: (entry[1], entry[0]))[:RARE_SHOWN],
    )


def _draw_classes(classes: Mapping[str, int]) -> Markup | None:
    most = sorted(classes.items(), key=lambda entry: (-entry[1], entry[0]))[:CLASSES_SHOWN]
    shown = [(name, count) for name, count in most if count]
    if not shown:
        return None
    return draw_stacked_rows(
        "Reviewed labels of each class", [name for name, _ in shown], {"labels": [count for _, count in shown]}
    )


def _draw_boxes(boxes: Mapping[int, int]) -> Markup | None:
    if not boxes:
        return None
    numbers = range(min(max(boxes), MOST_BOXES) + 1)
    counts = [boxes.get(number, 0) for number in numbers]
    counts[-1] += sum(count for number, count in boxes.items() if number > MOST_BOXES)
    names = [str(number) for number in numbers]
    names[-1] += " or more" if max(boxes) > MOST_BOXES else ""
    return draw_columns("Reviewed images by their number of labels", names, {"images": counts})


def _draw_weeks(weeks: Mapping[str, Mapping[str, int]]) -> Markup | None:
    if not weeks:
        return None
    series = {kind: [week[kind] for week in weeks.values()] for kind in KINDS}
    return draw_stacked_rows("What reviews did to labels, week by week", list(weeks), series)


def _draw_learned(learned: Sequence[Learned]) -> Markup | None:
    measured = _choose_comparable(learned)
    if len(measured) < 2:
        return None
    series = {
        split: [one.score if one.split == split else None for one in measured] for split in _list_splits(measured)
    }
    return draw_lines(
        f"{measured[0].metric} against labels learned from", [f"{one.labels:,}" for one in measured], series
    )


def _choose_comparable(learned: Sequence[Learned]) -> list[Learned]:
    """Return those with a score of the newest model's kind, by labels: scores of two kinds have no common scale."""
    known = [one for one in learned if one.score is not None]
    return sorted((one for one in known if one.metric == known[-1].metric), key=lambda one: one.labels)


def _list_splits(measured: Sequence[Learned]) -> list[str]:
    return [split for split in ("test", "val") if any(one.split == split for one in measured)]


def _newest(results: Sequence[Result]) -> list[Result]:
    """Return the newest result of each model on the test images of the version measured on last; the best first."""
    tested = [one for one in results if one.split == "test"]
    if not tested:
        return []
    of_version = [one for one in tested if one.version_id == tested[0].version_id]
    newest = {one.model_version: one for one in reversed(of_version)}
    return sorted(newest.values(), key=lambda one: (one.evaluation.metric, -(one.evaluation.score or 0.0)))


def _to_part(name: str, points: Sequence[Point]) -> SimulationPart:
    strategies = tuple(dict.fromkeys(point.strategy for point in points))[:MOST_SERIES]
    curves = {strategy: to_curve(points, strategy) for strategy in strategies}
    longest = max(curves.values(), key=len)
    heights = {
        strategy: [*_pad([point.score.mean for point in curve], len(longest))] for strategy, curve in curves.items()
    }
    labels = [f"{point.images:.0f}" for point in longest]
    noise = to_noise_curve(points)
    return SimulationPart(
        name,
        strategies,
        draw_lines(f"mAP 50-95 against labelled images, {name}", labels, heights) if longest else None,
        draw_lines(
            f"mAP 50-95 against spoiled boxes in percent, {name}",
            [f"{100 * rate:.0f} %" for rate, _ in noise],
            {"mAP": [score.mean for _, score in noise]},
        )
        if noise
        else None,
        tuple(compute_savings(points)),
    )


def _pad(values: Sequence[float], length: int) -> Iterator[float | None]:
    yield from values
    yield from [None] * (length - len(values))


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f} s"
