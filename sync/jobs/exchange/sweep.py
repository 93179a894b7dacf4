"""Sweep: every task is looked at once, in brief. What no event tells of is noticed, and what is there twice is cleaned.

Holds one page of tasks at a time. Nothing of people's is deleted: a second task of a sample goes only while nobody has
said or begun anything on it, a second prediction only when no annotation was made from it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from more_itertools import chunked

from labels.report import Failure, OnProgress, Report, ignore_progress
from sync.jobs.context import Context
from sync.jobs.exchange.adoption import Adopted, record_tasks
from sync.jobs.exchange.answers import is_news, to_policy
from sync.jobs.exchange.corrections import TO_BE_SENT, find_unsent
from sync.jobs.exchange.deletions import pair_links, record_deleted
from sync.jobs.exchange.marks import clear_marks
from sync.jobs.exchange.merging import TASKS_PER_CHUNK, Merging, Tally
from sync.jobs.exchange.pull import describe_conflicts
from sync.jobs.exchange.sending import await_sent
from sync.jobs.exchange.states import is_mirrored, mirror_states, to_state
from sync.ledger import Link
from sync.workbench.label_studio import TaskPredictions, TaskRef, to_timestamp

# Somebody may have a task open and submit what was made from a prediction: the young ones are left to the next sweep.
GRACE: Final = timedelta(hours=1)


@dataclass(slots=True)
class _Found:
    tasks: int = 0
    doubled_tasks: int = 0
    doubled_predictions: int = 0
    young_predictions: int = 0
    past_marks: int = 0
    unsent: int = 0
    missing_samples: int = 0
    tally: Tally = field(default_factory=Tally)


def sweep(context: Context, *, grace: timedelta = GRACE, on_progress: OnProgress = ignore_progress) -> Report:
    """Compare all tasks with the ledger by id, and delete surplus tasks and predictions that hold nothing of people.

    Deleted tasks are recorded; their samples keep all labels. Reviews that no pull has read are merged, as pull does,
    and changes of curators that no push has found are noted for the next one.

    Raises:
        ServiceError: Label Studio or MongoDB did not answer; what was done before stays.
    """
    await_sent(context, on_progress)
    found = _Found()
    merging = Merging(context, to_policy(context.project.annotators), lambda _id, _conflict: None, found.tally)
    total = max(1, context.label_studio.fetch_task_count())
    for refs, links in pair_links(context, context.label_studio.fetch_task_refs()):
        on_progress(min(1.0, found.tasks / total), f"looking at tasks, {found.tasks}/{total}")
        found.tasks += len(refs)
        found.tally.gone += record_deleted(context, refs, links)
        unlinked = [ref for ref in refs if ref.task_id not in links and ref.sample_id]
        _clean_tasks(context, unlinked, found)
        # Some of them are known now, and what is there twice may be on these too.
        links |= context.ledger.links_by_task([ref.task_id for ref in unlinked])
        _clean_predictions(
            context,
            [ref for ref in refs if ref.task_id in links],
            found,
            before=to_timestamp(datetime.now(UTC) - grace),
        )
        missed = [ref.task_id for ref in refs if is_news(ref, links.get(ref.task_id))]
        for chunk in chunked(missed, TASKS_PER_CHUNK):
            merging.pull(chunk)
        for sample_ids in chunked((link.sample_id for link in links.values()), TASKS_PER_CHUNK):
            found.unsent += _note_unsent(context, sample_ids)
        found.missing_samples += _mend_states(context, links)
    found.past_marks = clear_marks(context, before=to_timestamp(datetime.now(UTC) - grace))
    drafts = sum(1 for _ in context.label_studio.fetch_draft_task_ids())
    mirror_states(context)
    return _to_report(context, found, drafts)


def _clean_tasks(context: Context, unlinked: Sequence[TaskRef], found: _Found) -> None:
    """Record tasks the ledger does not know, and delete those of samples that have another one, if they are empty."""
    adopted = Adopted()
    record_tasks(context, unlinked, adopted)
    found.tally.failed += adopted.failed
    links = context.ledger.links([str(ref.sample_id) for ref in adopted.doubled])
    surplus = [ref for ref in adopted.doubled if ref.sample_id in links]
    if not surplus:
        return
    begun = set(context.label_studio.fetch_draft_task_ids(among=[ref.task_id for ref in surplus]))
    # The annotations themselves, not their number: what is deleted is gone.
    for ref in context.label_studio.fetch_tasks([ref.task_id for ref in surplus]):
        kept = links[str(ref.sample_id)].task_id
        if ref.annotations or ref.task_id in begun:
            problem = f"is a second task of sample {ref.sample_id}, and people worked on it; its first is task {kept}"
            found.tally.failed.append(Failure(f"task {ref.task_id}", problem, ref.sample_id))
        else:
            context.label_studio.send_task_deletion(ref.task_id)
            found.doubled_tasks += 1


def _clean_predictions(context: Context, refs: Sequence[TaskRef], found: _Found, *, before: str) -> None:
    several = [ref.task_id for ref in refs if ref.predictions > 1]
    begun = set(context.label_studio.fetch_draft_task_ids(among=several)) if several else set[int]()
    for task in context.label_studio.fetch_predictions(several):
        for prediction_id in find_surplus(task):
            if task.created_at[prediction_id] >= before or task.task_id in begun:
                found.young_predictions += 1
                continue
            context.label_studio.send_prediction_deletion(prediction_id)
            found.doubled_predictions += 1


def find_surplus(task: TaskPredictions) -> Iterator[int]:
    """Yield the predictions that another one of the same version stands beside, and that nothing was made from.

    Those that name no version are of nobody knows what, and no two of them are known to be one.

    >>> list(find_surplus(TaskPredictions(1, {5: "a", 6: "a", 7: "b", 8: "a"}, frozenset({6}), {})))
    [5, 8]
    """
    by_version: dict[str, list[int]] = defaultdict(list)
    for prediction_id, version in sorted(task.versions.items()):
        if version:
            by_version[version].append(prediction_id)
    for ids in by_version.values():
        used = [one for one in ids if one in task.used]
        yield from (one for one in ids if one not in task.used and one != (used or ids)[0])


def _note_unsent(context: Context, sample_ids: Sequence[str]) -> int:
    """Have the next push send the curators' changes on these samples, whatever time they are stamped with."""
    unsent = find_unsent(context, sample_ids)
    context.ledger.record_due(dict.fromkeys(unsent, True))
    return len(unsent)


def _mend_states(context: Context, links: Mapping[int, Link]) -> int:
    """Have states written anew that somebody changed in the catalogue; return how many samples are gone from it."""
    by_sample = {link.sample_id: link for link in links.values()}
    present = context.dataset.states(list(by_sample))
    differing = [
        sample_id for sample_id, state in present.items() if not is_mirrored(to_state(by_sample[sample_id]), state)
    ]
    context.ledger.record_unmirrored(differing)
    return len(by_sample) - len(present)


def _to_report(context: Context, found: _Found, drafts: int) -> Report:
    tally = found.tally
    details = {
        "tasks": found.tasks,
        "tasks newly found deleted": tally.gone,
        "reviews found": tally.moved,
        "annotations deleted": tally.reopened,
        "doubled tasks deleted": found.doubled_tasks,
        "doubled predictions deleted": found.doubled_predictions,
        "doubled predictions left for the next sweep": found.young_predictions,
        TO_BE_SENT: found.unsent,
        "marks of mistakes that were answered, deleted": found.past_marks,
        "unfinished": drafts,
        "samples deleted from the dataset": found.missing_samples,
    }
    moved = tally.gone + tally.moved + tally.reopened + found.doubled_tasks + found.doubled_predictions
    moved += found.past_marks
    notes = list(tally.notes)
    gone = context.ledger.counts()["gone"]
    if gone:
        notes.append(f"tasks deleted in Label Studio: {gone}; their samples keep all labels, and can be sent again")
    return Report(
        "sweep",
        moved=moved,
        unchanged=max(0, found.tasks - moved),
        failed=tuple(tally.failed),
        conflicts=tuple(describe_conflicts(context)),
        notes=tuple(notes),
        details={name: count for name, count in details.items() if count or name == "tasks"},
    )
