"""Label Studio's data API: tasks, predictions and reviews of one project, through Label Studio's own SDK.

Holds nothing about FiftyOne or the ledger. Calls that create are sent once and never retried: a create whose answer was
lost may have happened, and the caller looks before it creates again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

from label_studio_sdk.core.request_options import RequestOptions
from more_itertools import chunked

from labels.errors import ServiceError
from sync.workbench.label_studio_classes import ClassCalls
from sync.workbench.project_api import READ
from sync.workbench.refusals import NoAnswerError, RefusedError
from sync.workbench.tasks import (
    Annotation,
    MadeTasks,
    Prediction,
    Task,
    TaskPredictions,
    TaskRef,
    to_ref,
    to_task,
    to_task_predictions,
    to_text,
    to_timestamp,
)

__all__ = [
    "Annotation",
    "LabelStudio",
    "MadeTasks",
    "NoAnswerError",
    "Prediction",
    "RefusedError",
    "Task",
    "TaskPredictions",
    "TaskRef",
    "to_timestamp",
]

SEND_ONCE: Final = RequestOptions(max_retries=0, timeout_in_seconds=600)
REF_COLUMNS: Final = "id,data,created_at,updated_at,total_annotations,cancelled_annotations,total_predictions"
# Without what was drawn: to find predictions that are there twice.
PREDICTION_COLUMNS: Final = "id,annotations,predictions,parent_prediction,model_version,created_at"
# Named columns keep Label Studio from computing the others, which takes it three times as long as these.
TASK_COLUMNS: Final = (
    "id,data,created_at,updated_at,annotations,predictions,"
    # One list for all levels: these are columns of the annotations and predictions.
    "result,was_cancelled,ground_truth,lead_time,completed_by,updated_by,import_id,"
    "parent_annotation,parent_prediction,model_version"
)
REFS_PER_PAGE: Final = 1000
TASKS_PER_PAGE: Final = 200
CONFLICT_STATUS: Final = 409
GONE_STATUS: Final = 404

Fields = Literal["all", "task_only"]


class LabelStudio(ClassCalls):
    """One project of a Label Studio server.

    Raises:
        ServiceError: from every method, when Label Studio does not answer or says no.
    """

    def fetch_task_refs(self, *, changed_since: str | None = None, after_id: int = 0) -> Iterator[TaskRef]:
        """Yield tasks in brief, by id from after ``after_id`` on: all, or those changed since a ``to_timestamp``.

        Holds one page at a time. A task made or deleted meanwhile shifts no other out of sight.
        """
        filters = [] if changed_since is None else [_changed_since(changed_since)]
        for task in self._fetch_by_id("task_only", REF_COLUMNS, filters, REFS_PER_PAGE, after_id):
            yield to_ref(task)

    def fetch_refs_of(self, task_ids: Sequence[int]) -> Iterator[TaskRef]:
        """Yield the tasks of these ids in brief; ids that are gone are left out."""
        for chunk in chunked(task_ids, REFS_PER_PAGE):
            yield from map(to_ref, self._fetch_page("task_only", REF_COLUMNS, [_in_list(chunk)], len(chunk)).items)

    def fetch_changed(self, changed_since: str | None = None) -> tuple[int, str | None]:
        """Return how many tasks changed since a ``to_timestamp``, or how many there are, and when the newest did.

        None: there is none.
        """
        filters = [] if changed_since is None else [_changed_since(changed_since)]
        found = self._fetch_page("task_only", "id,updated_at", filters, 1, order="-tasks:updated_at")
        return int(found.response.total), to_text(found.items[0].updated_at) if found.items else None

    def fetch_draft_task_ids(self, *, among: Sequence[int] | None = None) -> Iterator[int]:
        """Yield the tasks, of these or of all, with something somebody began and did not submit."""
        drafts = _filter("draft_exists", "equal", "Boolean", True)
        chunks = [[]] if among is None else [[_in_list(chunk)] for chunk in chunked(among, REFS_PER_PAGE)]
        for chosen in chunks:
            for task in self._fetch_by_id("task_only", "id", [drafts, *chosen], REFS_PER_PAGE, 0):
                yield int(task.id)

    def fetch_task_ids_with(self, model_version: str) -> Iterator[int]:
        """Yield the tasks that have a prediction of this version, or of one whose name contains it."""
        of_version = _filter("predictions_model_versions", "contains", "List", [model_version])
        for task in self._fetch_by_id("task_only", "id", [of_version], REFS_PER_PAGE, 0):
            yield int(task.id)

    def fetch_task_count(self) -> int:
        """Return how many tasks the project has."""
        return int(self._ask("GET project", lambda: self._sdk.projects.get(self.project_id)).task_number or 0)

    def fetch_tasks(self, task_ids: Sequence[int]) -> Iterator[Task]:
        """Yield the tasks of these ids with annotations and predictions; ids that are gone are left out."""
        for chunk in chunked(task_ids, TASKS_PER_PAGE):
            yield from map(self._to_task, self._fetch_page("all", TASK_COLUMNS, [_in_list(chunk)], len(chunk)).items)

    def fetch_predictions(self, task_ids: Sequence[int]) -> Iterator[TaskPredictions]:
        """Yield which predictions the tasks have, and which of them annotations were made from."""
        for chunk in chunked(task_ids, TASKS_PER_PAGE):
            yield from map(
                to_task_predictions, self._fetch_page("all", PREDICTION_COLUMNS, [_in_list(chunk)], len(chunk)).items
            )

    def send_tasks(self, tasks: Sequence[Mapping[str, Any]]) -> MadeTasks:
        """Create tasks with their predictions and annotations. Doing it twice makes them twice.

        When its database is locked for a moment, Label Studio makes the tasks in a second try, and says that all is
        well, without what was to be on them: the answer's counts are to be compared with what was sent.

        Raises:
            ServiceError: Label Studio refused them, or made another number of tasks than were sent.
        """
        answer = self._ask(
            f"POST import of {len(tasks)} tasks",
            lambda: self._sdk.projects.import_tasks(
                self.project_id,
                request=list(tasks),  # type: ignore[arg-type]  # the SDK's models and plain JSON are one on the wire
                return_task_ids=True,
                request_options=SEND_ONCE,
            ),
        )
        made = answer.dict()
        task_ids = [int(task_id) for task_id in made.get("task_ids") or ()]
        _check_count("tasks", sent=len(tasks), made=len(task_ids))
        return MadeTasks(tuple(task_ids), made.get("prediction_count") or 0, made.get("annotation_count") or 0)

    def send_predictions(self, predictions: Sequence[Mapping[str, Any]]) -> None:
        """Add predictions to tasks that are there (each names its ``task``). Doing it twice adds them twice.

        Raises:
            ServiceError: Label Studio refused them, or kept another number than was sent.
        """
        answer = self._ask(
            f"POST import of {len(predictions)} predictions",
            lambda: self._sdk.projects.import_predictions(
                self.project_id,
                request=list(predictions),  # type: ignore[arg-type]  # as above
                request_options=SEND_ONCE,
            ),
        )
        _check_count("predictions", sent=len(predictions), made=answer.created or 0)

    def send_annotation(
        self,
        task_id: int,
        result: Sequence[Mapping[str, Any]],
        *,
        unique_id: str,
        import_id: int | None = None,
        parent_id: int | None = None,
    ) -> tuple[int, str] | None:
        """Add an annotation, made from another one or not, and return its id and ``updated_at``.

        Label Studio takes a ``unique_id`` once: None where it is there already, and nothing changed then.
        """
        given = {"import_id": import_id, "parent_annotation": parent_id}
        origin: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        try:
            made = self._ask(
                f"POST an annotation to task {task_id}",
                lambda: self._sdk.annotations.create(
                    id=task_id,
                    result=[dict(region) for region in result],
                    unique_id=unique_id,
                    ground_truth=False,
                    was_cancelled=False,
                    request_options=SEND_ONCE,
                    **origin,
                ),
            )
        except RefusedError as error:
            if error.status_code != CONFLICT_STATUS:
                raise
            return None
        return int(made.id or 0), to_text(made.updated_at)

    def send_prediction_deletion(self, prediction_id: int) -> None:
        """Delete a prediction; one that is gone is no error."""
        self._delete(f"DELETE prediction {prediction_id}", lambda: self._sdk.predictions.delete(prediction_id))

    def send_task_deletion(self, task_id: int) -> None:
        """Delete a task with all that is on it; one that is gone is no error."""
        self._delete(f"DELETE task {task_id}", lambda: self._sdk.tasks.delete(str(task_id)))

    def _delete(self, what: str, call: Callable[[], object]) -> None:
        try:
            self._ask(what, call)
        except RefusedError as error:
            if error.status_code != GONE_STATUS:
                raise

    def fetch_model_version(self) -> str:
        """Return the model version whose predictions annotators see; empty when none was set."""
        return self._ask("GET project", lambda: self._sdk.projects.get(self.project_id)).model_version or ""

    def send_model_version(self, model_version: str) -> None:
        """Show annotators the predictions of this version: without it, sampling and sorting by score are dead."""
        self._ask("PATCH project", lambda: self._sdk.projects.update(self.project_id, model_version=model_version))

    def _fetch_by_id(
        self, fields: Fields, include: str, filters: Sequence[Mapping[str, Any]], page_size: int, after_id: int
    ) -> Iterator[Any]:
        # By id, not by page number: a task deleted meanwhile would move another one to a page that was read already.
        while True:
            found = self._fetch_page(
                fields, include, [_filter("id", "greater", "Number", after_id), *filters], page_size
            )
            yield from found.items
            if len(found.items) < page_size:
                return
            after_id = found.items[-1].id

    def _fetch_page(
        self,
        fields: Fields,
        include: str,
        filters: Sequence[Mapping[str, Any]],
        page_size: int,
        *,
        order: str | None = None,
    ) -> Any:
        chosen = {"filters": {"conjunction": "and", "items": list(filters)}}
        return self._ask(
            "GET tasks",
            lambda: self._sdk.tasks.list(
                project=self.project_id,
                fields=fields,
                include=include,
                page_size=page_size,
                query=json.dumps(chosen if order is None else chosen | {"ordering": [order]}),
                request_options=READ,
            ),
        )

    def _to_task(self, task: Any) -> Task:
        return to_task(task, self._email_of)


def _filter(column: str, operator: str, kind: str, value: Any) -> dict[str, Any]:
    return {"filter": f"filter:tasks:{column}", "operator": operator, "type": kind, "value": value}


def _changed_since(moment: str) -> dict[str, Any]:
    return _filter("updated_at", "greater_or_equal", "Datetime", moment)


def _in_list(task_ids: Sequence[int]) -> dict[str, Any]:
    return _filter("id", "in_list", "List", list(task_ids))


def _check_count(what: str, *, sent: int, made: int) -> None:
    if sent != made:
        raise ServiceError(f"Label Studio kept {made} of {sent} {what}; run push again")
