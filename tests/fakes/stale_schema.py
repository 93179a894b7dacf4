"""A dataset as a process has it that opened it before another one added fields."""

from __future__ import annotations

from typing import Any


def forget_fields(dataset: Any, *names: str) -> None:
    """Make this process's object of the dataset one that never heard of these fields; the database has them."""
    collection = dataset._sample_collection.database["datasets"]
    known = collection.find_one({"name": dataset.name})
    old = [one for one in known["sample_fields"] if one["name"] not in names]
    collection.update_one({"name": dataset.name}, {"$set": {"sample_fields": old}})
    dataset.reload()
    collection.update_one({"name": dataset.name}, {"$set": {"sample_fields": known["sample_fields"]}})
    assert not any(dataset.has_sample_field(name) for name in names)
