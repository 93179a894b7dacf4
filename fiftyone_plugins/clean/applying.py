"""Retags, copies or moves what contradicts its claim: planned, logged before it is done, and taken back by its log."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from more_itertools import chunked

from fiftyone_plugins.app.journal import Journal, find_standing, list_decided, mark_undone
from fiftyone_plugins.app.work import Tools
from fiftyone_plugins.app.writing import write_values
from fiftyone_plugins.clean.files import copy_file, find_free, is_same, move_file, read_sha256
from fiftyone_plugins.clean.judging import SETTLED
from fiftyone_plugins.clean.memory import Question, read_memory
from fiftyone_plugins.clean.planning import ACTIONS, Action, Plan, Step, plan, read_contradictions
from labels import fields
from labels.errors import ItemError, LabelingError
from labels.report import Failure, Report

SAMPLES_PER_STEP: Final = 1000


def apply(
    samples: Any, tools: Tools, *, action: Action, folder: Path | None, min_score: float, dry_run: bool
) -> Report:
    """Act on the contradictions of the last question; what was asked another one, or confirmed, stays as it is.

    A moved file takes its sample along. Killed at any line and run again, it goes on; nothing is written over.

    Raises:
        LabelingError: nothing was judged yet.
    """
    dataset = samples._dataset
    question = read_memory(dataset)
    if question is None:
        raise LabelingError("no sample was judged yet: run labelloop clean first, or «Check claims» in the App")
    if not dry_run:
        finish_moves(dataset, tools)
    chosen = plan(read_contradictions(samples, question, min_score), action, question, folder)
    if dry_run or not chosen.steps:
        moved = len(chosen.steps)
        return Report("clean_apply", moved, chosen.unchanged, chosen.failed, notes=chosen.lines, is_dry_run=dry_run)
    told_folder = None if folder is None else str(folder)
    about = {"classes": list(question.criteria.classes), "claim": question.claim.text, "folder": told_folder}
    journal = Journal.begin(tools.folder, dataset.name, action, about)
    failed: list[Failure] = []
    if action == "retag":
        _retag(dataset, chosen, journal, tools, question)
    else:
        failed = _carry(dataset, chosen, journal, tools, action, question)
    journal.close("done")
    notes = [f"to take it back: labelloop clean --undo {journal.run}", f"logged in {journal.file}"]
    return Report(
        "clean_apply",
        len(chosen.steps) - len(failed),
        chosen.unchanged,
        (*chosen.failed, *failed),
        notes=tuple(notes),
    )


def undo(samples: Any, tools: Tools, *, run: str | None) -> Report:
    """Take back one decision, the last one where none is named; what was changed since is left and reported.

    Raises:
        LabelingError: there is no such decision, or it was taken back already.
    """
    dataset = samples._dataset
    finish_moves(dataset, tools)
    decided = find_standing(tools.folder, dataset.name, *ACTIONS, run=run)
    users = _read_users(dataset, {change["to"] for change in decided.changes if "to" in change})
    failed: list[Failure] = []
    undone = 0
    for number, change in enumerate(reversed(decided.changes)):
        tools.on_progress(number / len(decided.changes), f"taking back {decided.run}")
        try:
            undone += _undo_one(dataset, change, users)
        except ItemError as error:
            failed.append(Failure(error.item, error.problem, str(change["sample_id"])))
    if not failed:
        mark_undone(tools.folder, dataset.name, decided)
    unchanged = len(decided.changes) - undone - len(failed)
    notes = (f"{decided.run} is taken back" + (", as far as it could be" if failed else ""),)
    return Report("clean_undo", undone, unchanged, tuple(failed), notes=notes)


def finish_moves(dataset: Any, tools: Tools) -> int:
    """Let samples follow files that a process moved before it was killed; return how many."""
    finished = 0
    for decided in list_decided(tools.folder, dataset.name, "move"):
        if decided.end is not None:
            continue
        for change in decided.changes:
            source, target = Path(change["from"]), Path(change["to"])
            if not source.exists() and target.is_file() and _read_path(dataset, change) == str(source):
                _write_path(dataset, change, target, SETTLED)
                finished += 1
    return finished


def _retag(dataset: Any, chosen: Plan, journal: Journal, tools: Tools, question: Question) -> None:
    """Change tags; where the tag was the claim, what was judged of it is settled."""
    for done, chunk in enumerate(chunked(chosen.steps, SAMPLES_PER_STEP)):
        tools.on_progress(done * SAMPLES_PER_STEP / len(chosen.steps), f"retagging {len(chosen.steps)} samples")
        journal.add(
            {
                "sample_id": step.contradiction.sample_id,
                "add": step.add,
                "remove": step.remove,
                "outcome": step.contradiction.outcome,
                "mark": question.mark,
            }
            for step in chunk
        )
        for tag in sorted({step.add for step in chunk if step.add}):
            dataset.select([s.contradiction.sample_id for s in chunk if s.add == tag]).tag_samples(tag)
        for tag in sorted({step.remove for step in chunk if step.remove}):
            dataset.select([s.contradiction.sample_id for s in chunk if s.remove == tag]).untag_samples(tag)
        if question.claim.kind == "tag":
            write_values(dataset, {s.contradiction.sample_id: {fields.CLEAN_OUTCOME: SETTLED} for s in chunk})


def _carry(
    dataset: Any, chosen: Plan, journal: Journal, tools: Tools, action: Action, question: Question
) -> list[Failure]:
    failed: list[Failure] = []
    for number, step in enumerate(chosen.steps):
        tools.on_progress(number / len(chosen.steps), f"{action}: {number}/{len(chosen.steps)}")
        try:
            _carry_one(dataset, step, journal, action, question)
        except ItemError as error:
            failed.append(Failure(error.item, error.problem, step.contradiction.sample_id))
    return failed


def _carry_one(dataset: Any, step: Step, journal: Journal, action: Action, question: Question) -> None:
    """Copy or move one file: log, file, sample, in this order."""
    one = step.contradiction
    assert step.folder is not None
    try:
        target = find_free(step.folder, one.own, for_copy=action == "copy")
        is_there = target.exists()
        change = {
            "sample_id": one.sample_id,
            "action": action,
            "from": str(one.own),
            "to": str(target),
            "field": one.field,
            "sha256": read_sha256(one.own),
            "outcome": one.outcome,
            "mark": question.mark,
        }
    except OSError as error:
        raise ItemError(str(one.own), f"cannot be read ({error.strerror})") from error
    if action == "copy":
        if is_there:
            return
        journal.add([change])
        copy_file(one.own, target)
        return
    journal.add([change])
    move_file(one.own, target)
    _write_path(dataset, change, target, SETTLED)


def _undo_one(dataset: Any, change: Mapping[str, Any], users: Mapping[str, set[str]]) -> bool:
    """Take back one change; return whether there was something to take back.

    Raises:
        ItemError: what is there now is not what was left there, or another sample's file by now.
    """
    if "action" not in change:
        return _undo_tags(dataset, change)
    source, target = Path(change["from"]), Path(change["to"])
    is_copy = change["action"] == "copy"
    path = None if is_copy else _read_path(dataset, change)
    if path not in (None, str(target)):
        # Never moved, or moved on since by somebody else.
        return False
    if path is None and not target.exists():
        return False
    if users.get(str(target), set()) - ({change["sample_id"]} if path is not None else set()):
        raise ItemError(str(target), "is the file of another sample by now: it is left")
    if path is None and read_sha256(target) != change["sha256"]:
        raise ItemError(str(target), f"was changed since it was {'copied' if is_copy else 'moved'}: it is left")
    if is_copy:
        target.unlink()
        return True
    _bring_back(source, target, change["sha256"])
    if path is not None:
        _write_path(dataset, change, source, change["outcome"])
    return True


def _bring_back(source: Path, target: Path, sha256: str) -> None:
    if _is_back(source, target, sha256):
        target.unlink(missing_ok=True)
    elif os.path.lexists(source):
        raise ItemError(str(target), f"cannot go back: {source} is another file now")
    else:
        move_file(target, source)


def _is_back(source: Path, target: Path, sha256: str) -> bool:
    """Return whether a process that was killed had brought the file back already, and not yet its sample."""
    is_plain = source.is_file() and not source.is_symlink()
    return is_plain and read_sha256(source) == sha256 and (not os.path.lexists(target) or is_same(source, target))


def _read_users(dataset: Any, paths: set[str]) -> dict[str, set[str]]:
    """Return, by path, the ids of the samples whose file it is."""
    users: dict[str, set[str]] = defaultdict(set)
    for name in ("filepath", fields.SOURCE_PATH):
        if not dataset.has_sample_field(name):
            continue
        for chunk in chunked(sorted(paths), SAMPLES_PER_STEP):
            ids, used = dataset.match({name: {"$in": chunk}}).values(["id", name])
            for sample_id, path in zip(ids, used, strict=True):
                users[path].add(sample_id)
    return users


def _undo_tags(dataset: Any, change: Mapping[str, Any]) -> bool:
    sample = dataset.select([change["sample_id"]])
    tags = next(iter(sample.values("tags")), None)
    if tags is None:
        return False
    if change["add"] is not None and change["add"] in tags:
        sample.untag_samples(change["add"])
    elif change["remove"] is not None and change["remove"] not in tags:
        sample.tag_samples(change["remove"])
    else:
        return False
    if sample.values(fields.CLEAN_OUTCOME) == [SETTLED] and _is_its_answer(dataset, change):
        write_values(dataset, {change["sample_id"]: {fields.CLEAN_OUTCOME: change["outcome"]}})
    return True


def _read_path(dataset: Any, change: Mapping[str, Any]) -> str | None:
    found = dataset.select([change["sample_id"]]).values(change["field"])
    return None if not found else str(found[0])


def _write_path(dataset: Any, change: Mapping[str, Any], path: Path, outcome: str) -> None:
    answer = {fields.CLEAN_OUTCOME: outcome} if _is_its_answer(dataset, change) else {}
    write_values(dataset, {change["sample_id"]: {change["field"]: str(path), **answer}})


def _is_its_answer(dataset: Any, change: Mapping[str, Any]) -> bool:
    """Return whether what the sample says answers the question that the change followed from, and no later one."""
    is_marked = dataset.has_sample_field(fields.CLEAN_ABOUT)
    said = dataset.select([change["sample_id"]]).values(fields.CLEAN_ABOUT) if is_marked else [None]
    return bool(said == [change.get("mark")])
