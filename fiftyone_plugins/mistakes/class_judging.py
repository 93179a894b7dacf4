"""Has classes of images judged: reads embeddings or a model's answers, asks the pure modules, and writes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from more_itertools import chunked
from numpy.typing import NDArray

from fiftyone_plugins.app.work import Tools
from fiftyone_plugins.mistakes.datalab import HOW_TO_GET_IT, describe_dataset, find_issues, has_datalab
from fiftyone_plugins.mistakes.image_labels import OWN_HEAD, Floats, judge_labels, predict_out_of_sample, spread_answers
from fiftyone_plugins.mistakes.storing import SAMPLES_PER_READ
from fiftyone_plugins.mistakes.verdicts import Judgement, Subject, Values, Verdict, judge_class, to_datalab
from labels.errors import LabelingError
from labels.report import Failure

Document = Mapping[str, Any]


def judge_all_classes(
    documents: Sequence[Document], dataset: Any, tools: Tools, *, labels: str, against: str | None, datalab: bool
) -> Judgement:
    """Return what is suspected of the classes of images, from embeddings or from a model's answers.

    ``datalab``: also what cleanlab's Datalab says of them.
    """
    if against is None or against == OWN_HEAD:
        return _judge_by_embeddings(documents, dataset, tools, labels, datalab=datalab)
    return _judge_by_answers(documents, dataset, labels, against, datalab=datalab)


def check_datalab(kind: str) -> None:
    """Return if Datalab can be asked about labels of this kind.

    Raises:
        LabelingError: it cannot; the text says why.
    """
    if kind != "images":
        raise LabelingError(f"Datalab looks at classes of whole images, not at {kind}")
    if not has_datalab():
        raise LabelingError(HOW_TO_GET_IT)


def _judge_by_embeddings(
    documents: Sequence[Document], dataset: Any, tools: Tools, labels: str, *, datalab: bool
) -> Judgement:
    from fiftyone_plugins.embeddings.reading import only_current, tell_outdated
    from fiftyone_plugins.embeddings.store import EmbeddingStore

    store = EmbeddingStore(tools.folder, dataset.name)
    key = store.latest()
    if key is None:
        raise LabelingError("there are no embeddings of the images yet: compute them first (labelloop embed)")
    by_id = {str(document["_id"]): document for document in documents}
    embeddings = only_current(store.read(key), dataset.select(list(by_id)))
    if not len(embeddings):
        raise LabelingError(f"no image has an embedding of {embeddings.model} as it is now: run labelloop embed")
    has_vector = {str(one) for one in embeddings.ids}
    failed = [
        Failure(
            document["filepath"], f"has no embedding of {embeddings.model} as it is now: run labelloop embed", sample_id
        )
        for sample_id, document in by_id.items()
        if sample_id not in has_vector
    ]
    chosen = [by_id[str(one)] for one in embeddings.ids]
    given = [str(document[labels]["label"]) for document in chosen]
    alone = {name for name, count in Counter(given).items() if count == 1}
    rows = [row for row, name in enumerate(given) if name not in alone]
    failed += [
        Failure(
            chosen[row]["filepath"],
            f"is the only one of class {name!r}: nothing to compare it with",
            str(chosen[row]["_id"]),
        )
        for row, name in enumerate(given)
        if name in alone
    ]
    tools.on_progress(0.2, f"comparing {len(rows)} images")
    names = [given[row] for row in rows]
    vectors = embeddings.vectors[rows]
    probabilities, classes = predict_out_of_sample(vectors, names)
    notes = [f"compared by the embeddings {key}, in cross-validation", *tell_outdated(embeddings)]
    kept = [chosen[row] for row in rows]
    issues = _ask_datalab(kept, names, probabilities, classes, vectors, notes) if datalab else None
    verdicts = _judge_given(kept, labels, names, probabilities, classes, issues)
    return Judgement(len(kept), verdicts, failed, notes)


def _judge_by_answers(
    documents: Sequence[Document], dataset: Any, labels: str, against: str, *, datalab: bool
) -> Judgement:
    import fiftyone as fo

    schema = dataset.get_field_schema()
    if against not in schema or getattr(schema[against], "document_type", None) is not fo.Classification:
        raise LabelingError(f"field {against!r} holds no class of images to compare with")
    by_id = {str(document["_id"]): document for document in documents}
    answers: dict[str, tuple[str, float | None]] = {}
    for chunk in chunked(by_id, SAMPLES_PER_READ):
        columns = dataset.select(list(chunk)).values(["id", f"{against}.label", f"{against}.confidence"])
        answers |= {one: (label, sure) for one, label, sure in zip(*columns, strict=True) if label is not None}
    failed = [
        Failure(document["filepath"], f"has no {against!r} to compare with", sample_id)
        for sample_id, document in by_id.items()
        if sample_id not in answers
    ]
    chosen = [by_id[one] for one in answers]
    names = [str(document[labels]["label"]) for document in chosen]
    said, sure = [label for label, _ in answers.values()], [confidence for _, confidence in answers.values()]
    notes = [f"compared with the field {against!r}"]
    if not chosen:
        return Judgement(0, (), failed, notes)
    probabilities, classes = spread_answers(said, sure, names)
    issues = _ask_datalab(chosen, names, probabilities, classes, None, notes) if datalab else None
    verdicts = _judge_given(chosen, labels, names, probabilities, classes, issues)
    return Judgement(len(chosen), verdicts, failed, notes)


def _ask_datalab(
    documents: Sequence[Document],
    names: Sequence[str],
    probabilities: Floats,
    classes: Sequence[str],
    vectors: NDArray[np.float32] | None,
    notes: list[str],
) -> list[Values]:
    found = find_issues(names, probabilities, classes, vectors)
    notes += describe_dataset(found)
    files = [Path(document["filepath"]).name for document in documents]
    return [to_datalab(one, None if one.twin is None else files[one.twin]) for one in found]


def _judge_given(
    documents: Sequence[Document],
    labels: str,
    names: Sequence[str],
    probabilities: Floats,
    classes: Sequence[str],
    issues: Sequence[Values] | None,
) -> list[tuple[Subject, Verdict]]:
    judged = judge_labels(names, probabilities, classes)
    said: Sequence[Values | None] = issues or [None] * len(names)
    rows = zip(documents, names, judged, said, strict=True)
    return [(Subject.of(document, labels), judge_class(name, one, datalab)) for document, name, one, datalab in rows]
