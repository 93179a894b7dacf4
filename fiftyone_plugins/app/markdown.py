"""What the App shows of the console's answers, as Markdown. Asks nobody."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class SampleTask:
    """What is known of a sample's task; None: it was never sent, or nobody answered."""

    name: str
    state: str | None
    reviewer: str | None
    task_id: int | None


def report_to_markdown(lines: Sequence[str]) -> str:
    """Return the lines of a report as a list; of very many the first ones, and how many more there are.

    >>> report_to_markdown(["  failed: a_b.jpg: is <empty>"])
    '- failed: a\\\\_b\\\\.jpg: is \\\\<empty\\\\>'
    """
    shown = [f"- {escape(line.strip())}" for line in lines[:SHOWN_LINES]]
    if len(lines) > SHOWN_LINES:
        shown.append(f"- and {len(lines) - SHOWN_LINES:,} more: the console's page has them all")
    return "\n".join(shown)


def status_to_markdown(status: Mapping[str, Any]) -> str:
    """Return the status as Markdown: counts by state, model, last runs, links; a number not known is a dash."""
    counts = status["counts"]
    lines = ["| state | samples |", "|---|---:|"]
    lines += [f"| {title} | {_to_text(counts.get(key))} |" for key, title in COUNTS.items()]
    lines += ["", *_models(status)]
    lines += _runs(status.get("runs") or [])
    links = [f"[{LINKS.get(key, key)}]({url})" for key, url in status.get("links", {}).items()]
    return "\n".join([*lines, "", " · ".join(links)]).strip()


def tasks_to_markdown(tasks: Sequence[SampleTask], project_url: str | None) -> str:
    """Return what is known of the tasks of some samples, each with its link; ``project_url`` None: no links."""
    lines = ["| image | state | reviewed by | task |", "|---|---|---|---|"]
    for task in tasks[:SHOWN_LINES]:
        number = "never sent" if task.task_id is None else str(task.task_id)
        if task.task_id is not None and project_url is not None:
            number = f"[task {task.task_id}]({project_url}?task={task.task_id})"
        said = [escape(text) if text else "–" for text in (task.name, task.state, task.reviewer)]
        lines.append(f"| {' | '.join(said)} | {number} |")
    if len(tasks) > SHOWN_LINES:
        lines += ["", f"and {len(tasks) - SHOWN_LINES:,} more"]
    return "\n".join(lines)


def _models(status: Mapping[str, Any]) -> list[str]:
    drawn, served = status.get("model_version"), status.get("served_version")
    lines = [f"Pre-labels by: {drawn or 'none yet'}"]
    return lines if served in (None, drawn) else [*lines, "", f"The ML backend now draws with: {served}"]


def _runs(runs: list[Mapping[str, Any]]) -> list[str]:
    if not runs:
        return ["", "No job has run yet."]
    return ["", "Last runs:", "", *(f"- {_first_line(run)}" for run in runs[:SHOWN_RUNS])]


def _first_line(run: Mapping[str, Any]) -> str:
    words = run.get("summary") or f"{run['job']}: {run.get('error') or run['state']}"
    return f"{escape(words)} ({run['created_at'][:16].replace('T', ' ')} UTC)"


def escape(text: str) -> str:
    """Return text that Markdown shows as it is: a file name may hold any of its signs."""
    return MARKDOWN_SIGNS.sub(r"\\\1", text)


def _to_text(count: int | None) -> str:
    return "–" if count is None else f"{count:,}"
