"""Changes tags of samples in MongoDB: in one step a sample, so that what a person tags meanwhile is not overruled."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pymongo.errors import PyMongoError

from fiftyone_plugins.app.writing import CHANGED_AT
from labels.errors import ServiceError


def change_tags(
    dataset: Any,
    sample_ids: Sequence[str],
    condition: Mapping[str, Any],
    *,
    put: Collection[str],
    take: Collection[str] = (),
) -> int:
    """Take tags off samples and put others on, of those that MongoDB's ``condition`` holds of; return of how many.

    Raises:
        ServiceError: MongoDB does not answer.
    """
    from bson import ObjectId

    known = {"$ifNull": ["$tags", []]}
    others = {"$filter": {"input": known, "cond": {"$not": [{"$in": ["$$this", [*put, *take]]}]}}}
    changed = {"tags": {"$concatArrays": [others, sorted(put)]}, CHANGED_AT: "$$NOW"}
    chosen = {"_id": {"$in": [ObjectId(one) for one in sample_ids]}, **condition}
    try:
        return int(dataset._sample_collection.update_many(chosen, [{"$set": changed}]).matched_count)
    except PyMongoError as error:
        raise ServiceError(f"MongoDB: {error}") from error
