"""Choosing on a real MongoDB, sending to a Label Studio in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fiftyone_plugins.embeddings.store import EmbeddingStore, Key
from labels import fields
from labels.errors import LabelingError
from labels.results import Label
from sync.catalogue.samples import NewImage, SamplePrediction
from sync.jobs.exchange.pull import pull
from sync.jobs.exchange.push import push
from sync.jobs.exchange.queue import choose, queue
from sync.jobs.parameters import check_params
from tests.fakes.killing import KilledError, KillSwitch
from tests.fakes.project import CONFIG, FakeProject, open_fake_project

IMAGES = 8


@pytest.fixture
def project(mongod_uri: str, request: pytest.FixtureRequest) -> Iterator[FakeProject]:
    """Eight samples in a real dataset, the last without an uncertainty."""
    from sync.catalogue.dataset import Dataset

    with open_fake_project(images=IMAGES) as fake:
        dataset = Dataset.open(request.node.name, CONFIG)
        images: list[NewImage] = [sample.image for sample in fake.dataset.samples.values()]
        sample_ids = dataset.write_images(images)
        drawn = {
            sample_id: SamplePrediction("fake-1", number / 10, ())
            for number, sample_id in enumerate(sample_ids[: IMAGES - 1])
        }
        dataset.write_predictions(drawn)
        yield replace(fake, context=replace(fake.context, dataset=dataset))
        dataset._dataset.delete()


def numbers(project: FakeProject, sample_ids: list[str]) -> list[int]:
    """Return which image each sample is, counted from 0."""
    order = project.context.dataset.sample_ids()
    return [order.index(sample_id) for sample_id in sample_ids]


def chosen(project: FakeProject, **wish: Any) -> list[int]:
    return numbers(project, [one.sample_id for one in choose(project.context, **wish).chosen])


def sent(project: FakeProject) -> set[int]:
    return {*numbers(project, list(project.task_ids()))}


def set_column(project: FakeProject, name: str, values: list[Any]) -> None:
    dataset = project.context.dataset._dataset
    dataset.set_values(name, values)
    dataset.save()


def write_embeddings(
    project: FakeProject, vectors: Mapping[str, Sequence[float] | None], *, model: str = "resnet18", written_at: int = 1
) -> None:
    """Keep the vectors of samples in the store, as if they were computed at that time; None: not computed."""
    store = EmbeddingStore(project.context.home.curation, project.context.dataset.name)
    known = {sample_id: vector for sample_id, vector in vectors.items() if vector is not None}
    rows = np.array(list(known.values()), dtype=np.float32)
    store.append(Key(model), list(known), rows, stamps=["1"] * len(known))
    for file in (store.folder / Key(model).name).glob("*.npz"):
        os.utime(file, ns=(written_at, written_at))


def test_the_most_uncertain_are_sent_and_saved_as_a_view(project: FakeProject):
    report = queue(project.context, by="uncertainty", count=3, view="next")
    assert (report.moved, report.unchanged, report.failed) == (3, 5, ())
    assert sent(project) == {6, 5, 4}
    dataset = project.context.dataset._dataset
    dataset.reload()
    assert numbers(project, dataset.load_saved_view("next").values("id")) == [6, 5, 4]
    assert dataset.get_saved_view_info("next")["description"] == "labelloop queue: 3 by uncertainty, sent"
    assert report.details == {"chosen": 3, "never sent before": 8, "tasks created": 3}
    # Again: the next ones, under the same name.
    queue(project.context, by="uncertainty", count=3, view="next")
    assert sent(project) == {6, 5, 4, 3, 2, 1}


def test_what_has_no_value_comes_last_and_is_said(project: FakeProject):
    report = queue(project.context, by="uncertainty", count=99)
    assert report.moved == IMAGES
    assert chosen(project, by="random", count=9) == []
    assert report.details["chosen without a value"] == 1
    assert "without uncertainty: 1 of the chosen; they come last; labelloop prelabel computes it" in report.notes


def test_a_dry_run_says_what_would_be_sent_and_changes_nothing(project: FakeProject):
    before = [list(project.context.dataset._dataset._sample_collection.find()), project.context.ledger.snapshot()]
    report = queue(project.context, by="uncertainty", count=2, view="next", dry_run=True)
    assert (report.is_dry_run, report.moved) == (True, 2)
    assert list(report.notes) == [
        "would send 0006.png (uncertainty 0.6)",
        "would send 0005.png (uncertainty 0.5)",
        "chosen by uncertainty: 0.6 down to 0.5",
    ]
    assert sent(project) == set()
    after = [list(project.context.dataset._dataset._sample_collection.find()), project.context.ledger.snapshot()]
    assert after == before
    assert not project.context.dataset._dataset.has_saved_view("next")


def test_where_all_that_is_left_was_put_aside_it_is_said_how_many(project: FakeProject):
    queue(project.context, by="uncertainty", count=3)
    left = project.context.dataset._dataset.match({fields.REVIEW_STATE: None})
    left[:2].tag_samples(fields.TRASH_TAG)
    left[2:].tag_samples(fields.DUPLICATE_TAG)
    (note,) = queue(project.context, by="random", count=3).notes
    assert note.startswith("nothing to choose from: 5 never sent, tagged trash or duplicate; every other sample was ")


def test_any_field_with_numbers_can_be_chosen_by(project: FakeProject):
    set_column(project, "brightness", [5.0, 1.0, None, 9.0, float("nan"), 2.5, 0.0, -1.0])
    assert chosen(project, by="brightness", count=8) == [3, 0, 5, 1, 6, 7, 2, 4]
    set_column(project, fields.MISTAKENNESS, [0.1, 0.9, None, None, None, None, None, None])
    assert chosen(project, by="mistake", count=2) == [1, 0]


def test_what_nobody_has_is_nothing_to_choose_by(project: FakeProject):
    set_column(project, "brightness", [1.0] * 8)
    offered = r"\(known: uncertainty, mistake, diversity, random, brightness(, u_\w+)*\)"
    with pytest.raises(LabelingError, match=rf"'reviewer': no such field.*{offered}$"):
        choose(project.context, by="reviewer", count=1)
    with pytest.raises(LabelingError, match="no sample has 'mistakenness' yet"):
        choose(project.context, by="mistake", count=1)
    with pytest.raises(LabelingError, match="has an embedding; labelloop embed computes it"):
        choose(project.context, by="diversity", count=1)
    set_column(project, fields.UNCERTAINTY, [None] * IMAGES)
    with pytest.raises(LabelingError, match="has 'uncertainty'; labelloop prelabel computes it"):
        choose(project.context, by="uncertainty", count=1)
    with pytest.raises(LabelingError, match="count 0"):
        choose(project.context, by="random", count=0)


def test_diversity_goes_far_from_what_waits_and_from_what_is_reviewed(project: FakeProject):
    axes = [[1, 0, 0], [0, 1, 0], [0.99, 0.1, 0], [0, 0.3, 1], [-1, 0, 0], [0, -1, 0], None, None]
    ids = project.context.dataset.sample_ids()
    write_embeddings(project, dict(zip(ids, axes, strict=True)))
    push(project.context, sample_ids=ids[:2])
    task = project.task_ids()[ids[1]]
    project.context.label_studio._sdk.annotations.create(id=task, result=[], was_cancelled=False)
    pull(project.context)
    # 4 and 5 are at right angles to both of them, 3 leans to what is reviewed, 2 is nearly the same as what waits.
    choice = choose(project.context, by="diversity", count=8)
    assert numbers(project, [one.sample_id for one in choice.chosen]) == [4, 5, 3, 6, 7]
    assert numbers(project, list(choice.held_back)) == [2]
    assert (choice.without_value, choice.candidates) == (2, 6)


def test_near_duplicates_of_the_newest_embeddings_are_held_back_by_every_strategy(project: FakeProject):
    ids = project.context.dataset.sample_ids()
    # By the older model 5 and 6 are at right angles, by the newer one nearly the same.
    older, newer = ({ids[6]: [1.0, 0.0], ids[5]: axis, ids[4]: [-1.0, 0.0]} for axis in ([0.0, 1.0], [0.99, 0.1]))
    write_embeddings(project, older, model="older", written_at=1)
    write_embeddings(project, newer, model="newer", written_at=2)
    choice = choose(project.context, by="uncertainty", count=2)
    assert numbers(project, [one.sample_id for one in choice.chosen]) == [6, 4]
    assert numbers(project, list(choice.held_back)) == [5]


def test_the_same_file_twice_and_one_of_a_duplicate_group_wait(project: FakeProject):
    set_column(project, fields.DUPLICATE_GROUP, ["x", "x", "x", None, None, None, None, None])
    sums = project.context.dataset._dataset.values(fields.IMAGE_SHA256)
    set_column(project, fields.IMAGE_SHA256, [*sums[:4], sums[3], *sums[5:]])
    assert chosen(project, by="uncertainty", count=8) == [6, 5, 4, 2, 7]


def test_a_view_somebody_saved_is_left_alone(project: FakeProject):
    dataset = project.context.dataset._dataset
    dataset.save_view("mine", dataset.limit(1))
    with pytest.raises(LabelingError, match="the view 'mine' is not labelloop's"):
        queue(project.context, by="random", count=1, view="mine")
    assert sent(project) == set()
    dataset.reload()
    assert len(dataset.load_saved_view("mine")) == 1


def test_a_file_that_is_gone_is_reported_and_the_others_are_sent(project: FakeProject):
    images = list(project.context.dataset.images().values())
    images[6].path.unlink()
    report = queue(project.context, by="uncertainty", count=2, view="next")
    assert (report.moved, len(report.failed)) == (1, 1)
    assert sent(project) == {5}
    # It is not in the way of the next call.
    assert queue(project.context, by="random", count=9, view="next").moved == IMAGES - 2


def test_a_choice_killed_at_any_write_goes_on_with_the_same_samples(project: FakeProject):
    undisturbed = KillSwitch()
    guarded = undisturbed.guard(project.context)
    ids = project.context.dataset.sample_ids()
    queue(guarded, by="random", seed=0, count=2, view="first")
    assert undisturbed.writes >= 4
    wanted: set[int] = sent(project)
    for at in range(1, undisturbed.writes + 1):
        left = [n for n in range(len(ids)) if n not in sent(project)]
        if len(left) < 2:
            break
        wish = {"by": "random", "seed": at, "count": 2, "view": f"view {at}"}
        expected = chosen(project, by="random", seed=at, count=2)
        with pytest.raises(KilledError):
            queue(KillSwitch(at).guard(project.context), **wish)
        queue(project.context, **wish)
        wanted |= {*expected}
        assert sent(project) == wanted


def test_a_ledger_alone_knows_what_was_sent(project: FakeProject):
    """A push that was killed has not written the states yet."""
    ids = project.context.dataset.sample_ids()
    push(project.context, sample_ids=ids[4:7])
    set_column(project, fields.REVIEW_STATE, [None] * IMAGES)
    assert chosen(project, by="uncertainty", count=2) == [3, 2]


def test_labels_of_a_curator_are_no_reason_not_to_send(project: FakeProject):
    ids = project.context.dataset.sample_ids()
    project.context.dataset.write_labels({ids[0]: [Label("f" * 24, "quality", ("keep",))]})
    assert 0 in chosen(project, by="random", count=8)


def test_a_part_of_what_is_chosen_is_drawn_at_random_and_said(project: FakeProject):
    best = chosen(project, by="uncertainty", count=5, random_percent=0)
    mixed = chosen(project, by="uncertainty", count=5, random_percent=40)
    report = queue(project.context, by="uncertainty", count=5, random_percent=40)

    assert mixed[:3] == best[:3]
    assert len(set(mixed)) == 5
    assert mixed[3:] != best[3:]
    assert sent(project) == set(mixed)
    assert report.details["drawn at random"] == 2
    assert "2 of them drawn at random from the rest, so that reviews tell of all images" in report.notes


def test_few_are_all_chosen_and_many_have_a_random_tenth(project: FakeProject):
    few, many = (choose(project.context, by="uncertainty", count=count) for count in (4, 6))

    assert (few.at_random, many.at_random) == (0, 1)
    assert [one.value is None for one in many.chosen] == [False] * 5 + [True]


@pytest.mark.parametrize("percent", [-1, 101, "10", True])
def test_no_other_part_than_0_to_100_percent_can_be_asked_for(percent: Any):
    with pytest.raises(LabelingError, match="random_percent"):
        check_params("queue", {"by": "uncertainty", "count": 1, "random_percent": percent})


def test_what_a_curator_put_aside_is_not_chosen(project: FakeProject) -> None:
    before = chosen(project, by="uncertainty", count=IMAGES)
    set_column(project, "tags", [[fields.DUPLICATE_TAG], [fields.TRASH_TAG], ["night"], *[[]] * (IMAGES - 3)])
    assert chosen(project, by="uncertainty", count=IMAGES) == [number for number in before if number not in (0, 1)]
