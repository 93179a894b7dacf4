"""A registered model: a folder of the models folder that says what lies in it, made when a model was promoted.

``registry/ID/card.json`` names the weights and the sum of each file's content. What is here only reads; who may put a
model there, and why, is decided elsewhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from labels.errors import LabelingError

REGISTRY_NAME: Final = "registry"
CARD_NAME: Final = "card.json"
ID: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Registered:
    """A model of the registry. ``files`` are sha256 sums by name in its folder, a folder's with all its files.

    ``thresholds`` are the lowest scores shown, by lower-cased label, for scores as the weights give them.
    ``is_trusted``: a person let a file in that could run code when it is read.
    """

    id: str
    weights: Path
    files: Mapping[str, str]
    thresholds: Mapping[str, float]
    is_trusted: bool = False

    @property
    def folder(self) -> Path:
        """The folder that holds all of it."""
        return self.weights.parent


def read_registered(models_dir: Path, name: str) -> Registered | None:
    """Return the registered model of that name, or None where there is none; its files are not looked at.

    Raises:
        LabelingError: its card cannot be used.
    """
    folder = models_dir / REGISTRY_NAME / name
    if not ID.fullmatch(name) or not (folder / CARD_NAME).is_file():
        return None
    card = folder / CARD_NAME
    try:
        values = json.loads(card.read_text(encoding="utf-8"))
        return _from_card(values, folder)
    except OSError as error:
        raise LabelingError(f"{card}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LabelingError(f"{card}: is damaged ({type(error).__name__}: {error})") from error


def _from_card(values: Mapping[str, Any], folder: Path) -> Registered:
    files = {str(name): str(digest) for name, digest in values["files"].items()}
    weights = str(values["weights"])
    if weights not in files or any(Path(name).name != name or name in ("", ".", "..") for name in files):
        raise ValueError("its files are not those of its folder")
    thresholds = {str(label).lower(): float(number) for label, number in values["thresholds"].items()}
    if not all(0 <= number <= 1 for number in thresholds.values()):
        raise ValueError("a threshold is not in 0..1")
    return Registered(
        id=folder.name,
        weights=folder / weights,
        files=files,
        thresholds=thresholds,
        is_trusted=values["trusted_by"] is not None,
    )
