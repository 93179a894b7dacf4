"""Which samples a job has to look at: asked of the database, one id at a time, so that none holds those it has not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from bson import ObjectId

from labels import fields
from sync.catalogue.stored_labels import reporting_errors

CHANGED_AT: Final = "last_modified_at"
IDS_PER_READ: Final = 5000
PUT_ASIDE: Final = (fields.TRASH_TAG, fields.DUPLICATE_TAG)
"""Tags of samples that are sent only when they are named."""
ABSENT: Final = {"$in": [None, 0, ""]}


class SampleFinder:
    """Finds samples of one FiftyOne dataset.

    Raises:
        ServiceError: from every method, when MongoDB does not answer.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def count(self) -> int:
        """Return how many samples there are."""
        with reporting_errors():
            return int(self._dataset.count())

    def field_values(self, name: str) -> dict[str, Any] | None:
        """Return the values of a field by sample id; None: samples have no such field."""
        with reporting_errors():
            if not self._dataset.has_sample_field(name):
                # One that a plugin added in another process is not known here yet.
                self._dataset.reload()
            if not self._dataset.has_sample_field(name):
                return None
            ids, values = self._dataset.values(["id", name])
        return dict(zip(map(str, ids), values, strict=True))

    def unsent_ids(self) -> Iterator[str]:
        """Yield the samples without a review state, the most uncertain first; not those that were put aside."""
        order = [(fields.UNCERTAINTY, -1), ("_id", 1)]
        return self._find_ids({fields.REVIEW_STATE: None, "tags": {"$nin": list(PUT_ASIDE)}}, order)

    def unsent_count(self) -> int:
        """Return how many samples have no review state."""
        with reporting_errors():
            return int(self._dataset._sample_collection.count_documents({fields.REVIEW_STATE: None}))

    def sort_ids(self, sample_ids: Sequence[str]) -> list[str]:
        """Return these samples in the order in which they are sent, the most uncertain first, without those gone."""
        order = [(fields.UNCERTAINTY, -1), ("_id", 1)]
        chosen = [ObjectId(sample_id) for sample_id in sample_ids if ObjectId.is_valid(sample_id)]
        return list(self._find_ids({"_id": {"$in": chosen}}, order)) if chosen else []

    def sent_ids(self) -> Iterator[str]:
        """Yield the samples with a review state."""
        return self._find_ids({fields.REVIEW_STATE: {"$ne": None}}, [("_id", 1)])

    def changed_ids(self, since: datetime | None) -> Iterator[str]:
        """Yield the samples that were changed at that moment or later, by whomever; None: all."""
        return self._find_ids({} if since is None else {CHANGED_AT: {"$gte": since}}, [("_id", 1)])

    def newest_change(self) -> datetime | None:
        """Return when a sample was changed last (UTC); None: there is none."""
        with reporting_errors():
            newest = self._dataset._sample_collection.find_one({}, {CHANGED_AT: 1}, sort=[(CHANGED_AT, -1)])
        return None if newest is None else to_utc(newest.get(CHANGED_AT))

    def undrawn_ids(self, model_version: str) -> Iterator[str]:
        """Yield the samples that have no prediction of these weights."""
        condition = {"$or": [{fields.MODEL_VERSION: {"$ne": model_version}}, {fields.UNCERTAINTY: None}]}
        return self._find_ids(condition, [("_id", 1)])

    def incomplete_ids(self) -> Iterator[str]:
        """Yield the samples whose image size or content sum is not known."""
        names = ("metadata.width", "metadata.height", fields.IMAGE_SHA256)
        return self._find_ids({"$or": [{name: ABSENT} for name in names]}, [("_id", 1)])

    def ids_of_files(self, names: Sequence[str]) -> dict[str, list[str]]:
        """Return the samples whose file has one of these names, by name; a name may have folders in front.

        Both the file that is shown and the person's own count; a name that no file has is left out.
        """
        found: dict[str, list[str]] = {}
        for name in filter(None, dict.fromkeys(names)):
            ends = {"$regex": f"(^|/){re.escape(name)}$"}
            is_named = {"$or": [{path: ends} for path in ("filepath", fields.SOURCE_PATH)]}
            ids = list(self._find_ids(is_named, [("_id", 1)]))
            if ids:
                found[name] = ids
        return found

    def _find_ids(self, condition: Mapping[str, Any], order: Sequence[tuple[str, int]]) -> Iterator[str]:
        # Straight from the collection: a view of FiftyOne loads the whole column before it gives the first id.
        with reporting_errors():
            found = (
                self._dataset._sample_collection.find(condition, {"_id": 1})
                .sort(list(order))
                .allow_disk_use(True)
                .batch_size(IDS_PER_READ)
            )
            for document in found:
                yield str(document["_id"])


def to_utc(moment: datetime | None) -> datetime | None:
    """Return a moment of the database in UTC."""
    # MongoDB keeps UTC and hands it out without saying so, FiftyOne may have said it.
    if moment is None:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
