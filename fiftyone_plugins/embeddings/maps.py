"""The work «visualize»: puts vectors onto a plane, for the App's own Embeddings panel, by FiftyOne's brain."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any, Final

from fiftyone_plugins.app.params import read_choice, read_count, read_text, refuse_others
from fiftyone_plugins.app.work import Params, Tools, Work
from fiftyone_plugins.embeddings.reading import read_vectors, tell_outdated
from fiftyone_plugins.embeddings.store import Embeddings
from labels import fields
from labels.errors import LabelingError
from labels.report import Report

JOB: Final = "visualize"
METHODS: Final[Mapping[str, str]] = {
    "umap": "UMAP: keeps neighbours together (a minute for 100,000)",
    "pca": "PCA: the two main directions, at once",
    "tsne": "t-SNE: keeps neighbours together, slow above 10,000",
}
LEAST: Final = 5
"""Fewer points make no picture, and the methods refuse them."""
MANY: Final = 50_000
"""From here on points are kept on the samples too, with an index: a lasso that names every id would be refused."""


def read_params(params: Params) -> Mapping[str, Any]:
    """Return the arguments of ``visualize``.

    Raises:
        LabelingError: a parameter cannot be used.
    """
    refuse_others(params, "method", "vectors", "patches", "seed")
    return {
        "method": read_choice(params, "method", tuple(METHODS)),
        "vectors": read_text(params, "vectors"),
        "patches": read_text(params, "patches"),
        "seed": read_count(params, "seed", least=0) or 0,
    }


def visualize(
    samples: Any, tools: Tools, *, method: str, vectors: str | None = None, patches: str | None = None, seed: int = 0
) -> Report:
    """Compute a point for every image (or crop) with a vector, in the place of the last ones of that method.

    Raises:
        LabelingError: there are no vectors, or too few.
    """
    found = read_vectors(samples, tools, vectors=vectors, patches=patches)
    if len(found) < LEAST:
        raise LabelingError(f"{len(found)} vectors: too few for a picture (at least {LEAST}); compute more embeddings")
    brain_key = to_brain_key(method, found)
    tools.on_progress(None, f"putting {len(found):,} points onto a plane ({method})")
    points = _reduce(found, method, seed)
    tools.on_progress(0.9, "keeping the points")
    _register(samples, found, points, brain_key)
    notes = _write_main_classes(samples._dataset, found) if found.field is None else ()
    note = f"open the Embeddings panel in the FiftyOne App and choose {brain_key!r}"
    return Report(JOB, moved=len(found), notes=(note, *notes, *tell_outdated(found)))


def _write_main_classes(dataset: Any, found: Embeddings) -> tuple[str, ...]:
    """Write the class each image shows most often: the App colours points by one value an image.

    Return in words why that was not done; nothing where it was.
    """
    from fiftyone_plugins.embeddings.shown import find_main_class, read_classes
    from fiftyone_plugins.embeddings.writing import declare_found, write_found

    names = [find_main_class(one) for one in read_classes(dataset, found)]
    if any(name is not None for name in names) or dataset.has_sample_field(fields.MAIN_CLASS):
        try:
            declare_found(dataset, None, [fields.MAIN_CLASS], by=JOB)
        except LabelingError as error:
            # The map is made: what is a person's field stays as it is.
            return (str(error),)
        write_found(dataset, found, {fields.MAIN_CLASS: names})
    return ()


def to_brain_key(kind: str, found: Embeddings) -> str:
    """Return the name of what the brain keeps: the same vectors and kind, the same name.

    >>> from fiftyone_plugins.embeddings.store import Key
    >>> import numpy as np
    >>> none = np.empty(0, np.str_)
    >>> to_brain_key("umap", Embeddings(Key("ViT-B-32-openai", "ground_truth"), none, none, none, np.empty((0, 2))))
    'umap_ground_truth_ViT_B_32_openai'
    """
    name = "_".join([kind, *([found.field] if found.field else []), found.model])
    return re.sub(r"\W+", "_", name, flags=re.ASCII)


def replace_run(dataset: Any, brain_key: str) -> None:
    """Remove what the brain keeps under this name, so that it can be made anew."""
    if dataset.has_brain_run(brain_key):
        dataset.delete_brain_run(brain_key)


def _reduce(found: Embeddings, method: str, seed: int) -> Any:
    """Return the points (n, 2) that the brain's own method makes of the vectors."""
    import fiftyone.brain.visualization as brain

    unit = found.normalised()
    if method == "pca":
        config = brain.PCAVisualizationConfig(num_dims=2, seed=seed)
    elif method == "umap":
        neighbours = min(15, len(found) - 1)
        config = brain.UMAPVisualizationConfig(
            num_dims=2, num_neighbors=neighbours, metric="cosine", seed=seed, verbose=False
        )
    else:
        perplexity = min(30.0, (len(found) - 1) / 3)
        dims = min(50, *unit.shape)
        config = brain.TSNEVisualizationConfig(
            num_dims=2, pca_dims=dims, perplexity=perplexity, seed=seed, verbose=False
        )
    made = config.build()
    made.ensure_requirements()
    with warnings.catch_warnings():
        # UMAP's: that it works in one thread when it is to answer the same each time, and that Tensorflow is not there.
        warnings.filterwarnings("ignore", message="n_jobs value", category=UserWarning)
        warnings.filterwarnings("ignore", category=ImportWarning)
        points, _ = made.fit_reducer(unit)
    return points


def _register(samples: Any, found: Embeddings, points: Any, brain_key: str) -> None:
    import fiftyone.brain as fob

    dataset = samples._dataset
    replace_run(dataset, brain_key)
    fob.compute_visualization(
        dataset,
        patches_field=found.field,
        points=dict(zip(found.ids.tolist(), points, strict=True)),
        brain_key=brain_key,
        create_index=len(found) >= MANY and found.field is None,
        progress=False,
    )


VISUALIZE = Work(read_params, visualize)
