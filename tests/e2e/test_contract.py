"""The tools in memory do what the real ones do: one script is played to both, and what each lets see is compared."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labels import fields
from labels.errors import ItemError, LabelingError
from labels.geometry import Box, Polygon
from labels.results import Label, to_result
from sync.catalogue.samples import Reviewer, SampleLabels, SamplePrediction, SampleState
from sync.workbench.label_studio import Annotation, Task, to_timestamp
from tests.e2e.conftest import RunningStack
from tests.e2e.fresh_project import open_fresh_project
from tests.fakes.model import said_by_labels
from tests.fakes.people import Annotator
from tests.fakes.project import CONFIG, SIZE, open_fake_project

IMAGES = 3
ATTEMPTS = 8
VERSIONS = ("fake-1", "fake-2")
UNIQUE = uuid.UUID(int=7)


@dataclass
class Names:
    """Numbers things in the order of their first appearance, so that two servers' ids can be compared."""

    known: dict[Any, str] = field(default_factory=dict)

    def of(self, kind: str, value: Any) -> str | None:
        """Return the name of an id; None stays None."""
        if value is None:
            return None
        return self.known.setdefault((kind, value), f"{kind} {sum(key[0] == kind for key in self.known)}")


@dataclass
class Stage:
    """One pair of tools, and how a curator clears the shapes of a sample there, or its metadata."""

    label_studio: Any
    dataset: Any
    annotator: Annotator
    clear: Callable[[str], None]
    forget_size: Callable[[str], None]
    names: Names = field(default_factory=Names)
    times: dict[str, str] = field(default_factory=dict)
    project_token: str = field(default_factory=lambda: str(uuid.uuid4()))


def box(place: float, name: str = "car", label_id: str = "a" * 24) -> Label:
    return Label(label_id, "label", (name,), Box(place, 10, 20, 15))


def regions(*labels: Label) -> list[dict[str, Any]]:
    return to_result(labels, CONFIG, SIZE)


def prediction(version: str, score: float = 0.5) -> dict[str, Any]:
    return {"model_version": version, "score": score, "result": regions(replace(box(5), confidence=0.5))}


def play_annotations(stage: Stage) -> Iterator[Any]:
    """Do everything to tasks that jobs and annotators do, and yield what is seen after each step."""
    server, person = stage.label_studio, stage.annotator
    tasks: list[dict[str, Any]] = [
        {"data": {"image": f"/data/{number}.png", "sample_id": f"{number}", "image_sha256": "0"}} for number in range(4)
    ]
    tasks[0]["predictions"] = [prediction(VERSIONS[0])]
    tasks[1]["predictions"] = [prediction(VERSIONS[0], 0.0)]
    tasks[1]["annotations"] = [{"result": regions(box(1)), "ground_truth": False, "was_cancelled": False}]
    first, second, third, last = send_whole(server, tasks)
    yield look(stage)
    yield refused(lambda: server.send_model_version("never-sent"))
    server.send_model_version(VERSIONS[0])
    yield look(stage)
    one = person.submit_shown(first)
    yield look(stage)
    person.skip(second)
    yield look(stage)
    two = person.submit(third, [])
    yield look(stage)
    person.edit(two, regions(box(3, "dog"), Label("quality-1", "quality", ("keep",))))
    yield look(stage)
    three = person.submit(third, regions(box(4)))
    person.mark_ground_truth(two)
    yield look(stage)
    person.mark_ground_truth(three)
    yield look(stage)
    person.save_draft(last, regions(box(9)))
    yield look(stage), [stage.names.of("task", one) for one in server.fetch_draft_task_ids()]
    mark = {"unique_id": stage.project_token, "import_id": 2**61 + 5, "parent_id": one}
    four = server.send_annotation(first, regions(box(6)), **mark)
    yield look(stage)
    yield server.send_annotation(first, regions(box(7)), **mark), look(stage)
    until_taken(lambda: server.send_predictions([prediction(VERSIONS[1]) | {"task": first}]))
    yield look(stage)
    person.edit(four[0], regions(box(8)))
    yield look(stage)
    person.delete_annotation(one)
    yield look(stage)
    person.delete_annotation(two)
    person.delete_annotation(three)
    yield look(stage)
    made = person.sdk.predictions.create(task=first, **prediction(VERSIONS[1]))
    yield look(stage)
    server.send_prediction_deletion(made.id)
    server.send_prediction_deletion(made.id)
    yield look(stage)
    yield refused(lambda: person.edit(one, []))
    person.delete_task(second)
    server.send_task_deletion(second)
    yield look(stage)
    yield [stage.names.of("task", ref.task_id) for ref in server.fetch_refs_of([first, second, last])]


def send_whole(server: Any, tasks: list[dict[str, Any]]) -> tuple[int, ...]:
    """Send tasks until all that is on them is kept: with a locked database the real server drops it now and then."""
    for _ in range(ATTEMPTS):
        made = server.send_tasks(tasks)
        if (made.predictions, made.annotations) == (2, 1):
            return tuple(made.task_ids)
        for task_id in made.task_ids:
            server.send_task_deletion(task_id)
    raise AssertionError("Label Studio kept nothing")


def until_taken(call: Callable[[], Any]) -> None:
    """Send something until the server keeps it, for the same reason."""
    for _ in range(ATTEMPTS):
        try:
            return call()
        except LabelingError as error:
            assert "kept 0" in str(error)  # noqa: PT017
    raise AssertionError("Label Studio kept nothing")


def look(stage: Stage) -> dict[str, Any]:
    """Return all that the client lets see, with ids by name, and times as what has moved since the last look."""
    server, names = stage.label_studio, stage.names
    refs = list(server.fetch_task_refs())
    found = [_name_task(stage, task) for task in sorted(_tasks(stage, refs), key=lambda task: int(task.task_id))]
    seen = {f"task {ref.task_id}": ref.updated_at for ref in refs}
    moved = [names.of("task", ref.task_id) for ref in refs if stage.times.get(f"task {ref.task_id}") != ref.updated_at]
    newest = max(ref.updated_at for ref in refs)
    stage.times = seen
    used = {
        names.of("task", one.task_id): (
            sorted(one.versions.values()),
            sorted(str(names.of("prediction", key)) for key in one.used),
        )
        for one in server.fetch_predictions([ref.task_id for ref in refs])
    }
    return {
        # Label Studio's count of predictions falls behind now and then; the predictions themselves are compared below.
        "refs": [(names.of("task", r.task_id), r.sample_id, r.annotations, r.skips) for r in refs],
        "tasks": found,
        "moved": moved,
        "newest": [names.of("task", ref.task_id) for ref in server.fetch_task_refs(changed_since=newest)],
        "counts": (server.fetch_task_count(), server.fetch_changed()[0], server.fetch_changed(newest)[0]),
        "is newest": server.fetch_changed()[1] == newest,
        "after": [names.of("task", ref.task_id) for ref in server.fetch_task_refs(after_id=refs[0].task_id)],
        "shown": server.fetch_model_version(),
        "predictions": used,
    }


def _tasks(stage: Stage, refs: Any) -> list[Task]:
    return list(stage.label_studio.fetch_tasks([ref.task_id for ref in refs]))


def _name_task(stage: Stage, task: Task) -> Any:
    names = stage.names
    predictions = [
        (names.of("prediction", one.prediction_id), one.model_version, one.result)
        for one in sorted(task.predictions, key=lambda one: one.prediction_id)
    ]
    annotations = sorted(task.annotations, key=lambda one: one.annotation_id)
    return names.of("task", task.task_id), predictions, [_name_annotation(stage, one) for one in annotations]


def _name_annotation(stage: Stage, one: Annotation) -> Any:
    names = stage.names
    latest = max(stage.times.values(), default="")
    return replace(
        one,
        annotation_id=names.of("annotation", one.annotation_id),  # type: ignore[arg-type]
        prediction_id=names.of("prediction", one.prediction_id),  # type: ignore[arg-type]
        parent_id=names.of("annotation", one.parent_id),  # type: ignore[arg-type]
        # Whether it was saved after all that was seen before.
        updated_at=str(one.updated_at > latest),
        created_at=str(one.was_saved_again),
    )


def refused(call: Callable[[], Any]) -> str:
    try:
        call()
    except LabelingError as error:
        return type(error).__name__
    except Exception as error:  # noqa: BLE001  the kind of the refusal is what is compared
        return f"{type(error).__name__} {getattr(error, 'status_code', '')}"
    return "taken"


def play_catalogue(stage: Stage) -> Iterator[Any]:
    """Do everything to samples that jobs and curators do, and yield what is seen after each step."""
    dataset = stage.dataset
    a, b, c = dataset.sample_ids()
    labels = [box(1), Label("b" * 24, "outline", ("lake",), Polygon(((1, 1), (9, 1), (5, 7))))]
    yield look_at_samples(stage)
    dataset.write_predictions(
        {a: SamplePrediction("m1", 0.25, (replace(box(2), confidence=0.5),)), b: SamplePrediction("m2", 0.75, ())}
    )
    yield look_at_samples(stage)
    yield [stage.names.of("sample", one) for one in dataset.unsent_ids()]
    yield [stage.names.of("sample", one) for one in dataset.sort_ids([c, a, b, "f" * 24])]
    yield [stage.names.of("sample", one) for one in dataset.undrawn_ids("m1")]
    yield dataset.write_labels({a: labels, b: []})
    yield look_at_samples(stage)
    before = dataset.labels([a, b])
    dataset.write_labels({a: [*labels, Label("c" * 24, "quality", ("keep",)), Label("d" * 24, "stars", rating=4)]})
    yield look_at_samples(stage)
    late = dataset.write_labels({a: [], b: [box(4)], c: [box(5)]}, instead_of={b: before[b]})
    yield [stage.names.of("sample", one) for one in late], look_at_samples(stage)
    stage.clear(a)
    yield look_at_samples(stage)
    dataset.write_states({a: SampleState(fields.CONFLICT, 11), b: SampleState(fields.QUEUED, 12)})
    yield look_at_samples(stage)
    dataset.write_states({a: SampleState(fields.REVIEWED, 11)})
    dataset.write_reviewers({a: Reviewer("ann@example.org", datetime(2026, 1, 2, tzinfo=UTC), 2, 0.5)})
    yield look_at_samples(stage)
    yield [stage.names.of("sample", one) for one in dataset.sent_ids()]
    newest = dataset.newest_change()
    yield newest == max(dataset.changed_at([a, b, c]).values())
    yield [stage.names.of("sample", one) for one in dataset.changed_ids(newest)]
    dataset.write_labels({"f" * 24: [box(1)]})
    yield look_at_samples(stage)
    # An import that speaks of the whole image says nothing about objects, and is remembered by its file.
    dataset.write_labels({c: [Label("e" * 24, "quality", ("keep",))]}, controls={"quality"}, source="scenes")
    yield look_at_samples(stage), dataset.label_sources()
    dataset.write_labels({b: [box(6, label_id="f" * 24)]}, controls={"label"}, source="boxes")
    yield look_at_samples(stage), dataset.label_sources()
    # Cleared with it: of whatever size the image is, nothing can be said any more.
    stage.forget_size(b)
    yield look_at_samples(stage)
    yield [stage.names.of("sample", one) for one in dataset.write_labels({b: [box(7)]})], look_at_samples(stage)
    dataset.write_sizes({b: (SIZE, "0" * 64, 100)})
    dataset.write_reviewers({a: None})
    yield look_at_samples(stage)
    tags = {stage.names.of("sample", key): list(value) for key, value in dataset.field_values("tags").items()}
    yield tags, dataset.field_values("listing")


def look_at_samples(stage: Stage) -> dict[str, Any]:
    """Return all that the dataset lets see, with ids by name, and times as what has moved since the last look."""
    dataset, names = stage.dataset, stage.names
    ids = dataset.sample_ids()
    times = {key: to_timestamp(at) for key, at in dataset.changed_at(ids).items()}
    moved = [names.of("sample", key) for key in ids if stage.times.get(key) not in (None, times[key])]
    stage.times = times
    said = dataset.labels()
    drawn: Mapping[str, SamplePrediction | ItemError] = dataset.predictions()
    states = dataset.states()
    return {
        "samples": [(names.of("sample", key), image.size) for key, image in dataset.images().items()],
        "labels": {names.of("sample", key): _name_labels(one) for key, one in said.items()},
        "predictions": {names.of("sample", key): _name_prediction(one) for key, one in drawn.items()},
        "versions": list(dataset.prediction_versions(ids).values()),
        "states": [(states[key], states[key].is_tagged) for key in ids],
        "moved": moved,
        "counts": (dataset.count(), dataset.label_counts()),
        "incomplete": [names.of("sample", key) for key in dataset.incomplete_images()],
    }


def _name_labels(said: SampleLabels | ItemError) -> Any:
    assert isinstance(said, SampleLabels)
    return said_by_labels(said.labels), said.has_regions, sorted(said.silent), [label.id for label in said.labels]


def _name_prediction(drawn: SamplePrediction | ItemError) -> Any:
    assert isinstance(drawn, SamplePrediction)
    confidences = [label.confidence for label in drawn.labels]
    return drawn.model_version, drawn.uncertainty, said_by_labels(drawn.labels), confidences


def play_both(stack: RunningStack, folder: Path, script: Callable[[Stage], Iterator[Any]]) -> list[tuple[Any, Any]]:
    """Return what is seen of the real tools and of the fakes, step by step."""
    with open_fresh_project(stack, folder, images=IMAGES, config=CONFIG, draw=False) as real:
        context = real.context

        def clear(sample_id: str) -> None:
            for name in (fields.GROUND_TRUTH, fields.GROUND_TRUTH + fields.POLYGONS_SUFFIX):
                real.fiftyone.set_values(name, {sample_id: None}, key_field="id")

        def forget_size(sample_id: str) -> None:
            real.fiftyone.set_values("metadata", {sample_id: None}, key_field="id")

        annotator = Annotator(real.sdk, context.label_studio)
        seen = list(script(Stage(context.label_studio, context.dataset, annotator, clear, forget_size)))
    with open_fake_project(images=IMAGES) as fake:
        dataset = fake.dataset
        expected = list(
            script(
                Stage(fake.context.label_studio, dataset, fake.annotator, dataset.clear_regions, dataset.forget_size)
            )
        )
    return list(zip(seen, expected, strict=True))


def test_the_label_studio_in_memory_does_what_the_real_one_does(stack: RunningStack, tmp_path: Path):
    for number, (real, fake) in enumerate(play_both(stack, tmp_path, play_annotations)):
        assert fake == real, f"step {number}"


def test_the_dataset_in_memory_does_what_the_real_one_does(stack: RunningStack, tmp_path: Path):
    for number, (real, fake) in enumerate(play_both(stack, tmp_path, play_catalogue)):
        assert fake == real, f"step {number}"
