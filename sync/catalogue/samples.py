"""Images, predictions, labels and states of samples, as values. Knows nothing of FiftyOne."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from labels.config import LabelConfig
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
    """What the detector drew on a sample: ``labels`` may be empty, ``uncertainty`` is 0..1.

    ``scores`` are further measures of uncertainty by field name, None where not computed; they are written, and read by
    nobody here.
    """

    model_version: str
    uncertainty: float
    labels: tuple[Label, ...]
    scores: Mapping[str, float | None] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class SampleLabels:
    """The labels people vouch for. ``has_regions`` is False where nobody ever looked for objects.

    ``silent`` are the controls whose field is None: nothing is said with them, nor taken back. A field of several
    labels says with an empty list that nothing is there; one of a single answer cannot say that.
    """

    labels: tuple[Label, ...]
    has_regions: bool
    silent: frozenset[str] = frozenset()


def restore_cleared(said: SampleLabels | None, base: Iterable[Label]) -> tuple[Label, ...]:
    """Return what a sample says where a field that was cleared says nothing: its labels are still those of the base.

    Only an empty list says that nothing is there.

    >>> restore_cleared(SampleLabels((), has_regions=True), [Label("1", "label", ("car",))])
    ()
    """
    return (*find_cleared(said, base), *(() if said is None else said.labels))


def find_cleared(said: SampleLabels | None, base: Iterable[Label]) -> tuple[Label, ...]:
    """Return the labels of the base about which a sample says nothing, because their field was cleared.

    >>> len(find_cleared(None, [Label("1", "label", ("car",))]))
    1
    """
    return tuple(label for label in base if said is None or label.control in said.silent)


def is_never_looked_at(said: SampleLabels | None, config: LabelConfig) -> bool:
    """Return whether a sample says nothing where an empty list could say that nothing is there."""
    can_be_empty = {control.name for control in config.controls if control.is_region or control.is_multiple}
    return bool(can_be_empty) if said is None else bool(said.silent & can_be_empty)


@dataclass(frozen=True, slots=True)
class SampleState:
    """Where a sample stands in its review; ``review_state`` None: it was never sent.

    ``is_tagged``: it has the tag of a conflict. States are equal that say the same of the review.
    """

    review_state: str | None
    task_id: int | None
    is_tagged: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Reviewer:
    """Who reviewed a sample, and when (UTC).

    ``annotators`` is how many people answered, ``disagreement`` (0..1) how much they disagree; None: not known.
    """

    name: str
    at: datetime
    annotators: int | None = None
    disagreement: float | None = None
