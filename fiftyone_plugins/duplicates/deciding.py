"""What follows from a decision: the file of decisions first, then tags and groups in FiftyOne. Nothing is deleted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def open_decisions(tools: Tools, dataset: Any) -> Decisions:
    """Return what was decided about a dataset."""
    return Decisions(to_folder(tools.folder, dataset.name))


def decide(dataset: Any, decisions: Decisions, action: Action, group: str, sample_ids: Sequence[str]) -> Decision:
    """Keep, drop or set apart samples of a group: write the decision, then do it.

    Raises:
        LabelingError: the group has no such samples: somebody else decided, or groups were made anew.
    """
    members = read_group(dataset, group)
    if not sample_ids or not set(sample_ids) <= set(members):
        raise LabelingError(CHANGED)
    others = [one for one in members if one not in sample_ids] if action == "apart" else []
    decision = decisions.record(action, group, sample_ids, others)
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
    decision = decisions.record("keep", group, kept, dropped=dropped)
    _follow(dataset, decisions, members)
    return decision


def choose_kept(cards: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return whom of a group's images to keep, best first: those marked so, else the best that was not dropped.

    >>> choose_kept([{"sample_id": "★", "decision": "drop"}, {"sample_id": "second", "decision": None}])
    ['second']
    """
    marked = [card["sample_id"] for card in cards if card["decision"] == "keep"]
    return marked or [card["sample_id"] for card in cards if card["decision"] != "drop"][:1]


def undo(dataset: Any, decisions: Decisions, decision: Decision) -> None:
    """Take a decision back: tags as they were before; who was set apart is in a group again after the next search."""
    decisions.undo(decision)
    _follow(dataset, decisions, (*decision.sample_ids, *decision.dropped))


def read_group(dataset: Any, group: str) -> list[str]:
    """Return the sample ids of a group."""
    from fiftyone import ViewField as F

    if not dataset.has_sample_field(fields.DUPLICATE_GROUP):
        return []
    return [str(one) for one in dataset.match(F(fields.DUPLICATE_GROUP) == group).values("id")]


def drop_proposed(samples: Any, tools: Tools, *, dry_run: bool = False) -> Report:
    """Drop all but the proposed keeper of each group of the samples that nobody has decided on.

    Raises:
        LabelingError: nobody has looked for duplicates yet.
    """
    if not samples.has_sample_field(fields.DUPLICATE_GROUP):
        raise LabelingError("nobody has looked for duplicates yet: find them first (labelloop duplicates)")
    decisions = open_decisions(tools, samples._dataset)
    latest = decisions.latest()
    columns = samples.exists(fields.DUPLICATE_GROUP).values(["id", fields.DUPLICATE_GROUP, fields.DUPLICATE_KEEPER])
    dropped: dict[str, str] = {}
    kept = 0
    for sample_id, group, is_keeper in zip(*columns, strict=True):
        if is_keeper or sample_id in latest:
            kept += 1
        else:
            dropped[sample_id] = group
    groups = sorted(set(dropped.values()))
    if not dry_run:
        tools.on_progress(None, f"dropping {len(dropped):,} images of {len(groups):,} groups")
        if dropped:
            # One decision: what was started with one click is taken back with one.
            decisions.record("drop", groups[0] if len(groups) == 1 else "", list(dropped))
        # Those of a run that was killed before it came to the tags as well.
        latest = decisions.latest()
        _follow(samples._dataset, decisions, [one for one in columns[0] if latest.get(one) == "drop"])
    details = {"groups": len(groups)} if dropped else {}
    return Report(DROP_JOB, len(dropped), kept, details=details, is_dry_run=dry_run)


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


def _follow(dataset: Any, decisions: Decisions, sample_ids: Sequence[str]) -> None:
    """Bring the tags in line with what counts now."""
    latest = decisions.latest()
    dropped = [one for one in sample_ids if latest.get(one) == "drop"]
    left = [one for one in sample_ids if latest.get(one) != "drop"]
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
