"""What the real tools hold, as ``tests/fakes/oracle.py`` looks at it."""

from __future__ import annotations

from typing import Any

import httpx
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_fixed

from labels.errors import ItemError
from sync.jobs.context import Context
from tests.fakes.model import said_by_labels
from tests.fakes.oracle import View

TASKS_PER_PAGE = 500


def read_view(context: Context, sdk: Any, project_id: int) -> View:
    """Return what Label Studio, FiftyOne and the ledger hold now, asked of each of them."""
    tasks = _fetch_tasks(sdk, project_id)
    said = context.dataset.labels()
    assert not any(isinstance(one, ItemError) for one in said.values())
    labels: dict[str, Any] = {sample_id: said.get(sample_id) for sample_id in context.dataset.sample_ids()}
    return View(
        tasks=[(task["id"], task["data"]["sample_id"]) for task in tasks],
        annotations={row["id"]: row for task in tasks for row in task["annotations"]},
        predictions=[(task["id"], row["model_version"]) for task in tasks for row in task["predictions"]],
        held={key: None if one is None else said_by_labels(one.labels) for key, one in labels.items()},
        label_ids={key: [label.id for label in one.labels] for key, one in labels.items() if one},
        silent={key: None if one is None else one.silent for key, one in labels.items()},
        states={key: state.review_state for key, state in context.dataset.states().items()},
        links=context.ledger.links(),
        conflicts=context.ledger.conflicts(),
    )


def _fetch_tasks(sdk: Any, project_id: int) -> list[dict[str, Any]]:
    """Return the tasks of the project as the server writes them, without labelloop's own reader."""
    found: list[dict[str, Any]] = []
    for page in range(1, 1000):
        params = {"project": project_id, "fields": "all", "page": page, "page_size": TASKS_PER_PAGE}
        body = _fetch(sdk, params)
        found += body["tasks"]
        if len(found) >= body["total"]:
            break
    return [{**task, "annotations": [{**row, "task": task["id"]} for row in task["annotations"]]} for task in found]


@retry(retry=retry_if_exception_type(httpx.HTTPError), stop=stop_after_attempt(5), wait=wait_fixed(1), reraise=True)
def _fetch(sdk: Any, params: dict[str, Any]) -> dict[str, Any]:
    """Return a page of tasks; a Label Studio on SQLite that is too busy is asked again."""
    answer = sdk._client_wrapper.httpx_client.request("api/tasks", method="GET", params=params)
    answer.raise_for_status()
    page: dict[str, Any] = answer.json()
    return page
