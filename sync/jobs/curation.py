"""Curation: a plugin's work (embeddings, duplicates, mistakes, …) as a job; what it does lies with the plugin."""

from __future__ import annotations

from fiftyone_plugins.app.work import Params, Tools, find_work
from labels.report import OnProgress, Report, ignore_progress
from sync.jobs.context import Context
from sync.jobs.detecting import make_draw


def curate(context: Context, name: str, params: Params, on_progress: OnProgress = ignore_progress) -> Report:
    """Do a plugin's work on the samples that the parameters name: ``sample_ids``, ``view``, or all.

    Raises:
        LabelingError: a parameter cannot be used, or what the work itself raises.
    """
    tools = Tools(context.home.curation, on_progress, make_draw(context))
    return find_work(name).perform(context.dataset.select(params), params, tools)
