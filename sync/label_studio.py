"""Label Studio's data API: tasks, predictions and reviews of one project, through Label Studio's own SDK.

Holds nothing about FiftyOne or the ledger. Calls that create are sent once and never retried: a create whose answer was
lost may have happened, and the caller looks before it creates again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeVar

import httpx
from label_studio_sdk import LabelStudio as Sdk
from label_studio_sdk.core.api_error import ApiError
from label_studio_sdk.core.request_options import RequestOptions
from more_itertools import chunked

from labels.errors import ServiceError

SEND_ONCE: Final = RequestOptions(max_retries=0, timeout_in_seconds=600)
READ_TIMEOUT_S: Final = 120
READ: Final = RequestOptions(max_retries=3, timeout_in_seconds=READ_TIMEOUT_S)
REF_COLUMNS: Final = "id,data,updated_at,total_annotations,cancelled_annotations,total_predictions"
# Named columns keep Label Studio from computing the others, which takes it three times as long as these.
TASK_COLUMNS: Final = (
    "id,data,updated_at,annotations,predictions,"
    # One list for all levels: these are columns of the annotations and predictions.
    "result,was_cancelled,lead_time,completed_by,parent_prediction,model_version"
)
REFS_PER_PAGE: Final = 1000
TASKS_PER_PAGE: Final = 200

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class TaskRef:
    """A task in brief. ``sample_id`` is None for a task that labelloop did not make."""

    task_id: int
    sample_id: str | None
    updated_at: str
    annotations: int
    skips: int
    predictions: int


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model drew on a task; ``result`` holds Label Studio's regions."""

    prediction_id: int
    model_version: str
    result: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Annotation:
    """What a person submitted on a task. ``is_skip``: the person passed the task on without an answer."""

    annotation_id: int
    result: tuple[Mapping[str, Any], ...]
    is_skip: bool
    updated_at: str
    reviewer: str
    lead_time_s: float | None
    prediction_id: int | None


@dataclass(frozen=True, slots=True)
class Task:
    """A task with everything people and models said of it."""

    task_id: int
    sample_id: str | None
    updated_at: str
    annotations: tuple[Annotation, ...]
    predictions: tuple[Prediction, ...]

    @property
    def review(self) -> Annotation | None:
        """The annotation that counts: the one changed last, a skip only where there is nothing else; None when none."""
        answers = [annotation for annotation in self.annotations if not annotation.is_skip]
        return max(answers or self.annotations, key=lambda annotation: annotation.updated_at, default=None)


class LabelStudio:
    """One project of a Label Studio server.

    Raises:
        ServiceError: from every method, when Label Studio does not answer or says no.
    """

    def __init__(self, url: str, token: str, project_id: int) -> None:
        self.url = url.rstrip("/")
        self.project_id = project_id
        # A proxy of this shell must not be asked for a server of this machine.
        self._http = httpx.Client(timeout=READ_TIMEOUT_S, trust_env=False, follow_redirects=True)
        self._sdk = Sdk(base_url=self.url, api_key=token, httpx_client=self._http)  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
        self._emails: dict[int, str] = {}

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def fetch_task_refs(self, *, changed_since: str | None = None) -> Iterator[TaskRef]:
        """Yield all tasks in brief, or those whose ``updated_at`` is not before the given ``to_timestamp``."""
        filters = (
            [] if changed_since is None else [_filter("updated_at", "greater_or_equal", "Datetime", changed_since)]
        )
        yield from self._fetch_refs(_query(filters))

    def fetch_answered_refs(self) -> Iterator[TaskRef]:
        """Yield the tasks somebody has answered or skipped, in brief."""
        counts = ("total_annotations", "cancelled_annotations")
        yield from self._fetch_refs(_query([_filter(name, "greater", "Number", 0) for name in counts], "or"))

    def _fetch_refs(self, query: str) -> Iterator[TaskRef]:
        for task in self._fetch_pages("task_only", REF_COLUMNS, query, REFS_PER_PAGE):
            yield TaskRef(
                task_id=task.id,
                sample_id=_sample_id_of(task.data),
                updated_at=_to_text(task.updated_at),
                annotations=task.total_annotations or 0,
                skips=task.cancelled_annotations or 0,
                predictions=task.total_predictions or 0,
            )

    def fetch_task_count(self) -> int:
        """Return how many tasks the project has."""
        return int(self._ask("GET project", lambda: self._sdk.projects.get(self.project_id)).task_number or 0)

    def fetch_tasks(self, task_ids: Sequence[int]) -> Iterator[Task]:
        """Yield the tasks of these ids with annotations and predictions; ids that are gone are left out."""
        for chunk in chunked(task_ids, TASKS_PER_PAGE):
            query = _query([_filter("id", "in_list", "List", chunk)])
            for task in self._fetch_pages("all", TASK_COLUMNS, query, TASKS_PER_PAGE):
                yield self._to_task(task)

    def send_tasks(self, tasks: Sequence[Mapping[str, Any]]) -> list[int]:
        """Create tasks with their predictions and return their ids in order. Doing it twice makes them twice.

        Raises:
            ServiceError: Label Studio refused them, or made another number of tasks or predictions than were sent.
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
        predictions = sum(len(task.get("predictions", ())) for task in tasks)
        _check_count("tasks", sent=len(tasks), made=len(task_ids))
        _check_count("predictions", sent=predictions, made=made.get("prediction_count") or 0)
        return task_ids

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

    def fetch_model_version(self) -> str:
        """Return the model version whose predictions annotators see; empty when none was set."""
        return self._ask("GET project", lambda: self._sdk.projects.get(self.project_id)).model_version or ""

    def send_model_version(self, model_version: str) -> None:
        """Show annotators the predictions of this version: without it, sampling and sorting by score are dead."""
        self._ask("PATCH project", lambda: self._sdk.projects.update(self.project_id, model_version=model_version))

    def _fetch_pages(
        self, fields: Literal["all", "task_only"], include: str, query: str, page_size: int
    ) -> Iterator[Any]:
        page: Any = self._ask(
            "GET tasks",
            lambda: self._sdk.tasks.list(
                project=self.project_id,
                fields=fields,
                include=include,
                page_size=page_size,
                query=query,
                request_options=READ,
            ),
        )
        seen = 0
        while page is not None and page.items:
            yield from page.items
            seen += len(page.items)
            # The SDK always expects a further page; asking for one behind the last is an error.
            page = self._ask("GET tasks", page.next_page) if seen < page.response.total else None

    def _to_task(self, task: Any) -> Task:
        return Task(
            task_id=task.id,
            sample_id=_sample_id_of(task.data),
            updated_at=_to_text(task.updated_at),
            annotations=tuple(self._to_annotation(raw) for raw in task.annotations or ()),
            predictions=tuple(_to_prediction(raw) for raw in task.predictions or ()),
        )

    def _to_annotation(self, raw: Any) -> Annotation:
        values = raw if isinstance(raw, Mapping) else raw.dict()
        return Annotation(
            annotation_id=values["id"],
            result=tuple(values["result"] or ()),
            is_skip=bool(values.get("was_cancelled")),
            updated_at=_to_text(values["updated_at"]),
            reviewer=self._email_of(values.get("completed_by")),
            lead_time_s=values.get("lead_time"),
            prediction_id=values.get("parent_prediction"),
        )

    def _email_of(self, user: Any) -> str:
        user_id = user.get("id") if isinstance(user, Mapping) else user
        if user_id is None:
            return ""
        if user_id not in self._emails:
            users = self._ask("GET users", lambda: self._sdk.users.list(request_options=READ))
            self._emails = {person.id: person.email or str(person.id) for person in users}
        return self._emails.get(user_id, str(user_id))

    def _ask(self, what: str, call: Callable[[], Answer]) -> Answer:
        try:
            return call()
        except ApiError as error:
            hint = ", check the token of Label Studio" if error.status_code == 401 else ""
            raise ServiceError(
                f"Label Studio, {what}: {error.status_code}{hint} {_detail(error.body)}".strip()
            ) from error
        except httpx.HTTPError as error:
            raise ServiceError(f"Label Studio at {self.url}, {what}: no answer ({error})") from error


def _filter(column: str, operator: str, kind: str, value: Any) -> dict[str, Any]:
    return {"filter": f"filter:tasks:{column}", "operator": operator, "type": kind, "value": value}


def _query(filters: list[dict[str, Any]], conjunction: Literal["and", "or"] = "and") -> str:
    return json.dumps({"filters": {"conjunction": conjunction, "items": filters}})


def _check_count(what: str, *, sent: int, made: int) -> None:
    if sent != made:
        raise ServiceError(f"Label Studio kept {made} of {sent} {what}; run push again")


def _sample_id_of(data: Any) -> str | None:
    value = data.get("sample_id") if isinstance(data, Mapping) else None
    return value if isinstance(value, str) else None


def _to_prediction(raw: Any) -> Prediction:
    values = raw if isinstance(raw, Mapping) else raw.dict()
    result = values["result"]
    return Prediction(
        values["id"], values.get("model_version") or "", tuple(result) if isinstance(result, Iterable) else ()
    )


def to_timestamp(moment: datetime) -> str:
    """Return a time in the one form Label Studio's filters read, in UTC with microseconds: texts sort as the times do.

    >>> to_timestamp(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    '2026-01-02T03:04:05.000000Z'
    """
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _to_text(when: Any) -> str:
    return to_timestamp(when if isinstance(when, datetime) else datetime.fromisoformat(str(when)))


def _detail(body: Any) -> str:
    text = json.dumps(body, default=str) if isinstance(body, Mapping | list) else str(body or "")
    return " ".join(text.split())[:300]
