"""The pages of the console, one module each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from flask import Blueprint

from sync.console.pages.conflicts import make_conflicts
from sync.console.pages.exports import make_exports
from sync.console.pages.feedback import make_feedback
from sync.console.pages.images import make_images
from sync.console.pages.live import make_live
from sync.console.pages.models import make_models
from sync.console.pages.overview import make_overview
from sync.console.pages.queue import make_queue
from sync.console.pages.runs import make_runs
from sync.console.pages.settings import make_settings
from sync.console.pages.training import make_training
from sync.console.parts import Parts

PAGES: Final[tuple[Callable[[Parts], Blueprint], ...]] = (
    make_overview,
    make_runs,
    make_conflicts,
    make_queue,
    make_feedback,
    make_exports,
    make_training,
    make_models,
    make_settings,
    make_images,
    make_live,
)
