"""Where each sample stands, from the ledger to the catalogue."""

from __future__ import annotations

from sync.jobs.context import Context
from sync.samples import SampleState


def mirror_states(context: Context) -> None:
    """Write the ledger's states on the samples that say something else: what a killed job left undone is made good."""
    present = context.dataset.states()
    wanted = {
        link.sample_id: SampleState(link.state, link.task_id)
        for link in context.ledger.links().values()
        if link.sample_id in present
    }
    differing = {sample_id: state for sample_id, state in wanted.items() if present[sample_id] != state}
    if differing:
        context.dataset.write_states(differing)
