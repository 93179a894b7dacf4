"""The work «outliers»: how unlike its nearest ones each image or crop is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from fiftyone_plugins.app.params import read_count, read_text, refuse_others
from fiftyone_plugins.app.work import Params, Tools, Work
from fiftyone_plugins.embeddings.reading import read_vectors, tell_outdated
from labels import fields
from labels.report import Report

JOB: Final = "outliers"


def read_params(params: Params) -> Mapping[str, Any]:
    """Return the arguments of ``outliers``.

    Raises:
        LabelingError: a parameter cannot be used.
    """
    refuse_others(params, "neighbours", "vectors", "patches")
    return {
        "neighbours": read_count(params, "neighbours") or 10,
        "vectors": read_text(params, "vectors"),
        "patches": read_text(params, "patches"),
    }


def find_outliers(
    samples: Any, tools: Tools, *, neighbours: int, vectors: str | None = None, patches: str | None = None
) -> Report:
    """Write ``outlier`` and ``uniqueness``, 0..1, of each image (or crop) that has a vector.

    Raises:
        LabelingError: there are no vectors, or only one.
    """
    from fiftyone_plugins.embeddings.lonely import compute_lonely
    from fiftyone_plugins.embeddings.neighbours import build_index
    from fiftyone_plugins.embeddings.writing import declare_found, write_found

    found = read_vectors(samples, tools, vectors=vectors, patches=patches)
    declare_found(samples._dataset, found.field, [fields.OUTLIER, fields.UNIQUENESS], by=JOB)
    tools.on_progress(None, f"looking for the nearest of {len(found):,} vectors")
    lonely = compute_lonely(build_index(found.vectors), neighbours=neighbours)
    tools.on_progress(0.9, "writing the scores")
    columns = {fields.OUTLIER: lonely.outlier.tolist(), fields.UNIQUENESS: lonely.uniqueness.tolist()}
    write_found(samples._dataset, found, columns)
    middle, last, highest = np.quantile(lonely.outlier, [0.5, 0.99, 1.0])
    note = f"outlier: half are above {middle:.3f}, one in a hundred above {last:.3f}, the highest is {highest:.3f}"
    return Report(JOB, moved=len(found), notes=(note, *tell_outdated(found)))


OUTLIERS = Work(read_params, find_outliers)
