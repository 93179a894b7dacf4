"""The work «similarity»: an index of the brain's own, on which the App sorts by similarity."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from fiftyone_plugins.app.brain import BACKEND, LANCEDB_FOLDER
from fiftyone_plugins.app.params import read_choice, read_text, refuse_others
from fiftyone_plugins.app.work import Params, Tools, Work
from fiftyone_plugins.embeddings.maps import to_brain_key
from fiftyone_plugins.embeddings.reading import read_vectors, tell_outdated
from fiftyone_plugins.embeddings.store import Embeddings, EmbeddingStore
from labels.errors import LabelingError, ServiceError
from labels.report import Report

logger = logging.getLogger(__name__)

JOB: Final = "similarity"
LANCEDB: Final = "lancedb"
QDRANT: Final = "qdrant"
BACKENDS: Final[Mapping[str, str]] = {
    LANCEDB: "LanceDB, embedded: its files lie beside the vectors",
    BACKEND: "labelloop's own: near-duplicates and uniqueness by FiftyOne's own functions too",
    QDRANT: "Qdrant: a server, by its address",
}


def read_params(params: Params) -> Mapping[str, Any]:
    """Return the arguments of ``similarity``.

    Raises:
        LabelingError: a parameter cannot be used.
    """
    refuse_others(params, "backend", "url", "vectors", "patches")
    backend, url = read_choice(params, "backend", tuple(BACKENDS)), read_text(params, "url")
    if (backend == QDRANT) != (url is not None):
        raise LabelingError("parameter 'url': the address of the Qdrant server, for backend qdrant alone")
    return {
        "backend": backend,
        "url": url,
        "vectors": read_text(params, "vectors"),
        "patches": read_text(params, "patches"),
    }


def build_similarity(
    samples: Any,
    tools: Tools,
    *,
    backend: str,
    url: str | None = None,
    vectors: str | None = None,
    patches: str | None = None,
) -> Report:
    """Build the index of the images (or crops) that have a vector, in the place of the last one of that kind.

    Raises:
        LabelingError: there are no vectors, or the backend's package is not installed.
        ServiceError: the Qdrant server does not answer.
    """
    found = read_vectors(samples, tools, vectors=vectors, patches=patches)
    brain_key = to_brain_key(f"similar_{backend}", found)
    tools.on_progress(None, f"building the index of {len(found):,} vectors ({backend})")
    dataset = samples._dataset
    store = EmbeddingStore(tools.folder, dataset.name)
    options = _to_options(backend, url, tools.folder, store, found)
    _tell_brain(backend, options)
    # Under a name of its own first: a backend that does not answer costs no index that is there.
    unfinished = f"{brain_key}_unfinished"
    _discard(dataset, unfinished)
    _fill(dataset, unfinished, found, backend, options)
    _discard(dataset, brain_key)
    dataset.rename_brain_run(unfinished, brain_key)
    note = f"in the FiftyOne App: select images, press the magnifying glass, and choose {brain_key!r}"
    return Report(JOB, moved=len(found), notes=(note, *tell_outdated(found)))


def _to_options(
    backend: str, url: str | None, folder: Path, store: EmbeddingStore, found: Embeddings
) -> dict[str, str]:
    if backend == LANCEDB:
        (folder / LANCEDB_FOLDER).mkdir(parents=True, exist_ok=True)
        return {"uri": str(folder / LANCEDB_FOLDER)}
    if backend == QDRANT:
        return {"url": str(url)}
    return {"store_folder": str(folder), "store_key": found.key.name}


def _tell_brain(backend: str, options: Mapping[str, str]) -> None:
    """Tell FiftyOne of this process where the backend's data lie: of an old index it kept the name alone."""
    import fiftyone.brain as fob

    known = fob.brain_config.similarity_backends.setdefault(backend, {})
    if backend == BACKEND:
        from fiftyone_plugins.app.brain import CONFIG_CLASS

        known.setdefault("config_cls", CONFIG_CLASS)
    else:
        known.update(options)


def _fill(dataset: Any, brain_key: str, found: Embeddings, backend: str, options: Mapping[str, str]) -> None:
    import fiftyone.brain as fob

    try:
        # The vectors are given after it is made, so that a sample without one does not matter.
        made = fob.compute_similarity(
            dataset, patches_field=found.field, embeddings=False, brain_key=brain_key, backend=backend, **options
        )
        if backend == BACKEND:
            made.keep_only(found.ids)
        else:
            label_ids = None if found.field is None else found.ids
            made.add_to_index(found.vectors, found.sample_ids, label_ids=label_ids)
    except ImportError as error:
        raise LabelingError(
            f"backend {backend!r}: its package is not installed ({error}); install qdrant-client"
        ) from error
    except (ValueError, ConnectionError) as error:
        raise ServiceError(f"backend {backend!r} at {options.get('url', 'its folder')}: {error}") from error
    made.save()


def _discard(dataset: Any, brain_key: str) -> None:
    """Remove an index, and what its backend holds of it: of the run alone the vectors would stay on the disk."""
    if not dataset.has_brain_run(brain_key):
        return
    try:
        index = dataset.load_brain_results(brain_key)
        if index is not None:
            index.cleanup()
    except (ValueError, ConnectionError, ImportError, LabelingError) as error:
        logger.warning("the vectors of the index %s stay where they are (%s)", brain_key, error)
    dataset.delete_brain_run(brain_key)


SIMILARITY = Work(read_params, build_similarity)
