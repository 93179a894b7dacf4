"""What an annotator does in Label Studio, by the SDK: the same on the real server and on the fake one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from labels.config import LabelConfig
from labels.geometry import Box, ImageSize
from labels.results import Label, to_result
from sync.workbench.label_studio import LabelStudio, Task

Regions = list[dict[str, Any]]
EDITS: Final = ("none", "move", "relabel", "delete", "add", "empty", "answer")


@dataclass(frozen=True)
class Annotator:
    """Somebody at work in Label Studio. Every action returns as soon as the server has taken it."""

    sdk: Any
    label_studio: LabelStudio

    def read(self, task_id: int) -> Task | None:
        """Return the task as it is now, or None when it is gone."""
        return next(iter(self.label_studio.fetch_tasks([task_id])), None)

    def submit(self, task_id: int, regions: Sequence[Mapping[str, Any]], **values: Any) -> int:
        """Submit an annotation and return its id."""
        answer = self.sdk.annotations.create(
            id=task_id, result=to_plain(regions), was_cancelled=False, lead_time=4.0, **values
        )
        return int(answer.id)

    def submit_shown(self, task_id: int, change: Callable[[Regions], Regions] = lambda regions: regions) -> int:
        """Submit the newest prediction after a change to its regions."""
        (task,) = self.label_studio.fetch_tasks([task_id])
        shown = task.predictions[-1]
        return self.submit(task_id, change(to_plain(shown.result)), parent_prediction=shown.prediction_id)

    def edit(self, annotation_id: int, regions: Sequence[Mapping[str, Any]]) -> None:
        """Change what an annotation says."""
        self.sdk.annotations.update(id=annotation_id, result=to_plain(regions), was_cancelled=False)

    def skip(self, task_id: int) -> int:
        """Pass a task on without an answer."""
        return int(self.sdk.annotations.create(id=task_id, result=[], was_cancelled=True).id)

    def mark_ground_truth(self, annotation_id: int, *, on: bool = True) -> None:
        """Put the star on an annotation, or take it off."""
        self.sdk.annotations.update(id=annotation_id, ground_truth=on)

    def save_draft(self, task_id: int, regions: Sequence[Mapping[str, Any]]) -> None:
        """Leave work unfinished, as the editor does by itself."""
        self.sdk._client_wrapper.httpx_client.request(
            f"api/tasks/{task_id}/drafts", method="POST", json={"result": to_plain(regions), "lead_time": 1}
        )

    def delete_annotation(self, annotation_id: int) -> None:
        """Delete an annotation."""
        self.sdk.annotations.delete(id=annotation_id)

    def delete_task(self, task_id: int) -> None:
        """Delete a task with all it has."""
        self.sdk.tasks.delete(id=str(task_id))


def to_plain(regions: Sequence[Mapping[str, Any]]) -> Regions:
    """Return a copy of the regions that shares nothing with them."""
    copied: Regions = json.loads(json.dumps([dict(region) for region in regions]))
    return copied


def edit_regions(regions: Regions, edit: str, place: int, config: LabelConfig, size: ImageSize, new_id: str) -> Regions:
    """Return the regions after one of ``EDITS``; ``place`` says which box or where, ``new_id`` names what is drawn."""
    boxes = [region for region in regions if region["from_name"] == "label"]
    if edit == "empty":
        return []
    if edit == "answer":
        others = [region for region in regions if region["from_name"] != "quality"]
        return [*others, *to_result([Label(new_id, "quality", ("trash",))], config, size)]
    if edit == "add" or (edit in ("move", "relabel", "delete") and not boxes):
        # Half of the ids are of the kind the editor makes.
        region_id = new_id if place % 2 else f"editor{new_id[-6:]}"
        return [*regions, *to_result([Label(region_id, "label", ("dog",), Box(place, 50, 9, 8))], config, size)]
    if edit == "move":
        boxes[place % len(boxes)]["value"] |= {"x": float(place), "y": 60.0}
    if edit == "relabel":
        boxes[place % len(boxes)]["value"]["rectanglelabels"] = ["bus"]
    if edit == "delete":
        regions.remove(boxes[place % len(boxes)])
    return regions
