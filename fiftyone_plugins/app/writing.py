"""Writes values of samples in bulk: one update a sample, so that a sample has all of them or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pymongo import UpdateOne
from pymongo.errors import PyMongoError

from labels.errors import ServiceError

CHANGED_AT: Final = "last_modified_at"


def write_values(dataset: Any, values: Mapping[str, Mapping[str, Any]]) -> None:
    """Set declared fields of samples, by sample id and field name; values are as the database holds them.

    Raises:
        ServiceError: MongoDB does not answer.
    """
    from bson import ObjectId

    updates = [
        UpdateOne({"_id": ObjectId(sample_id)}, {"$set": dict(named), "$currentDate": {CHANGED_AT: True}})
        for sample_id, named in values.items()
    ]
    if not updates:
        return
    try:
        dataset._sample_collection.bulk_write(updates, ordered=False)
    except PyMongoError as error:
        raise ServiceError(f"MongoDB: {error}") from error


def group_in_sidebar(dataset: Any, name: str, paths: Sequence[str]) -> None:
    """Show fields under a heading of their own in the App, where a person has not put them elsewhere."""
    import fiftyone as fo

    groups = dataset.app_config.sidebar_groups or fo.DatasetAppConfig.default_sidebar_groups(dataset)
    # What is new lands in a group of FiftyOne's; what a person moved into one of their own stays there.
    taken = {path for group in groups if group.name not in ("primitives", "labels", "other") for path in group.paths}
    wanted = [path for path in paths if path not in taken]
    if not wanted:
        return
    for group in groups:
        group.paths = [path for path in group.paths if path not in wanted]
    found = next((group for group in groups if group.name == name), None)
    if found is None:
        groups.append(fo.SidebarGroupDocument(name=name, paths=wanted, expanded=False))
    else:
        found.paths = [*found.paths, *wanted]
    dataset.app_config.sidebar_groups = groups
    dataset.save()
