"""How FiftyOne's brain is told of labelloop's similarity backend: by environment, before FiftyOne is imported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

BACKEND: Final = "labelloop"
CONFIG_CLASS: Final = "fiftyone_plugins.embeddings.similarity_backend.NeighboursSimilarityConfig"

LANCEDB_FOLDER: Final = "lancedb"
"""Where LanceDB's files lie, in the folder of the plugins' files."""


def to_lancedb_environment(home: str | None) -> Mapping[str, str]:
    """Return the variable by which an index of LanceDB is found again: FiftyOne keeps its name alone."""
    folder = Path(home or ".labelloop").absolute() / "curation" / LANCEDB_FOLDER
    return {"FIFTYONE_BRAIN_SIMILARITY_LANCEDB_URI": str(folder)}


def to_backend_environment() -> Mapping[str, str]:
    """Return the variables that add the backend to those of the brain."""
    return {
        "FIFTYONE_BRAIN_SIMILARITY_BACKENDS": f"*,{BACKEND}",
        f"FIFTYONE_BRAIN_SIMILARITY_{BACKEND.upper()}_CONFIG_CLS": CONFIG_CLASS,
    }
