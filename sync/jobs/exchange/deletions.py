"""Tasks that were deleted in Label Studio: no time stamp and no event tells of them reliably, so ids are compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from more_itertools import chunked

from sync.jobs.context import Context
from sync.ledger import Link
from sync.workbench.label_studio import TaskRef

REFS_PER_CHUNK: Final = 1000


def pair_links(context: Context, refs: Iterable[TaskRef]) -> Iterator[tuple[list[TaskRef], dict[int, Link]]]:
    """Yield all tasks chunk by chunk with the links of the same range of ids, those without a task among them.

    ``refs`` come by id; one chunk is held at a time.
    """
    after = 0
    for chunk in chunked(refs, REFS_PER_CHUNK):
        last = chunk[-1].task_id
        yield chunk, context.ledger.links_between(after, last)
        after = last
    while links := context.ledger.links_between(after, None, limit=REFS_PER_CHUNK):
        yield [], links
        after = max(links)


def record_deleted(context: Context, refs: Sequence[TaskRef], links: dict[int, Link]) -> int:
    """Record which of the links' tasks are gone; return how many that were there so far.

    Labels stay where they are. A task that is there after all (a restored database) is recorded as there.
    """
    present = {ref.task_id for ref in refs}
    missing = [task_id for task_id, link in links.items() if task_id not in present and not link.is_gone]
    # The list was read over some time: each one is asked for before it is called gone.
    found = {ref.task_id for ref in context.label_studio.fetch_refs_of(missing)} if missing else set[int]()
    gone = [task_id for task_id in missing if task_id not in found]
    back = [task_id for task_id, link in links.items() if link.is_gone and task_id in present]
    if gone:
        context.ledger.record_gone(gone)
    if back:
        context.ledger.record_gone(back, is_gone=False)
    return len(gone)
