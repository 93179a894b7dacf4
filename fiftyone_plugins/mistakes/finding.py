"""The work: reads labels, has them judged, writes what is suspected. What judges lies in the pure modules beside it.

A second run looks at no image twice, and writes only what changed. Killed at any moment, some samples have the new
verdicts and the others the old ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from more_itertools import chunked

from fiftyone_plugins.app.work import Tools
from fiftyone_plugins.mistakes.box_judging import judge_all_boxes
from fiftyone_plugins.mistakes.class_judging import check_datalab, judge_all_classes
from fiftyone_plugins.mistakes.merging import SILENT
from fiftyone_plugins.mistakes.recording import Recorder
from fiftyone_plugins.mistakes.storing import (
    SAMPLES_PER_READ,
    declare,
    find_kind,
    find_labelled,
    find_stale,
    read_documents,
    read_labels,
)
from fiftyone_plugins.mistakes.verdicts import Judgement, Subject, Verdict, make_mark
from labels import fields
from labels.errors import LabelingError
from labels.report import Failure, Report

JOB: Final = "mistakes"
VIEW: Final = "mistakes"
ABOUT_VIEW: Final = "labelloop mistakes"
DRAWN: Final = 0.7
"""Part of the whole that looking at images takes."""

Document = Mapping[str, Any]


@dataclass(slots=True)
class _Outcome:
    """What the work has done so far."""

    moved: int = 0
    unchanged: int = 0
    failed: list[Failure] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


def find_mistakes(
    samples: Any,
    tools: Tools,
    *,
    labels: str,
    kind: str | None,
    model: str | None,
    against: str | None,
    threshold: float,
    objectlab: bool,
    datalab: bool,
    dry_run: bool,
) -> Report:
    """Judge the labels of a dataset or view and write scores, reasons, suggestions and proposals on its samples.

    ``against`` is what they are compared with: of boxes None, the detector ``model``, or a field of predictions; of
    classes of images "embeddings", or the field of a model's answers.

    Raises:
        LabelingError: the field holds nothing that can be judged, or there is nothing to compare it with.
    """
    dataset = samples._dataset
    found_kind = find_kind(dataset, labels)
    if kind not in (None, found_kind):
        raise LabelingError(f"field {labels!r} holds {found_kind}, not {kind}")
    if datalab:
        check_datalab(found_kind)
    tools.on_progress(None, "reading labels")
    labelled, stale, silent = _choose(samples, labels)
    outcome = _Outcome(counts={"without labels": silent} if silent else {})
    if dry_run:
        note = f"{len(labelled)} samples with labels in {labels!r} would be judged, {silent} have none"
        return Report(JOB, moved=len(labelled), notes=(note,), details=outcome.counts, is_dry_run=True)
    # Before the detector looks at all images: a field in the way is said at once.
    declare(dataset, labels, found_kind, threshold)
    documents = read_labels(dataset, labelled, labels)
    if not labelled:
        judgement = Judgement(0, (), [], [])
    elif found_kind == "boxes":
        judgement = judge_all_boxes(
            documents, dataset, tools, labels=labels, model=model, against=against, objectlab=objectlab, part=DRAWN
        )
    else:
        judgement = judge_all_classes(list(documents), dataset, tools, labels=labels, against=against, datalab=datalab)
    outcome.failed += judgement.failed
    recorder = Recorder(dataset, tools.folder, labels)
    _clear(recorder, read_documents(dataset, stale, []), SILENT[found_kind], outcome)
    _write_all(recorder, judgement, threshold, tools, outcome)
    notes = (*judgement.notes, *_save_view(dataset, threshold))
    return Report(JOB, outcome.moved, outcome.unchanged, tuple(outcome.failed), notes=notes, details=outcome.counts)


def _choose(samples: Any, labels: str) -> tuple[list[str], list[str], int]:
    """Return the samples that have labels, those that had some when they were judged, and how many have none.

    Raises:
        LabelingError: there is nothing to judge.
    """
    dataset = samples._dataset
    sample_ids = [str(one) for one in samples.values("id")]
    labelled = find_labelled(dataset, sample_ids, labels)
    known = set(labelled)
    stale = find_stale(dataset, [one for one in sample_ids if one not in known], labels)
    if not labelled and not stale:
        raise LabelingError(
            f"no sample has labels in {labels!r} yet, there is nothing to judge; submit some in Label Studio and pull,"
            " or name another field (--labels)"
        )
    return labelled, stale, len(sample_ids) - len(labelled)


def _clear(recorder: Recorder, documents: Sequence[Document], verdict: Verdict, outcome: _Outcome) -> None:
    """Take back what is suspected of samples whose labels are gone, but for what is of their other fields."""
    for chunk in chunked(documents, SAMPLES_PER_READ):
        gone = [Subject(str(one["_id"]), one["filepath"], make_mark(None)) for one in chunk]
        outcome.moved += recorder.record({one.sample_id: (one, verdict) for one in gone}).moved


def _write_all(recorder: Recorder, judgement: Judgement, threshold: float, tools: Tools, outcome: _Outcome) -> None:
    suspected = 0
    for done, chunk in enumerate(chunked(judgement.verdicts, SAMPLES_PER_READ)):
        tools.on_progress(DRAWN + (1 - DRAWN) * done * SAMPLES_PER_READ / judgement.count, "writing what is suspected")
        recorded = recorder.record({subject.sample_id: (subject, verdict) for subject, verdict in chunk})
        outcome.moved += recorded.moved
        outcome.unchanged += recorded.unchanged
        outcome.failed += [
            Failure(one.filepath, "its labels were changed meanwhile: run mistakes again", one.sample_id)
            for one in recorded.overtaken
        ]
        suspected += sum(value is not None and value >= threshold for value in recorded.mistakenness.values())
        for _, verdict in chunk:
            for kind in (values[fields.MISTAKE_KIND] for values in verdict.labels):
                if kind is not None:
                    outcome.counts[f"labels: {kind}"] = outcome.counts.get(f"labels: {kind}", 0) + 1
            if verdict.proposals:
                outcome.counts["boxes missing"] = outcome.counts.get("boxes missing", 0) + len(verdict.proposals)
    outcome.counts[f"samples tagged {fields.MISTAKE_TAG!r}"] = suspected


def _save_view(dataset: Any, threshold: float) -> Iterator[str]:
    from fiftyone import ViewField

    if dataset.has_saved_view(VIEW) and not (dataset.get_saved_view_info(VIEW)["description"] or "").startswith(
        ABOUT_VIEW
    ):
        yield f"the view {VIEW!r} is somebody's own and stays as it is: sort by {fields.MISTAKENNESS} instead"
        return
    view = dataset.match(ViewField(fields.MISTAKENNESS) >= threshold).sort_by(fields.MISTAKENNESS, reverse=True)
    about = f"{ABOUT_VIEW}: {fields.MISTAKENNESS} of {threshold:g} and more, the highest first"
    dataset.save_view(VIEW, view, description=about, overwrite=True)
    lower = "the panel Label mistakes lists lower scores too"
    count = len(view)
    if count == 0:
        yield f"no sample reaches {threshold:g}, so the view {VIEW!r} is empty; {lower}"
    else:
        yield f"the view {VIEW!r} has the {count} from {threshold:g} on; to have people look again, {lower}"
