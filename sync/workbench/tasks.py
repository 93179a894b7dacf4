"""Tasks of Label Studio as values, and how they come out of its answers. Asks nobody."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

UNTOUCHED: Final = timedelta(seconds=1)
"""A new task's two times differ by less than this."""
AS_CREATED: Final = timedelta(milliseconds=10)
"""So do those of a new annotation: it is written at once, and they were never more than 0.1 ms apart."""


@dataclass(frozen=True, slots=True)
class TaskRef:
    """A task in brief. ``sample_id`` is None for a task that labelloop did not make."""

    task_id: int
    sample_id: str | None
    updated_at: str
    annotations: int
    skips: int
    predictions: int
    created_at: str | None = None

    @property
    def may_be_answered(self) -> bool:
        """Whether people may have said something of the task.

        Its counts are numbers Label Studio keeps beside the annotations, and they can fall behind; that something
        happened to the task after it was made is told by its times.
        """
        if self.annotations or self.skips or self.created_at is None:
            return bool(self.annotations or self.skips)
        lived = datetime.fromisoformat(self.updated_at) - datetime.fromisoformat(self.created_at)
        return lived > UNTOUCHED


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model drew on a task; ``result`` holds Label Studio's regions. ``updated_at`` empty: not known."""

    prediction_id: int
    model_version: str
    result: tuple[Mapping[str, Any], ...]
    updated_at: str = ""


@dataclass(frozen=True, slots=True)
class Annotation:
    """What a person submitted on a task. ``is_skip``: the person passed the task on without an answer.

    ``reviewer`` submitted it first, ``updated_by`` saved it last. ``ground_truth``: somebody marked it as the right
    answer. ``import_id`` is the number a program gave it, ``parent_id`` the annotation it was made from; None: none.
    ``created_at`` None: not known.
    """

    annotation_id: int
    result: tuple[Mapping[str, Any], ...]
    is_skip: bool
    updated_at: str
    reviewer: str
    lead_time_s: float | None
    prediction_id: int | None
    ground_truth: bool = False
    import_id: int | None = None
    parent_id: int | None = None
    updated_by: str = ""
    created_at: str | None = None

    @property
    def was_saved_again(self) -> bool:
        """Whether somebody saved it after it was made, with changes or without; False where that is not known."""
        if self.created_at is None:
            return False
        return datetime.fromisoformat(self.updated_at) - datetime.fromisoformat(self.created_at) > AS_CREATED


@dataclass(frozen=True, slots=True)
class Task:
    """A task with everything people and models said of it."""

    task_id: int
    sample_id: str | None
    updated_at: str
    annotations: tuple[Annotation, ...]
    predictions: tuple[Prediction, ...]

    @property
    def answers(self) -> tuple[Annotation, ...]:
        """The annotations that say something of the image: all but the skips."""
        return tuple(annotation for annotation in self.annotations if not annotation.is_skip)

    @property
    def review(self) -> Annotation | None:
        """The annotation changed last, a skip only where there is nothing else; None when there is none."""
        return max(self.answers or self.annotations, key=lambda annotation: annotation.updated_at, default=None)


@dataclass(frozen=True, slots=True)
class TaskPredictions:
    """Which predictions a task has: their model versions and times by id, and those that annotations were made from."""

    task_id: int
    versions: Mapping[int, str]
    used: frozenset[int]
    created_at: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class MadeTasks:
    """Tasks that were just made, in the order they were sent, and how much Label Studio says it put on them."""

    task_ids: tuple[int, ...]
    predictions: int
    annotations: int


def to_ref(task: Any) -> TaskRef:
    """Return a task of an answer in brief."""
    return TaskRef(
        task_id=task.id,
        sample_id=_sample_id_of(task.data),
        updated_at=to_text(task.updated_at),
        annotations=task.total_annotations or 0,
        skips=task.cancelled_annotations or 0,
        predictions=task.total_predictions or 0,
        created_at=None if getattr(task, "created_at", None) is None else to_text(task.created_at),
    )


def to_task(task: Any, email_of: Callable[[Any], str]) -> Task:
    """Return a task of an answer; ``email_of`` names a person."""
    return Task(
        task_id=task.id,
        sample_id=_sample_id_of(task.data),
        updated_at=to_text(task.updated_at),
        annotations=tuple(to_annotation(raw, email_of) for raw in task.annotations or ()),
        predictions=tuple(_to_prediction(raw) for raw in task.predictions or ()),
    )


def to_task_predictions(task: Any) -> TaskPredictions:
    """Return which predictions a task of an answer has."""
    predictions = [_values_of(raw) for raw in task.predictions or ()]
    parents = (_values_of(raw).get("parent_prediction") for raw in task.annotations or ())
    return TaskPredictions(
        task_id=task.id,
        versions={one["id"]: one.get("model_version") or "" for one in predictions},
        used=frozenset(parent for parent in parents if parent is not None),
        created_at={one["id"]: to_text(one["created_at"]) for one in predictions},
    )


def to_annotation(raw: Any, email_of: Callable[[Any], str]) -> Annotation:
    """Return an annotation of an answer; ``email_of`` names a person."""
    values = _values_of(raw)
    return Annotation(
        annotation_id=values["id"],
        result=_to_regions(values.get("result")),
        is_skip=bool(values.get("was_cancelled")),
        updated_at=to_text(values["updated_at"]),
        reviewer=email_of(values.get("completed_by")),
        lead_time_s=values.get("lead_time"),
        prediction_id=values.get("parent_prediction"),
        ground_truth=bool(values.get("ground_truth")),
        import_id=values.get("import_id"),
        parent_id=values.get("parent_annotation"),
        updated_by=email_of(values.get("updated_by")),
        created_at=None if values.get("created_at") is None else to_text(values["created_at"]),
    )


def _to_prediction(raw: Any) -> Prediction:
    values = _values_of(raw)
    updated_at = "" if values.get("updated_at") is None else to_text(values["updated_at"])
    return Prediction(values["id"], values.get("model_version") or "", _to_regions(values.get("result")), updated_at)


def _to_regions(result: Any) -> tuple[Any, ...]:
    # What is no list of regions is kept as one that cannot be read: it is reported then, and not taken for «nothing».
    return tuple(result) if isinstance(result, list | tuple) else (result,)


def _values_of(raw: Any) -> Mapping[str, Any]:
    return raw if isinstance(raw, Mapping) else raw.dict()


def _sample_id_of(data: Any) -> str | None:
    value = data.get("sample_id") if isinstance(data, Mapping) else None
    return value if isinstance(value, str) else None


def to_timestamp(moment: datetime) -> str:
    """Return a time in the one form Label Studio's filters read, in UTC with microseconds: texts sort as the times do.

    >>> to_timestamp(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    '2026-01-02T03:04:05.000000Z'
    """
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def to_text(when: Any) -> str:
    """Return a time of an answer as ``to_timestamp`` writes it."""
    return to_timestamp(when if isinstance(when, datetime) else datetime.fromisoformat(str(when)))
