"""Images, predictions, labels and states of samples, as values. Knows nothing of FiftyOne: ``sync/dataset.py`` does."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from labels.geometry import ImageSize
from labels.results import Label


@dataclass(frozen=True, slots=True)
class NewImage:
    """An image to be added; ``path`` is what the App shows, ``source_path`` the person's file when that is another."""

    path: Path
    size: ImageSize
    sha256: str
    byte_count: int
    mime_type: str
    source_path: Path | None = None


@dataclass(frozen=True, slots=True)
class SampleImage:
    """An image of the catalogue."""

    sample_id: str
    path: Path
    size: ImageSize
    sha256: str
    source_path: Path | None


@dataclass(frozen=True, slots=True)
class SamplePrediction:
    """What the detector drew on a sample: ``labels`` may be empty, ``uncertainty`` is 0..1."""

    model_version: str
    uncertainty: float
    labels: tuple[Label, ...]


@dataclass(frozen=True, slots=True)
class SampleLabels:
    """The labels people vouch for. ``has_regions`` is False where nobody ever looked for objects."""

    labels: tuple[Label, ...]
    has_regions: bool


@dataclass(frozen=True, slots=True)
class SampleState:
    """Where a sample stands in its review; ``review_state`` None: it was never sent."""

    review_state: str | None
    task_id: int | None


@dataclass(frozen=True, slots=True)
class Reviewer:
    """Who reviewed a sample, and when (UTC)."""

    name: str
    at: datetime
