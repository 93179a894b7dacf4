"""Decides in bulk: what is proposed as trash gets a tag, is logged, and can be taken back. Nothing is deleted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from more_itertools import chunked

from fiftyone_plugins.app.journal import Journal, list_decided, read_decided
from fiftyone_plugins.app.work import Tools
from fiftyone_plugins.quality.proposals import Proposal, Rules, Scored, count_proposals, propose, read_scored
from fiftyone_plugins.quality.scanning import declare_fields
from labels import fields
from labels.errors import LabelingError
from labels.report import Report

KIND: Final = "trash"
KEEP_KIND: Final = "keep"
TAGS: Final[Mapping[str, str]] = {KIND: fields.TRASH_TAG, KEEP_KIND: fields.KEEP_TAG}
"""The kinds of decisions, and the tag each gives."""
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
    journal = Journal.begin(tools.folder, dataset.name, KIND, asdict(rules))
    _tag(dataset, chosen, journal, tools)
    journal.close("done")
    notes.append(f"to take it back: labelloop quality --undo {journal.run}")
    return Report("quality_decide", len(chosen), unchanged, notes=tuple(notes), details=details)


def undo(samples: Any, tools: Tools, *, run: str | None) -> Report:
    """Take back one decision, the last one where none is named: its tag goes, and what was trash is it again.

    Raises:
        LabelingError: there is no such decision, or it was taken back already.
    """
    dataset = samples._dataset
    decided = _find(tools, dataset.name, run)
    tag = TAGS[decided.run.rpartition("-")[0]]
    ids = [str(change["sample_id"]) for change in decided.changes]
    freed = {str(change["sample_id"]) for change in decided.changes if change.get("was_trash")}
    untagged = 0
    for done, chunk in enumerate(chunked(ids, SAMPLES_PER_STEP)):
        tools.on_progress(done * SAMPLES_PER_STEP / len(ids), f"taking back {decided.run}")
        tagged = dataset.select(chunk).match_tags(tag)
        found = [str(one) for one in tagged.values("id")]
        untagged += len(found)
        # First what was trash is trash again: killed between the two, the next run still finds what is to be done.
        dataset.select([one for one in found if one in freed]).tag_samples(fields.TRASH_TAG)
        tagged.untag_samples(tag)
    Journal(_file_of(tools, dataset.name, decided.run)).close("undone")
    return Report("quality_undo", untagged, len(ids) - untagged, notes=(f"{decided.run} is taken back",))


def _tell_unmeasured(scored: Sequence[Scored]) -> list[str]:
    waiting = sum(one.scores.get("corrupt") is None for one in scored)
    return [f"not measured yet: {waiting} of {len(scored)} (labelloop quality measures them)"] if waiting else []


def _tag(dataset: Any, chosen: Sequence[Proposal], journal: Journal, tools: Tools) -> None:
    for done, chunk in enumerate(chunked(chosen, SAMPLES_PER_STEP)):
        tools.on_progress(done * SAMPLES_PER_STEP / len(chosen), f"tagging {len(chosen)} samples")
        journal.add({"sample_id": one.sample_id, "reason": one.reason} for one in chunk)
        dataset.select([one.sample_id for one in chunk]).tag_samples(fields.TRASH_TAG)


def _find(tools: Tools, dataset: str, run: str | None) -> Any:
    if run is None:
        standing = [one for one in list_decided(tools.folder, dataset, *TAGS) if one.end != "undone"]
        if not standing:
            raise LabelingError("there is no decision to take back")
        return standing[0]
    decided = read_decided(tools.folder, dataset, run)
    if decided.run.rpartition("-")[0] not in TAGS:
        raise LabelingError(f"{run}: is no decision about quality")
    if decided.end == "undone":
        raise LabelingError(f"{run}: was taken back already")
    return decided


def _file_of(tools: Tools, dataset: str, run: str) -> Any:
    from fiftyone_plugins.app.journal import to_folder

    return to_folder(tools.folder, dataset) / f"{run}.jsonl"
