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
from fiftyone_plugins.app.writing import group_in_sidebar
from fiftyone_plugins.mistakes.box_judging import judge_all_boxes
from fiftyone_plugins.mistakes.class_judging import check_datalab, judge_all_classes
from fiftyone_plugins.mistakes.decisions import Decisions
from fiftyone_plugins.mistakes.ranking import compute_mistakenness
from fiftyone_plugins.mistakes.storing import (
    OF_A_SAMPLE,
    SAMPLES_PER_READ,
    declare,
    find_kind,
    read_documents,
    read_judged,
    write_verdicts,
)
from fiftyone_plugins.mistakes.verdicts import Verdict, is_stored
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
    notes: list[str] = field(default_factory=list)
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
    sample_ids = [str(one) for one in samples.values("id")]
    documents, silent = _read(dataset, sample_ids, labels)
    if not documents:
        raise LabelingError(
            f"no sample has labels in {labels!r} yet, there is nothing to judge; submit some in Label Studio and pull,"
            " or name another field (--labels)"
        )
    outcome = _Outcome()
    if silent:
        outcome.counts["without labels"] = silent
    if dry_run:
        note = f"{len(documents)} samples with labels in {labels!r} would be judged, {silent} have none"
        return Report(JOB, moved=len(documents), notes=(note,), details=outcome.counts, is_dry_run=True)
    if found_kind == "boxes":
        judged = judge_all_boxes(
            documents, dataset, tools, labels=labels, model=model, against=against, objectlab=objectlab, part=DRAWN
        )
    else:
        judged = judge_all_classes(documents, dataset, tools, labels=labels, against=against, datalab=datalab)
    outcome.failed += judged.failed
    outcome.notes += judged.notes
    declare(dataset, labels, found_kind)
    _write_all(dataset, labels, judged.verdicts, tools, outcome)
    _finish(dataset, [str(document["_id"]) for document, _ in judged.verdicts], threshold, outcome)
    return Report(
        JOB, outcome.moved, outcome.unchanged, tuple(outcome.failed), notes=tuple(outcome.notes), details=outcome.counts
    )


def _read(dataset: Any, sample_ids: Sequence[str], labels: str) -> tuple[list[Document], int]:
    """Return the samples that have labels, an empty list of boxes among them, and how many have none."""
    names = list(dict.fromkeys([*read_judged(dataset), labels]))
    documents: list[Document] = [
        document
        for chunk in chunked(sample_ids, SAMPLES_PER_READ)
        for document in read_documents(dataset, chunk, names)
        if _has_labels(document.get(labels))
    ]
    return documents, len(sample_ids) - len(documents)


def _has_labels(about: Any) -> bool:
    return bool(about) and ("detections" in about or about.get("label") is not None)


def _write_all(
    dataset: Any, labels: str, verdicts: Sequence[tuple[Document, Verdict]], tools: Tools, outcome: _Outcome
) -> None:
    kept = Decisions(tools.folder, dataset.name).kept()
    names = read_judged(dataset)
    for done, chunk in enumerate(chunked(verdicts, SAMPLES_PER_READ)):
        tools.on_progress(DRAWN + (1 - DRAWN) * done * SAMPLES_PER_READ / len(verdicts), "writing what is suspected")
        mistakenness: dict[str, float | None] = {}
        changed = []
        for document, verdict in chunk:
            sample_id = str(document["_id"])
            after = _apply(document, labels, verdict)
            mistakenness[sample_id] = compute_mistakenness(after, names, kept.get(sample_id, ()))
            if _is_stored(document, labels, verdict, mistakenness[sample_id]):
                outcome.unchanged += 1
            else:
                changed.append((document, verdict))
        overtaken = write_verdicts(dataset, labels, changed, mistakenness)
        outcome.moved += len(changed) - len(overtaken)
        by_id = {str(document["_id"]): document for document, _ in changed}
        outcome.failed += [
            Failure(by_id[one]["filepath"], "its labels were changed meanwhile: run mistakes again", one)
            for one in overtaken
        ]
        for _, verdict in chunk:
            for kind in (values[fields.MISTAKE_KIND] for values in verdict.labels):
                if kind is not None:
                    outcome.counts[f"labels: {kind}"] = outcome.counts.get(f"labels: {kind}", 0) + 1
            if verdict.proposals:
                outcome.counts["boxes missing"] = outcome.counts.get("boxes missing", 0) + len(verdict.proposals)


def _apply(document: Document, labels: str, verdict: Verdict) -> dict[str, Any]:
    """Return the sample as it will be."""
    about = document[labels]
    if "detections" in about:
        pairs = zip(about["detections"], verdict.labels, strict=True)
        judged = {**about, "detections": [{**label, **values} for label, values in pairs]}
    else:
        judged = {**about, **verdict.labels[0]}
    after = {**document, **verdict.sample, labels: judged}
    if verdict.proposals is not None:
        after[fields.MISTAKE_PROPOSALS] = {"detections": verdict.proposals}
    return after


def _is_stored(document: Document, labels: str, verdict: Verdict, mistakenness: float | None) -> bool:
    about = document[labels]
    if document.get(fields.MISTAKENNESS) != mistakenness or fields.MISTAKENNESS not in document:
        return False
    if verdict.proposals is not None:
        stored = (document.get(fields.MISTAKE_PROPOSALS) or {}).get("detections")
        if stored is None or [str(one["_id"]) for one in stored] != [one["_id"] for one in verdict.proposals]:
            return False
    return is_stored(verdict, about.get("detections", [about]), document)


def _finish(dataset: Any, sample_ids: Sequence[str], threshold: float, outcome: _Outcome) -> None:
    """Tag the samples that are likely wrong, and save them as a view, the likeliest first."""
    suspected = set[str]()
    for chunk in chunked(sample_ids, SAMPLES_PER_READ):
        columns = dataset.select(chunk).values(["id", fields.MISTAKENNESS, "tags"])
        rows = list(zip(*columns, strict=True))
        over = {one for one, score, _ in rows if score is not None and score >= threshold}
        tagged = {one for one, _, tags in rows if fields.MISTAKE_TAG in (tags or ())}
        if over - tagged:
            dataset.select(sorted(over - tagged)).tag_samples(fields.MISTAKE_TAG)
        if tagged - over:
            dataset.select(sorted(tagged - over)).untag_samples(fields.MISTAKE_TAG)
        suspected |= over
    outcome.counts[f"samples tagged {fields.MISTAKE_TAG!r}"] = len(suspected)
    of_classes = [fields.MISTAKE_DATALAB] if dataset.has_sample_field(fields.MISTAKE_DATALAB) else []
    group_in_sidebar(dataset, "mistakes", [*OF_A_SAMPLE, *of_classes, fields.MISTAKE_PROPOSALS])
    outcome.notes += _save_view(dataset, threshold)


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
