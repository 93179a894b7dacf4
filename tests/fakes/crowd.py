"""People at work at random, on the real tools or those in memory: they draw, change, answer, and the oracle is told."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from labels.geometry import Box
from labels.results import Label
from sync.jobs.context import Context
from tests.fakes.oracle import Oracle, View
from tests.fakes.people import EDITS, Annotator, edit_regions
from tests.fakes.project import CONFIG, SIZE

CLASSES = ("car", "dog", "bus")


class Site(Protocol):
    """A project people work on: ``FakeProject``, or ``FreshProject`` on the real tools."""

    @property
    def context(self) -> Context: ...

    @property
    def annotator(self) -> Annotator: ...

    def task_ids(self) -> dict[str, int]: ...

    def view(self) -> View: ...

    def add_images(self, number: int, model_version: str) -> list[str]: ...


@dataclass
class Crowd:
    """Annotators and curators of one project. ``drawn`` counts the labels they made or changed."""

    project: Site
    oracle: Oracle
    rng: random.Random
    drawn: int = 0
    _ids: int = field(default=0)

    @property
    def annotator(self) -> Annotator:
        return self.project.annotator

    def act(self, times: int) -> None:
        """Do as many things, at either end."""
        for _ in range(times):
            self.rng.choice((self.curate, self.submit, self.edit, self.edit, self.skip))()

    def curate(self) -> None:
        """Draw, change or delete a label in the catalogue, or answer a question."""
        dataset = self.project.context.dataset
        sample_id = self.rng.choice(dataset.sample_ids())
        said: Any = dataset.labels([sample_id]).get(sample_id)
        labels = list(said.labels) if said else []
        boxes = [label for label in labels if label.control == "label"]
        changes: list[Callable[[], list[Label]]] = [lambda: [*labels, self._draw()], lambda: self._answer(labels)]
        if boxes:
            one = self.rng.choice(boxes)
            others = [label for label in labels if label is not one]
            changes += [
                lambda: [*others, replace(one, classes=(self.rng.choice(CLASSES),))],
                lambda: [*others, replace(one, geometry=Box(self.rng.randrange(60), 40, 21, 16))],
                lambda: others,
            ]
        dataset.write_labels({sample_id: self.rng.choice(changes)()})
        self.drawn += 1
        self.oracle.curated(sample_id, self.project.view())

    def submit(self) -> None:
        """Submit the shown prediction, changed."""
        tasks = self.project.task_ids()
        if tasks:
            task = self.annotator.read(self.rng.choice(sorted(tasks.values())))
            assert task is not None
            shown = task.predictions[-1] if task.predictions else None
            regions = self._edited([dict(region) for region in shown.result] if shown else [])
            made_from = shown.prediction_id if shown else None
            self.oracle.people[self.annotator.submit(task.task_id, regions, parent_prediction=made_from)] = (
                regions,
                False,
            )

    def edit(self) -> None:
        """Change an annotation, whoever made it; not one that has come this moment, from a job that is dead."""
        known = {*self.oracle.people, *self.oracle.corrections, *self.oracle.sent}
        rows = [row for key, row in self.project.view().annotations.items() if key in known]
        rows = [row for row in rows if not row["was_cancelled"]]
        if rows:
            row = self.rng.choice(rows)
            regions = self._edited(list(row["result"]))
            self.annotator.edit(row["id"], regions)
            self.oracle.people[row["id"]] = (regions, False)

    def disagree(self, times: int) -> None:
        """Give a label of a reviewed sample one class in the catalogue and another in Label Studio."""
        context = self.project.context
        links = [link for link in context.ledger.links().values() if link.annotation_id is not None]
        for link in self.rng.sample(links, min(times, len(links))):
            task, said = self.annotator.read(link.task_id), context.dataset.labels([link.sample_id])
            review = task.review if task is not None else None
            held: Any = said.get(link.sample_id)
            if review is None or review.is_skip or held is None:
                continue
            regions = json.loads(json.dumps(list(review.result)))
            boxes = {region["id"]: region for region in regions if region["from_name"] == "label"}
            shared = [label for label in held.labels if label.id in boxes]
            if not shared:
                continue
            one = self.rng.choice(shared)
            ours, theirs = self.rng.sample([name for name in CLASSES if (name,) != one.classes], 2)
            labels = [replace(label, classes=(ours,)) if label is one else label for label in held.labels]
            context.dataset.write_labels({link.sample_id: labels})
            self.oracle.curated(link.sample_id, self.project.view())
            boxes[one.id]["value"]["rectanglelabels"] = [theirs]
            self.annotator.edit(review.annotation_id, regions)
            self.oracle.people[review.annotation_id] = (regions, False)
            self.drawn += 2

    def skip(self) -> None:
        """Pass a task on."""
        tasks = self.project.task_ids()
        if tasks:
            self.oracle.people[self.annotator.skip(self.rng.choice(sorted(tasks.values())))] = ([], True)

    def _edited(self, regions: list[dict[str, Any]]) -> list[dict[str, Any]]:
        self.drawn += 1
        copied = json.loads(json.dumps(regions))
        edit = self.rng.choice([name for name in EDITS if name != "empty"])
        return edit_regions(copied, edit, self.rng.randrange(30), CONFIG, SIZE, self._new_id())

    def _draw(self) -> Label:
        return Label(self._new_id(), "label", (self.rng.choice(CLASSES),), Box(self.rng.randrange(60), 10, 20, 15))

    def _answer(self, labels: list[Label]) -> list[Label]:
        answer = Label(self._new_id(), "quality", (self.rng.choice(("keep", "trash")),))
        return [*(one for one in labels if one.control != "quality"), answer]

    def _new_id(self) -> str:
        self._ids += 1
        return f"d{self._ids:023x}"
