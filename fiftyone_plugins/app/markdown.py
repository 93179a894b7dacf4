"""What the App shows of the console's answers, as Markdown. Asks nobody."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

COUNTS = {
    "not_sent": "not sent",
    "queued": "queued",
    "reviewed": "reviewed",
    "skipped": "skipped",
    "conflicts": "conflicts",
    "failed": "failed",
    "task_deleted": "task deleted",
}
LINKS = {"label_studio": "Label Studio", "app": "FiftyOne App", "ml_backend": "ML backend"}
SHOWN_RUNS = 3
SHOWN_LINES = 50
MARKDOWN_SIGNS = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~&])")


def report_to_markdown(lines: Sequence[str]) -> str:
    """Return the lines of a report as a list; of very many the first ones, and how many more there are.

    >>> report_to_markdown(["  failed: a_b.jpg: is <empty>"])
    '- failed: a\\\\_b\\\\.jpg: is \\\\<empty\\\\>'
    """
    shown = [f"- {_escape(line.strip())}" for line in lines[:SHOWN_LINES]]
    if len(lines) > SHOWN_LINES:
        shown.append(f"- and {len(lines) - SHOWN_LINES:,} more: the console's page has them all")
    return "\n".join(shown)


def status_to_markdown(status: Mapping[str, Any]) -> str:
    """Return the status as Markdown: counts by state, model, last runs, links; a number not known is a dash."""
    counts = status["counts"]
    lines = ["| state | samples |", "|---|---:|"]
    lines += [f"| {title} | {_to_text(counts.get(key))} |" for key, title in COUNTS.items()]
    lines += ["", f"Model: {status.get('model_version') or 'none yet'}"]
    lines += _runs(status.get("runs") or [])
    links = [f"[{LINKS.get(key, key)}]({url})" for key, url in status.get("links", {}).items()]
    return "\n".join([*lines, "", " · ".join(links)]).strip()


def _runs(runs: list[Mapping[str, Any]]) -> list[str]:
    if not runs:
        return ["", "No job has run yet."]
    return ["", "Last runs:", "", *(f"- {_first_line(run)}" for run in runs[:SHOWN_RUNS])]


def _first_line(run: Mapping[str, Any]) -> str:
    words = run.get("summary") or f"{run['job']}: {run.get('error') or run['state']}"
    return f"{_escape(words)} ({run['created_at'][:16].replace('T', ' ')} UTC)"


def _escape(text: str) -> str:
    """Return text that Markdown shows as it is: a file name may hold any of its signs."""
    return MARKDOWN_SIGNS.sub(r"\\\1", text)


def _to_text(count: int | None) -> str:
    return "–" if count is None else f"{count:,}"
