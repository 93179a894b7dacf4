"""Where each sample stands, from the ledger to the catalogue."""

from __future__ import annotations

from typing import Final

from labels import fields
from sync.catalogue.samples import SampleState
from sync.jobs.context import Context
from sync.ledger import Link

SAMPLES_PER_CHUNK: Final = 5000


def mirror_states(context: Context) -> None:
    """Write the ledger's states on the samples that do not have them yet: what a killed job left undone is made good.

    Looks only at links whose state changed since it was written.
    """
    while links := context.ledger.unmirrored(SAMPLES_PER_CHUNK):
        present = context.dataset.states(list(links))
        wanted = {sample_id: to_state(link) for sample_id, link in links.items()}
        differing = {
            sample_id: state
            for sample_id, state in wanted.items()
            if sample_id in present and not is_mirrored(state, present[sample_id])
        }
        if differing:
            context.dataset.write_states(differing)
        context.ledger.record_mirrored(links.values())


def to_state(link: Link) -> SampleState:
    """Return what a sample should say of its review."""
    return SampleState(link.state, link.task_id, link.state == fields.CONFLICT)


def is_mirrored(wanted: SampleState, present: SampleState) -> bool:
    """Return whether a sample says what it should, tag and all."""
    return wanted == present and wanted.is_tagged == present.is_tagged
