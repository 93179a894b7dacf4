"""The gate's intervals as a drawing: a row for the whole and for each class, from which to which the change may be.

Numbers for the template, which draws them as SVG; the table beside it says the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from sync.models.gate import Comparison

CLASSES_DRAWN: Final = 12
SMALLEST_SPAN: Final = 0.05
ROW_PX: Final = 28
LEFT_PX: Final = 150
WIDTH_PX: Final = 560
RIGHT_PX: Final = 20
HEAD_PX: Final = 24
NAME_LENGTH: Final = 20


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
    """All lines, with where nothing changes (``zero``) and the ends of the scale."""

    width: int
    height: int
    zero: float
    ends: tuple[tuple[float, str], ...]
    rows: tuple[Row, ...]


def draw_intervals(comparison: Comparison) -> Drawing | None:
    """Return the drawing of a comparison; None: nothing could be compared."""
    spans = [("all classes", comparison.low, comparison.difference, comparison.high)]
    known = [one for one in comparison.classes if one.change is not None and one.low is not None]
    # What fell most is what one has to see.
    for one in sorted(known, key=lambda one: one.change or 0.0)[:CLASSES_DRAWN]:
        spans.append((f"{one.name} ({one.examples})", one.low, one.change, one.high))
    whole = [
        (name, low, middle, high)
        for name, low, middle, high in spans
        if low is not None and middle is not None and high is not None
    ]
    if not whole or comparison.difference is None:
        return None
    reach = max(SMALLEST_SPAN, *(abs(number) for _, *numbers in whole for number in numbers)) * 1.05

    def place(number: float) -> float:
        return round(LEFT_PX + (WIDTH_PX - LEFT_PX - RIGHT_PX) * (number + reach) / (2 * reach), 1)

    return Drawing(
        WIDTH_PX,
        HEAD_PX + ROW_PX * len(whole),
        place(0.0),
        tuple((place(number), f"{number:+.2f}") for number in (-reach, -reach / 2, reach / 2, reach)),
        tuple(_to_rows(whole, place)),
    )


def _to_rows(whole: list[tuple[str, float, float, float]], place: Callable[[float], float]) -> Iterator[Row]:
    for number, (name, low, middle, high) in enumerate(whole):
        kind = "better" if low > 0 else "worse" if high < 0 else "open"
        short = name if len(name) <= NAME_LENGTH else f"{name[: NAME_LENGTH - 1]}…"
        told = f"{name}: {middle:+.4f}, from {low:+.4f} to {high:+.4f}"
        y = HEAD_PX + ROW_PX * (number + 0.5)
        yield Row(short, told, y, place(low), place(high), place(middle), kind)
