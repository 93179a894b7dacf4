"""Promote: a candidate takes the place of the current model if it is better; a detector's that of a detector, a
classifier's that of a classifier, and either that of a model which gives nothing by the project's label config.

Order of writes: the registry (the model that goes, then the one that comes), then what ``changing_model`` does: the ML
backend loads it beside the old one and serves it, and the project takes it over. Killed at any moment, the same call
goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from labels.errors import LabelingError
from labels.report import Failure, OnProgress, Report, ignore_progress
from ml_backend.models.registered import ID
from sync.jobs.context import Context
from sync.jobs.models.changing_model import FINISHED, SOMEBODY, change_alone, change_model, finish_begun
from sync.jobs.models.evaluate import read_current, to_result
from sync.jobs.models.judging import (
    Judged,
    ModelFile,
    check_not_learned,
    check_same_kind,
    choose_on_val,
    find_model,
    judge,
    look_at,
    read_split,
    to_values,
)
from sync.ledger import Promotion
from sync.models.curves import draw_curves
from sync.models.gate import FORCED_FOR_NOTHING, Rules
from sync.models.registry import Card, Registry, compute_files, list_files
from sync.models.results import GateResult, write_gate, write_result
from sync.versions.version import Version


def promote(
    context: Context,
    *,
    candidate: str,
    version: str | None = None,
    force: bool = False,
    reason: str | None = None,
    by: str = SOMEBODY,
    trust: bool = False,
    rules: Rules | None = None,
    dry_run: bool = False,
    on_progress: OnProgress = ignore_progress,
) -> Report:
    """Put a candidate before the annotators if the gate says that it is better than the current model.

    Both look at the frozen test split of a dataset version: of the one named, else of the one the candidate learned
    from. ``force`` promotes whatever the gate says, and who did so and why is kept. ``trust`` lets weights in that can
    run code when they are read. ``dry_run`` says what the gate says.

    Raises:
        LabelingError: no such candidate, nothing to judge it by, it learned from the test images, it would take the
            place of a model that gives something else, or it is forced without a reason.
        ServiceError: the ML backend cannot load it; the current model stays.
    """
    rules = rules or Rules()
    if force and not (reason or "").strip():
        raise LabelingError(FORCED_FOR_NOTHING)
    begun = None if dry_run else finish_begun(context)
    new, old = find_model(context.home, candidate), find_model(context.home, read_current(context))
    # An ensemble, and a name that no folder can have, are refused before the long part.
    list_files(new.weights)
    Registry(context.home).folder_of(new.weights.version)
    if new.weights.version == old.weights.version:
        return _tell_current(new.weights.version, begun, dry_run=dry_run)
    if not dry_run:
        # Not after minutes of looking: without it nothing can be promoted.
        context.backend.fetch_weights()
    frozen = read_split(context.home, new, version)
    judged = _judge(context, new, old, frozen, rules, trust=trust, on_progress=on_progress)
    notes = [*_explain(context, new, old, frozen, judged)]
    passes = judged.verdict.is_pass or force
    if dry_run or not passes:
        problem = f"{judged.verdict.decision}: {judged.verdict.reasons[0]}"
        failed = () if passes or dry_run else (Failure(new.weights.version, problem),)
        if not passes:
            notes.append("to promote it all the same: --force --reason TEXT")
        return Report("promote", int(passes), int(not passes), failed, notes=tuple(notes), is_dry_run=dry_run)
    card = _to_card(new, frozen, judged, rules, forced=force, reason=reason, by=by, trust=trust)
    card = replace(card, replaces=_name_old(old))
    with change_alone(context):
        if read_current(context) != old.name:
            raise LabelingError(f"another model took the place of {old.name} meanwhile; promote it again, against that")
        _register_old(context, old, by)
        epochs = [] if new.candidate is None else new.candidate.history()
        curves = draw_curves(judged.candidate.evaluation, judged.current.evaluation, epochs)
        card = Registry(context.home).write(new.weights, replace(card, curves=tuple(sorted(curves))), curves)
        notes += change_model(context, _to_promotion(card, reason), on_progress)
    return Report("promote", moved=1, notes=tuple(notes))


def _judge(
    context: Context,
    new: ModelFile,
    old: ModelFile,
    frozen: Version,
    rules: Rules,
    *,
    trust: bool,
    on_progress: OnProgress,
) -> Judged:
    home = context.home
    learned = check_not_learned(home, new, frozen, "test")
    if learned:
        raise LabelingError(
            f"{new.name}: learned from {learned} images of the test split of {frozen.id}, so that says nothing of it;"
            f" judge it by the version it learned from: --version {new.trained_on}"
        )
    seen = look_at(home, new, frozen, "test", on_progress, is_trusted=trust)
    looks = (look_at(home, old, frozen, "test", on_progress, kind=seen.facts.kind), seen)
    check_same_kind(seen, looks[0])
    thresholds = (
        choose_on_val(home, old, frozen, on_progress) if old.card is not None else (),
        choose_on_val(home, new, frozen, on_progress, is_trusted=trust),
    )
    judged = judge(frozen, looks, thresholds, rules, on_progress)
    write_gate(home, _to_gate(new, old, frozen, judged))
    for file, measured in ((old, judged.current), (new, judged.candidate)):
        # What gives nothing by this label config was not measured.
        if not measured.look.facts.classes:
            continue
        write_result(home, to_result(file, frozen, "test", measured))
    return judged


def _to_gate(new: ModelFile, old: ModelFile, frozen: Version, judged: Judged) -> GateResult:
    said = judged.verdict
    return GateResult(
        new.weights.version,
        old.weights.version,
        frozen.id,
        _now(),
        said.decision,
        said.reasons,
        judged.comparison,
    )


def _explain(context: Context, new: ModelFile, old: ModelFile, frozen: Version, judged: Judged) -> Iterator[str]:
    named = "" if new.candidate is None else f"candidate {new.candidate.id}, model "
    yield f"{named}{new.weights.version} against {old.weights.version} on the test split of {frozen.id}"
    yield f"{judged.verdict.decision}: {judged.verdict.reasons[0]}"
    yield from judged.verdict.reasons[1:]
    if not judged.current.look.facts.classes:
        yield f"{old.weights.version} gives nothing by this label config: nothing that was there before is lost"
    learned = check_not_learned(context.home, old, frozen, "test")
    if learned:
        yield f"the current model learned from {learned} of these images, which is in its favour"
    failed = {*judged.current.look.failed, *judged.candidate.look.failed}
    if failed:
        yield f"{len(failed)} test images could not be shown to both and count for neither"


def _to_card(
    new: ModelFile,
    frozen: Version,
    judged: Judged,
    rules: Rules,
    *,
    forced: bool,
    reason: str | None,
    by: str,
    trust: bool,
) -> Card:
    facts, evaluation = judged.candidate.look.facts, judged.candidate.evaluation
    is_forced = forced and not judged.verdict.is_pass
    learned = new.candidate
    return Card(
        id=new.weights.version,
        weights=new.weights.path.name,
        files=compute_files(new.weights),
        source=f"candidate {learned.id}" if learned is not None else new.weights.source,
        registered_at=_now(),
        registered_by=by,
        task=facts.task,
        control=facts.control,
        licence=new.licence or facts.licence,
        base_version=None if learned is None else learned.base_version,
        trained_on=new.trained_on,
        tested_on=frozen.id,
        evaluation=evaluation,
        comparison=judged.comparison,
        decision=judged.verdict.decision,
        reasons=judged.verdict.reasons,
        forced_by=by if is_forced else None,
        forced_reason=reason if is_forced else None,
        trusted_by=by if trust else (None if new.card is None else new.card.trusted_by),
        thresholds=to_values(judged.candidate.thresholds),
        calibration_error=evaluation.calibration_error,
        settings={"gate": asdict(rules), **({} if learned is None else {"training": dict(learned.settings)})},
    )


def _name_old(old: ModelFile) -> str:
    """Return the name under which the model that goes can be served again: as a registered one, if it can be."""
    is_one = len(old.weights.paths) == 1 and ID.fullmatch(old.weights.version)
    return old.weights.version if is_one else old.name


def _register_old(context: Context, old: ModelFile, by: str) -> None:
    """Keep the model that goes, so that there is a way back; an ensemble is kept by its members' names alone."""
    registry = Registry(context.home)
    if _name_old(old) != old.weights.version or registry.has(old.weights.version):
        return
    card = Card(
        id=old.weights.version,
        weights=old.weights.path.name,
        files=compute_files(old.weights),
        source=f"{old.name} ({old.weights.source})",
        registered_at=_now(),
        registered_by=by,
        trained_on=old.trained_on,
    )
    registry.write(old.weights, card, {})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _to_promotion(card: Card, reason: str | None) -> Promotion:
    verdict: dict[str, Any] = {"decision": card.decision, "reasons": list(card.reasons)}
    if card.comparison is not None:
        verdict["comparison"] = card.comparison.to_dict()
    return Promotion(
        model=card.id,
        previous=card.replaces,
        action="promoted" if card.forced_by is None else "forced",
        promoted_by=card.registered_by,
        dataset_version=card.tested_on,
        reason=reason,
        verdict=verdict,
    )


def _tell_current(version: str, begun: Promotion | None, *, dry_run: bool) -> Report:
    """Return the report on a model that is current: since just now, where its promotion was ended on its way."""
    if begun is not None and begun.model == version:
        return Report("promote", moved=1, notes=(f"{FINISHED}: from {begun.previous} to {version}",))
    return Report("promote", unchanged=1, notes=(f"{version} is the current model already",), is_dry_run=dry_run)
