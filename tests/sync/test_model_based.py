"""Anything people and jobs may do, in any order: no label is lost, none is doubled, and syncing twice is syncing once.

Hypothesis draws the actions: people at both ends, jobs, jobs that are killed at some write. Both tools are in memory
(``tests/fakes``), the ledger and the jobs are the real ones. What must hold is computed by a model that shares no code
with them (``tests/fakes/model.py``).

The everyday size is 60 examples of 30 steps, the same at each run. More, and other ones at each run:
``LABELLOOP_MODEL_EXAMPLES=2000 LABELLOOP_MODEL_STEPS=60 uv run pytest tests/sync/test_model_based.py``.
"""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from labels.errors import LabelingError
from labels.geometry import Box, Polygon
from labels.report import Report
from labels.results import Label
from sync.jobs.exchange.prelabel import prelabel
from sync.jobs.exchange.pull import pull
from sync.jobs.exchange.push import push
from sync.jobs.exchange.resolve import resolve
from sync.jobs.exchange.sweep import sweep
from sync.jobs.exchange.verify import verify
from sync.workbench.label_studio import NoAnswerError, to_timestamp
from tests.fakes.killing import LATE, KilledError, KillSwitch
from tests.fakes.model import CONTROLS, Key, Prefer, SampleModel
from tests.fakes.oracle import Oracle, to_key
from tests.fakes.people import EDITS as EDIT_NAMES
from tests.fakes.people import Regions, edit_regions, to_plain
from tests.fakes.project import CONFIG, SIZE, open_fake_project

EXAMPLES = int(os.environ.get("LABELLOOP_MODEL_EXAMPLES", "60"))
STEPS = int(os.environ.get("LABELLOOP_MODEL_STEPS", "30"))
IMAGES = 3
SLOW_COMMIT_S = 5

SAMPLES = st.integers(0, IMAGES - 1)
PICKS = st.integers(0, 5)
PLACES = st.integers(0, 30)
CLASSES = st.sampled_from(("car", "dog", "bus"))
# How much later a request is carried out whose sender was killed meanwhile.
LATE_S = {"soon": 0.3, "late": 40.0}
MOMENTS = st.sampled_from(("before", "after", *LATE_S))
ENDS = st.none() | st.tuples(st.integers(1, 12), MOMENTS, st.sampled_from((KilledError, NoAnswerError)))
CHUNKS = st.integers(1, IMAGES)
EDITS = st.sampled_from(EDIT_NAMES)

SHOWN = ("task", "model_version", "score", "result")

Job = Callable[..., Report]


class Forgetful:
    """A client of Label Studio whose tasks are made with nothing on them, and which never hears of it."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def send_tasks(self, tasks: Sequence[Mapping[str, Any]]) -> None:
        self._client.send_tasks([{"data": task["data"]} for task in tasks])
        raise NoAnswerError("Label Studio: no answer (timed out)")


class BothSides(RuleBasedStateMachine):
    """A project of three images, an annotator, a curator, and the jobs between them."""

    def __init__(self) -> None:
        super().__init__()
        self._open = ExitStack()
        self.project = self._open.enter_context(open_fake_project(images=IMAGES))
        self.ids = self.project.sample_ids
        self.oracle = Oracle({sample_id: SampleModel() for sample_id in self.ids})
        self.people = self.oracle.people
        self.drawn = 0

    def teardown(self) -> None:
        try:
            self.sync_until_settled()
        finally:
            self._open.close()

    # The curator

    @rule(sample=SAMPLES, place=PLACES, name=CLASSES)
    def curator_draws(self, sample: int, place: int, name: str) -> None:
        self._curate(sample, lambda labels: [*labels, Label(self._new_id(), "label", (name,), Box(place, 10, 20, 15))])

    @rule(sample=SAMPLES, place=PLACES)
    def curator_draws_an_outline(self, sample: int, place: int) -> None:
        outline = Polygon(((place, 1), (place + 20, 5), (place + 8, 30)))
        self._curate(sample, lambda labels: [*labels, Label(self._new_id(), "outline", ("lake",), outline)])

    @rule(sample=SAMPLES, pick=PICKS, place=PLACES)
    def curator_moves(self, sample: int, pick: int, place: int) -> None:
        self._curate_one(sample, pick, lambda label: replace(label, geometry=Box(place, 40, 21, 16)), "label")

    @rule(sample=SAMPLES, pick=PICKS, name=CLASSES)
    def curator_relabels(self, sample: int, pick: int, name: str) -> None:
        self._curate_one(sample, pick, lambda label: replace(label, classes=(name,)), "label")

    @rule(sample=SAMPLES, pick=PICKS)
    def curator_deletes(self, sample: int, pick: int) -> None:
        self._curate_one(sample, pick, lambda label: None)

    @rule(sample=SAMPLES, name=st.sampled_from(("keep", "trash")))
    def curator_answers(self, sample: int, name: str) -> None:
        answer = Label(self._new_id(), "quality", (name,))
        self._curate(sample, lambda labels: [*(one for one in labels if one.control != "quality"), answer])

    @rule(sample=SAMPLES, rating=st.integers(1, 5))
    def curator_rates(self, sample: int, rating: int) -> None:
        answer = Label(self._new_id(), "stars", rating=rating)
        self._curate(sample, lambda labels: [*(one for one in labels if one.control != "stars"), answer])

    @rule(sample=SAMPLES, control=st.sampled_from(CONTROLS))
    def curator_clears_a_field(self, sample: int, control: str) -> None:
        self.project.dataset.clear(self.ids[sample], control)
        self.oracle.curated(self.ids[sample], self.project.view())

    @rule(sample=SAMPLES)
    def curator_forgets_the_size(self, sample: int) -> None:
        self.project.dataset.forget_size(self.ids[sample])

    @rule(sample=SAMPLES)
    def curator_saves_by_a_clock_that_is_a_day_ahead(self, sample: int) -> None:
        held = self.project.dataset.samples[self.ids[sample]]
        held.modified_at = self.project.server.clock.now() + timedelta(days=1)

    # The annotator

    @rule(sample=SAMPLES, edit=EDITS, place=PLACES, person=st.sampled_from((1, 2)))
    def annotator_submits(self, sample: int, edit: str, place: int, person: int) -> None:
        task_id = self._task_of(sample)
        task = None if task_id is None else self.project.annotator.read(task_id)
        if task_id is None or task is None:
            return
        shown = task.predictions[-1] if task.predictions else None
        regions = self._edited(to_plain(shown.result) if shown else [], edit, place)
        values = {"completed_by": person, "parent_prediction": shown.prediction_id if shown else None}
        annotation_id = self.project.annotator.submit(task_id, regions, **values)
        self.people[annotation_id] = (regions, False)

    @rule(sample=SAMPLES, pick=PICKS, edit=EDITS, place=PLACES)
    def annotator_edits(self, sample: int, pick: int, edit: str, place: int) -> None:
        row = self._annotation_of(sample, pick)
        if row is not None:
            regions = self._edited(to_plain(row["result"]), edit, place)
            self.project.annotator.edit(row["id"], regions)
            self.people[row["id"]] = (regions, False)

    @rule(sample=SAMPLES, other=SAMPLES, edit=EDITS, place=PLACES)
    def annotator_submits_slowly(self, sample: int, other: int, edit: str, place: int) -> None:
        """Label Studio stamps a change before it commits it: a pull between sees a later one, and not this."""
        task_id, server = self._task_of(sample), self.project.server
        stamp = server.clock.now()
        server.clock.sleep(SLOW_COMMIT_S)
        self.annotator_skips(other)
        self.job_pull(None, IMAGES, None, False)
        if task_id is not None and other != sample:
            regions = self._edited([], edit, place)
            annotation_id = self.project.annotator.submit(task_id, regions)
            self.people[annotation_id] = (regions, False)
            server.annotations[annotation_id]["updated_at"] = to_timestamp(stamp)
            server.tasks[task_id]["updated_at"] = stamp

    @rule(sample=SAMPLES)
    def annotator_skips(self, sample: int) -> None:
        task_id = self._task_of(sample)
        if task_id is not None:
            self.people[self.project.annotator.skip(task_id)] = ([], True)

    @rule(sample=SAMPLES)
    def annotator_leaves_a_draft(self, sample: int) -> None:
        task_id = self._task_of(sample)
        if task_id is not None:
            self.project.annotator.save_draft(task_id, self._edited([], "add", 3))

    @rule(sample=SAMPLES, pick=PICKS)
    def annotator_uses_a_word_nobody_knows(self, sample: int, pick: int) -> None:
        row = self._annotation_of(sample, pick)
        if row is not None and row["result"] and "rectanglelabels" in row["result"][0]["value"]:
            regions = to_plain(row["result"])
            regions[0]["value"]["rectanglelabels"] = ["zeppelin"]
            self.project.annotator.edit(row["id"], regions)
            self.people[row["id"]] = (regions, False)

    @rule(sample=SAMPLES, pick=PICKS, on=st.booleans())
    def annotator_marks_ground_truth(self, sample: int, pick: int, on: bool) -> None:
        row = self._annotation_of(sample, pick)
        if row is not None:
            self.project.annotator.mark_ground_truth(row["id"], on=on)
            self.people[row["id"]] = (row["result"], row["was_cancelled"])

    @rule(sample=SAMPLES, pick=PICKS)
    def annotator_deletes_an_annotation(self, sample: int, pick: int) -> None:
        row = self._annotation_of(sample, pick)
        if row is not None:
            self.project.annotator.delete_annotation(row["id"])
            if self.people.pop(row["id"], None) is None and row["id"] in self.oracle.corrections:
                self.oracle.refused.add(self.ids[sample])

    @rule(sample=SAMPLES)
    def annotator_deletes_a_task(self, sample: int) -> None:
        task_id = self._task_of(sample)
        if task_id is not None:
            for row in self.project.server.of_task(self.project.server.annotations, task_id):
                self.people.pop(row["id"], None)
            self.project.annotator.delete_task(task_id)

    @rule(seconds=st.sampled_from((1, 7, 60)))
    def time_passes(self, seconds: int) -> None:
        self.project.server.clock.sleep(seconds)

    # The jobs

    @rule(version=st.sampled_from(("fake-1", "fake-1", "fake-2")), end=ENDS)
    def job_prelabel(self, version: str, end: Any) -> None:
        self.project.backend.model_version = version
        self._run(prelabel, end)

    @rule(end=ENDS, chunk=CHUNKS, sample=st.none() | SAMPLES)
    def job_push(self, end: Any, chunk: int, sample: int | None) -> None:
        sample_ids = None if sample is None else [self.ids[sample]]
        is_done = self._run(push, end, sample_ids=sample_ids, tasks_per_import=chunk)
        self.oracle.note_sent(self.project.view(), surely=is_done)

    @rule(delay_s=st.sampled_from(tuple(LATE_S.values())), job=st.sampled_from((push, prelabel)), sample=SAMPLES)
    def job_dies_while_label_studio_works(self, delay_s: float, job: Job, sample: int) -> None:
        """Label Studio goes on with the request, and a curator with the labels; then the next job comes."""
        if job is prelabel:
            self.project.backend.model_version = "fake-2"
        switch = KillSwitch(LATE, late=partial(self._carry_out_later, delay_s))
        with contextlib.suppress(KilledError):
            job(switch.guard(self.project.context))
        self.oracle.note_sent(self.project.view(), surely=not switch.is_over)
        self.curator_rates(sample, 3)

    @rule(end=ENDS, chunk=CHUNKS, prefer=st.sampled_from((None, None, "reviewed", "curated")), everything=st.booleans())
    def job_pull(self, end: Any, chunk: int, prefer: Prefer, everything: bool) -> None:
        is_done = self._run(pull, end, tasks_per_chunk=chunk, prefer=prefer, everything=everything)
        self.oracle.check_pulled(self.project.view(), prefer, is_done=is_done)

    @rule(at=st.integers(1, 6), chunk=CHUNKS, sample=SAMPLES, place=PLACES)
    def job_pull_while_a_curator_draws(self, at: int, chunk: int, sample: int, place: int) -> None:
        self.annotator_submits(sample, "move", place, 1)
        switch = KillSwitch(at, meanwhile=lambda: self.curator_draws(sample, place, "bus"))
        pull(switch.guard(self.project.context), tasks_per_chunk=chunk)
        self.oracle.check_pulled(self.project.view(), None, is_done=True)

    @rule(end=ENDS, side=st.sampled_from(("reviewed", "curated")), by_label=st.booleans(), is_current=st.booleans())
    def job_resolve(self, end: Any, side: Prefer, by_label: bool, is_current: bool) -> None:
        if is_current:
            self.job_pull(None, IMAGES, None, False)
        conflicts = self.project.context.ledger.conflicts()
        # By label, one of the conflicts of a sample stays open.
        chosen = {key: found[:1] if by_label else found for key, found in conflicts.items() if found}
        decisions = {key: {one.label_id: side for one in found} if by_label else side for key, found in chosen.items()}
        is_done = self._run(resolve, end, decisions=decisions)
        decided: dict[str, dict[Key, Prefer]] = {
            key: {to_key(one): side for one in found} for key, found in chosen.items()
        }
        self.oracle.check_resolved(self.project.view(), decided, chosen, is_current=is_current, is_done=is_done)

    @rule(end=ENDS)
    def job_sweep(self, end: Any) -> None:
        is_done = self._run(sweep, end, grace=timedelta(0))
        self.oracle.note_sent(self.project.view(), surely=is_done)
        self.oracle.check_pulled(self.project.view(), None, is_done=False)
        if is_done:
            versions = [(row["task"], row["model_version"]) for row in self.project.server.predictions.values()]
            used = {row["parent_prediction"] for row in self.project.server.annotations.values()}
            drafts = {row["task"] for row in self.project.server.drafts.values()}
            doubled = [
                row
                for row in self.project.server.predictions.values()
                if row.get("by_server") and row["id"] not in used and row["task"] not in drafts
            ]
            assert not [row for row in doubled if versions.count((row["task"], row["model_version"])) > 1]

    @rule(sample=SAMPLES)
    def label_studio_doubles_a_prediction(self, sample: int) -> None:
        """Several people open one new task: each opening asks the model, and each answer is stored."""
        task_id = self._task_of(sample)
        rows = [] if task_id is None else self.project.server.of_task(self.project.server.predictions, task_id)
        if rows:
            made = self.project.annotator.sdk.predictions.create(**{name: rows[-1][name] for name in SHOWN})
            self.project.server.predictions[made.id]["by_server"] = True

    @rule(sample=st.none() | SAMPLES)
    def label_studio_leaves_out_what_was_to_be_on_tasks_and_does_not_answer(self, sample: int | None) -> None:
        """Its database was locked for a moment: the second try makes the tasks alone."""
        client: Any = Forgetful(self.project.context.label_studio)
        with contextlib.suppress(NoAnswerError):
            push(
                replace(self.project.context, label_studio=client),
                sample_ids=None if sample is None else [self.ids[sample]],
            )
        self.oracle.note_sent(self.project.view(), surely=False)

    @rule()
    def sync_until_settled(self) -> None:
        """Push and pull to the end; then doing it all again changes nothing anywhere."""
        for _ in range(2):
            self.job_push(None, IMAGES, None)
            self.job_pull(None, IMAGES, None, False)
        assert not self.project.server.pending, "a job went on before Label Studio was done with what a dead one asked"
        before = self._snapshot()
        self.job_push(None, IMAGES, None)
        self.job_pull(None, IMAGES, None, False)
        after = self._snapshot()
        for part, held in before.items():
            assert after[part] == held, f"a second sync changed {part}"
        self.oracle.expect_agreement(self.project.view())
        self._expect_verified()

    def _expect_verified(self) -> None:
        """``verify`` finds nothing but what people left there that cannot be read, or that only sweep cleans."""
        before = self._snapshot()
        report = verify(self.project.context)
        assert self._snapshot() == before, "verify has changed something"
        unread = {link.task_id for link in self.project.context.ledger.links().values() if link.problem is not None}
        doubled = {row["task"] for row in self.project.server.predictions.values() if row.get("by_server")}
        known = {f"task {task_id}" for task_id in unread | doubled}
        assert [one for one in report.failed if one.item.partition(",")[0] not in known] == []

    # What always holds

    @invariant()
    def nothing_is_lost_and_nothing_doubled(self) -> None:
        view = self.project.view()
        self.oracle.expect_nothing_touched(view)
        self.oracle.expect_nothing_doubled(view)
        self.oracle.expect_held(view)

    # How it is done

    def _new_id(self) -> str:
        self.drawn += 1
        return f"d{self.drawn:023x}"

    def _curate(self, sample: int, change: Callable[[list[Label]], list[Label]]) -> None:
        sample_id = self.ids[sample]
        held = self.project.dataset.said(sample_id)
        labels = change(list(held.labels) if held else [])
        if labels or held:
            self.project.dataset.curate(sample_id, labels)
            self.oracle.curated(sample_id, self.project.view())

    def _curate_one(
        self, sample: int, pick: int, change: Callable[[Label], Label | None], control: str | None = None
    ) -> None:
        def on(labels: list[Label]) -> list[Label]:
            chosen = [label for label in labels if control in (None, label.control)]
            if not chosen:
                return labels
            one = chosen[pick % len(chosen)]
            return [new for label in labels if (new := change(label) if label is one else label) is not None]

        if self.project.dataset.labels([self.ids[sample]]):
            self._curate(sample, on)

    def _task_of(self, sample: int) -> int | None:
        return self.project.view().task_of.get(self.ids[sample])

    def _annotation_of(self, sample: int, pick: int) -> dict[str, Any] | None:
        task_id = self._task_of(sample)
        rows = [] if task_id is None else self.project.server.of_task(self.project.server.annotations, task_id)
        return copy.deepcopy(rows[pick % len(rows)]) if rows else None

    def _edited(self, regions: Regions, edit: str, place: int) -> Regions:
        return edit_regions(regions, edit, place, CONFIG, SIZE, self._new_id())

    def _run(self, job: Job, end: Any, **options: Any) -> bool:
        """Run a job; return whether it came to its end."""
        if end is None:
            job(self.project.context, **options)
            return True
        at, moment, error = end
        late = partial(self._carry_out_later, LATE_S[moment]) if moment in LATE_S else None
        switch = KillSwitch(at, before=moment != "after", error=error, late=late)
        try:
            job(switch.guard(self.project.context), **options)
        except (KilledError, LabelingError):
            assert switch.is_over, "a job failed by itself"
            return False
        return True

    def _carry_out_later(self, delay_s: float, request: Callable[[], Any]) -> None:
        """Have the server go on with a request; the oracle hears when that is done, and what was said before."""
        sent_from = self.project.view()

        def carry_out() -> None:
            with contextlib.suppress(LabelingError):
                request()
            self.oracle.note_sent(self.project.view(), surely=False, sent_from=sent_from)

        self.project.server.carry_out_later(carry_out, delay_s)

    def _snapshot(self) -> dict[str, Any]:
        server = self.project.server
        ledger = self.project.context.ledger.snapshot()
        # How far was read may move on where nothing new was found.
        del ledger["cursors"]
        return {
            "Label Studio": copy.deepcopy((server.tasks, server.annotations, server.predictions, server.model_version)),
            "the ledger": ledger,
            "FiftyOne": {key: replace(one, modified_at=None) for key, one in self.project.dataset.samples.items()},  # type: ignore[arg-type]
        }


TestBothSides = BothSides.TestCase
TestBothSides.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    derandomize="LABELLOOP_MODEL_EXAMPLES" not in os.environ,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
)
