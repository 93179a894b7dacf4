"""What renaming a class needs of Label Studio's API: single annotations and predictions, drafts, the config.

An annotation has no version to write against: whoever calls this reads before a write and again after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from label_studio_sdk.core.request_options import RequestOptions

from sync.workbench.project_api import ProjectApi
from sync.workbench.tasks import Annotation, to_annotation, to_text

# Setting a prediction's regions or a config twice sets it once: these may be sent again.
SET: Final = RequestOptions(max_retries=3, timeout_in_seconds=120)
# An annotation may not: between two attempts somebody saves it.
SET_ONCE: Final = RequestOptions(max_retries=0, timeout_in_seconds=120)


@dataclass(frozen=True, slots=True)
class Draft:
    """Something a person began on a task and did not submit."""

    draft_id: int
    task_id: int
    result: tuple[Any, ...]


class ClassCalls(ProjectApi):
    """The calls about classes; each raises ServiceError when Label Studio does not answer or says no."""

    def fetch_annotation(self, annotation_id: int) -> Annotation:
        """Return an annotation as it is now."""
        found = self._ask(f"GET annotation {annotation_id}", lambda: self._sdk.annotations.get(annotation_id))
        return to_annotation(found, self._email_of)

    def send_annotation_result(self, annotation_id: int, result: Sequence[Any]) -> str:
        """Replace an annotation's regions and return its new ``updated_at``; who submitted it stays.

        It is asked once: whoever tries again reads it anew first.
        """
        made = self._ask(
            f"PATCH annotation {annotation_id}",
            lambda: self._sdk.annotations.update(id=annotation_id, result=list(result), request_options=SET_ONCE),
        )
        return to_text(made.updated_at)

    def send_prediction_result(
        self, prediction_id: int, task_id: int, result: Sequence[Any], *, score: float | None = None
    ) -> None:
        """Replace a prediction's regions, and its score where one is given; its version stays."""
        others: dict[str, Any] = {} if score is None else {"score": score}
        self._ask(
            f"PATCH prediction {prediction_id}",
            # With its task: Label Studio checks the regions against the project of that.
            lambda: self._sdk.predictions.update(
                id=prediction_id, task=task_id, result=list(result), request_options=SET, **others
            ),
        )

    def fetch_label_config(self) -> str:
        """Return the project's label config."""
        return self._ask("GET project", lambda: self._sdk.projects.get(self.project_id)).label_config or ""

    def send_label_config(self, xml: str) -> None:
        """Replace the project's label config. Label Studio does not ask whether a class that goes is in use."""
        self._ask(
            "PATCH project",
            lambda: self._sdk.projects.update(self.project_id, label_config=xml, request_options=SET),
        )

    def fetch_drafts(self, task_id: int) -> list[Draft]:
        """Return what people began on a task and did not submit, everybody's."""

        def read() -> Any:
            # The SDK has no call for it, and the list of tasks has one's own drafts alone.
            client = self._sdk._client_wrapper.httpx_client
            answer = client.request(f"api/tasks/{task_id}/drafts", method="GET")
            answer.raise_for_status()
            return answer.json()

        return [
            Draft(one["id"], task_id, tuple(one.get("result") or ()))
            for one in self._ask(f"GET drafts of task {task_id}", read)
            if isinstance(one, Mapping)
        ]
