"""Freezing: the reviewed images become a version of the dataset, each in the split it keeps for good.

Order of writes: the ledger's splits, the manifest, the ledger's version. Killed in between, the same state comes to the
same end, and no image that was put into a split is ever put into another.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from labels import fields
from labels.errors import LabelingError
from labels.geometry import Box
from labels.report import OnProgress, ignore_progress
from labels.results import Label, from_record, is_same
from sync.jobs.context import Context
from sync.jobs.datasets.reviewed import Choice, Reviewed
from sync.ledger import FrozenVersion, SplitRow
from sync.versions.leaks import compute_leaks
from sync.versions.looks import THRESHOLD_BITS, find_near_twins, read_looks, tie_near
from sync.versions.manifest import SHA_DIGITS, compute_content_sha256, list_versions, read_content_sha256, write_version
from sync.versions.splits import DEFAULT_RATIOS, Assigned, Candidate, Place, Ratios, assign_splits
from sync.versions.version import Leaks, Split, Version, VersionImage, VersionLabel, to_number

TOOLS: Final = ("labelloop", "fiftyone", "label-studio", "imagehash", "pillow", "numpy")
LOOKS_AT_ONCE: Final = 200
SAME_PX: Final = 0.01


@dataclass(frozen=True, slots=True)
class Frozen:
    """A version, and whether it was frozen just now."""

    version: Version
    is_new: bool


def freeze(
    context: Context,
    choice: Choice,
    *,
    ratios: Ratios | None = None,
    group_by: str | None = None,
    on_progress: OnProgress = ignore_progress,
) -> Frozen:
    """Return the version of what was chosen; of a state that was frozen before, that version.

    Without ``ratios`` and ``group_by`` those of the newest version hold, at first 80, 10, 10 and no field; an empty
    ``group_by`` is no field again.

    Raises:
        LabelingError: samples have no such field, or it holds no plain values.
    """
    known = context.ledger.versions()
    newest = known[-1].details if known else {}
    ratios = ratios or _to_ratios(newest.get("ratios"))
    group_by = (newest.get("group_by") if group_by is None else group_by) or None
    on_progress(None, "looking at the images")
    rows = context.ledger.splits()
    looks = _read_looks(choice.chosen, rows, on_progress)
    candidates = list(_to_candidates(context, choice.chosen, group_by))
    places = assign_splits(candidates, _to_assigned(rows), ratios=ratios, alike=tie_near(looks))
    context.ledger.record_splits(_to_rows(candidates, places, looks, rows))
    leaks = compute_leaks(
        candidates,
        places,
        alike=find_near_twins(looks, {key: place.split for key, place in places.items()}),
        threshold_bits=THRESHOLD_BITS,
        unhashed=sum(look is None for look in looks.values()),
    )
    on_progress(None, "freezing a version")
    version = _to_version(context, choice, places, leaks, ratios, group_by)
    frozen = _find_same(context, version)
    if frozen is None:
        frozen = Frozen(version, is_new=True)
        write_version(context.home, version)
    context.ledger.record_version(_to_frozen_version(frozen.version))
    return frozen


def _to_ratios(values: Sequence[int] | None) -> Ratios:
    if values is None:
        return DEFAULT_RATIOS
    train, val, test = values
    return train, val, test


def _read_looks(
    chosen: Sequence[Reviewed], rows: Mapping[str, SplitRow], on_progress: OnProgress
) -> dict[str, str | None]:
    """Return the perceptual hash of each sample's image; those of contents that were looked at before are known."""
    looks = {
        one.image.sample_id: rows[one.sha256].look
        for one in chosen
        if one.sha256 in rows and rows[one.sha256].look is not None
    }
    missing = [one for one in chosen if one.image.sample_id not in looks]
    for start in range(0, len(missing), LOOKS_AT_ONCE):
        on_progress(start / len(missing), f"looking at the images, {start}/{len(missing)}")
        some = missing[start : start + LOOKS_AT_ONCE]
        found = read_looks([one.image.path for one in some])
        looks |= {one.image.sample_id: look for one, look in zip(some, found, strict=True)}
    return looks


def _to_candidates(context: Context, chosen: Sequence[Reviewed], group_by: str | None) -> Iterator[Candidate]:
    columns = {fields.DUPLICATE_GROUP: context.dataset.field_values(fields.DUPLICATE_GROUP) or {}}
    if group_by is not None:
        values = context.dataset.field_values(group_by)
        if values is None:
            raise LabelingError(f"group-by {group_by!r}: samples have no such field")
        columns[group_by] = values
    for one in chosen:
        held = ((name, values.get(one.image.sample_id)) for name, values in columns.items())
        keys = frozenset(f"{name}={key}" for name, value in held for key in _to_keys(name, value))
        classes = frozenset(name for label in one.said.labels for name in _names(label))
        yield Candidate(one.image.sample_id, one.sha256, keys, classes)


def _to_keys(name: str, value: Any) -> Iterator[str]:
    for one in value if isinstance(value, list | tuple) else (value,):
        if one is None:
            continue
        if not isinstance(one, str | int | float | bool):
            raise LabelingError(f"group-by {name!r}: holds {type(one).__name__} (expected a text or a number)")
        yield str(one)


def _names(label: Label) -> Collection[str]:
    """Return what a label counts as where splits are made even: a class, or an answer with its control."""
    return label.classes if label.geometry is not None else [f"{label.control}={name}" for name in label.classes]


def _to_assigned(rows: Mapping[str, SplitRow]) -> dict[str, Assigned]:
    return {key: Assigned(_to_split(row.split), frozenset(row.keys)) for key, row in rows.items()}


def _to_split(text: str) -> Split:
    return "val" if text == "val" else "test" if text == "test" else "train"


def _to_rows(
    candidates: Sequence[Candidate],
    places: Mapping[str, Place],
    looks: Mapping[str, str | None],
    known: Mapping[str, SplitRow],
) -> dict[str, SplitRow]:
    """Return the rows that are new, or know more than before: keys are kept, since others may still have them."""
    rows: dict[str, SplitRow] = {}
    for one in candidates:
        before = rows.get(one.sha256) or known.get(one.sha256)
        keys = one.keys if before is None else one.keys | set(before.keys)
        row = SplitRow(one.sha256, places[one.sample_id].split, tuple(sorted(keys)), looks[one.sample_id])
        if row != known.get(one.sha256):
            rows[one.sha256] = row
    return rows


def _to_version(
    context: Context,
    choice: Choice,
    places: Mapping[str, Place],
    leaks: Leaks,
    ratios: Ratios,
    group_by: str | None,
) -> Version:
    origins = _Origins(context, choice)
    images = [
        VersionImage(
            one.image.sample_id,
            one.image.path,
            one.sha256,
            one.image.size,
            places[one.image.sample_id].split,
            places[one.image.sample_id].group,
            one.said.has_regions,
            tuple(origins.of(one, label) for label in sorted(one.said.labels, key=lambda label: label.id)),
        )
        for one in sorted(choice.chosen, key=lambda one: one.image.sample_id)
    ]
    version = Version(
        id="",
        content_sha256="",
        dataset=context.project.name,
        classes=context.config.region_classes,
        label_config=context.config.xml,
        images=tuple(images),
        ratios=ratios,
        group_by=group_by,
        tool_versions=_find_tool_versions(),
        leaks=leaks,
    )
    content_sha256 = compute_content_sha256(version)
    recorded = [one.number for one in context.ledger.versions()]
    number = max((*recorded, *map(to_number, list_versions(context.home))), default=0) + 1
    version_id = f"v{number}-{content_sha256[:SHA_DIGITS]}"
    return replace(version, id=version_id, content_sha256=content_sha256)


class _Origins:
    """Knows who said what: from the ledger's reviews, for what FiftyOne holds as it was agreed."""

    def __init__(self, context: Context, choice: Choice) -> None:
        sample_ids = [one.image.sample_id for one in choice.chosen]
        read = context.ledger.base_records([key for key in sample_ids if key not in choice.base_records])
        records = choice.base_records | read
        self._bases = {key: {record["id"]: record for record in records.get(key) or ()} for key in sample_ids}
        self._reviews = {row["annotation_id"]: row for row in context.ledger.reviews()}
        self._rewritten = context.ledger.rewritten([*self._reviews])
        self._verdicts = {
            (row.annotation_id, row.verdict.label_id): row.verdict.kind for row in context.ledger.feedback()
        }
        self._sources = context.dataset.label_sources()

    def of(self, one: Reviewed, label: Label) -> VersionLabel:
        """Return a label with its origin; nothing is known of one that a curator changed since."""
        source = self._sources.get(label.id)
        agreed = self._bases.get(one.image.sample_id, {}).get(label.id)
        review = self._reviews.get(one.link.annotation_id or 0)
        if review is None or agreed is None or not _is_equal(agreed, label):
            return VersionLabel(label, source=source)
        saved = self._rewritten.get(review["annotation_id"])
        is_ours = saved is not None and saved.updated_at == review["annotation_updated_at"]
        verdict = self._verdicts.get((review["annotation_id"], label.id))
        # Labels that people had sent are no prediction.
        version = None if review["model_version"] == fields.SENT_LABELS else review["model_version"]
        if verdict is None and version is not None:
            # Deleted and drawn again over the same object: the verdict has the id of what was predicted.
            verdict = "moved"
        return VersionLabel(
            label,
            reviewer=saved.saved_by if saved is not None and is_ours else review["reviewer"],
            reviewed_at=saved.saved_at if saved is not None and is_ours else review["annotation_updated_at"],
            model_version=version,
            verdict=verdict,
            source=source,
        )


def _is_equal(agreed: Mapping[str, Any], label: Label) -> bool:
    shape, box = label.geometry, agreed.get("box")
    if isinstance(shape, Box) and box is not None and shape.rotation_deg == box[4] == 0:
        # Most labels are these, and the general comparison takes twenty times as long.
        x, y, width, height, _ = box
        off = max(abs(shape.x - x), abs(shape.y - y)) + max(abs(shape.width - width), abs(shape.height - height))
        return agreed["control"] == label.control and tuple(agreed["classes"]) == label.classes and off <= SAME_PX
    return is_same(from_record(agreed), label)


def _find_tool_versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in TOOLS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _find_same(context: Context, version: Version) -> Frozen | None:
    """Return the version that holds the same already; also one that a killed job wrote and did not record."""
    for name in list_versions(context.home):
        is_meant = name.endswith(f"-{version.content_sha256[:SHA_DIGITS]}")
        if is_meant and read_content_sha256(context.home, name) == version.content_sha256:
            return Frozen(replace(version, id=name), is_new=False)
    return None


def _to_frozen_version(version: Version) -> FrozenVersion:
    return FrozenVersion(
        version.id,
        version.number,
        version.content_sha256,
        len(version.images),
        sum(len(image.labels) for image in version.images),
        details={
            "splits": version.split_counts(),
            "ratios": list(version.ratios),
            "group_by": version.group_by,
            "classes": len(version.classes),
            "leaks": version.leaks.total,
            "near": version.leaks.near,
        },
    )
