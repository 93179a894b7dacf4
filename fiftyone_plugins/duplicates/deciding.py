"""What follows from a decision: the file of decisions first, then tags and groups in FiftyOne. Nothing is deleted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from fiftyone_plugins.app.work import Tools
from fiftyone_plugins.app.writing import write_values
from fiftyone_plugins.duplicates.decisions import Action, Decision, Decisions
from fiftyone_plugins.duplicates.fingerprint_store import to_folder
from fiftyone_plugins.duplicates.scanning import FIELDS
from labels import fields
from labels.errors import LabelingError
from labels.report import Report

DROP_JOB: Final = "duplicates_drop"
UNDO_JOB: Final = "duplicates_undo"
CHANGED: Final = "the group has changed since it was shown: look at it again"
EMPTIED: Final = (
    "groups left as they are, since no image of them would be kept (the proposed one was dropped or is gone: "
    "decide in the panel, or find duplicates again)"
)
NONE_LEFT: Final = (
    "every other image of this group was dropped, and this one would no longer stand for them: keep one of them first, "
    "or undo"
)


def open_decisions(tools: Tools, dataset: Any) -> Decisions:
    """Return what was decided about a dataset."""
    return Decisions(to_folder(tools.folder, dataset.name))


def decide(dataset: Any, decisions: Decisions, action: Action, group: str, sample_ids: Sequence[str]) -> Decision:
    """Keep, drop or set apart samples of a group: write the decision, then do it.

    Raises:
        LabelingError: the group has no such samples: somebody else decided, or groups were made anew. Or what is set
            apart leaves none but dropped ones behind.
    """
    members = read_group(dataset, group)
    if not sample_ids or not set(sample_ids) <= set(members):
        raise LabelingError(CHANGED)
    others = [one for one in members if one not in sample_ids] if action == "apart" else []
    latest = decisions.latest()
    if is_none_kept(latest.get(one) for one in others):
        raise LabelingError(NONE_LEFT)
    decision = decisions.record(action, group, sample_ids, others, tagged=_find_tagged(dataset, sample_ids))
    _follow(dataset, decisions, sample_ids)
    if action == "apart":
        _leave_group(dataset, sample_ids, others)
    return decision


def decide_group(dataset: Any, decisions: Decisions, group: str, kept: Sequence[str]) -> Decision:
    """Keep samples of a group and drop all its others, as one decision.

    Raises:
        LabelingError: the group has no such samples: somebody else decided, or groups were made anew.
    """
    members = read_group(dataset, group)
    if not kept or not set(kept) <= set(members):
        raise LabelingError(CHANGED)
    dropped = [one for one in members if one not in kept]
    decision = decisions.record("keep", group, kept, dropped=dropped, tagged=_find_tagged(dataset, members))
    _follow(dataset, decisions, members)
    return decision


def choose_kept(cards: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return whom of a group's images to keep, best first: those marked so, else the best that was not dropped.

    >>> choose_kept([{"sample_id": "★", "decision": "drop"}, {"sample_id": "second", "decision": None}])
    ['second']
    """
    marked = [card["sample_id"] for card in cards if card["decision"] == "keep"]
    return marked or [card["sample_id"] for card in cards if card["decision"] != "drop"][:1]


def is_none_kept(said: Iterable[str | None]) -> bool:
    """Whether all images of a group were dropped: what it shows is then neither queued nor exported.

    >>> is_none_kept(["drop", None]), is_none_kept(["drop", "drop"])
    (False, True)
    """
    listed = list(said)
    return bool(listed) and all(one == "drop" for one in listed)


def is_decided(said: Iterable[str | None]) -> bool:
    """Whether nothing is left to decide in a group: one image was not dropped, or several are all to be kept.

    >>> is_decided([None, None]), is_decided(["drop", None]), is_decided(["drop", "drop"])
    (False, True, False)
    >>> is_decided(["keep", "drop", "keep"]), is_decided(["keep", "drop", None])
    (True, False)
    """
    left = [one for one in said if one != "drop"]
    return len(left) == 1 or (bool(left) and all(one == "keep" for one in left))


def undo(dataset: Any, decisions: Decisions, decision: Decision) -> None:
    """Take a decision back: tags as they were before; who was set apart is in a group again after the next search."""
    decisions.undo(decision)
    _follow(dataset, decisions, (*decision.sample_ids, *decision.dropped), tagged=decision.tagged or ())


def read_group(dataset: Any, group: str | None) -> list[str]:
    """Return the sample ids of a group; none where no group is named."""
    from fiftyone import ViewField as F

    # Asked for the group None, the database would answer with every image that is in no group.
    if not group or not dataset.has_sample_field(fields.DUPLICATE_GROUP):
        return []
    return [str(one) for one in dataset.match(F(fields.DUPLICATE_GROUP) == group).values("id")]


def drop_proposed(samples: Any, tools: Tools, *, dry_run: bool = False) -> Report:
    """Drop all but the proposed keeper of each undecided group of the samples, and whom a person keeps.

    Raises:
        LabelingError: nobody has looked for duplicates yet.
    """
    if not samples.has_sample_field(fields.DUPLICATE_GROUP):
        raise LabelingError("nobody has looked for duplicates yet: find them first (labelloop duplicates)")
    decisions = open_decisions(tools, samples._dataset)
    latest = decisions.latest()
    columns = samples.exists(fields.DUPLICATE_GROUP).values(["id", fields.DUPLICATE_GROUP, fields.DUPLICATE_KEEPER])
    proposed = {
        sample_id: group
        for sample_id, group, is_keeper in zip(*columns, strict=True)
        if not is_keeper and latest.get(sample_id) not in ("keep", "drop")
    }
    decided, emptied = _find_left_alone(samples._dataset, proposed, latest)
    dropped = {one: group for one, group in proposed.items() if group not in decided | emptied}
    kept = len(columns[0]) - len(dropped)
    groups = sorted(set(dropped.values()))
    if not dry_run:
        tools.on_progress(None, f"dropping {len(dropped):,} images of {len(groups):,} groups")
        if dropped:
            # One decision: what was started with one click is taken back with one.
            decisions.record(
                "drop",
                groups[0] if len(groups) == 1 else "",
                list(dropped),
                tagged=_find_tagged(samples._dataset, list(dropped)),
            )
        # Those of a run that was killed before it came to the tags as well.
        latest = decisions.latest()
        _follow(samples._dataset, decisions, [one for one in columns[0] if latest.get(one) == "drop"])
    details = {"groups": len(groups)} if dropped else {}
    notes = (f"{EMPTIED}: {len(emptied):,}",) if emptied else ()
    return Report(DROP_JOB, len(dropped), kept, details=details, notes=notes, is_dry_run=dry_run)


def undo_last(samples: Any, tools: Tools) -> Report:
    """Take back the last decision about the dataset that was not taken back yet."""
    decisions = open_decisions(tools, samples._dataset)
    last = decisions.find_last()
    if last is None:
        return Report(UNDO_JOB, notes=("nothing was decided",))
    undo(samples._dataset, decisions, last)
    return Report(UNDO_JOB, len(last.sample_ids) + len(last.dropped), notes=(f"taken back: {describe_decision(last)}",))


def describe_decision(decision: Decision) -> str:
    """Return a decision in words.

    >>> describe_decision(Decision(1, "drop", "0a1b", ("x", "y")))
    '2 images dropped in group 0a1b'
    >>> describe_decision(Decision(2, "keep", "0a1b", ("x",), dropped=("y", "z")))
    '1 image kept and 2 dropped in group 0a1b'
    """
    words: Mapping[Action, str] = {"keep": "kept", "drop": "dropped", "apart": "set apart from the others"}
    count = len(decision.sample_ids)
    also = f" and {len(decision.dropped)} dropped" if decision.dropped else ""
    where = f"group {decision.group}" if decision.group else "several groups"
    return f"{count} image{'s' if count != 1 else ''} {words[decision.action]}{also} in {where}"


def _find_left_alone(dataset: Any, proposed: Mapping[str, str], latest: Mapping[str, str]) -> tuple[set[str], set[str]]:
    """Return the groups that are decided, and those of which no image would be left."""
    from fiftyone import ViewField as F

    members: dict[str, list[str]] = defaultdict(list)
    # Of the whole dataset: the one that is kept may be out of the view.
    found = dataset.match(F(fields.DUPLICATE_GROUP).is_in(sorted(set(proposed.values()))))
    for sample_id, group in zip(*found.values(["id", fields.DUPLICATE_GROUP]), strict=True):
        members[group].append(sample_id)
    decided = {group for group, ids in members.items() if is_decided(latest.get(one) for one in ids)}
    emptied = {
        group
        for group, ids in members.items()
        if is_none_kept("drop" if one in proposed else latest.get(one) for one in ids)
    }
    return decided, emptied - decided


def _find_tagged(dataset: Any, sample_ids: Sequence[str]) -> list[str]:
    """Return who of the samples has the tag already: by an earlier decision, or by a person's own hand."""
    return [str(one) for one in dataset.select(sample_ids).match_tags(fields.DUPLICATE_TAG).values("id")]


def _follow(dataset: Any, decisions: Decisions, sample_ids: Sequence[str], *, tagged: Collection[str] = ()) -> None:
    """Bring the tags in line with what counts now; those ``tagged`` have the tag in any case."""
    latest = decisions.latest()
    had = set(tagged)
    dropped = [one for one in sample_ids if latest.get(one) == "drop" or one in had]
    left = [one for one in sample_ids if latest.get(one) != "drop" and one not in had]
    if dropped:
        dataset.select(dropped).tag_samples(fields.DUPLICATE_TAG)
    if left:
        dataset.select(left).untag_samples(fields.DUPLICATE_TAG)


def _leave_group(dataset: Any, sample_ids: Sequence[str], others: Sequence[str]) -> None:
    """Take samples out of their group; who is left alone is in none either, and several have a keeper again."""
    left = [*sample_ids, *(others if len(others) == 1 else ())]
    write_values(dataset, {one: dict.fromkeys(FIELDS) for one in left})
    if len(others) > 1 and not any(dataset.select(others).values(fields.DUPLICATE_KEEPER)):
        write_values(dataset, {others[0]: {fields.DUPLICATE_KEEPER: True}})
