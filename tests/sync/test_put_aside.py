"""What a curator put aside is sent only when it is named."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from labels import fields
from labels.config import LabelConfig, default_label_config_path


@pytest.fixture
def dataset(mongod_uri: str) -> Iterator[Any]:
    from sync.catalogue.dataset import Dataset

    opened = Dataset.open("put-aside", LabelConfig.read(default_label_config_path()))
    yield opened
    opened._dataset.delete()


def test_trash_and_dropped_duplicates_are_not_among_what_was_not_sent_yet(dataset: Any) -> None:
    import fiftyone as fo

    tags = [[], [fields.TRASH_TAG], [fields.DUPLICATE_TAG], ["night"], [fields.KEEP_TAG]]
    samples = [fo.Sample(filepath=f"/photos/{number}.jpg", tags=tags[number]) for number in range(5)]
    first, trash, _, fourth, fifth = dataset._dataset.add_samples(samples, progress=False)

    assert list(dataset.unsent_ids()) == [first, fourth, fifth]
    assert sorted(dataset.sort_ids([trash, first])) == sorted([first, trash])
