"""Decides in bulk: what is proposed as trash gets a tag, is logged, and can be taken back. Nothing is deleted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from more_itertools import bucket, chunked

from fiftyone_plugins.app.journal import Journal, find_standing, list_decided, mark_undone
from fiftyone_plugins.app.work import Tools
from fiftyone_plugins.quality.files import read_files
from fiftyone_plugins.quality.history import BY_HAND, KEEP, TAGS, TRASH, History
from fiftyone_plugins.quality.proposals import Proposal, Rules, Scored, count_proposals, propose, read_scored
from fiftyone_plugins.quality.tagging import change_tags
from labels import fields
from labels.errors import LabelingError
from labels.report import Report

UNDECIDED: Final[Mapping[str, Any]] = {"tags": {"$nin": sorted(TAGS.values())}}
"""In MongoDB's words: neither tagged as trash nor as kept."""
SAMPLES_PER_STEP: Final = 1000


def decide(samples: Any, tools: Tools, *, rules: Rules, dry_run: bool) -> Report:
    """Tag as trash what the rules propose; what a person decided otherwise stays as it is.

    Each step is logged before it is done. A second run finds nothing to tag.

    Raises:
        LabelingError: no sample was measured yet.
    """
    tools.on_progress(None, "reading scores")
    scored = read_scored(samples)
    proposals = propose(scored, rules)
    if scored and all(one.scores.get("corrupt") is None for one in scored):
        raise LabelingError("no sample was measured yet: run labelloop quality, or «Check quality» in the App")
    chosen, changed = _choose(samples, proposals)
    counts = count_proposals(scored, proposals, rules)
    details, notes = counts.details, [*counts.notes, *_tell_changed(changed)]
    notes += _tell_unmeasured(scored) if dry_run else []
    if dry_run or not chosen:
        unchanged = len(proposals) - len(chosen)
        return Report("quality_decide", len(chosen), unchanged, notes=tuple(notes), details=details, is_dry_run=dry_run)
    dataset = samples._dataset
    history = _read_history(tools.folder, dataset, [one.sample_id for one in chosen])
    journal = Journal.begin(tools.folder, dataset.name, TRASH, asdict(rules))
    tagged = _tag(dataset, chosen, history, journal, tools)
    journal.close("done")
    notes.append(f"to take it back: labelloop quality --undo {journal.run}")
    return Report("quality_decide", tagged, len(proposals) - tagged, notes=tuple(notes), details=details)


def trash_by_hand(samples: Any, folder: Path) -> tuple[str | None, int]:
    """Tag samples as trash, whatever was said of them before; logged like every decision.

    What a rule tagged is a person's word from then on: taking back the rule's decision leaves it as it is.
    Return the decision's name and how many it changed; None and 0 where a person said so of all already.
    """
    return _decide_by_hand(samples, folder, TRASH)


def keep_by_hand(samples: Any, folder: Path) -> tuple[str | None, int]:
    """Say of samples that they are good: no proposal says otherwise from now on, and they are no trash; logged.

    Return the decision's name and how many it changed; None and 0 where all were kept already.
    """
    return _decide_by_hand(samples, folder, KEEP)


def undo(samples: Any, tools: Tools, *, run: str | None) -> Report:
    """Take back one decision, the last one where none is named: its samples are what they were before it.

    Of what a later decision says something, that stays so.

    Raises:
        LabelingError: there is no such decision, or it was taken back already.
    """
    dataset = samples._dataset
    decided = find_standing(tools.folder, dataset.name, *TAGS, run=run)
    tag = TAGS[decided.kind]
    ids = [str(change["sample_id"]) for change in decided.changes]
    history = _read_history(tools.folder, dataset, ids)
    last = [one for one in ids if not history.is_followed(one, decided.run)]
    untagged = 0
    for done, chunk in enumerate(chunked(last, SAMPLES_PER_STEP)):
        tools.on_progress(done * SAMPLES_PER_STEP / len(last), f"taking back {decided.run}")
        groups = bucket(chunk, key=lambda one: history.find_tags_before(one, decided.run))
        for before in groups:
            # Where a person took the tag off since, there is nothing to take back.
            untagged += change_tags(dataset, list(groups[before]), {"tags": tag}, put=before, take={tag})
    mark_undone(tools.folder, dataset.name, decided)
    notes = [f"{decided.run} is taken back"]
    if len(last) < len(ids):
        notes.append(f"as a later decision says, and so left: {len(ids) - len(last)}")
    return Report("quality_undo", untagged, len(ids) - untagged, notes=tuple(notes))


def _choose(samples: Any, proposals: Sequence[Proposal]) -> tuple[list[Proposal], int]:
    """Return what is to be tagged, and of how many the scores are of another file than the one there is now."""
    chosen = [one for one in proposals if one.word == "trash" and not one.is_trashed]
    wanted = {one.sample_id for one in chosen}
    current = {file.sample_id for file in read_files(samples) if file.sample_id in wanted and file.is_current}
    return [one for one in chosen if one.sample_id in current], len(chosen) - len(current)


def _decide_by_hand(samples: Any, folder: Path, kind: str) -> tuple[str | None, int]:
    dataset, tag = samples._dataset, TAGS[kind]
    tags_of = {str(one): frozenset(tags or ()) for one, tags in zip(*samples.values(["id", "tags"]), strict=True)}
    history = _read_history(folder, dataset, list(tags_of))
    changes: dict[str, dict[str, Any]] = {}
    for sample_id, tags in tags_of.items():
        after = history.find_last(sample_id)
        is_a_persons_word = after is None or history.is_by_hand(after)
        if tags.intersection(TAGS.values()) != {tag} or not is_a_persons_word:
            before = {"was_trash": fields.TRASH_TAG in tags, "was_kept": fields.KEEP_TAG in tags, "after": after}
            changes[sample_id] = {"sample_id": sample_id, "reason": "by hand", **before}
    if not changes:
        return None, 0
    journal = Journal.begin(folder, dataset.name, kind, BY_HAND)
    journal.add(changes.values())
    change_tags(dataset, list(changes), {}, put={tag}, take=frozenset(TAGS.values()))
    journal.close("done")
    return journal.run, len(changes)


def _read_history(folder: Path, dataset: Any, sample_ids: Sequence[str]) -> History:
    return History(list_decided(folder, dataset.name, *TAGS), sample_ids)


def _tell_unmeasured(scored: Sequence[Scored]) -> list[str]:
    waiting = sum(one.scores.get("corrupt") is None for one in scored)
    return [f"not measured yet: {waiting} of {len(scored)} (labelloop quality measures them)"] if waiting else []


def _tell_changed(count: int) -> list[str]:
    return [f"left out, since their files changed: {count} (labelloop quality measures them anew)"] if count else []


def _tag(dataset: Any, chosen: Sequence[Proposal], history: History, journal: Journal, tools: Tools) -> int:
    tagged = 0
    for done, chunk in enumerate(chunked(chosen, SAMPLES_PER_STEP)):
        tools.on_progress(done * SAMPLES_PER_STEP / len(chosen), f"tagging {len(chosen)} samples")
        # What a person kept or trashed since the tags were read is their decision, not this one's.
        ids = dataset.select([one.sample_id for one in chunk]).match_tags(list(TAGS.values()), bool=False).values("id")
        free = frozenset(map(str, ids))
        told = [one for one in chunk if one.sample_id in free]
        afters = [history.find_last(one.sample_id) for one in told]
        journal.add(
            {"sample_id": one.sample_id, "reason": one.reason, "after": after}
            for one, after in zip(told, afters, strict=True)
        )
        tagged += change_tags(dataset, sorted(free), UNDECIDED, put={fields.TRASH_TAG})
    return tagged
