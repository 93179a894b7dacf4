"""Curation: a plugin's work (embeddings, duplicates, mistakes, …) as a job; what it does lies with the plugin."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fiftyone_plugins.app.work import Params, Tools, find_work
from labels.report import Failure, OnProgress, Report, ignore_progress
from sync.jobs.context import Context
from sync.jobs.curation.detecting import make_draw
from sync.jobs.naming import find_named

if TYPE_CHECKING:
    from sync.catalogue.dataset import Dataset


def curate(context: Context, name: str, params: Params, on_progress: OnProgress = ignore_progress) -> Report:
    """Do a plugin's work on the samples that the parameters name: ``sample_ids``, ``view``, or all.

    ``sample_ids`` may be names of files as well; a name that is nobody's is one of the failures.

    Raises:
        LabelingError: none of the names is a sample's, a parameter cannot be used, or what the work itself raises.
    """
    tools = Tools(context.home.curation, on_progress, make_draw(context))
    work = find_work(name)
    samples, failed = select_named(context.dataset, params)
    report = work.perform(samples, params, tools)
    return replace(report, failed=(*report.failed, *failed))


def select_named(dataset: Dataset, params: Params) -> tuple[Any, tuple[Failure, ...]]:
    """Return the samples that the parameters name, and a failure for every name that is nobody's.

    Raises:
        LabelingError: none of the names is a sample's, there is no such view, or a parameter has another type.
    """
    names = params.get("sample_ids")
    if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
        # None are named, or it is no list of names, which is refused there.
        return dataset.select(params), ()
    named = find_named(dataset, names)
    return dataset.select({**params, "sample_ids": named.sample_ids}), named.failed
