"""A plugin's long work in one form: the console's job, the App's operator and the command run the same function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from fiftyone_plugins.app.targets import find_media_problem, to_whole
from labels.errors import ItemError, LabelingError
from labels.report import OnProgress, Report, ignore_progress

Params = Mapping[str, Any]

WORKS: Final[Mapping[str, str]] = {
    "embed": "fiftyone_plugins.embeddings.work:EMBED",
    "visualize": "fiftyone_plugins.embeddings.maps:VISUALIZE",
    "cluster": "fiftyone_plugins.embeddings.clusters:CLUSTER",
    "outliers": "fiftyone_plugins.embeddings.outliers:OUTLIERS",
    "similarity": "fiftyone_plugins.embeddings.indexes:SIMILARITY",
    "zeroshot": "fiftyone_plugins.zeroshot.work:ZEROSHOT",
    "mistakes": "fiftyone_plugins.mistakes.work:MISTAKES",
    "duplicates": "fiftyone_plugins.duplicates.work:SCAN",
    "duplicates_drop": "fiftyone_plugins.duplicates.work:DROP",
    "duplicates_undo": "fiftyone_plugins.duplicates.work:UNDO",
    "quality": "fiftyone_plugins.quality.work:SCAN",
    "quality_decide": "fiftyone_plugins.quality.work:DECIDE",
    "quality_undo": "fiftyone_plugins.quality.work:UNDO",
    "quality_learn": "fiftyone_plugins.quality.work:LEARN",
    "quality_examples": "fiftyone_plugins.quality.work:EXAMPLES",
    "clean": "fiftyone_plugins.clean.work:CLEAN",
    "clean_apply": "fiftyone_plugins.clean.work:APPLY",
    "clean_undo": "fiftyone_plugins.clean.work:UNDO",
}
"""Every work by the name of its job: the module and the name in it. Imported when it is asked for: torch takes long."""


@dataclass(frozen=True, slots=True, eq=False)
class DrawnBoxes:
    """What a detector sees in one upright image: ``xyxy`` (n, 4) pixels, ``scores`` (n,) 0..1, class ``names`` (n).

    ``known`` are all names it can give; None: not known.
    """

    xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    names: tuple[str, ...]
    known: frozenset[str] | None = None


class Draw(Protocol):
    """Draws boxes with a detector of the ML backend."""

    def __call__(
        self, images: Iterable[Path], *, model: str | None, score_floor: float
    ) -> Iterator[DrawnBoxes | ItemError]:
        """Yield for each image, in order, its boxes or why there are none; ``model`` None: the served one.

        Raises:
            LabelingError: the model is not known or cannot be loaded.
        """
        ...


@dataclass(frozen=True, slots=True)
class Tools:
    """What work may use besides its samples.

    ``folder`` is where plugins keep files (vectors, decisions), ``draw`` None: there is no detector here, as in an App
    without a console. What ``on_progress`` raises ends the work and must pass through.
    """

    folder: Path
    on_progress: OnProgress = ignore_progress
    draw: Draw | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """One plugin's work.

    ``read_params`` returns the arguments of ``run``, without those that name samples, and raises LabelingError for what
    it cannot be given. ``run`` gets a FiftyOne dataset or view; a second run changes nothing that is right already.
    """

    read_params: Callable[[Params], Mapping[str, Any]]
    run: Callable[..., Report]

    def perform(self, samples: Any, params: Params, tools: Tools) -> Report:
        """Read the parameters and run.

        Raises:
            LabelingError: a parameter cannot be used, or what the work itself raises.
        """
        return self.run(samples, tools, **self.read_params(without_samples(params)))


def find_work(name: str) -> Work:
    """Return the work of a job.

    Raises:
        LabelingError: no plugin has one of that name.
    """
    if name not in WORKS:
        raise LabelingError(f"work {name!r} is not known (known: {', '.join(WORKS)})")
    module, _, attribute = WORKS[name].partition(":")
    work = getattr(import_module(module), attribute)
    assert isinstance(work, Work)
    return work


def without_samples(params: Params) -> Params:
    """Return the parameters without those that name samples.

    >>> without_samples({"sample_ids": ["a"], "view": "night", "model": "resnet"})
    {'model': 'resnet'}
    """
    return {name: value for name, value in params.items() if name not in ("sample_ids", "view")}


def select_samples(dataset: Any, params: Params) -> Any:
    """Return the samples that ``sample_ids`` and ``view`` (the name of a saved view) name; all where none is given.

    Of a view of patches these are the samples they were cut from; of one that is grouped by a field, all of the groups.

    Raises:
        LabelingError: there is no such sample or view, a parameter has another type, or these are no images.
    """
    problem = find_media_problem(dataset)
    if problem is not None:
        raise LabelingError(problem)
    sample_ids, view = params.get("sample_ids"), params.get("view")
    if sample_ids is not None and not (
        isinstance(sample_ids, list) and all(isinstance(one, str) for one in sample_ids)
    ):
        raise LabelingError("parameter 'sample_ids': expected a list of sample ids")
    if view is not None and not dataset.has_saved_view(view):
        raise LabelingError(f"view {view!r} is not among the saved views: {', '.join(dataset.list_saved_views())}")
    samples = dataset if view is None else to_whole(dataset.load_saved_view(view))
    if sample_ids is None:
        return samples
    _check_ids(dataset, sample_ids)
    return samples.select(sample_ids)


def _check_ids(dataset: Any, sample_ids: Sequence[str]) -> None:
    """Refuse ids that are nobody's: FiftyOne leaves them out, or fails on them in words of its own."""
    from bson import ObjectId

    wanted = {one for one in sample_ids if ObjectId.is_valid(one)}
    # The ids themselves are read only where one is missing: there may be hundreds of thousands.
    known = wanted if not wanted or dataset.select(list(wanted)).count() == len(wanted) else _read_ids(dataset, wanted)
    missing = [one for one in dict.fromkeys(sample_ids) if one not in known]
    if missing:
        more = f" (and {len(missing) - 1:,} more)" if len(missing) > 1 else ""
        raise LabelingError(f"sample {missing[0]} is not in the dataset{more}")


def _read_ids(dataset: Any, sample_ids: Iterable[str]) -> set[str]:
    return set(dataset.select(list(sample_ids)).values("id"))
