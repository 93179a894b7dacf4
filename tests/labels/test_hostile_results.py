"""Annotations that no editor would write: each is carried whole or reported by its task, and nothing breaks.

``LABELLOOP_HOSTILE_PAYLOADS=1000000 uv run pytest tests/labels/test_hostile_results.py`` takes more of them, of another
seed each time.
"""

from __future__ import annotations

import json
import math
import os
import random
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from labels.errors import ItemError
from labels.geometry import Box, Mask
from labels.results import Label, from_record, from_result, is_same, to_record
from sync.catalogue.samples import SamplePrediction
from sync.jobs.exchange.pull import pull
from sync.jobs.exchange.push import push
from sync.jobs.exchange.verify import verify
from tests.fakes.hostile import CONFIG, SIZE, good_regions, make_payloads
from tests.fakes.project import open_fake_project

PAYLOADS = int(os.environ.get("LABELLOOP_HOSTILE_PAYLOADS", "10000"))
SEED = random.SystemRandom().getrandbits(32) if "LABELLOOP_HOSTILE_PAYLOADS" in os.environ else 4
PULLED = 400
LONGEST_MESSAGE = 1000


def test_what_is_not_spoiled_is_carried():
    assert len(from_result(good_regions(), CONFIG, item="task 1")) == 7


def test_every_payload_is_carried_whole_or_reported_by_its_task():
    reported = 0
    for number, payload in enumerate(make_payloads(PAYLOADS, SEED)):
        try:
            labels = from_result(payload, CONFIG, item=f"task {number}")
        except ItemError as error:
            reported += 1
            expect_readable(str(error), number)
        except Exception as error:
            raise AssertionError(f"seed {SEED}, payload {number}: {brief(payload)}") from error
        else:
            assert isinstance(payload, list), f"seed {SEED}, payload {number} is no list: {brief(payload)}"
            assert len(labels) == len(payload), f"seed {SEED}, payload {number}: {brief(payload)}"
            assert len({label.id for label in labels}) == len(labels)
            for label in labels:
                expect_sound(label, f"seed {SEED}, payload {number}: {brief(payload)}")
    # Most of what the generator spoils cannot be carried: else it would prove little.
    assert PAYLOADS * 0.5 < reported < PAYLOADS


def expect_readable(message: str, number: int) -> None:
    assert re.match(rf"task {number}\b", message), message[:200]
    assert len(message) < LONGEST_MESSAGE, message[:200]
    assert "\n" not in message, message[:200]
    message.encode()


def expect_sound(label: Label, where: str) -> None:
    """A label that was carried can be stored, read again, compared, and speaks of what the config knows."""
    control = CONFIG.control(label.control)
    assert set(label.classes) <= set(control.classes), where
    assert re.fullmatch("[0-9a-f]{24}", label.id), where
    record = json.dumps(to_record(label), allow_nan=False)
    assert from_record(json.loads(record)) == label, where
    assert is_same(label, label), where
    assert (label.geometry is not None) == control.is_region, where
    if isinstance(label.geometry, Box):
        assert label.geometry.width >= 0, where
        assert label.geometry.height >= 0, where
    if not isinstance(label.geometry, Mask | None):
        assert all(map(math.isfinite, label.geometry.to_xyxy())), where
    if label.rating is not None:
        assert control.max_rating is not None, where
        assert 0 <= label.rating <= control.max_rating, where


def brief(payload: Any) -> str:
    try:
        return repr(payload)[:600]
    except RecursionError:
        return "(deeply nested)"


@pytest.mark.filterwarnings("error")
def test_a_pull_reports_every_task_it_cannot_carry_and_merges_the_others():
    payloads = list(make_payloads(PULLED, SEED, deepest=100))
    with open_fake_project(images=PULLED + 1, config=CONFIG, size=SIZE) as project:
        push(project.context)
        task_ids = project.task_ids()
        *spoiled, good = project.sample_ids
        for sample_id, payload in zip(spoiled, payloads, strict=True):
            # As an import would leave it there: the server looks at nothing.
            project.server.add_annotation(task_ids[sample_id], {"result": payload})
            project.server.touch(task_ids[sample_id])
        project.annotator.submit(task_ids[good], good_regions())

        report = pull(project.context)

        held = project.context.dataset.labels()
        assert len(held[good].labels) == 7
        failed = {int(found[1]) for one in report.failed if (found := re.match(r"task (\d+)", one.item))}
        assert len(report.failed) == len(failed)
        for sample_id, payload in zip(spoiled, payloads, strict=True):
            is_reported, is_held = task_ids[sample_id] in failed, sample_id in held
            assert is_reported != is_held, brief(payload)
            if is_held:
                assert len(held[sample_id].labels) == len(payload), brief(payload)
        # Once more: the same are reported, and nothing else moves.
        again = pull(project.context)
        assert (again.moved, again.failed) == (0, report.failed)
        json.dumps(report.to_dict(), allow_nan=False).encode()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("policy", ["latest", "ground_truth", "agreement"])
def test_what_cannot_be_carried_beside_a_prediction_and_a_second_answer_ends_no_job(policy: str):
    number = PULLED // 10
    with open_fake_project(images=number, config=CONFIG, size=SIZE) as project:
        drawn = [replace(label, confidence=0.5) for label in from_result(good_regions(), CONFIG, item="good")]
        project.context.dataset.write_predictions(
            {
                sample_id: SamplePrediction("fake-1", 0.5, tuple(_renamed(drawn, image)))
                for image, sample_id in enumerate(project.sample_ids)
            }
        )
        push(project.context)
        task_ids, shown = project.task_ids(), {row["task"]: row["id"] for row in project.server.predictions.values()}
        for sample_id, payload in zip(project.sample_ids, make_payloads(number, SEED, deepest=100), strict=True):
            task_id = task_ids[sample_id]
            values = {"result": payload, "completed_by": 2, "updated_by": 2, "parent_prediction": shown[task_id]}
            project.server.add_annotation(task_id, values)
            project.server.touch(task_id)
            project.annotator.submit(task_id, good_regions(), completed_by=3, parent_prediction=shown[task_id])

        report = pull(project.context, annotators=policy)

        assert "a mistake of labelloop" not in json.dumps(report.to_dict())
        assert report.moved + len(report.failed) == number
        assert (report.moved == number) == (policy != "agreement")
        again = pull(project.context, annotators=policy)
        assert (again.moved, again.failed) == (0, report.failed)
        assert "a mistake of labelloop" not in json.dumps(verify(project.context).to_dict())


def _renamed(labels: list[Label], image: int) -> Iterator[Label]:
    for place, label in enumerate(labels):
        yield replace(label, id=f"{image:012x}{place:012x}")
