"""Has boxes judged: gets what a detector sees, or reads its predictions, and asks the pure modules. Writes nothing."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from more_itertools import chunked

from fiftyone_plugins.app.field_boxes import read_size, to_drawn
from fiftyone_plugins.app.work import DrawnBoxes, Tools
from fiftyone_plugins.mistakes.boxes import BoxScores, Floats, ImageBoxes, compute_areas, score_boxes
from fiftyone_plugins.mistakes.rules import check_boxes, learn_usual
from fiftyone_plugins.mistakes.storing import SAMPLES_PER_READ
from fiftyone_plugins.mistakes.verdicts import Judgement, SampleBoxes, Subject, Verdict, judge_boxes
from labels import fields
from labels.errors import ItemError, LabelingError
from labels.report import Failure

SCORE_FLOOR: Final = 0.05
"""A detector's faint boxes count as well: what it hardly sees is not what it does not see."""

Document = Mapping[str, Any]


def judge_all_boxes(
    documents: Iterable[Document],
    dataset: Any,
    tools: Tools,
    *,
    labels: str,
    model: str | None,
    against: str | None,
    objectlab: bool,
    part: float,
) -> Judgement:
    """Return what is suspected of all boxes; ``part`` of the progress is done then."""
    samples: list[SampleBoxes] = []
    judged: list[Subject] = []
    failed: list[Failure] = []
    for document in documents:
        try:
            samples.append(_to_boxes(document, labels))
            judged.append(Subject.of(document, labels))
        except ItemError as error:
            failed.append(Failure(error.item, error.problem, str(document["_id"])))
    notes: list[str] = []
    looked, known = _look(samples, dataset, tools, model, against, notes, part)
    for sample, seen in zip(samples, looked, strict=True):
        if isinstance(seen, ItemError):
            failed.append(Failure(sample.filepath, seen.problem, sample.sample_id))
    vocabulary = _find_vocabulary(samples, dataset, labels)
    whole = [_add_seen(sample, seen, vocabulary) for sample, seen in zip(samples, looked, strict=True)]
    tools.on_progress(part, f"comparing {sum(len(sample.classes) for sample in whole)} boxes")
    verdicts = zip(judged, _judge(whole, vocabulary, known, labels, objectlab=objectlab), strict=True)
    # The dataset names classes that no box has as well: of those nothing was judged.
    drawn = {name for sample in whole for name in sample.classes}
    unknown = sorted(drawn - known) if known is not None else []
    if unknown:
        shown = ", ".join(unknown[:10]) + (f" and {len(unknown) - 10} more" if len(unknown) > 10 else "")
        notes.append(f"the detector does not know these classes, their boxes were judged by the rules alone: {shown}")
    return Judgement(len(judged), verdicts, failed, notes)


def _judge(
    samples: Sequence[SampleBoxes],
    vocabulary: Sequence[str],
    known: frozenset[str] | None,
    labels: str,
    *,
    objectlab: bool,
) -> Iterator[Verdict]:
    """Yield a verdict for each sample; all scores are there with the first one."""
    numbers = {name: number for number, name in enumerate(vocabulary)}
    rows = [row for row, sample in enumerate(samples) if sample.found is not None]
    images = [_to_image(samples[row], numbers) for row in rows]
    known_numbers = None if known is None else [numbers[name] for name in vocabulary if name in known]
    scores: list[BoxScores | None] = [None] * len(samples)
    lab: list[float | None] = [None] * len(samples)
    for row, found in zip(rows, score_boxes(images, known_numbers), strict=True):
        scores[row] = found
    if objectlab and images:
        from fiftyone_plugins.mistakes.objectlab import score_with_objectlab

        for row, one in zip(rows, score_with_objectlab(images), strict=True):
            lab[row] = one
    del images
    usual = learn_usual(*_describe_shapes(samples))
    for row, sample in enumerate(samples):
        broken = check_boxes(sample.labels, sample.classes, sample.size, usual)
        yield judge_boxes(sample, scores[row], broken, vocabulary, labels, lab[row])


def _to_image(sample: SampleBoxes, numbers: Mapping[str, int]) -> ImageBoxes:
    assert sample.found is not None
    assert sample.scores is not None
    return ImageBoxes(
        sample.labels,
        np.array([numbers[name] for name in sample.classes], np.int64),
        sample.found,
        np.array([numbers[name] for name in sample.found_classes], np.int64),
        sample.scores,
        sample.size[0] * sample.size[1],
    )


def _describe_shapes(samples: Sequence[SampleBoxes]) -> tuple[list[str], Floats, Floats]:
    """Return of all boxes the class, the part of the image, and the width by the height."""
    boxes = np.concatenate([np.zeros((0, 4)), *(sample.labels for sample in samples)])
    areas = np.repeat([sample.size[0] * sample.size[1] for sample in samples], [len(one.classes) for one in samples])
    wide, high = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    aspects = np.divide(wide, high, out=np.zeros_like(wide), where=high > 0)
    sizes = np.divide(compute_areas(boxes), areas, out=np.zeros_like(wide), where=areas > 0)
    return [name for sample in samples for name in sample.classes], sizes, aspects


def _to_boxes(document: Document, labels: str) -> SampleBoxes:
    size = _read_size(document)
    detections = document[labels]["detections"]
    for label in detections:
        if not label.get("label") or len(label.get("bounding_box") or ()) != 4:
            raise ItemError(document["filepath"], f"label {label['_id']} has no class or no box")
    relative = np.array([label["bounding_box"] for label in detections], np.float64).reshape(-1, 4)
    pixels = relative * np.array([*size, *size])
    pixels[:, 2:] += pixels[:, :2]
    turned = [label.get(fields.ROTATION_DEG) or 0.0 for label in detections]
    names = tuple(str(label["label"]) for label in detections)
    return SampleBoxes(str(document["_id"]), document["filepath"], size, _to_hulls(pixels, turned), names)


def _to_hulls(boxes: Floats, turns_deg: Sequence[float]) -> Floats:
    """Return the upright box round each box that is turned clockwise round its centre: detectors draw upright ones."""
    turns = np.radians(np.asarray(turns_deg, np.float64))
    if not turns.any():
        return boxes
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    cosine, sine = np.abs(np.cos(turns)), np.abs(np.sin(turns))
    reach = np.column_stack([half[:, 0] * cosine + half[:, 1] * sine, half[:, 0] * sine + half[:, 1] * cosine])
    return np.column_stack([middle - reach, middle + reach])


def _read_size(document: Document) -> tuple[float, float]:
    about = document.get("metadata") or {}
    if about.get("width") and about.get("height"):
        return float(about["width"]), float(about["height"])
    size = read_size(Path(document["filepath"]))
    if isinstance(size, ItemError):
        raise ItemError(size.item, f"its size is not known, and it {size.problem}")
    return float(size[0]), float(size[1])


def _find_vocabulary(samples: Iterable[SampleBoxes], dataset: Any, labels: str) -> list[str]:
    """Return the classes there are: those of the labels, and those the dataset names."""
    named = dataset.classes.get(labels) or dataset.default_classes or ()
    return sorted({*named, *(name for sample in samples for name in sample.classes)})


def _add_seen(sample: SampleBoxes, seen: DrawnBoxes | ItemError, vocabulary: Sequence[str]) -> SampleBoxes:
    if isinstance(seen, ItemError):
        return sample
    known = set(vocabulary)
    rows = [row for row, name in enumerate(seen.names) if name in known]
    return replace(
        sample,
        found=np.asarray(seen.xyxy, np.float64).reshape(-1, 4)[rows],
        found_classes=tuple(seen.names[row] for row in rows),
        scores=np.asarray(seen.scores, np.float64)[rows],
    )


def _look(
    samples: Sequence[SampleBoxes],
    dataset: Any,
    tools: Tools,
    model: str | None,
    against: str | None,
    notes: list[str],
    part: float,
) -> tuple[list[DrawnBoxes | ItemError], frozenset[str] | None]:
    """Return what is seen in each image, and which classes can be seen at all (None: those that are)."""
    if against is None and tools.draw is None and model is not None:
        raise LabelingError("there is no detector here: run it in the console (labelloop up), or as labelloop mistakes")
    if against is None and tools.draw is not None:
        paths = (Path(sample.filepath) for sample in samples)
        looked: list[DrawnBoxes | ItemError] = []
        tools.on_progress(0.0, "loading the detector")
        # Closed also when the job is cancelled: a detector's threads must not outlive the work.
        with closing(_pass_on(tools.draw(paths, model=model, score_floor=SCORE_FLOOR))) as drawn:
            for seen in drawn:
                looked.append(seen)
                tools.on_progress(part * len(looked) / len(samples), f"looking at images, {len(looked)}/{len(samples)}")
        known = next((seen.known for seen in looked if isinstance(seen, DrawnBoxes)), None)
        return looked, known
    name = against or fields.PREDICTIONS
    notes.append(
        f"compared with the field {name!r}, which holds what was shown to people: what a detector sees less surely is"
        " not in it, so more is suspected than with the detector itself"
    )
    return _read_predictions(samples, dataset, name), None


def _pass_on(drawn: Iterator[DrawnBoxes | ItemError]) -> Generator[DrawnBoxes | ItemError, None, None]:
    yield from drawn


def _read_predictions(samples: Sequence[SampleBoxes], dataset: Any, name: str) -> list[DrawnBoxes | ItemError]:
    import fiftyone as fo

    schema = dataset.get_field_schema()
    if name not in schema or getattr(schema[name], "document_type", None) is not fo.Detections:
        raise LabelingError(f"field {name!r} holds no boxes to compare with; labelloop prelabel makes some")
    paths = [f"{name}.detections.{one}" for one in ("label", "bounding_box", "confidence")]
    found: list[DrawnBoxes | ItemError] = []
    for chunk in chunked(samples, SAMPLES_PER_READ):
        ids = [sample.sample_id for sample in chunk]
        columns = dataset.select(ids, ordered=True).values(["id", *paths])
        by_id = {row[0]: row[1:] for row in zip(*columns, strict=True)}
        found += [_to_drawn(sample, name, *by_id.get(sample.sample_id, (None,) * 3)) for sample in chunk]
    if samples and all(isinstance(one, ItemError) for one in found):
        raise LabelingError(f"no sample has {name!r} to compare with; labelloop prelabel makes some")
    return found


def _to_drawn(sample: SampleBoxes, name: str, classes: Any, boxes: Any, confidences: Any) -> DrawnBoxes | ItemError:
    if classes is None:
        return ItemError(sample.filepath, f"has no {name!r} to compare with")
    return to_drawn(sample.filepath, sample.size, classes, boxes, confidences)
