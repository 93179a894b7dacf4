"""What every page has around it: navigation with what waits, the theme, and how times and numbers are written."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, NamedTuple

from flask import Flask, request, session

from labels.errors import LabelingError
from sync.console.parts import Parts
from sync.console.sessions import Sessions

THEME_COOKIE: Final = "labelloop_theme"
THEMES: Final = ("light", "dark")


class Place(NamedTuple):
    """One entry of the navigation."""

    endpoint: str
    title: str

    @property
    def blueprint(self) -> str:
        """The part of the console the entry stands for."""
        return self.endpoint.partition(".")[0]


PLACES: Final = (
    Place("overview.show_overview", "Overview"),
    Place("runs.show_runs", "Runs"),
    Place("conflicts.show_conflicts", "Conflicts"),
    Place("queue.show_queue", "Queue"),
    Place("feedback.show_feedback", "Feedback"),
    Place("exports.show_exports", "Exports"),
    Place("training.show_training", "Training"),
    Place("models.show_models", "Models"),
    Place("settings.show_settings", "Settings"),
)


def add_layout(app: Flask, parts: Parts, sessions: Sessions) -> None:
    """Give every template the navigation, the theme and the filters."""
    app.add_template_filter(to_number, "number")
    app.add_template_filter(to_time, "time")
    app.add_template_filter(to_percent, "percent")
    app.add_template_filter(to_span, "span")

    @app.context_processor
    def add_frame() -> dict[str, Any]:
        theme = request.cookies.get(THEME_COOKIE)
        frame: dict[str, Any] = {"theme": theme if theme in THEMES else None, "is_logged_in": False}
        if not sessions.is_logged_in(session):
            return frame
        return frame | {"is_logged_in": True, "places": PLACES, "badges": _count_what_waits(parts)}


def _count_what_waits(parts: Parts) -> dict[str, int]:
    """Return the numbers beside the navigation's entries; none where they cannot be read: the page itself says why."""
    try:
        return {"conflicts": parts.catalogue.count_conflicts(), "runs": len(parts.runner.read_active())}
    except LabelingError:
        return {}


def to_number(value: float | None) -> str:
    """Return a number for people; a dash where it is not known.

    >>> to_number(1204), to_number(0), to_number(None), to_number(0.25)
    ('1,204', '0', '–', '0.25')
    """
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def to_percent(value: float | None) -> str:
    """Return a share of 0 to 1 in percent; a dash where it is not known.

    >>> to_percent(0.875), to_percent(0.0), to_percent(None)
    ('88 %', '0 %', '–')
    """
    return "–" if value is None else f"{100 * value:.0f} %"


def to_time(value: str | None) -> str:
    """Return a moment in UTC for people; the browser's script writes it in local time.

    >>> to_time("2026-01-02T03:04:05.678+00:00"), to_time(None)
    ('2026-01-02 03:04 UTC', '–')
    """
    if value is None:
        return "–"
    try:
        return f"{datetime.fromisoformat(value):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return value


def to_span(seconds: float | None) -> str:
    """Return a length of time for people; a dash where it is not known.

    >>> to_span(0.4), to_span(12.5), to_span(83), to_span(7300), to_span(None)
    ('0.4 s', '12.5 s', '1 min 23 s', '2 h 1 min', '–')
    """
    if seconds is None:
        return "–"
    # Not 59.96: that would be written as 60.0 s.
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
