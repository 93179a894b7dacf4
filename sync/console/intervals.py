"""The gate's intervals as a drawing: a row for the whole and for each class, from which to which the change may be.

Numbers for the template, which draws them as SVG; the table beside it says the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sync.models.gate import Comparison

CLASSES_DRAWN: Final = 12
SMALLEST_SPAN: Final = 0.05
ROW_PX: Final = 28
RIGHT_PX: Final = 22
HEAD_PX: Final = 24


@dataclass(frozen=True, slots=True)
class Frame:
    """How much room there is: all of it, that of the names, and how long a name may be."""

    kind: str
    width_px: int
    left_px: int
    name_length: int


FRAMES: Final = (Frame("wide", 900, 220, 28), Frame("narrow", 340, 120, 14))
"""Drawn twice, as the charts are, and the style sheet shows the one that fits: shrunk text cannot be read."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the drawing, in its pixels; ``told`` says it in words."""

    name: str
    told: str
    y: float
    low: float
    high: float
    middle: float
    kind: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """All lines, with where nothing changes (``zero``) and marks of the scale; ``kind`` is wide or narrow."""

    kind: str
    width: int
    height: int
    zero: float
    ends: tuple[tuple[float, str], ...]
    rows: tuple[Row, ...]


def draw_intervals(comparison: Comparison) -> tuple[Drawing, ...]:
    """Return the drawings of a comparison, wide and narrow; none where nothing could be compared."""
    if comparison.difference is None or comparison.low is None or comparison.high is None:
        return ()
    spans = [_Span("all classes", "", comparison.low, comparison.difference, comparison.high)]
    known = [one for one in comparison.classes if one.change is not None]
    # What fell most is what one has to see.
    for one in sorted(known, key=lambda one: one.change or 0.0)[:CLASSES_DRAWN]:
        if one.low is not None and one.high is not None and one.change is not None:
            spans.append(_Span(one.name, f" ({one.examples})", one.low, one.change, one.high))
    return tuple(_draw(spans, frame) for frame in FRAMES)


@dataclass(frozen=True, slots=True)
class _Span:
    name: str
    end: str
    low: float
    middle: float
    high: float

    @property
    def kind(self) -> str:
        return "better" if self.low > 0 else "worse" if self.high < 0 else "open"


def _draw(spans: Sequence[_Span], frame: Frame) -> Drawing:
    reach = max(SMALLEST_SPAN, *(abs(number) for one in spans for number in (one.low, one.middle, one.high))) * 1.05

    def place(number: float) -> float:
        room = frame.width_px - frame.left_px - RIGHT_PX
        return round(frame.left_px + room * (number + reach) / (2 * reach), 1)

    marks = (-reach, -reach / 2, reach / 2, reach) if frame.kind == "wide" else (-reach, reach)
    rows = []
    for number, one in enumerate(spans):
        length = frame.name_length
        short = one.name if len(one.name) <= length else f"{one.name[: length - 1]}…"
        told = f"{one.name}: {one.middle:+.4f}, from {one.low:+.4f} to {one.high:+.4f}"
        y = HEAD_PX + ROW_PX * (number + 0.5)
        rows.append(Row(short + one.end, told, y, place(one.low), place(one.high), place(one.middle), one.kind))
    return Drawing(
        frame.kind,
        frame.width_px,
        HEAD_PX + ROW_PX * len(spans),
        place(0.0),
        tuple((place(number), f"{number:+.2f}") for number in marks),
        tuple(rows),
    )
