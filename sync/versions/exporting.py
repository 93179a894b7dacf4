"""From a version to the images that the writers of ``sync/exports`` take. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from sync.exports.records import ExportImage
from sync.versions.version import Version, VersionImage


def to_export_images(version: Version) -> list[ExportImage]:
    """Return the images of a version for an export."""
    return to_export_list(version.images)


def to_export_list(images: Iterable[VersionImage]) -> list[ExportImage]:
    """Return these images for an export."""
    return [
        ExportImage(
            image.sample_id,
            image.path,
            image.size,
            image.sha256,
            tuple(one.label for one in image.labels),
            split=image.split,
            has_regions=image.has_regions,
            origins={one.label.id: one for one in image.labels},
        )
        for image in images
    ]
