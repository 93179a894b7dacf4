"""Several people who annotate in one project of the real Label Studio."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.e2e.fresh_project import FreshProject

ADMIN, ANN, BEN = "admin@labelloop.local", "ann@labelloop.local", "ben@labelloop.local"
Regions = list[dict[str, Any]]


def submit_as(project: FreshProject, email: str, task_id: int, change: Callable[[Regions], Regions]) -> int:
    """Submit a task's prediction after a change to its regions, as a person."""
    people = {person.email: person.id for person in project.sdk.users.list()}
    if email not in people:
        made = project.sdk.users.create(email=email, username=email.partition("@")[0])
        people[email] = made.id
    (task,) = project.context.label_studio.fetch_tasks([task_id])
    shown = task.predictions[-1]
    regions = change(json.loads(json.dumps(list(shown.result))))
    answer = project.sdk.annotations.create(
        id=task_id,
        result=regions,
        parent_prediction=shown.prediction_id,
        completed_by=people[email],
        was_cancelled=False,
        lead_time=4.0,
    )
    return int(answer.id)
