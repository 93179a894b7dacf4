"""Verify: what Label Studio, the ledger and the catalogue hold, compared. Writes nothing.

Every disagreement is reported; what is only on its way (a review that was not pulled, a change that was not sent, a
conflict that waits) is counted. Holds one page of tasks at a time, and the list of disagreements.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from more_itertools import chunked

from labels import fields
from labels.errors import ItemError, LabelConfigError, LabelingError
from labels.geometry import ImageSize
from labels.report import Failure, OnProgress, Report, ignore_progress
from labels.results import MEND_CLASS, Label, check_known
from sync.catalogue.samples import SampleLabels, find_cleared, restore_cleared
from sync.jobs.context import Context
from sync.jobs.exchange.answers import has_same_answers, to_policy
from sync.jobs.exchange.corrections import DELETED, TO_BE_SENT, Candidate, People, leave_out_corrections
from sync.jobs.exchange.deletions import pair_links
from sync.jobs.exchange.merging import SIZE_UNKNOWN, TASKS_PER_CHUNK
from sync.jobs.exchange.reviewing import reporting_surprises
from sync.jobs.exchange.rewriting import fetch_tasks
from sync.jobs.exchange.states import is_mirrored, to_state
from sync.jobs.exchange.sweep import find_surplus
from sync.ledger import Correction, Link
from sync.review.annotators import Answer, choose_answer
from sync.review.merge import Conflict, conflicts_version, is_same_set, merge
from sync.workbench.label_studio import TaskRef

SAMPLES_PER_CHUNK: Final = 1000

TO_BE_PULLED: Final = "reviews to be pulled"
SENT: Final = "changes of curators, sent"
TO_BE_RESTORED: Final = "cleared in FiftyOne, to be restored"


@dataclass(frozen=True, slots=True)
class _Held:
    """What the ledger and the catalogue hold of a reviewed sample."""

    link: Link
    size: ImageSize
    ours: SampleLabels | ItemError | None
    base: tuple[Label, ...] | None
    conflicts: tuple[Conflict, ...]
    corrections: tuple[Correction, ...]


class _Findings:
    def __init__(self) -> None:
        self.failed: list[Failure] = []
        self.counts: Counter[str] = Counter()
        self.links = 0
        self._wrong: set[str] = set()

    def add(self, item: str, problem: str, sample_id: str | None = None) -> None:
        """Note a disagreement."""
        self.failed.append(Failure(item, problem, sample_id))
        if sample_id is not None:
            self._wrong.add(sample_id)

    @property
    def agreeing(self) -> int:
        """Samples with a task about which nothing was found."""
        return max(0, self.links - len(self._wrong))


def verify(context: Context, *, on_progress: OnProgress = ignore_progress) -> Report:
    """Compare all three, and return every disagreement; nothing is changed.

    What holds: each sample has one task that is there, or is recorded as deleted; the states in the catalogue are the
    ledger's; a reviewed sample would be left as it is by another merge, and its open conflicts are those listed; what
    was agreed is what people said last; ids are unique; no prediction is there twice.

    Raises:
        ServiceError: Label Studio or MongoDB did not answer.
    """
    findings = _Findings()
    total, seen = max(1, context.label_studio.fetch_task_count()), 0
    for refs, links in pair_links(context, context.label_studio.fetch_task_refs()):
        on_progress(min(1.0, seen / total), f"comparing, {seen}/{total}")
        seen += len(refs)
        findings.links += len(links)
        _check_tasks(context, refs, links, findings)
        _check_states(context, links, findings)
        _check_predictions(context, refs, links, findings)
        answered = [ref.task_id for ref in refs if _is_answered(ref, links.get(ref.task_id))]
        for chunk in chunked(answered, TASKS_PER_CHUNK):
            _check_reviews(context, {task_id: links[task_id] for task_id in chunk}, findings)
    on_progress(1.0, "comparing the catalogue with the ledger")
    _check_catalogue(context, findings)
    _check_conflicts(context, findings)
    findings.counts["open conflicts"] = len(context.ledger.conflict_sample_ids())
    return Report(
        "verify",
        unchanged=findings.agreeing,
        failed=tuple(findings.failed),
        details={name: count for name, count in findings.counts.items() if count},
    )


def _check_tasks(context: Context, refs: Sequence[TaskRef], links: Mapping[int, Link], findings: _Findings) -> None:
    present = {ref.task_id: ref for ref in refs}
    missing = [task_id for task_id, link in links.items() if task_id not in present]
    found = {ref.task_id for ref in context.label_studio.fetch_refs_of(missing)} if missing else set[int]()
    for task_id, link in links.items():
        ref, item = present.get(task_id), f"task {task_id}"
        if ref is None and task_id not in found:
            findings.counts["tasks deleted in Label Studio"] += link.is_gone
            if not link.is_gone:
                findings.add(item, "was deleted in Label Studio, and that is not recorded; run sweep", link.sample_id)
        elif link.is_gone:
            findings.add(item, "is recorded as deleted, and it is there; run sweep", link.sample_id)
        elif ref is not None and ref.sample_id != link.sample_id:
            findings.add(item, f"carries sample {ref.sample_id}, and is known as that of {link.sample_id}")
    unlinked = [ref for ref in refs if ref.task_id not in links]
    others = context.ledger.links([ref.sample_id for ref in unlinked if ref.sample_id])
    for ref in unlinked:
        if ref.sample_id is None:
            findings.counts["tasks made by others"] += 1
        elif ref.sample_id in others:
            first = others[ref.sample_id].task_id
            findings.add(f"task {ref.task_id}", f"is a second task of its sample, the first is {first}", ref.sample_id)
        else:
            findings.add(f"task {ref.task_id}", f"is not known to the ledger (sample {ref.sample_id}); run push")


def _check_states(context: Context, links: Mapping[int, Link], findings: _Findings) -> None:
    by_sample = {link.sample_id: link for link in links.values()}
    present = context.dataset.states(list(by_sample))
    findings.counts["samples deleted from the dataset"] += len(by_sample) - len(present)
    for sample_id, state in present.items():
        wanted = to_state(by_sample[sample_id])
        if not is_mirrored(wanted, state):
            tag = ", tagged as a conflict" if state.is_tagged else ""
            problem = (
                f"says {state.review_state}, task {state.task_id}{tag}; "
                f"it is {wanted.review_state}, task {wanted.task_id}"
            )
            findings.add(f"sample {sample_id}", problem, sample_id)


def _check_predictions(
    context: Context, refs: Sequence[TaskRef], links: Mapping[int, Link], findings: _Findings
) -> None:
    for ref in refs:
        link = links.get(ref.task_id)
        if link is not None and link.model_version is not None and not ref.predictions:
            findings.counts["tasks whose prediction was deleted"] += 1
    several = [ref.task_id for ref in refs if ref.predictions > 1 and ref.task_id in links]
    for task in context.label_studio.fetch_predictions(several) if several else ():
        surplus = list(find_surplus(task))
        if surplus:
            sample_id = links[task.task_id].sample_id
            findings.add(f"task {task.task_id}", f"has {len(surplus)} predictions twice; run sweep", sample_id)


def _is_answered(ref: TaskRef, link: Link | None) -> bool:
    return link is not None and (ref.may_be_answered or link.annotation_id is not None)


def _check_reviews(context: Context, links: Mapping[int, Link], findings: _Findings) -> None:
    sample_ids = [link.sample_id for link in links.values()]
    ours, bases = context.dataset.labels(sample_ids), context.ledger.bases(sample_ids)
    conflicts, corrections = context.ledger.conflicts(sample_ids), context.ledger.corrections(sample_ids)
    present, images = context.dataset.states(sample_ids), context.dataset.images(sample_ids)
    for task in fetch_tasks(context, list(links)):
        link = links[task.task_id]
        if link.sample_id not in present:
            continue
        key = link.sample_id
        if key not in images:
            findings.add(f"task {task.task_id}", SIZE_UNKNOWN, key)
            continue
        held = _Held(
            link, images[key].size, ours.get(key), bases.get(key), conflicts.get(key, ()), corrections.get(key, ())
        )
        people = leave_out_corrections(task, held.corrections, context.config)
        item = f"task {task.task_id}"
        try:
            with reporting_surprises(item):
                _check_review(context, people, held, findings)
        except LabelingError as error:
            failed = error if isinstance(error, ItemError) else ItemError(item, str(error))
            findings.add(failed.item, failed.problem, key)


def _check_review(context: Context, people: People, held: _Held, findings: _Findings) -> None:
    task, link = people.task, held.link
    if not task.annotations and link.annotation_id is None:
        return
    is_news = bool(people.taken_over or people.confirmed) or not has_same_answers(task, link)
    policy = context.project.annotators if is_news else (link.answers or "").partition(":")[0]
    answer = choose_answer(task, to_policy(policy), context.config, held.size)
    for note in () if answer is None else answer.notes:
        findings.add(f"task {task.task_id}", note.partition(": ")[2], link.sample_id)
    if is_news:
        findings.counts[TO_BE_PULLED] += 1
        return
    if answer is None:
        if link.state != fields.SKIPPED:
            findings.add(f"task {task.task_id}", f"was skipped, and is recorded as {link.state}", link.sample_id)
        return
    if isinstance(held.ours, ItemError):
        findings.add(f"sample {link.sample_id}", held.ours.problem, link.sample_id)
        return
    for problem in _compare(context, people, held, answer, findings):
        findings.add(f"sample {link.sample_id}", problem, link.sample_id)


def _compare(context: Context, people: People, held: _Held, answer: Answer, findings: _Findings) -> Iterable[str]:
    """Yield what is wrong with a review that was read: nothing has changed in Label Studio since."""
    link = held.link
    if held.base is None:
        yield "was reviewed, and what was agreed is not known"
        return
    said = None if isinstance(held.ours, ItemError) else held.ours
    ours = restore_cleared(said, held.base)
    findings.counts[TO_BE_RESTORED] += bool(find_cleared(said, held.base))
    merged = merge(held.base, ours, answer.labels)
    if link.state == fields.CONFLICT and conflicts_version(merged.conflicts) != conflicts_version(held.conflicts):
        # A curator has changed the sample since; each pull looks at conflicts again.
        findings.counts["conflicts to be looked at again"] += 1
        return
    if merged.changed:
        yield "lacks what people said last; run pull --all"
    if len(merged.conflicts) != len(held.conflicts):
        yield f"has {len(merged.conflicts)} conflicts, and {len(held.conflicts)} are listed"
    if bool(held.conflicts) != (link.state == fields.CONFLICT):
        yield f"has {len(held.conflicts)} open conflicts, and is recorded as {link.state}"
    if not held.conflicts and not is_same_set(held.base, answer.labels):
        yield "what was agreed is not what people said last"
    if not held.conflicts and not is_same_set(ours, held.base):
        is_sent = Candidate(link, ours, held.base, held.corrections).is_shown()
        try:
            check_known(ours, context.config)
        except LabelConfigError as error:
            yield f"{_name_file(context, link.sample_id)} can never be sent: {error}; {MEND_CLASS}"
            return
        findings.counts[TO_BE_SENT if not is_sent else SENT if people.deleted is None else DELETED] += 1


def _name_file(context: Context, sample_id: str) -> str:
    images = context.dataset.images([sample_id])
    return images[sample_id].path.name if sample_id in images else "it"


def _check_catalogue(context: Context, findings: _Findings) -> None:
    for chunk in chunked(context.dataset.sent_ids(), SAMPLES_PER_CHUNK):
        links = context.ledger.links(chunk)
        for sample_id in chunk:
            if sample_id not in links:
                findings.add(f"sample {sample_id}", "says it was sent, and the ledger knows no task of it")


def _check_conflicts(context: Context, findings: _Findings) -> None:
    after = ""
    while chunk := context.ledger.conflict_sample_ids(after, limit=SAMPLES_PER_CHUNK):
        links = context.ledger.links(chunk)
        for sample_id in chunk:
            link = links.get(sample_id)
            if link is None or link.state != fields.CONFLICT:
                state = "has no task" if link is None else f"is recorded as {link.state}"
                findings.add(f"sample {sample_id}", f"has conflicts listed, and {state}", sample_id)
        after = chunk[-1]
