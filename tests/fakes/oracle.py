"""What must hold of both tools whatever happened: the model of ``model.py`` for every sample, and the checks.

Looks at a ``View``: what Label Studio, FiftyOne and the ledger hold at one moment, of the fakes or of the real tools.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from labels import fields
from sync.ledger import Link
from sync.review.merge import Conflict
from tests.fakes.model import (
    CONTROLS,
    Key,
    Outcome,
    Prefer,
    Said,
    SampleModel,
    UnreadableError,
    Value,
    control_of,
    merge_one,
    said_by_labels,
    said_by_regions,
)

Row = Mapping[str, Any]


@dataclass(frozen=True)
class View:
    """All there is at one moment. ``held`` None: nobody said anything.

    ``silent`` are the controls whose field is not set; None: all. Into what is ``unsized`` nothing can be merged.
    """

    tasks: Sequence[tuple[int, str]]
    annotations: Mapping[int, Row]
    predictions: Sequence[tuple[int, str]]
    held: Mapping[str, Said | None]
    label_ids: Mapping[str, Sequence[str]]
    silent: Mapping[str, frozenset[str] | None]
    states: Mapping[str, str | None]
    links: Mapping[str, Link]
    conflicts: Mapping[str, Sequence[Conflict]]
    unsized: Collection[str] = ()

    @property
    def task_of(self) -> dict[str, int]:
        """The task of each sample."""
        return {sample_id: task_id for task_id, sample_id in self.tasks}

    def is_silent(self, sample_id: str, control: str) -> bool:
        """Return whether nothing is said of a sample with a control."""
        silent = self.silent[sample_id]
        return silent is None or control in silent

    def rows(self, sample_id: str) -> list[Row]:
        """Return the annotations of a sample's task, oldest first."""
        task_id = self.task_of.get(sample_id)
        return [row for _, row in sorted(self.annotations.items()) if row["task"] == task_id]


@dataclass
class Oracle:
    """Who said what, and what must have become of it. ``people`` holds what each person's annotation says."""

    models: dict[str, SampleModel]
    people: dict[int, tuple[list[dict[str, Any]], bool]] = field(default_factory=dict)
    corrections: dict[int, Said] = field(default_factory=dict)
    # Samples of which somebody deleted a correction: both sides keep what they have.
    refused: set[str] = field(default_factory=set)
    # Annotations that travelled with a new task.
    sent: set[int] = field(default_factory=set)

    def curated(self, sample_id: str, view: View) -> None:
        """Take what the catalogue holds of a sample for what a curator wants."""
        model = self.models[sample_id]
        model.cleared |= model.spoken
        self._hold(model, sample_id, view)

    def _hold(self, model: SampleModel, sample_id: str, view: View) -> None:
        model.held = view.held[sample_id]
        model.spoken = {control for control in CONTROLS if not view.is_silent(sample_id, control)}
        model.cleared -= model.spoken

    def expect_nothing_touched(self, view: View) -> None:
        """No annotation of a person says anything else than that person wrote, and none is gone."""
        rows = view.annotations
        held = {key: (list(rows[key]["result"]), rows[key]["was_cancelled"]) for key in self.people if key in rows}
        assert held == self.people

    def expect_nothing_doubled(self, view: View) -> None:
        """No label, task, prediction or link is there twice."""
        for sample_id, ids in view.label_ids.items():
            assert len(set(ids)) == len(ids), sample_id
        for row in view.annotations.values():
            ids = [region["id"] for region in row["result"]]
            assert len(set(ids)) == len(ids), row
        senders = [sample_id for _, sample_id in view.tasks]
        assert len(set(senders)) == len(senders), "two tasks for one sample"
        assert len(set(view.predictions)) == len(view.predictions), "one prediction twice on a task"
        linked = [link.task_id for link in view.links.values()]
        assert len(set(linked)) == len(linked), "one task for two samples"

    def expect_held(self, view: View) -> None:
        """The catalogue holds what it must."""
        for sample_id, model in self.models.items():
            assert view.held[sample_id] == model.held, sample_id

    def note_sent(self, view: View, *, surely: bool, sent_from: View | None = None) -> None:
        """Remember what travelled: with a new task both sides have it now, a correction is an offer.

        Only a correction has a number of ours. ``sent_from`` is what the catalogue held when it was sent, if that may
        not have been now.
        """
        sources = [view, *([] if sent_from is None else [sent_from])]
        for sample_id, model in self.models.items():
            for row in view.rows(sample_id):
                if row["id"] in self.people or row["id"] in self.corrections or row["id"] in self.sent:
                    continue
                is_correction = row["parent_annotation"] is not None
                if is_correction or row["import_id"] is None:
                    said = said_by_regions(row["result"])
                    assert any(_is_sent_from(one, sample_id, said) for one in sources), (
                        f"{sample_id}: what was sent is not what the catalogue holds"
                    )
                    if is_correction:
                        self.corrections[row["id"]] = said
                        model.family |= {row["id"], row["parent_annotation"]}
                        model.read[row["id"]] = [said]
                    else:
                        self.sent.add(row["id"])
                        model.add_agreement(said, surely=surely)
                        model.merged = {row["id"]} | (set() if surely else model.merged)

    def answers(self, sample_id: str, view: View) -> list[Row]:
        """Return the annotations that say something: no skips, and no corrections of ours that nobody has touched."""
        return [
            row
            for row in view.rows(sample_id)
            if not row["was_cancelled"] and (row["id"] in self.people or row["id"] not in self.corrections)
        ]

    def check_pulled(self, view: View, prefer: Prefer, *, is_done: bool) -> None:
        """Check what a pull did: all of it when it is done, any part of it when it was killed."""
        self._check(self.models, view, lambda _sample_id, _key: {prefer}, is_done=is_done)

    def check_resolved(
        self,
        view: View,
        decided: Mapping[str, Mapping[Key, Prefer]],
        found: Mapping[str, Sequence[Conflict]],
        *,
        is_current: bool,
        is_done: bool,
    ) -> None:
        """Check what a decision did. ``is_current``: nothing changed since it was made, so that it must be carried out.

        Else it may be refused, which leaves the conflict open. ``found`` are the conflicts that were decided: where the
        task is gone, what they remember of it counts.
        """
        for sample_id in decided:
            if sample_id not in view.task_of:
                self._decide_remembered(view, sample_id, decided[sample_id], found.get(sample_id, ()))

        def to_sides(sample_id: str, key: Key) -> set[Prefer]:
            side = decided[sample_id].get(key)
            return {side} if is_current or side is None else {side, None}

        # What is in conflict no more was decided by an earlier run, and is not even read.
        self._check({key: self.models[key] for key in decided if found.get(key)}, view, to_sides, is_done=is_done)

    def _decide_remembered(
        self, view: View, sample_id: str, sides: Mapping[Key, Prefer], found: Sequence[Conflict]
    ) -> None:
        model, actual = self.models[sample_id], view.held[sample_id] or {}
        theirs = {to_key(one): said_by_labels([one.theirs]) if one.theirs else {} for one in found}
        for key in model.keys(actual):
            before = (model.held or {}).get(key)
            allowed = {before, theirs[key].get(key)} if sides.get(key) == "reviewed" and key in theirs else {before}
            if control_of(key, *allowed, *model.agreed_on(key)) in model.cleared:
                allowed |= model.agreed_on(key)
            assert actual.get(key) in allowed, f"{sample_id} {key}: holds {actual.get(key)}, expected one of {allowed}"
            if actual.get(key) != before or key in sides:
                model.agreed[key] = model.agreed_on(key) | allowed
        self._hold(model, sample_id, view)

    def _check(
        self,
        models: Mapping[str, SampleModel],
        view: View,
        decide: Callable[[str, Key], set[Prefer]],
        *,
        is_done: bool,
    ) -> None:
        for sample_id, model in models.items():
            answers, link = self.answers(sample_id, view), view.links.get(sample_id)
            if not answers or link is None or link.task_id != view.task_of.get(sample_id):
                continue
            if sample_id in view.unsized:
                continue
            review = max(answers, key=lambda row: str(row["updated_at"]))
            try:
                theirs = said_by_regions(review["result"])
            except UnreadableError:
                continue
            in_conflict = {to_key(one) for one in view.conflicts.get(sample_id, ())}
            self._narrow(sample_id, view, review["id"], theirs, in_conflict, decide, is_done=is_done)
            self._note_read(sample_id, review["id"], answers, view, is_done=is_done)
            # A job that was killed may have got as far as to list or to end them.
            model.conflicts = in_conflict
            if is_done:
                expected = fields.CONFLICT if in_conflict else fields.REVIEWED
                assert view.states[sample_id] == expected, sample_id
            self._hold(model, sample_id, view)

    def _family_in(self, view: View, sample_id: str) -> set[int]:
        """Return the corrections that are there, and the annotations they were made from."""
        rows = [row for row in view.rows(sample_id) if row["id"] in self.corrections]
        return {one for row in rows for one in (row["id"], row["parent_annotation"])}

    def _note_read(
        self, sample_id: str, annotation_id: int, answers: Iterable[Row], view: View, *, is_done: bool
    ) -> None:
        model = self.models[sample_id]
        if is_done and model.merged != {annotation_id}:
            # A new answer was surely merged, with all that is there beside it.
            model.related |= self._family_in(view, sample_id)
        model.merged = {annotation_id} | (set() if is_done else model.merged)
        for row in answers:
            with contextlib.suppress(UnreadableError):
                said = said_by_regions(row["result"])
                model.read[row["id"]] = [said] if is_done else [*model.read.get(row["id"], ()), said]

    def _made_from(self, model: SampleModel, annotation_id: int, key: Key) -> set[Value]:
        """Return what an annotation may have said of a key before its author changed it.

        Mostly that is what both sides agreed on. Of annotations that come from one another each was made from what it
        said when it was read last; a correction of ours that nobody had changed by then, from what was sent. One that
        was read before its correction came, late, was one answer among others: either may be so.
        """
        if model.merged == {annotation_id} or key in model.conflicts:
            return model.agreed_on(key)
        is_sure = annotation_id in model.related and annotation_id not in model.merged
        agreed = set[Value]() if is_sure else model.agreed_on(key)
        if annotation_id in model.family and annotation_id in model.read:
            return agreed | {said.get(key) for said in model.read[annotation_id]}
        return model.agreed_on(key)

    def _narrow(
        self,
        sample_id: str,
        view: View,
        annotation_id: int,
        theirs: Said,
        in_conflict: set[Key],
        decide: Callable[[str, Key], set[Prefer]],
        *,
        is_done: bool,
    ) -> None:
        """Check each key against everything that may have become of it, and keep what explains what is there."""
        model, actual = self.models[sample_id], view.held[sample_id]
        if is_done and not model.cleared:
            assert actual is not None, "reviewed, and yet nobody looked"
        for key in model.keys(theirs, actual):
            possible = set[Outcome]()
            values = (theirs.get(key), (actual or {}).get(key), (model.held or {}).get(key), *model.agreed_on(key))
            control = control_of(key, *values)
            silent, sides = control not in model.spoken, decide(sample_id, key)
            for made_from, agreed in product(self._made_from(model, annotation_id, key), model.agreed_on(key)):
                # Where nobody looked, or a field was cleared, nothing was said against what was agreed.
                ours = (agreed or made_from) if silent else (model.held or {}).get(key)
                done = {one for side in sides for one in merge_one(made_from, ours, theirs.get(key), side)}
                possible |= done
                if silent:
                    is_still = view.is_silent(sample_id, control) or not is_done
                    possible |= {Outcome(None, one.agreed) for one in done if is_still}
            if not is_done:
                # What was agreed may be as it was, whatever the annotation was made from.
                written = {(model.held or {}).get(key), *(one.held for one in possible)}
                before = {*model.agreed_on(key), *(one.agreed for one in possible)}
                possible |= {
                    Outcome(held, agreed, flag) for held in written for agreed in before for flag in (True, False)
                }
            value = (actual or {}).get(key)
            explained = {
                one
                for one in possible
                if one.held == value and (not is_done or one.is_conflict == (key in in_conflict))
            }
            assert explained, f"{sample_id} {key}: holds {value}, but expected one of {possible}"
            model.agreed[key] = {one.agreed for one in explained}

    def expect_agreement(self, view: View) -> None:
        """Once synced, the newest word in Label Studio is what the catalogue holds, but for what waits for a person."""
        for sample_id, model in self.models.items():
            link, rows = view.links.get(sample_id), view.rows(sample_id)
            said = [row for row in rows if not row["was_cancelled"]]
            is_open = link is None or link.problem is not None or link.state != fields.REVIEWED
            if is_open or sample_id in self.refused or not self.answers(sample_id, view):
                continue
            newest = said_by_regions(max(said, key=lambda row: str(row["updated_at"]))["result"])
            newest = {key: value for key, value in newest.items() if control_of(key, value) not in model.cleared}
            assert newest == (model.held or {}), f"{sample_id}: the two tools disagree"


def _is_sent_from(view: View, sample_id: str, said: Said) -> bool:
    """Return whether the catalogue holds this; the labels of a cleared field may be sent as they were agreed."""
    if sample_id not in view.held:
        return False
    sent = {key: value for key, value in said.items() if not view.is_silent(sample_id, control_of(key, value))}
    return sent == (view.held[sample_id] or {})


def to_key(conflict: Conflict) -> Key:
    """Return what a conflict is about."""
    version = next(one for one in (conflict.ours, conflict.theirs, conflict.base) if one is not None)
    return ("label", version.id) if version.geometry is not None else ("control", version.control)
