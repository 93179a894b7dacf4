"""What a model finds beside what people drew or said, in FiftyOne, each marked as right or wrong; a view of the wrong.

FiftyOne's own evaluation marks them, so that the App's filters and its evaluation panel know them.
``FIFTYONE_DATABASE_URI`` must be set before this module is imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import fiftyone as fo
from pymongo.errors import PyMongoError

from labels import fields
from labels.errors import ServiceError
from labels.geometry import ImageSize
from sync.catalogue.fiftyone_views import MAKER, SavedView, Views

VIEW: Final = "wrong in evaluation"


@dataclass(frozen=True, slots=True)
class EvaluatedBox:
    """A box that was found; ``bounding_box`` is x, y, width, height as parts of the image."""

    name: str
    bounding_box: tuple[float, float, float, float]
    score: float

    @classmethod
    def from_xyxy(cls, name: str, xyxy: Sequence[float], size: ImageSize, score: float) -> EvaluatedBox:
        """Return a box from its corners in pixels.

        >>> EvaluatedBox.from_xyxy("car", (10, 10, 30, 20), ImageSize(100, 50), 0.5).bounding_box
        (0.1, 0.2, 0.2, 0.2)
        """
        x1, y1, x2, y2 = xyxy
        return cls(
            name,
            (x1 / size.width, y1 / size.height, (x2 - x1) / size.width, (y2 - y1) / size.height),
            score,
        )


@dataclass(frozen=True, slots=True)
class Written:
    """Where it is to be found, and how many images have something wrong."""

    field: str
    key: str
    view: str
    images: int


def write_evaluation(dataset_name: str, drawn: Mapping[str, Sequence[EvaluatedBox]], *, version: str) -> Written:
    """Write boxes by sample id, mark them and what people drew, and save a view of the images, most wrong first.

    What an earlier evaluation wrote is taken away first. Labels of people get attributes and stay as they are.

    Raises:
        ServiceError: MongoDB does not answer.
        LabelingError: a person saved a view of that name.
    """
    try:
        found = {key: fo.Detections(detections=_to_detections(boxes)) for key, boxes in drawn.items()}
        view = _write_anew(dataset_name, fo.Detections, found, version)
        view.evaluate_detections(
            fields.EVALUATED,
            gt_field=fields.GROUND_TRUTH,
            eval_key=fields.EVALUATION,
            method="coco",
            compute_mAP=False,
            progress=False,
        )
        rows = zip(*view.values(["id", f"{fields.EVALUATION}_fp", f"{fields.EVALUATION}_fn"]), strict=True)
        wrong = sorted(((fp or 0) + (fn or 0), str(sample_id)) for sample_id, fp, fn in rows)
    except (PyMongoError, ConnectionError) as error:
        raise ServiceError(f"MongoDB: {error}") from error
    chosen = tuple(sample_id for count, sample_id in reversed(wrong) if count)
    return _save_view(dataset_name, chosen, f"{version}, false positives and misses, most first")


@dataclass(frozen=True, slots=True)
class EvaluatedAnswer:
    """What a classifier says of an image, and how sure it is; ``name`` None: it shows no answer."""

    name: str | None
    score: float


def write_answer_evaluation(
    dataset_name: str, said: Mapping[str, EvaluatedAnswer], *, control: str, version: str
) -> Written:
    """Write answers by sample id, mark which are people's too, and save a view of the others, the surest first.

    What an earlier evaluation wrote is taken away first. Answers of people stay as they are.

    Raises:
        ServiceError: MongoDB does not answer.
        LabelingError: a person saved a view of that name.
    """
    try:
        found = {key: _to_classification(answer) for key, answer in said.items()}
        view = _write_anew(dataset_name, fo.Classification, found, version)
        view.evaluate_classifications(
            fields.EVALUATED, gt_field=control, eval_key=fields.EVALUATION, method="simple", progress=False
        )
        rows = zip(*view.values(["id", fields.EVALUATION]), strict=True)
        wrong = [str(sample_id) for sample_id, is_right in rows if not is_right]
    except (PyMongoError, ConnectionError) as error:
        raise ServiceError(f"MongoDB: {error}") from error
    chosen = tuple(sorted(wrong, key=lambda sample_id: (-said[sample_id].score, sample_id)))
    return _save_view(dataset_name, chosen, f"{version}, answers that are not people's, the surest first")


def _to_classification(answer: EvaluatedAnswer) -> fo.Classification | None:
    return None if answer.name is None else fo.Classification(label=answer.name, confidence=answer.score)


def _save_view(dataset_name: str, chosen: tuple[str, ...], what: str) -> Written:
    Views(dataset_name).write_view(SavedView(VIEW, f"{MAKER} evaluate: {what}", chosen))
    return Written(fields.EVALUATED, fields.EVALUATION, VIEW, len(chosen))


def _write_anew(dataset_name: str, document: Any, found: Mapping[str, Any], version: str) -> Any:
    """Write what was found by sample id in place of an earlier evaluation, and return the view of those samples."""
    dataset = fo.load_dataset(dataset_name)
    if dataset.has_evaluation(fields.EVALUATION):
        dataset.delete_evaluation(fields.EVALUATION)
    if dataset.has_sample_field(fields.EVALUATED):
        dataset.delete_sample_field(fields.EVALUATED)
    dataset.add_sample_field(
        fields.EVALUATED, fo.EmbeddedDocumentField, embedded_doc_type=document, description=version
    )
    view = dataset.select(list(found))
    # By sample id: FiftyOne keeps the dataset's order, whatever the ids' is. What was deleted meanwhile is left out.
    present = {str(sample_id): found[str(sample_id)] for sample_id in view.values("id")}
    dataset.set_values(fields.EVALUATED, present, key_field="id")
    return view


def _to_detections(boxes: Sequence[EvaluatedBox]) -> list[fo.Detection]:
    return [fo.Detection(label=one.name, bounding_box=list(one.bounding_box), confidence=one.score) for one in boxes]
