"""What travels with one sample to Label Studio: its task, its prediction, the labels people made. Sends nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from label_studio_sdk.label_interface.interface import LabelInterface

from labels.config import LabelConfig
from labels.errors import ItemError, LabelConfigError, LabelingError
from labels.geometry import Geometry, ImageSize, Keypoint, Mask, Polygon
from labels.report import Failure
from labels.results import MEND_CLASS, Label, from_result, is_same, to_result
from sync.catalogue.samples import SampleImage, SampleLabels, SamplePrediction, restore_cleared
from sync.images import is_whole_png
from sync.jobs.context import Context
from sync.ledger import Pushed
from sync.media import MediaRoots
from sync.workbench.label_studio import Task

EDGE_PX: Final = 0.01
"""By less nothing reaches over an edge: the precision to which labels count as equal."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """One sample ready to be sent. ``labels`` are people's, those of a cleared field too; None: nobody labelled it."""

    image: SampleImage
    prediction: SamplePrediction | None
    labels: tuple[Label, ...] | None
    data: Mapping[str, Any]

    @property
    def model_version(self) -> str | None:
        """Version of the prediction that goes along, None when there is none."""
        return None if self.prediction is None else self.prediction.model_version


def to_failure(image: SampleImage, error: LabelingError) -> Failure:
    """Return why an image cannot be sent, under the name of its file."""
    problem = error.problem if isinstance(error, ItemError) else str(error)
    return Failure(str(image.source_path or image.path), problem, image.sample_id)


def make_parcels(context: Context, sample_ids: Sequence[str] | None) -> tuple[list[Parcel], list[Failure]]:
    """Return the parcels of these samples, or of all, in their order, and what cannot be sent.

    A sample without a known size is left out: whoever completed the sizes has reported it.
    """
    images = context.dataset.images(sample_ids)
    predictions = context.dataset.predictions(sample_ids)
    labels, bases = context.dataset.labels(sample_ids), context.ledger.bases(list(images))
    byte_counts = context.dataset.byte_counts(list(images))
    failed: list[Failure] = []
    parcels = []
    roots = MediaRoots.read(context.home)
    for sample_id in images if sample_ids is None else [one for one in sample_ids if one in images]:
        image = images[sample_id]
        try:
            _check_file(image, byte_counts.get(sample_id))
            held = find_labels(labels.get(sample_id), bases.get(sample_id))
            parcels.append(_make_parcel(context, roots, image, predictions.get(sample_id), held))
        except LabelingError as error:
            failed.append(to_failure(image, error))
    return parcels, failed


def _make_parcel(
    context: Context,
    roots: MediaRoots,
    image: SampleImage,
    prediction: SamplePrediction | ItemError | None,
    labels: tuple[Label, ...] | None,
) -> Parcel:
    if isinstance(prediction, ItemError):
        raise prediction
    url = roots.to_url(image.path)
    data = {context.config.image_key: url, "sample_id": image.sample_id, "image_sha256": image.sha256}
    return Parcel(image, prediction, labels, data)


def find_labels(said: SampleLabels | ItemError | None, base: tuple[Label, ...] | None) -> tuple[Label, ...] | None:
    """Return the labels that travel with a sample: a field that was cleared says nothing, what was agreed stays agreed.

    None: nobody ever labelled it.

    Raises:
        ItemError: its labels cannot be carried.
    """
    if isinstance(said, ItemError):
        raise said
    return None if said is None and base is None else restore_cleared(said, base or ())


def _check_file(image: SampleImage, byte_count: int | None) -> None:
    """Check that the picture of a task can be opened, as far as that is seen without reading all of it.

    Raises:
        ItemError: it is gone, or not what was added.
    """
    if not image.path.is_file():
        raise ItemError(str(image.path), "is gone; its task would have no picture")
    if image.source_path is None:
        found = image.path.stat().st_size
        if byte_count is not None and found != byte_count:
            raise ItemError(
                str(image.path),
                f"has {found} bytes, and {byte_count} when it was added: it is damaged or another image; put the old "
                "file back, or add the new one under another name",
            )
    elif not is_whole_png(image.path):
        raise ItemError(str(image.path), f"is broken off (expected the PNG copy of {image.source_path})")


def to_task(context: Context, parcel: Parcel, interface: LabelInterface) -> dict[str, Any]:
    """Return the task as Label Studio imports it.

    Raises:
        ItemError: the prediction is not valid.
        LabelConfigError: a class or control that the config does not have.
    """
    task: dict[str, Any] = {"data": dict(parcel.data)}
    if parcel.prediction is not None:
        task["predictions"] = [to_prediction(context, parcel, interface)]
    if parcel.labels is not None:
        result = to_people_result(parcel.labels, context.config, parcel.image.size)
        # Label Studio takes an imported annotation for ground truth unless told otherwise.
        task["annotations"] = [{"result": result, "ground_truth": False, "was_cancelled": False}]
    return task


def to_people_result(labels: Iterable[Label], config: LabelConfig, size: ImageSize) -> list[dict[str, Any]]:
    """Return what people drew as Label Studio's regions, as it was drawn.

    Raises:
        LabelConfigError: a class or control that the config does not have; the text says what to do.
    """
    try:
        return to_result(labels, config, size)
    except LabelConfigError as error:
        raise LabelConfigError(f"{error}; {MEND_CLASS}") from error


def count_over_edge(labels: Iterable[Label], size: ImageSize) -> int:
    """Return how many shapes reach over their image's edge.

    >>> count_over_edge([Label("1", "label", ("car",), Keypoint(-10.0, 5.0, 2.0))], ImageSize(40, 20))
    1
    """
    return sum(_is_over_edge(label.geometry, size) for label in labels)


def _is_over_edge(shape: Geometry | None, size: ImageSize) -> bool:
    if shape is None or isinstance(shape, Mask) or (isinstance(shape, Polygon) and not shape.points):
        return False
    # The dot of a point may well reach over the edge, the point itself may not.
    left, top, right, bottom = (shape.x, shape.y, shape.x, shape.y) if isinstance(shape, Keypoint) else shape.to_xyxy()
    return min(left, top, size.width - right, size.height - bottom) < -EDGE_PX


def to_prediction(context: Context, parcel: Parcel, interface: LabelInterface) -> dict[str, Any]:
    """Return the prediction as Label Studio imports it; raises as ``to_task`` does."""
    assert parcel.prediction is not None
    prediction = {
        "model_version": parcel.prediction.model_version,
        "score": 1 - parcel.prediction.uncertainty,
        "result": to_result(parcel.prediction.labels, context.config, parcel.image.size),
    }
    # Label Studio drops what it does not like without a word, or refuses a whole chunk for one of them.
    problems = interface.validate_prediction(prediction, return_errors=True)  # type: ignore[no-untyped-call]
    if problems:
        raise ItemError(parcel.image.path.name, f"the prediction is not valid ({'; '.join(map(str, problems))})")
    return prediction


def to_pushed(parcels: Iterable[Parcel]) -> list[Pushed]:
    """Return what the ledger keeps of the predictions that travelled."""
    return [
        Pushed(
            parcel.image.sample_id,
            parcel.prediction.model_version,
            1 - parcel.prediction.uncertainty,
            parcel.prediction.labels,
        )
        for parcel in parcels
        if parcel.prediction is not None
    ]


def carries(context: Context, task: Task, labels: tuple[Label, ...] | None) -> bool:
    """Return whether the task's annotation says just what was sent with it, so that nobody has changed it since."""
    # A skip is empty, and is no answer that nothing is there.
    if labels is None or task.review is None or task.review.is_skip:
        return False
    try:
        said = from_result(task.review.result, context.config, item=f"task {task.task_id}")
    except ItemError:
        return False
    return len(said) == len(labels) and has_same_labels(labels, said)


def has_same_labels(first: Iterable[Label], second: Iterable[Label]) -> bool:
    """Return whether two sets have the same labels, by id, in whatever order."""
    one, other = ({label.id: label for label in labels} for labels in (first, second))
    return one.keys() == other.keys() and all(is_same(label, other[key]) for key, label in one.items())
