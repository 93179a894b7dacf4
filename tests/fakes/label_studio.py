"""A Label Studio in memory, behind the calls of its own SDK.

The real client runs on it as it is: only the SDK object is another. What it does follows what the real server
was seen to do; ``tests/e2e/test_contract.py`` plays one script to both and compares. A call, column or filter it does
not know is an error, never a guess.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, Final

from label_studio_sdk.core.api_error import ApiError

from sync.workbench.label_studio import LabelStudio, to_timestamp
from tests.fakes.clock import FakeClock

USERS: Final = {1: "admin@labelloop.local", 2: "ann@example.org", 3: "bob@example.org"}
PROJECT_ID: Final = 1
REQUEST_S: Final = 0.02
TASK_ONLY: Final = ("id", "data", "updated_at", "created_at", "total_annotations", "cancelled_annotations",
                    "total_predictions", "is_labeled")  # fmt: skip
COMPARE: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "equal": lambda value, wanted: value == wanted,
    "not_equal": lambda value, wanted: value != wanted,
    "greater": lambda value, wanted: value > wanted,
    "less": lambda value, wanted: value < wanted,
    "greater_or_equal": lambda value, wanted: value >= wanted,
    "less_or_equal": lambda value, wanted: value <= wanted,
    "in_list": lambda value, wanted: value in wanted,
    "contains": lambda value, wanted: any(part in one for one in value for part in wanted),
}


def refusal(status: int, detail: str) -> ApiError:
    """Return the error the SDK raises when the server says no."""
    return ApiError(status_code=status, body={"status_code": status, "detail": detail})


@dataclass
class FakeServer:
    """One project of a Label Studio server: its rows, and the ids it has given out, which never come back."""

    clock: FakeClock = field(default_factory=FakeClock)
    tasks: dict[int, dict[str, Any]] = field(default_factory=dict)
    annotations: dict[int, dict[str, Any]] = field(default_factory=dict)
    predictions: dict[int, dict[str, Any]] = field(default_factory=dict)
    drafts: dict[int, dict[str, Any]] = field(default_factory=dict)
    model_version: str = ""
    unique_ids: set[str] = field(default_factory=set)
    last_id: int = 0
    # Requests that came from somebody who is dead, and when they will be carried out.
    pending: list[tuple[datetime, Callable[[], Any]]] = field(default_factory=list)

    def carry_out_later(self, request: Callable[[], Any], delay_s: float) -> None:
        """Carry a request out after that time: nobody sees anything of it before."""
        self.pending.append((self.clock.now() + timedelta(seconds=delay_s), request))

    def catch_up(self) -> None:
        """Carry out what is due."""
        due = [one for one in self.pending if one[0] <= self.clock.now()]
        self.pending = [one for one in self.pending if one not in due]
        for _, request in due:
            request()

    def next_id(self) -> int:
        """Return an id that was never given out."""
        self.last_id += 1
        return self.last_id

    def touch(self, task_id: int) -> None:
        """Move a task's time, as every change of its annotations does."""
        self.tasks[task_id]["updated_at"] = self.clock.now()

    def add_annotation(self, task_id: int, values: Mapping[str, Any]) -> dict[str, Any]:
        """Create an annotation without any look at its content, as the real server does."""
        moment = self.clock.now()
        row = {
            "id": self.next_id(),
            "task": task_id,
            "project": PROJECT_ID,
            "result": copy.deepcopy(values.get("result", [])),
            "was_cancelled": bool(values.get("was_cancelled", False)),
            "ground_truth": bool(values.get("ground_truth", False)),
            "created_at": to_timestamp(moment),
            "updated_at": to_timestamp(moment),
            "lead_time": values.get("lead_time"),
            "completed_by": values.get("completed_by", 1),
            "updated_by": values.get("updated_by", 1),
            "import_id": values.get("import_id"),
            "parent_prediction": values.get("parent_prediction"),
            "parent_annotation": values.get("parent_annotation"),
        }
        self.annotations[row["id"]] = row
        if row["ground_truth"]:
            self.make_only_ground_truth(row)
        return row

    def make_only_ground_truth(self, row: Mapping[str, Any]) -> None:
        """Take the mark off the task's other annotations; their times stay."""
        for other in self.of_task(self.annotations, row["task"]):
            other["ground_truth"] = other["id"] == row["id"]

    def of_task(self, rows: Mapping[int, dict[str, Any]], task_id: int) -> list[dict[str, Any]]:
        """Return the rows that belong to a task, oldest first."""
        return [row for row in rows.values() if row["task"] == task_id]

    def to_task(self, task_id: int) -> dict[str, Any]:
        """Return a task with all its columns."""
        annotations = self.of_task(self.annotations, task_id)
        predictions = self.of_task(self.predictions, task_id)
        skips = sum(row["was_cancelled"] for row in annotations)
        return {
            **self.tasks[task_id],
            "annotations": annotations,
            "predictions": predictions,
            "drafts": self.of_task(self.drafts, task_id),
            "total_annotations": len(annotations) - skips,
            "cancelled_annotations": skips,
            "total_predictions": len(predictions),
            "predictions_model_versions": [row["model_version"] for row in predictions],
            "is_labeled": len(annotations) > skips,
            "draft_exists": bool(self.of_task(self.drafts, task_id)),
        }


class FakeSdk:
    """The part of the SDK that labelloop uses, and what an annotator does."""

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self.projects = _Projects(server)
        self.tasks = _Tasks(server)
        self.annotations = _Annotations(server)
        self.predictions = _Predictions(server)
        self.users = SimpleNamespace(list=lambda **_: [SimpleNamespace(id=k, email=v) for k, v in USERS.items()])
        self._client_wrapper = SimpleNamespace(httpx_client=_RawRequests(server))


@dataclass
class _Projects:
    server: FakeServer

    def get(self, id: int, **_: Any) -> Any:
        return SimpleNamespace(task_number=len(self.server.tasks), model_version=self.server.model_version)

    def update(self, id: int, *, model_version: str, **_: Any) -> None:
        if model_version and model_version not in {row["model_version"] for row in self.server.predictions.values()}:
            raise refusal(400, "Model version doesn't exist either as live model or as static predictions")
        self.server.model_version = model_version

    def import_tasks(self, id: int, *, request: Sequence[Mapping[str, Any]], **_: Any) -> Any:
        made, predictions, annotations = [], 0, 0
        for task in request:
            moment = self.server.clock.now()
            task_id = self.server.next_id()
            self.server.tasks[task_id] = {
                "id": task_id, "data": dict(task["data"]), "created_at": moment, "updated_at": moment
            }  # fmt: skip
            made.append(task_id)
        for task_id, task in zip(made, request, strict=True):
            predictions += self._import(task_id, task)
            annotations += len(task.get("annotations", ()))
        answer = {
            "task_ids": made,
            "task_count": len(made),
            "prediction_count": predictions,
            "annotation_count": annotations,
        }
        return SimpleNamespace(dict=lambda: answer)

    def _import(self, task_id: int, task: Mapping[str, Any]) -> int:
        for prediction in task.get("predictions", ()):
            _add_prediction(self.server, task_id, prediction)
            self.server.model_version = self.server.model_version or prediction["model_version"]
        for annotation in task.get("annotations", ()):
            # An imported annotation is ground truth unless told otherwise, and does not move the task's time.
            self.server.add_annotation(task_id, {"ground_truth": True, "updated_by": None, **annotation})
        return len(task.get("predictions", ()))

    def import_predictions(self, id: int, *, request: Sequence[Mapping[str, Any]], **_: Any) -> Any:
        known = [prediction for prediction in request if prediction["task"] in self.server.tasks]
        if len(known) != len(request):
            raise refusal(400, "Invalid task IDs")
        for prediction in known:
            _add_prediction(self.server, prediction["task"], prediction)
        return SimpleNamespace(created=len(known))


def _add_prediction(server: FakeServer, task_id: int, values: Mapping[str, Any]) -> dict[str, Any]:
    row = {
        "id": server.next_id(),
        "task": task_id,
        "model_version": values["model_version"],
        "score": values.get("score"),
        "result": copy.deepcopy(list(values["result"])),
        "created_at": to_timestamp(server.clock.now()),
        "updated_at": to_timestamp(server.clock.now()),
    }
    server.predictions[row["id"]] = row
    return row


@dataclass
class _Tasks:
    server: FakeServer

    def list(
        self,
        *,
        project: int,
        fields: str = "task_only",
        include: str | None = None,
        page: int = 1,
        page_size: int = 100,
        query: str | None = None,
        **_: Any,
    ) -> Any:
        self.server.catch_up()
        rows = map(self.server.to_task, sorted(self.server.tasks))
        wanted = _sort([row for row in rows if _matches(row, query)], query)
        part = wanted[(page - 1) * page_size : page * page_size]
        if page > 1 and not part:
            raise refusal(404, "Invalid page.")
        columns = None if include is None else include.split(",")
        items = [_to_item(row, fields, columns) for row in part]
        return SimpleNamespace(
            items=items,
            response=SimpleNamespace(total=len(wanted)),
            next_page=lambda: self.list(
                project=project, fields=fields, include=include, page=page + 1, page_size=page_size, query=query
            ),
        )

    def delete(self, id: str, **_: Any) -> None:
        task_id = int(id)
        if self.server.tasks.pop(task_id, None) is None:
            raise refusal(404, "No Task matches the given query.")
        for rows in (self.server.annotations, self.server.predictions, self.server.drafts):
            for row in self.server.of_task(rows, task_id):
                del rows[row["id"]]


def _sort(tasks: list[dict[str, Any]], query: str | None) -> list[dict[str, Any]]:
    for name in json.loads(query).get("ordering", ()) if query else ():
        column = name.removeprefix("-").removeprefix("tasks:")
        tasks = sorted(tasks, key=lambda task: task[column], reverse=name.startswith("-"))
    return tasks


def _matches(task: Mapping[str, Any], query: str | None) -> bool:
    filters = json.loads(query)["filters"] if query else {"items": [], "conjunction": "and"}
    found = [_matches_one(task, one) for one in filters["items"]]
    return all(found) if filters["conjunction"] == "and" else any(found)


def _matches_one(task: Mapping[str, Any], one: Mapping[str, Any]) -> bool:
    column = one["filter"].removeprefix("filter:tasks:")
    value = task["data"].get(column.removeprefix("data.")) if column.startswith("data.") else task[column]
    wanted = datetime.fromisoformat(one["value"]) if one["type"] == "Datetime" else one["value"]
    return COMPARE[one["operator"]](value, wanted)


def _to_item(row: Mapping[str, Any], fields: str, columns: list[str] | None) -> Any:
    """Return a task as the SDK hands it out: named columns only, and these of annotations and predictions too."""
    known = TASK_ONLY if fields == "task_only" else tuple(row)
    shown = {name: copy.deepcopy(row[name]) for name in known if columns is None or name in columns}
    for name in ("annotations", "predictions", "drafts"):
        shown[name] = [_only(one, columns) for one in shown.get(name, ())]
    everything = dict.fromkeys(row) | shown
    return SimpleNamespace(**everything, dict=lambda: everything)


def _only(row: Mapping[str, Any], columns: list[str] | None) -> dict[str, Any]:
    return {name: value for name, value in row.items() if columns is None or name in columns}


@dataclass
class _Annotations:
    server: FakeServer

    def create(self, id: int, *, unique_id: str | None = None, request_options: Any = None, **values: Any) -> Any:
        if id not in self.server.tasks:
            raise refusal(404, "Not found.")
        if unique_id is not None and unique_id in self.server.unique_ids:
            raise refusal(409, "Annotation with this unique id already exists")
        row = self.server.add_annotation(id, values)
        if unique_id is not None:
            self.server.unique_ids.add(unique_id)
            row["unique_id"] = unique_id
        self.server.touch(id)
        return _to_answer(row)

    def get(self, id: int, **_: Any) -> Any:
        return _to_answer(self._row(id))

    def list(self, id: int, **_: Any) -> Any:
        return [_to_answer(row) for row in self.server.of_task(self.server.annotations, id)]

    def update(self, id: int, *, request_options: Any = None, **values: Any) -> Any:
        row = self._row(id)
        # Another request takes longer than the two times of a new annotation are apart.
        self.server.clock.sleep(REQUEST_S)
        row |= copy.deepcopy(values) | {"updated_by": 1}
        row["updated_at"] = to_timestamp(self.server.clock.now())
        if values.get("ground_truth"):
            self.server.make_only_ground_truth(row)
        self.server.touch(row["task"])
        return _to_answer(row)

    def delete(self, id: int, **_: Any) -> None:
        row = self._row(id)
        del self.server.annotations[id]
        self.server.unique_ids.discard(row.get("unique_id", ""))
        for other in self.server.annotations.values():
            if other["parent_annotation"] == id:
                other["parent_annotation"] = None
        self.server.touch(row["task"])

    def _row(self, id: int) -> dict[str, Any]:
        try:
            return self.server.annotations[id]
        except KeyError:
            raise refusal(404, "Not found.") from None


@dataclass
class _Predictions:
    server: FakeServer

    def create(self, *, task: int, request_options: Any = None, **values: Any) -> Any:
        row = _add_prediction(self.server, task, values)
        self.server.touch(task)
        return _to_answer(row)

    def update(self, *, id: int, task: int, request_options: Any = None, **values: Any) -> None:
        row = self.server.predictions.get(id)
        if row is None:
            raise refusal(404, "Not found.")
        row |= copy.deepcopy(values) | {"updated_at": to_timestamp(self.server.clock.now())}
        self.server.touch(task)

    def delete(self, id: int, **_: Any) -> None:
        gone = self.server.predictions.pop(id, None)
        if gone is None:
            raise refusal(404, "Not found.")
        self.server.touch(gone["task"])
        for row in self.server.annotations.values():
            if row["parent_prediction"] == id:
                row["parent_prediction"] = None


@dataclass
class _RawRequests:
    """Requests the SDK has no method for."""

    server: FakeServer

    def request(self, path: str, *, method: str, json: Mapping[str, Any] | None = None, **_: Any) -> Any:
        parts = path.strip("/").split("/")
        if (method, parts[:2], parts[3:]) != ("POST", ["api", "tasks"], ["drafts"]):
            raise NotImplementedError(f"{method} {path}")
        values = json or {}
        row = {"id": self.server.next_id(), "task": int(parts[2]), "result": list(values["result"]), "annotation": None}
        self.server.drafts[row["id"]] = row
        return SimpleNamespace(status_code=201)


def _to_answer(row: Mapping[str, Any]) -> Any:
    held = copy.deepcopy(dict(row))
    return SimpleNamespace(**held, dict=lambda: held)


def open_fake(server: FakeServer) -> LabelStudio:
    """Return the real client on the fake server."""
    client = LabelStudio("http://127.0.0.1:9", "0" * 40, PROJECT_ID)
    client.close()
    client._sdk = FakeSdk(server)
    return client


def emails() -> Iterable[str]:
    """Return the people of the server."""
    return USERS.values()
