"""Decides in bulk: what is proposed as trash gets a tag, is logged, and can be taken back. Nothing is deleted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from more_itertools import chunked

from fiftyone_plugins.app.journal import Journal, find_standing, mark_undone
from fiftyone_plugins.app.work import Tools
from fiftyone_plugins.quality.proposals import Proposal, Rules, Scored, count_proposals, propose, read_scored
from fiftyone_plugins.quality.scanning import declare_fields
from labels import fields
from labels.errors import LabelingError
from labels.report import Report

TRASH: Final = "trash"
KEEP: Final = "keep"
TAGS: Final[Mapping[str, str]] = {TRASH: fields.TRASH_TAG, KEEP: fields.KEEP_TAG}
"""The kinds of decisions, and the tag each gives."""
BY_HAND: Final[Mapping[str, str]] = {"by": "hand"}
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
    chosen = [one for one in proposals if one.word == "trash" and not one.is_trashed]
    counts = count_proposals(scored, proposals, rules)
    details, notes = counts.details, [*counts.notes, *(_tell_unmeasured(scored) if dry_run else [])]
    unchanged = len(proposals) - len(chosen)
    if dry_run or not chosen:
        return Report("quality_decide", len(chosen), unchanged, notes=tuple(notes), details=details, is_dry_run=dry_run)
    dataset = samples._dataset
    declare_fields(dataset)
    journal = Journal.begin(tools.folder, dataset.name, TRASH, asdict(rules))
    _tag(dataset, chosen, journal, tools)
    journal.close("done")
    notes.append(f"to take it back: labelloop quality --undo {journal.run}")
    return Report("quality_decide", len(chosen), unchanged, notes=tuple(notes), details=details)


def trash_by_hand(samples: Any, folder: Path) -> tuple[str | None, int]:
    """Tag samples as trash, logged like every decision.

    Return the decision's name and how many it changed; None and 0 where all were tagged already.
    """
    chosen = samples.match_tags(fields.TRASH_TAG, bool=False)
    changes = [{"sample_id": str(one), "reason": "by hand"} for one in chosen.values("id")]
    return _decide_by_hand(samples._dataset, folder, TRASH, changes)


def keep_by_hand(samples: Any, folder: Path) -> tuple[str | None, int]:
    """Say of samples that they are good: no proposal says otherwise from now on, and they are no trash; logged.

    Return the decision's name and how many it changed; None and 0 where all were kept already.
    """
    changes = []
    for sample_id, tags in zip(*samples.values(["id", "tags"]), strict=True):
        was_trash, was_kept = fields.TRASH_TAG in (tags or ()), fields.KEEP_TAG in (tags or ())
        if was_trash or not was_kept:
            about = {"was_trash": was_trash, "was_kept": was_kept}
            changes.append({"sample_id": str(sample_id), "reason": "by hand"} | about)
    return _decide_by_hand(samples._dataset, folder, KEEP, changes)


def undo(samples: Any, tools: Tools, *, run: str | None) -> Report:
    """Take back one decision, the last one where none is named: its tag goes, and what was trash is it again.

    Raises:
        LabelingError: there is no such decision, or it was taken back already.
    """
    dataset = samples._dataset
    decided = find_standing(tools.folder, dataset.name, *TAGS, run=run)
    tag = TAGS[decided.kind]
    ids = [str(change["sample_id"]) for change in decided.changes]
    freed = {str(change["sample_id"]) for change in decided.changes if change.get("was_trash")}
    kept = {str(change["sample_id"]) for change in decided.changes if change.get("was_kept")}
    untagged = 0
    for done, chunk in enumerate(chunked(ids, SAMPLES_PER_STEP)):
        tools.on_progress(done * SAMPLES_PER_STEP / len(ids), f"taking back {decided.run}")
        tagged = dataset.select(chunk).match_tags(tag)
        found = [str(one) for one in tagged.values("id")]
        untagged += len(found)
        # First what was trash is trash again: killed between the two, the next run still finds what is to be done.
        dataset.select([one for one in found if one in freed]).tag_samples(fields.TRASH_TAG)
        dataset.select([one for one in found if one not in kept]).untag_samples(tag)
    mark_undone(tools.folder, dataset.name, decided)
    return Report("quality_undo", untagged, len(ids) - untagged, notes=(f"{decided.run} is taken back",))


def _decide_by_hand(
    dataset: Any, folder: Path, kind: str, changes: Sequence[Mapping[str, Any]]
) -> tuple[str | None, int]:
    if not changes:
        return None, 0
    journal = Journal.begin(folder, dataset.name, kind, BY_HAND)
    journal.add(changes)
    chosen = dataset.select([change["sample_id"] for change in changes])
    if kind == KEEP:
        chosen.match_tags(fields.TRASH_TAG).untag_samples(fields.TRASH_TAG)
    chosen.tag_samples(TAGS[kind])
    journal.close("done")
    return journal.run, len(changes)


def _tell_unmeasured(scored: Sequence[Scored]) -> list[str]:
    waiting = sum(one.scores.get("corrupt") is None for one in scored)
    return [f"not measured yet: {waiting} of {len(scored)} (labelloop quality measures them)"] if waiting else []


def _tag(dataset: Any, chosen: Sequence[Proposal], journal: Journal, tools: Tools) -> None:
    for done, chunk in enumerate(chunked(chosen, SAMPLES_PER_STEP)):
        tools.on_progress(done * SAMPLES_PER_STEP / len(chosen), f"tagging {len(chosen)} samples")
        journal.add({"sample_id": one.sample_id, "reason": one.reason} for one in chunk)
        dataset.select([one.sample_id for one in chunk]).tag_samples(fields.TRASH_TAG)
