"""Report: one HTML file on where the project stands; reads everything and writes that file alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from labels.errors import LabelingError
from labels.report import OnProgress, Report, ignore_progress
from sync.jobs.context import Context
from sync.reporting.facts import collect_facts
from sync.reporting.page import write_page

FILE: Final = "report.html"


def report(context: Context, *, out: Path | None = None, on_progress: OnProgress = ignore_progress) -> Report:
    """Write the report to a file (``reports/report.html`` of the home unless told otherwise), in place of the last one.

    Raises:
        LabelingError: the file cannot be written.
    """
    on_progress(None, "collecting what is known")
    facts = collect_facts(context)
    on_progress(None, "drawing")
    text = write_page(facts)
    target = out or context.home.path / "reports" / FILE
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(target)
    except OSError as error:
        raise LabelingError(f"{target}: cannot be written ({error.strerror})") from error
    finally:
        part.unlink(missing_ok=True)
    return Report("report", moved=1, notes=(f"written to {target}",))
