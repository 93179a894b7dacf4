"""Three-way merge of an image's labels: base (last agreed), ours (FiftyOne now), theirs (Label Studio now).

Pure: reads and writes nothing. Shapes are matched by label id. What is said about the whole image (choices, ratings) is
matched by its control, since an image has one answer per control and each side gives that answer an id of its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, field
from typing import Literal

from labels.errors import LabelingError
from labels.results import Label, is_same, to_record

Side = Literal["ours", "theirs"]
LabelKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Conflict:
    """A label that both sides changed in different ways; a side is None where the label is absent.

    ``ours_at`` and ``theirs_at`` say since when each side says so (``to_timestamp``); None: not known. Conflicts are
    equal whose sides are.
    """

    label_id: str
    base: Label | None
    ours: Label | None
    theirs: Label | None
    ours_at: str | None = field(default=None, compare=False)
    theirs_at: str | None = field(default=None, compare=False)


Choose = Callable[[Conflict], Side | None]
"""Decides a conflict for a side; None leaves it open."""


@dataclass(frozen=True, slots=True)
class Merge:
    """The outcome of a merge.

    ``labels`` is the set to hold in FiftyOne: for a conflict, our version (or its absence). ``new_base`` is the set to
    record as agreed: theirs, and for a conflict still the old base, so that it is found again until it is decided.
    ``changed`` tells whether ``labels`` differs from ours, that is whether FiftyOne needs a write.
    """

    labels: tuple[Label, ...]
    conflicts: tuple[Conflict, ...]
    new_base: tuple[Label, ...]
    changed: bool


def label_key(label: Label) -> LabelKey:
    """Return what a label is matched by: its id, or its control when it speaks of the whole image."""
    return ("label", label.id) if label.geometry is not None else ("control", label.control)


def key_of(conflict: Conflict) -> LabelKey:
    """Return what the label in conflict is matched by."""
    return next(label_key(label) for label in _versions(conflict))


def merge(base: Sequence[Label] | None, ours: Sequence[Label], theirs: Sequence[Label]) -> Merge:
    """Merge two label sets that both come from ``base`` (None: nothing was ever agreed).

    What changed on one side wins, and so does a deletion of what the other side left alone; equal changes are one;
    the rest are conflicts. Labels keep our order, new ones follow in theirs.

    Raises:
        LabelingError: one side has two labels with the same id, or two answers of one control.

    >>> theirs = [Label("1", "label", ("car",))]
    >>> merge(None, [], theirs).labels == tuple(theirs)
    True
    """
    base_by_key, ours_by_key = _by_key(base or (), "base"), _by_key(ours, "ours")
    theirs_by_key = _by_key(theirs, "theirs")
    labels: list[Label] = []
    new_base: list[Label] = []
    conflicts: list[Conflict] = []
    changed = False
    for key in dict.fromkeys((*ours_by_key, *theirs_by_key, *base_by_key)):
        agreed, our, their = base_by_key.get(key), ours_by_key.get(key), theirs_by_key.get(key)
        held, next_base = our, their
        if _is_equal(agreed, their):
            # Their side did not move. The old version stays the base, so that rounding cannot add up over many pulls.
            next_base = agreed
        elif _is_equal(agreed, our):
            held, changed = their, True
        elif not _is_equal(our, their):
            conflicts.append(Conflict(_label_id(our, their, agreed), agreed, our, their))
            next_base = agreed
        labels += [held] if held is not None else []
        new_base += [next_base] if next_base is not None else []
    return Merge(tuple(labels), tuple(conflicts), tuple(new_base), changed)


def decide(merged: Merge, choose: Choose) -> Merge:
    """Return the merge with those conflicts decided that ``choose`` decides; the others stay open.

    Their version becomes the base either way: where ours was preferred, it is then a change of ours alone, and the
    conflict does not come back.
    """
    sides = [(conflict, choose(conflict)) for conflict in merged.conflicts]
    decided = {label_key(label) for conflict, side in sides if side for label in _versions(conflict)}
    theirs = [conflict.theirs for conflict, side in sides if side and conflict.theirs is not None]
    taken = [conflict for conflict, side in sides if side == "theirs"]
    replaced = {label_key(label) for conflict in taken for label in _versions(conflict)}
    return Merge(
        labels=_overlay(merged.labels, [one.theirs for one in taken if one.theirs is not None], replaced),
        conflicts=tuple(conflict for conflict, side in sides if side is None),
        new_base=_overlay(merged.new_base, theirs, decided),
        changed=merged.changed or bool(taken),
    )


def with_bases_of(base: Sequence[Label], conflicts: Iterable[Conflict]) -> tuple[Label, ...]:
    """Return the base with the versions that open conflicts started from, so that none ends without a decision."""
    known = list(conflicts)
    keys = {label_key(label) for conflict in known for label in _versions(conflict)}
    return _overlay(base, [conflict.base for conflict in known if conflict.base is not None], keys)


def conflicts_version(conflicts: Iterable[Conflict]) -> str:
    """Return a short name of what the sides of the conflicts say: who decides names what they were shown.

    >>> conflicts_version([]) == conflicts_version([Conflict("1", None, None, None)])
    False
    """
    texts = sorted(
        json.dumps(
            [one.label_id, *(None if side is None else to_record(side) for side in (one.ours, one.theirs))],
            sort_keys=True,
        )
        for one in conflicts
    )
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def is_same_set(first: Iterable[Label], second: Iterable[Label]) -> bool:
    """Return whether two label sets say the same, in whatever order.

    Raises:
        LabelingError: as ``merge``.
    """
    one, other = _by_key(first, "the first set"), _by_key(second, "the second set")
    return one.keys() == other.keys() and all(is_same(label, other[key]) for key, label in one.items())


def _overlay(labels: Iterable[Label], chosen: Iterable[Label], decided: Set[LabelKey]) -> tuple[Label, ...]:
    """Return the labels with the decided ones replaced by the chosen, in place, or left out where none was chosen."""
    chosen_by_key = {label_key(label): label for label in chosen}
    kept: list[Label] = []
    for label in labels:
        if label_key(label) not in decided:
            kept.append(label)
        elif label_key(label) in chosen_by_key:
            kept.append(chosen_by_key.pop(label_key(label)))
    return (*kept, *chosen_by_key.values())


def _versions(conflict: Conflict) -> Iterable[Label]:
    return (label for label in (conflict.base, conflict.ours, conflict.theirs) if label is not None)


def _label_id(*versions: Label | None) -> str:
    return next(label.id for label in versions if label is not None)


def _is_equal(a: Label | None, b: Label | None) -> bool:
    if a is None or b is None:
        return a is b
    return is_same(a, b)


def _by_key(labels: Iterable[Label], side: str) -> dict[LabelKey, Label]:
    by_key: dict[LabelKey, Label] = {}
    for label in labels:
        key = label_key(label)
        if key in by_key:
            raise LabelingError(f"{key[0]} {key[1]!r} occurs twice in {side} (expected once)")
        by_key[key] = label
    return by_key
