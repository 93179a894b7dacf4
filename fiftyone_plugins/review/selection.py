"""What the review jobs would do to the samples a person means, and their parameters. Knows no operator types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fiftyone_plugins.app.markdown import SampleTask
from fiftyone_plugins.app.targets import MOST_IDS, Target, collect, find_count_problem, offer_targets
from labels.fields import CONFLICT, REVIEW_STATE, REVIEWER, TASK_ID

MANY = 1000

SIDES = {
    "reviewed": "What annotators drew in Label Studio",
    "curated": "What is here, in FiftyOne",
}
STRATEGIES = {
    "uncertainty": "Where the detector is least sure",
    "mistake": "Where a label is likely wrong",
    "diversity": "What differs most from all that was labelled",
    "random": "At random",
}
NUMBERS = ("FloatField", "IntField")
# What these hold is no reason to look at an image.
NO_MEASURES = frozenset({"task_id", "annotators", "uncertainty", "mistakenness"})


@dataclass(frozen=True)
class Plan:
    """How many samples would be sent, and in which state they are now."""

    target: Target
    count: int
    already_sent: int
    conflicts: int

    @property
    def to_send(self) -> int:
        """Samples that become new tasks."""
        return self.count - self.already_sent

    @property
    def summary(self) -> str:
        """What would happen, in one or two sentences.

        >>> Plan("view", 5, already_sent=2, conflicts=0).summary
        '3 samples go to Label Studio as new tasks. 2 were already sent: they get newer pre-labels at most.'
        """
        told = f"{self.to_send:,} samples go to Label Studio as new tasks."
        if self.to_send <= 1:
            told = "1 sample goes to Label Studio as a new task." if self.to_send else "No new task."
        if self.already_sent == 0:
            return told
        kept = "it gets newer pre-labels at most" if self.already_sent == 1 else "they get newer pre-labels at most"
        return f"{told} {_number(self.already_sent, 'was', 'were')} already sent: {kept}."

    @property
    def warnings(self) -> list[str]:
        """What a person should know before sending, each in one sentence."""
        warnings = []
        if self.to_send > MANY:
            warnings.append(f"{self.to_send:,} new tasks are many for annotators to work through.")
        if self.conflicts:
            told = _number(self.conflicts, "of them is in conflict", "of them are in conflict")
            warnings.append(f"{told}: changed on both sides and waiting for a decision. Sending decides nothing.")
        return warnings

    @property
    def problem(self) -> str | None:
        """Why this cannot be sent, or None."""
        if self.count == 0:
            return "Every sample was already sent." if self.target == "dataset" else "There is no sample to send."
        return find_count_problem(self.count, self.target)


def offer_push_targets(dataset: Any, view: Any, selected: Sequence[str]) -> dict[Target, str]:
    """Return the choices that differ, with their labels, the narrowest first."""
    unsent = count_target(dataset, view, selected, "dataset").count
    return offer_targets(dataset, view, selected, f"Everything not sent yet ({unsent:,})")


def count_target(dataset: Any, view: Any, selected: Sequence[str], target: Target) -> Plan:
    """Return what sending a target would mean; asks the database for counts alone."""
    collection = collect(dataset, view, selected, target)
    count, states = len(collection), _count_states(collection)
    sent = sum(states.values())
    if target == "dataset":
        return Plan(target, count - sent, already_sent=0, conflicts=0)
    return Plan(target, count, already_sent=sent, conflicts=states.get(CONFLICT, 0))


def conflicting_ids(dataset: Any, view: Any, selected: Sequence[str]) -> list[str]:
    """Return the samples in conflict among the selected ones, or in the view where none is selected."""
    if not dataset.has_sample_field(REVIEW_STATE):
        return []
    collection = collect(dataset, view, selected, "selected" if selected else "view")
    return [
        str(sample_id)
        for sample_id, state in zip(*collection.values(["id", REVIEW_STATE]), strict=True)
        if state == CONFLICT
    ]


def to_resolve_params(dataset: Any, view: Any, selected: Sequence[str], side: str) -> dict[str, Any]:
    """Return the parameters of the resolve job: each sample in conflict with the side that stays."""
    return {"decisions": dict.fromkeys(conflicting_ids(dataset, view, selected), side)}


def offer_fields(dataset: Any) -> list[str]:
    """Return the fields with a number for each sample that a choice may go by."""
    return sorted(
        name
        for name, field in dataset.get_field_schema().items()
        if type(field).__name__ in NUMBERS and name not in NO_MEASURES
    )


def find_queue_problem(count: Any) -> str | None:
    """Return why so many cannot be queued, or None."""
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        return "Give a number of 1 or more."
    return f"{count:,} are too many for one go (at most {MOST_IDS:,})." if count > MOST_IDS else None


def to_queue_params(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of the queue job from what a form holds; what was left empty is left out.

    >>> to_queue_params({"by": "random", "count": 5, "view": " ", "dry_run": False})
    {'by': 'random', 'count': 5}
    """
    params: dict[str, Any] = {"by": chosen.get("by") or next(iter(STRATEGIES)), "count": chosen["count"]}
    view = (chosen.get("view") or "").strip()
    return params | ({"view": view} if view else {}) | ({"dry_run": True} if chosen.get("dry_run") else {})


def read_tasks(samples: Any) -> list[SampleTask]:
    """Return the tasks of a view, in its order."""
    known = [name for name in (REVIEW_STATE, REVIEWER, TASK_ID) if samples.has_sample_field(name)]
    columns = dict(zip(known, samples.values(known) if known else [], strict=True))
    paths = samples.values("filepath")
    absent: list[None] = [None] * len(paths)
    states, reviewers, task_ids = (columns.get(name, absent) for name in (REVIEW_STATE, REVIEWER, TASK_ID))
    return [
        SampleTask(Path(path).name, state, reviewer, task_id)
        for path, state, reviewer, task_id in zip(paths, states, reviewers, task_ids, strict=True)
    ]


def _count_states(collection: Any) -> Mapping[str, int]:
    """Return the number of samples by review state; those never sent are left out."""
    if not collection.has_sample_field(REVIEW_STATE):
        return {}
    return {state: count for state, count in collection.count_values(REVIEW_STATE).items() if state is not None}


def _number(count: int, one: str, more: str) -> str:
    return f"{count:,} {one if count == 1 else more}"
