"""Resolve: conflicts decided by a person, label by label or a whole sample at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from more_itertools import chunked

from labels import fields
from labels.errors import ItemError, LabelingError
from labels.report import Failure, OnProgress, Report, ignore_progress
from labels.results import Label
from sync.catalogue.samples import SampleLabels, find_cleared, restore_cleared
from sync.jobs.context import Context
from sync.jobs.exchange.answers import to_policy
from sync.jobs.exchange.merging import SIZE_UNKNOWN, Merging, Tally
from sync.jobs.exchange.reviewing import is_equal
from sync.jobs.exchange.states import mirror_states
from sync.jobs.naming import EXPECTED
from sync.review.merge import Conflict, Merge, Side, conflicts_version, decide, key_of, label_key

SAMPLES_PER_CHUNK: Final = 100
SIDES: Final[Mapping[str, Side]] = {"reviewed": "theirs", "curated": "ours"}
ENDED: Final = "is not in the dataset any more and its task is gone: its conflicts end, nothing is written"
CHANGED: Final = "changed since it was shown; look at it again and decide anew"

Decision = str | Mapping[str, str]
"""``reviewed`` or ``curated`` for a whole sample, or one of them for each label id."""


def resolve(
    context: Context,
    *,
    decisions: Mapping[str, Decision],
    shown: Mapping[str, str] | None = None,
    on_progress: OnProgress = ignore_progress,
) -> Report:
    """Decide open conflicts by sample id; what is decided does not come back.

    ``reviewed`` takes Label Studio's version, ``curated`` keeps FiftyOne's, which the next push sends as a correction.
    A label that is not named stays in conflict. ``shown`` names what the person saw (``conflicts_version``); without
    it, that is what the ledger holds now. Where a side has changed since, nothing is decided: the conflict is listed
    with its new sides. A decision that was carried out before is left as it is, so this can be run again.

    Raises:
        LabelingError: a decision is neither ``reviewed`` nor ``curated``.
        ServiceError: Label Studio or MongoDB did not answer; what was decided before stays.
    """
    chosen = {sample_id: to_sides(sample_id, decision) for sample_id, decision in decisions.items()}
    resolving = _Resolving(context, chosen, shown or {})
    for done, chunk in enumerate(chunked(sorted(chosen), SAMPLES_PER_CHUNK)):
        on_progress(done * SAMPLES_PER_CHUNK / len(chosen), f"deciding, {done * SAMPLES_PER_CHUNK}/{len(chosen)}")
        resolving.resolve(chunk)
    mirror_states(context)
    return resolving.to_report()


def to_sides(sample_id: str, decision: Any) -> Side | Mapping[str, Side]:
    """Return what a decision means in the ledger's words.

    Raises:
        LabelingError: it is neither ``reviewed`` nor ``curated``, nor one of them for each label.
    """
    if isinstance(decision, str) and decision in SIDES:
        return SIDES[decision]
    if isinstance(decision, Mapping) and all(isinstance(one, str) and one in SIDES for one in decision.values()):
        return {str(label_id): SIDES[side] for label_id, side in decision.items()}
    raise LabelingError(f"sample {sample_id}: decision {decision!r} is not known (known: {', '.join(SIDES)})")


class _Resolving:
    def __init__(
        self, context: Context, chosen: Mapping[str, Side | Mapping[str, Side]], shown: Mapping[str, str]
    ) -> None:
        self._context = context
        self._chosen = chosen
        self._shown = shown
        self._open: dict[str, dict[str, Conflict]] = {}
        self._refused: dict[str, str] = {}
        self._tally = Tally()
        self._merging = Merging(context, to_policy(context.project.annotators), self._choose, self._tally)
        self.decided: set[str] = set()
        self.settled = 0

    def resolve(self, sample_ids: Sequence[str]) -> None:
        """Decide the conflicts of these samples."""
        conflicts = self._context.ledger.conflicts(sample_ids)
        self._open = {
            sample_id: {conflict.label_id: conflict for conflict in found} for sample_id, found in conflicts.items()
        }
        for sample_id, found in conflicts.items():
            if sample_id in self._shown and self._shown[sample_id] != conflicts_version(found):
                self._refused[sample_id] = CHANGED
        known = self._context.ledger.links(sample_ids)
        self._note_unknown(sample_ids, known)
        links = {sample_id: link for sample_id, link in known.items() if sample_id in conflicts}
        self._merging.pull([link.task_id for link in links.values() if not link.is_gone])
        self._resolve_gone([link.sample_id for link in links.values() if link.is_gone])
        left, failed = self._context.ledger.conflicts(sample_ids), {one.sample_id for one in self._tally.failed}
        for sample_id in sample_ids:
            before, after = len(conflicts.get(sample_id, ())), len(left.get(sample_id, ()))
            if after < before:
                self.decided.add(sample_id)
            elif sample_id not in self._refused and sample_id not in failed:
                self.settled += 1

    def _note_unknown(self, sample_ids: Sequence[str], known: Collection[str]) -> None:
        """Refuse samples that are none, and say which labels wait for nothing: these may be decided already."""
        unknown = [one for one in sample_ids if one not in known]
        present = self._context.dataset.prediction_versions(unknown)
        self._refused |= {one: f"is not in the dataset; {EXPECTED}" for one in unknown if one not in present}
        for sample_id in sample_ids:
            chosen = self._chosen[sample_id]
            others = sorted(chosen.keys() - self._open.get(sample_id, {}).keys()) if isinstance(chosen, Mapping) else []
            if others and sample_id not in self._refused:
                self._tally.notes.append(f"sample {sample_id}: not in conflict: label {', '.join(others)}")

    def _resolve_gone(self, sample_ids: Sequence[str]) -> None:
        """Decide conflicts whose task was deleted: the ledger has kept Label Studio's side."""
        dataset, ledger = self._context.dataset, self._context.ledger
        said, bases = dataset.labels(sample_ids), ledger.bases(sample_ids)
        images, present = dataset.images(sample_ids), dataset.states(sample_ids)
        for sample_id in sample_ids:
            ours, base = said.get(sample_id), bases.get(sample_id, ())
            if isinstance(ours, ItemError):
                self._refused[sample_id] = f"its labels cannot be read: {ours.problem}"
            elif sample_id not in present:
                self._end(sample_id, base)
            elif sample_id not in images:
                self._refused[sample_id] = SIZE_UNKNOWN
            else:
                self._decide_gone(sample_id, ours, base)

    def _decide_gone(self, sample_id: str, ours: SampleLabels | None, base: tuple[Label, ...]) -> None:
        # A field that was cleared says nothing: what was agreed there is written with the rest.
        labels = restore_cleared(ours, base)
        held = {label_key(label): label for label in labels}
        conflicts = tuple(replace(one, ours=held.get(key_of(one))) for one in self._open[sample_id].values())
        merged = Merge(labels, conflicts, base, changed=bool(find_cleared(ours, base)))
        decided = decide(merged, partial(self._choose_gone, sample_id))
        instead_of = {} if ours is None else {sample_id: ours}
        if decided.changed and self._context.dataset.write_labels({sample_id: decided.labels}, instead_of=instead_of):
            self._refused[sample_id] = CHANGED
        else:
            self._record(sample_id, decided)

    def _end(self, sample_id: str, base: tuple[Label, ...]) -> None:
        """Carry a decision out where nothing is left to write to."""
        decided = decide(
            Merge((), tuple(self._open[sample_id].values()), base, changed=False), partial(self._choose, sample_id)
        )
        if len(decided.conflicts) < len(self._open[sample_id]):
            self._tally.notes.append(f"sample {sample_id}: {ENDED}")
        self._record(sample_id, decided)

    def _record(self, sample_id: str, decided: Merge) -> None:
        state = fields.CONFLICT if decided.conflicts else fields.REVIEWED
        self._context.ledger.record_decision(sample_id, state, decided.new_base, decided.conflicts, is_due=False)

    def _choose_gone(self, sample_id: str, conflict: Conflict) -> Side | None:
        # Both say the same by now: it was decided by a job that ended before it could record that.
        return "ours" if is_equal(conflict.ours, conflict.theirs) else self._choose(sample_id, conflict)

    def _choose(self, sample_id: str, conflict: Conflict) -> Side | None:
        """Decide a conflict as it is now, if it is the one that was decided on."""
        chosen = self._chosen.get(sample_id)
        side = chosen.get(conflict.label_id) if isinstance(chosen, Mapping) else chosen
        if side is None or sample_id in self._refused:
            return None
        seen = self._open.get(sample_id, {}).get(conflict.label_id)
        if seen is None or not (is_equal(seen.ours, conflict.ours) and is_equal(seen.theirs, conflict.theirs)):
            self._refused[sample_id] = CHANGED
            return None
        return side

    def to_report(self) -> Report:
        """Return what was decided, what was decided before, and what still waits."""
        open_now = self._context.ledger.conflicts(list(self._chosen))
        failed = [Failure(f"sample {key}", problem, key) for key, problem in sorted(self._refused.items())]
        images = self._context.dataset.images(list(open_now))
        return Report(
            "resolve",
            moved=len(self.decided),
            unchanged=self.settled,
            failed=(*failed, *self._tally.failed),
            conflicts=tuple(
                f"{images[key].path.name if key in images else key}: labels: {len(found)} (sample {key})"
                for key, found in sorted(open_now.items())
            ),
            notes=tuple(self._tally.notes),
        )
