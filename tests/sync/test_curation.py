"""Plugins' work as jobs: which samples are meant, and what another process added meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fiftyone_plugins.embeddings.store import EmbeddingStore, Key
from labels import fields
from labels.errors import LabelingError
from labels.report import Failure
from sync.jobs.context import Services, open_context
from sync.jobs.curation.searching import search_images
from sync.jobs.registry import call_job
from sync.settings import Project
from tests.fakes.project import CONFIG, FakeProject, open_fake_project
from tests.fakes.stale_schema import forget_fields

EXPECTED = "is not in the dataset; expected the id of a sample, as the FiftyOne App shows it, or the name of its file"


@pytest.fixture
def project(mongod_uri: str, request: pytest.FixtureRequest) -> Iterator[FakeProject]:
    """Three samples in a real dataset."""
    from sync.catalogue.dataset import Dataset

    with open_fake_project(images=3) as fake:
        dataset = Dataset.open(request.node.name, CONFIG)
        dataset.write_images([sample.image for sample in fake.dataset.samples.values()])
        yield replace(fake, context=replace(fake.context, dataset=dataset))
        dataset._dataset.delete()


def group_all(dataset: Any) -> None:
    count = len(dataset)
    dataset.set_values(fields.DUPLICATE_GROUP, ["one"] * count)
    dataset.set_values(fields.DUPLICATE_KEEPER, [True] + [False] * (count - 1))


def test_a_plugins_work_takes_names_of_files_and_fails_for_those_that_are_nobodys(project: FakeProject) -> None:
    group_all(project.context.dataset._dataset)
    report = call_job(project.context, "duplicates_drop", {"sample_ids": ["0001.png", "nosuch"], "dry_run": True})
    assert (report.moved, report.failed) == (1, (Failure("sample nosuch", EXPECTED),))
    with pytest.raises(LabelingError, match=f"sample nosuch: {EXPECTED}"):
        call_job(project.context, "duplicates_drop", {"sample_ids": ["nosuch"]})
    with pytest.raises(LabelingError, match="expected a list of sample ids"):
        call_job(project.context, "duplicates_drop", {"sample_ids": "0001.png"})


def test_a_search_for_what_is_like_no_sample_says_so(project: FakeProject) -> None:
    context, ids = project.context, project.context.dataset.sample_ids()
    store = EmbeddingStore(context.home.curation, context.dataset.name)
    vectors = np.eye(3, dtype=np.float32)[:2]
    store.append(Key("resnet18"), ids[:2], vectors, stamps=["1"] * 2)
    by_name = search_images(context, like=["0001.png"], text=None, count=1)
    assert [(path.name, distance) for path, distance in by_name] == [("0001.png", pytest.approx(0, abs=1e-6))]
    assert search_images(context, like=[ids[1]], text=None, count=1) == by_name
    with pytest.raises(LabelingError, match=f"sample abc: {EXPECTED}"):
        search_images(context, like=["0001.png", "abc"], text=None, count=1)
    with pytest.raises(LabelingError, match="no vector"):
        search_images(context, like=["0002.png"], text=None, count=1)


def test_a_job_sees_the_fields_that_another_process_added(
    project: FakeProject, mongod_uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home, dataset = project.context.home, project.context.dataset
    group_all(dataset._dataset)
    forget_fields(dataset._dataset, fields.DUPLICATE_GROUP, fields.DUPLICATE_KEEPER)
    Project(name=dataset.name, label_studio_id=1).write(home)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "none is asked")
    with open_context(home, Services("http://127.0.0.1:1", "http://127.0.0.1:1", mongod_uri)) as context:
        assert call_job(context, "duplicates_drop", {"dry_run": True}).moved == 2
