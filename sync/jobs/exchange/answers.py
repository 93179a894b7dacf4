"""Which annotations a task had when it was read, and how they are read: what was read the same way is no news. Pure."""

from __future__ import annotations

import hashlib
from typing import cast

from labels import fields
from labels.errors import LabelingError
from sync.ledger import Link
from sync.review.annotators import POLICIES, Policy
from sync.workbench.label_studio import Task, TaskRef


def to_policy(name: str) -> Policy:
    """Return the policy of that name for tasks with several annotations.

    Raises:
        LabelingError: there is none of that name.
    """
    if name not in POLICIES:
        raise LabelingError(f"annotators {name!r} is not known (known: {', '.join(POLICIES)})")
    return cast("Policy", name)


def is_news(ref: TaskRef, link: Link | None) -> bool:
    """Return whether people said something of a task that was not read, or took back what was."""
    if link is None or link.task_updated_at == ref.updated_at:
        return False
    return ref.may_be_answered or link.annotation_id is not None


def name_answers(task: Task, policy: Policy) -> str:
    """Return a short name of all that people said of a task and how it is read: the same name, nothing new."""
    return f"{policy}:{_name_said(task)}"


def is_known(task: Task, link: Link, policy: Policy) -> bool:
    """Return whether all of the task was read before, in this way, and nothing of it waits for a decision."""
    if link.problem is not None or link.state == fields.CONFLICT:
        return False
    if not task.annotations:
        return link.annotation_id is None
    return link.answers == name_answers(task, policy)


def has_same_answers(task: Task, link: Link) -> bool:
    """Return whether people have said nothing of the task since it was read, in whatever way that was."""
    return (link.answers or "").partition(":")[2] == _name_said(task)


def _name_said(task: Task) -> str:
    said = sorted((one.annotation_id, one.updated_at, one.ground_truth, one.is_skip) for one in task.annotations)
    return hashlib.sha256(repr(said).encode()).hexdigest()[:16]
