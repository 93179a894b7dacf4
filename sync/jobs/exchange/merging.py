"""Tasks read whole, merged and written: the part that pull, sweep and resolve share.

Order of writes: the catalogue, then the ledger. Killed between the two, the next job reads the same tasks again and
comes to the same end. A task that is gone, skipped or cannot be read never takes a label away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from labels import fields
from labels.errors import ItemError, LabelingError
from labels.report import Failure, Report
from sync.catalogue.samples import Reviewer, SampleLabels
from sync.jobs.context import Context
from sync.jobs.exchange.answers import is_known
from sync.jobs.exchange.corrections import DELETED, People, is_newer, leave_out_corrections
from sync.jobs.exchange.reviewing import Decide, Known, Outcome, read_review, reporting_surprises
from sync.jobs.exchange.rewriting import fetch_tasks
from sync.ledger import Link
from sync.review.annotators import Policy
from sync.workbench.label_studio import to_timestamp

TASKS_PER_CHUNK: Final = 200
# How often a sample is merged anew because a curator changed it meanwhile.
ATTEMPTS: Final = 5
CHANGES_TOO_FAST: Final = "its sample is being changed all the time; pull again when that is over"
SIZE_UNKNOWN: Final = "the size of its image is not known; run push, which reads it"
SEVERAL: Final[Mapping[Policy, str]] = {
    "latest": "of each the one changed last counts",
    "ground_truth": "of each the one marked as ground truth counts, else the one changed last",
    "agreement": "of each what most agree on counts",
}


@dataclass(slots=True)
class Tally:
    """What merging has done so far; each number counts tasks, ``left_out`` labels, ``restored`` samples."""

    moved: int = 0
    unchanged: int = 0
    skipped: int = 0
    reopened: int = 0
    several: int = 0
    left_out: int = 0
    restored: int = 0
    corrections_deleted: int = 0
    gone: int = 0
    failed: list[Failure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def details(self) -> dict[str, int]:
        """What is worth knowing besides, where there is any."""
        counts = {
            "skipped": self.skipped,
            "reopened": self.reopened,
            "labels of a minority": self.left_out,
            "cleared in FiftyOne, restored": self.restored,
            DELETED: self.corrections_deleted,
        }
        return {name: count for name, count in counts.items() if count}

    def to_report(self, job: str, conflicts: Sequence[str], policy: Policy) -> Report:
        """Return the report of a job that merged."""
        notes = list(self.notes)
        if self.gone:
            notes.append(f"tasks deleted in Label Studio: {self.gone}; their samples keep all labels")
        if self.restored:
            notes.append(
                f"samples whose labels were cleared in FiftyOne and are there again: {self.restored}; to say that "
                "nothing is there, delete the labels and leave an empty list; an answer is taken back in Label Studio"
            )
        if self.several:
            notes.append(f"tasks with several annotations: {self.several}; {SEVERAL[policy]}")
        if not (self.moved or self.unchanged or self.skipped or self.reopened or self.failed):
            notes.append("nothing new; what is submitted also comes by itself while the console runs")
        return Report(
            job,
            moved=self.moved,
            unchanged=self.unchanged,
            failed=tuple(self.failed),
            conflicts=tuple(conflicts),
            notes=tuple(notes),
            details=self.details,
        )


class Merging:
    """Merges tasks of one project, and counts what became of them."""

    def __init__(
        self, context: Context, policy: Policy, choose: Decide, tally: Tally, *, everything: bool = False
    ) -> None:
        self._context = context
        self._policy = policy
        self._choose = choose
        self._everything = everything
        self.tally = tally

    def pull(self, task_ids: Sequence[int], *, attempts_left: int = ATTEMPTS) -> None:
        """Merge one chunk of tasks: read all of it, write the catalogue, write the ledger."""
        context = self._context
        links = context.ledger.links_by_task(task_ids)
        people = self._read_people(links)
        self._record_gone([link.task_id for link in links.values() if link.task_id not in people])
        known = [one for one in people.values() if self._is_known(one, links[one.task.task_id])]
        context.ledger.record_task_times({links[one.task.task_id].sample_id: one.task.updated_at for one in known})
        changed = {task_id: one for task_id, one in people.items() if one not in known}
        if attempts_left == ATTEMPTS:
            self.tally.unchanged += len(known)
            self.tally.several += sum(len(one.task.answers) > 1 for one in people.values())
            self.tally.corrections_deleted += sum(
                is_newer(one.deleted, links[task_id]) for task_id, one in people.items()
            )
        answered = [one for one in changed.values() if one.task.annotations]
        self._record_reopened([one for one in changed.values() if not one.task.annotations], links)
        lost, problems = self._merge(answered, links)
        if lost and attempts_left:
            # A curator wrote while this was reading: their edit takes part in a new merge.
            self.pull(lost, attempts_left=attempts_left - 1)
        else:
            problems |= {task_id: ItemError(f"task {task_id}", CHANGES_TOO_FAST) for task_id in lost}
        self._record_problems(problems, links)

    def _is_known(self, people: People, link: Link) -> bool:
        """Return whether there is nothing to merge; with ``everything`` that is so only where nobody said anything."""
        if self._everything and people.task.annotations:
            return False
        return is_known(people.task, link, self._policy)

    def _read_people(self, links: Mapping[int, Link]) -> dict[int, People]:
        context = self._context
        corrections = context.ledger.corrections([link.sample_id for link in links.values()])
        people = {
            task.task_id: leave_out_corrections(
                task, corrections.get(links[task.task_id].sample_id, ()), context.config
            )
            for task in fetch_tasks(context, list(links))
        }
        context.ledger.record_corrections(one for task in people.values() for one in task.confirmed)
        context.ledger.record_present_reviews(
            [links[task_id].sample_id for task_id in people],
            {task_id: {one.annotation_id for one in told.task.annotations} for task_id, told in people.items()},
        )
        return people

    def _merge(self, answered: Sequence[People], links: Mapping[int, Link]) -> tuple[list[int], dict[int, ItemError]]:
        """Merge and write; return the tasks whose sample somebody changed meanwhile, and those that cannot be read."""
        known, problems = self._read_known(answered, links)
        outcomes: dict[int, Outcome] = {}
        for people in answered:
            task_id, item = people.task.task_id, f"task {people.task.task_id}"
            if task_id in problems:
                continue
            try:
                with reporting_surprises(item):
                    outcomes[task_id] = read_review(
                        people, known[task_id], self._context.config, self._policy, self._choose
                    )
            except LabelingError as error:
                problems[task_id] = error if isinstance(error, ItemError) else ItemError(item, str(error))
        lost = self._write(outcomes, known)
        return lost, problems

    def _read_known(
        self, answered: Sequence[People], links: Mapping[int, Link]
    ) -> tuple[dict[int, Known], dict[int, ItemError]]:
        """Return what is known of each task's sample, and what is wrong with those that cannot be merged into."""
        ledger, dataset = self._context.ledger, self._context.dataset
        sample_ids = [links[one.task.task_id].sample_id for one in answered]
        # Before the labels: a change after this moment makes them younger, never older.
        changed_at = dataset.changed_at(sample_ids)
        ours, images, present = dataset.labels(sample_ids), dataset.images(sample_ids), dataset.states(sample_ids)
        bases, conflicts, readings = ledger.bases(sample_ids), ledger.conflicts(sample_ids), ledger.readings(sample_ids)
        pushed = ledger.pushed_versions(
            [links[one.task.task_id].sample_id for one in answered if _lacks_prediction(one)]
        )
        replaced = ledger.replaced_predictions(sample_ids)
        reviewed_from = ledger.reviewed_versions(sample_ids)
        known: dict[int, Known] = {}
        problems: dict[int, ItemError] = {}
        for one in answered:
            link = links[one.task.task_id]
            if link.sample_id not in present:
                problem = f"its sample {link.sample_id} was deleted from the dataset; if that is meant, delete the task"
                problems[link.task_id] = ItemError(f"task {link.task_id}", problem)
            elif link.sample_id not in images:
                problems[link.task_id] = ItemError(f"task {link.task_id}", SIZE_UNKNOWN)
            else:
                at = changed_at.get(link.sample_id)
                known[link.task_id] = Known(
                    link=link,
                    size=images[link.sample_id].size,
                    ours=ours.get(link.sample_id),
                    ours_at=None if at is None else to_timestamp(at),
                    base=bases.get(link.sample_id),
                    conflicts=conflicts.get(link.sample_id, ()),
                    readings=readings,
                    pushed=pushed.get(link.sample_id, {}),
                    replaced=replaced.get(link.sample_id, ()),
                    was_labelled=_was_labelled(one, link, reviewed_from.get(link.sample_id)),
                )
        return known, problems

    def _write(self, outcomes: Mapping[int, Outcome], known: Mapping[int, Known]) -> list[int]:
        """Write the outcomes, and return the tasks whose sample changed since it was read; of these nothing is."""
        context, tally = self._context, self.tally
        labels = {one.sample_id: one.labels for one in outcomes.values() if one.labels is not None}
        read = {one.link.sample_id: one.ours for one in known.values() if isinstance(one.ours, SampleLabels)}
        lost = set(context.dataset.write_labels(labels, instead_of=read)) if labels else set[str]()
        kept = [outcome for outcome in outcomes.values() if outcome.sample_id not in lost]
        answered = [outcome for outcome in kept if outcome.review.state != fields.SKIPPED]
        # A write moves the time of the sample's last change, by which the newest side is found.
        reviewers = {outcome.sample_id: _to_reviewer(outcome) for outcome in answered if outcome.is_news}
        if reviewers:
            context.dataset.write_reviewers(reviewers)
        if kept:
            context.ledger.record_reviews(review for outcome in kept for review in outcome.reviews)
        tally.moved += sum(outcome.is_news for outcome in answered)
        tally.unchanged += sum(not outcome.is_news for outcome in answered)
        tally.skipped += len(kept) - len(answered)
        tally.left_out += sum(outcome.left_out for outcome in kept)
        tally.restored += sum(outcome.restored > 0 for outcome in kept)
        tally.notes += [note for outcome in kept for note in outcome.notes]
        return [task_id for task_id, outcome in outcomes.items() if outcome.sample_id in lost]

    def _record_reopened(self, reopened: Sequence[People], links: Mapping[int, Link]) -> None:
        """Record samples whose annotation somebody deleted: they wait again, and keep the labels they have."""
        if reopened:
            context = self._context
            context.dataset.write_reviewers({links[one.task.task_id].sample_id: None for one in reopened})
            changed = [
                replace(
                    links[one.task.task_id],
                    state=fields.QUEUED,
                    annotation_id=None,
                    annotation_updated_at=None,
                    task_updated_at=one.task.updated_at,
                    answers=None,
                    problem=None,
                )
                for one in reopened
            ]
            context.ledger.record_links(changed)
        self.tally.reopened += len(reopened)

    def _record_gone(self, task_ids: Sequence[int]) -> None:
        if task_ids:
            self._context.ledger.record_gone(task_ids)
        self.tally.gone += len(task_ids)

    def _record_problems(self, problems: Mapping[int, ItemError], links: Mapping[int, Link]) -> None:
        """Record tasks that could not be read or written; the next pull tries them again."""
        for task_id, error in problems.items():
            self.tally.failed.append(Failure(error.item, error.problem, links[task_id].sample_id))
            self._context.ledger.record_problem(links[task_id].sample_id, str(error))


def _lacks_prediction(people: People) -> bool:
    present = {prediction.prediction_id for prediction in people.task.predictions}
    return any(annotation.prediction_id not in present for annotation in people.task.answers)


def _was_labelled(people: People, link: Link, reviewed_from: Set[str | None] | None) -> bool:
    """Return whether the task had labels of people from the start: the first review says so, and later ones keep it.

    Before any review the ledger knows only an annotation that was sent with the task.
    """
    if reviewed_from is not None:
        return fields.SENT_LABELS in reviewed_from
    return link.annotation_id in {annotation.annotation_id for annotation in people.task.annotations}


def _to_reviewer(outcome: Outcome) -> Reviewer:
    at = datetime.fromisoformat(outcome.review.annotation_updated_at)
    return Reviewer(outcome.review.reviewer or "", at, outcome.annotators, outcome.disagreement)
