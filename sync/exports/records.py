"""What goes into an export and what is said about it. Reads and writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from labels.geometry import ImageSize
from labels.report import Failure
from labels.results import Label
from sync.versions.version import Split, VersionLabel

ImagesMode = Literal["copy", "link", "none"]
"""Whether an export holds its images as copies, as hard links where that can be done, or not at all."""


@dataclass(frozen=True, slots=True)
class ExportImage:
    """A reviewed image of the catalogue: ``size`` is that of the upright image, ``sha256`` is of the bytes of ``path``.

    ``labels`` is empty for one that was reviewed and shows nothing. ``split`` None: the export has no splits. Where
    ``has_regions`` is False nobody looked for objects. ``origins`` tells by label id who said it.
    """

    sample_id: str
    path: Path
    size: ImageSize
    sha256: str
    labels: tuple[Label, ...]
    split: Split | None = None
    has_regions: bool = True
    origins: Mapping[str, VersionLabel] = field(default_factory=dict)

    @property
    def part(self) -> Split:
        """The split it goes to: train, where there are none."""
        return self.split or "train"


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for: where to, what becomes of the images, and which version it is, if it is one.

    ``control`` names the one that is written, where a format holds one.
    """

    format: str
    out_dir: Path
    images_mode: ImagesMode = "copy"
    version: str | None = None
    control: str | None = None


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What an export wrote. ``negatives`` are images on which people looked for objects and found none, which are among
    ``images``.

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
