"""Pull: what people submitted in Label Studio since the last time, merged into the catalogue.

What it costs depends on what changed, not on how many samples there are: changed tasks come from Label Studio page by
page, and what the ledger knows of them is looked up page by page.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final, Literal, get_args

from more_itertools import chunked

from labels.errors import LabelingError
from labels.report import OnProgress, Report, ignore_progress
from sync.jobs.context import Context
from sync.jobs.exchange.answers import is_news, to_policy
from sync.jobs.exchange.deletions import REFS_PER_CHUNK, pair_links, record_deleted
from sync.jobs.exchange.merging import TASKS_PER_CHUNK, Merging, Tally
from sync.jobs.exchange.reviewing import Decide
from sync.jobs.exchange.states import mirror_states
from sync.review.merge import Conflict, Side
from sync.workbench.label_studio import to_timestamp

CURSOR: Final = "pull"
# Label Studio stamps a change before it commits it: what was stamped just before the cursor may have come after it.
OVERLAP: Final = timedelta(seconds=10)

Preference = Literal["reviewed", "curated", "newest"]
PREFERENCES: Final[tuple[Preference, ...]] = get_args(Preference)


def pull(
    context: Context,
    *,
    prefer: Preference | None = None,
    everything: bool = False,
    annotators: str | None = None,
    tasks_per_chunk: int = TASKS_PER_CHUNK,
    on_progress: OnProgress = ignore_progress,
) -> Report:
    """Merge changed reviews into the catalogue, by label id, against what both sides last agreed on.

    A label changed on both sides is a conflict: both versions stay where they are, the sample is tagged and listed,
    unless ``prefer`` decides it (``reviewed``: Label Studio's version, ``curated``: FiftyOne's, ``newest``: the side
    changed last). ``everything`` reads all tasks again instead of those changed since the last pull. ``annotators``
    says what counts where several people answered; None: what the project says. A task that cannot be read is reported
    and tried again next time.

    Raises:
        ServiceError: Label Studio or MongoDB did not answer; what was merged before stays.
    """
    on_progress(None, "asking Label Studio what changed")
    tally = Tally()
    policy = to_policy(annotators or context.project.annotators)
    merging = Merging(context, policy, to_decide(prefer), tally, everything=everything)
    unfinished = frozenset(context.ledger.unfinished_task_ids())
    for chunk in chunked(sorted(unfinished), tasks_per_chunk):
        merging.pull(chunk)
    cursor = context.ledger.cursor(CURSOR)
    since = None if cursor is None or everything else to_timestamp(datetime.fromisoformat(cursor) - OVERLAP)
    # The newest of before the first page: a task of that page may change while later, younger ones are listed.
    total, newest = context.label_studio.fetch_changed(since)
    seen = 0
    for refs in chunked(context.label_studio.fetch_task_refs(changed_since=since), REFS_PER_CHUNK):
        links = context.ledger.links_by_task([ref.task_id for ref in refs])
        known = [ref for ref in refs if ref.task_id in links and ref.task_id not in unfinished]
        waiting = [ref.task_id for ref in known if everything or is_news(ref, links[ref.task_id])]
        for chunk in chunked(waiting, tasks_per_chunk):
            on_progress(min(1.0, seen / max(total, 1)), f"merging reviews, {seen}/{total} changed tasks")
            merging.pull(chunk)
        seen += len(refs)
    _note_deleted_tasks(context, tally)
    mirror_states(context)
    if newest is not None:
        context.ledger.record_cursor(CURSOR, max(newest, cursor or ""))
    return tally.to_report("pull", describe_conflicts(context), policy)


def to_decide(prefer: Preference | None) -> Decide:
    """Return what decides conflicts as a preference says; None decides none.

    Raises:
        LabelingError: the preference is not known.
    """
    if prefer not in (None, *PREFERENCES):
        raise LabelingError(f"prefer {prefer!r} is not known (known: {', '.join(PREFERENCES)})")
    fixed: Mapping[Preference | None, Side] = {"reviewed": "theirs", "curated": "ours"}
    if prefer == "newest":
        return lambda _sample_id, conflict: _find_newest(conflict)
    return lambda _sample_id, _conflict: fixed.get(prefer)


def _find_newest(conflict: Conflict) -> Side | None:
    if conflict.ours_at is None or conflict.theirs_at is None:
        return None
    return "ours" if conflict.ours_at > conflict.theirs_at else "theirs"


def _note_deleted_tasks(context: Context, tally: Tally) -> None:
    """Record tasks that are gone. The count is compared first: it is cheap, and nearly always right."""
    if context.label_studio.fetch_task_count() < context.ledger.link_count():
        pairs = pair_links(context, context.label_studio.fetch_task_refs())
        tally.gone += sum(record_deleted(context, refs, links) for refs, links in pairs)


def describe_conflicts(context: Context) -> list[str]:
    """Return a line for each sample with an open conflict."""
    conflicts = context.ledger.conflicts()
    images = context.dataset.images(list(conflicts))
    return [
        f"{images[sample_id].path.name if sample_id in images else sample_id}: "
        f"changed in FiftyOne and in Label Studio, labels: {len(found)} (sample {sample_id})"
        for sample_id, found in sorted(conflicts.items())
        if found
    ]
