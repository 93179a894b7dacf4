"""One frozen version of the dataset, and how two differ: numbers, charts, tables, and the manifest as a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from flask import Blueprint, render_template, request, send_file
from flask.typing import ResponseReturnValue
from markupsafe import Markup
from werkzeug.exceptions import NotFound

from sync.console.charts import Values, draw_stacked_rows
from sync.console.parts import Parts
from sync.versions.diff import CHANGES, ImageChange, VersionDiff, compare_versions
from sync.versions.manifest import MANIFEST_NAME, list_versions, read_version
from sync.versions.summary import VersionSummary, summarize
from sync.versions.version import SPLITS, Version

CLASSES_DRAWN: Final = 30
IMAGES_SHOWN: Final = 200
SIGNS: Final = {"added": "+", "removed": "−", "changed": "~"}


def add_versions(exports: Blueprint, parts: Parts) -> None:
    """Add the pages of versions to /exports."""

    def find_version(version_id: str) -> Version:
        # Only an id that is there is read: a path of the request opens no file.
        if version_id not in list_versions(parts.settings.home):
            raise NotFound("there is no such version")
        return read_version(parts.settings.home, version_id)

    @exports.get("/versions/<version_id>")
    def show_version(version_id: str) -> ResponseReturnValue:
        version = find_version(version_id)
        summary = summarize(version)
        return render_template(
            "version.html",
            version=version,
            summary=summary,
            chart=_draw_classes(summary),
            empty=[name for name, counts in summary.classes.items() if not any(counts.values())],
            splits=SPLITS,
            names={image.sample_id: image.path.name for image in version.images},
        )

    @exports.get("/versions/<version_id>/manifest.json")
    def download_version(version_id: str) -> ResponseReturnValue:
        find_version(version_id)
        path = parts.settings.home.versions / version_id / MANIFEST_NAME
        return send_file(path, as_attachment=True, download_name=f"{version_id}.json")

    @exports.get("/diff")
    def show_diff() -> ResponseReturnValue:
        before, after = (find_version(request.args.get(name, "")) for name in ("before", "after"))
        found = compare_versions(before, after)
        return render_template(
            "diff.html",
            diff=found,
            versions=list_versions(parts.settings.home)[::-1],
            changes=CHANGES,
            chart=_draw_diff(found),
            images=found.images[:IMAGES_SHOWN],
            there=parts.catalogue.find_images([one.sample_id for one in found.images[:IMAGES_SHOWN]]),
            describe=describe_change,
        )


def _draw_classes(summary: VersionSummary) -> Markup | None:
    """Return how many labels of each class each split has, the most frequent classes first; None: there is no label."""
    counted = [(name, counts) for name, counts in summary.classes.items() if sum(counts.values())]
    shown = sorted(counted, key=lambda entry: -sum(entry[1].values()))[:CLASSES_DRAWN]
    if not shown:
        return None
    series: dict[str, Values] = {split: [counts[split] for _, counts in shown] for split in SPLITS}
    return draw_stacked_rows("Labels of each class by split", [name for name, _ in shown], series)


def _draw_diff(found: VersionDiff) -> Markup | None:
    """Return what changed in each class, the most changed first; None: no label did."""
    counted = sorted(found.count_by_class().items(), key=lambda entry: -sum(entry[1].values()))[:CLASSES_DRAWN]
    if not counted:
        return None
    series: dict[str, Values] = {change: [counts[change] for _, counts in counted] for change in CHANGES}
    return draw_stacked_rows("Labels added, removed and changed by class", [name for name, _ in counted], series)


def describe_change(image: ImageChange) -> str:
    """Return in words what is different on an image: ``+2 car, −1 dog, ~1 bus (car before), train to val``."""
    words = [*_count_words(image)]
    if image.split_before and image.split_after and image.split_before != image.split_after:
        words.append(f"{image.split_before} to {image.split_after}")
    return ", ".join(words) or "another file, or looked at anew"


def _count_words(image: ImageChange) -> Sequence[str]:
    counts: dict[tuple[str, str], int] = {}
    for label in image.labels:
        was = label.class_before if label.change == "changed" and label.class_before != label.class_after else None
        name = f"{label.counted_as} ({was} before)" if was else label.counted_as
        counts[label.change, name] = counts.get((label.change, name), 0) + 1
    return [f"{SIGNS[change]}{count} {name}" for (change, name), count in counts.items()]
