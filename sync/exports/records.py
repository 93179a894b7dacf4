"""What goes into an export and what is said about it. Reads and writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from labels.geometry import ImageSize
from labels.report import Failure
from labels.results import Label

ImagesMode = Literal["copy", "link", "none"]
"""Whether an export holds its images as copies, as hard links where that can be done, or not at all."""


@dataclass(frozen=True, slots=True)
class ExportImage:
    """A reviewed image of the catalogue: ``size`` is that of the upright image, ``sha256`` is of the bytes of ``path``.

    ``labels`` is empty for one that was reviewed and shows nothing.
    """

    sample_id: str
    path: Path
    size: ImageSize
    sha256: str
    labels: tuple[Label, ...]


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What an export wrote. ``negatives`` are images on which nothing was drawn, which are among ``images``.

    ``left_out`` names images and labels that are not in the export, with the reason; ``clipped`` counts labels that
    were cut at the image's edge. ``content_sha256`` is equal for two exports with the same files.
    """

    format: str
    path: Path
    images: int
    labels: int
    negatives: int
    clipped: int
    left_out: tuple[Failure, ...]
    notes: tuple[str, ...]
    content_sha256: str
