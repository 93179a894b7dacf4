"""A better model takes over while people are being answered: the real ML backend, Label Studio and MongoDB."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import requests

from labels.config import LabelConfig
from ml_backend.models.weights import compute_version
from sync.backend import MLBackend
from sync.jobs.context import Context
from sync.jobs.exchange.prelabel import prelabel
from sync.jobs.exchange.pull import pull
from sync.jobs.exchange.push import push
from sync.jobs.models.evaluate import evaluate
from sync.jobs.models.promote import promote
from sync.jobs.models.rollback import rollback
from sync.media import MediaRoots, link_folder
from sync.models.registry import Registry
from sync.services.ports import find_free_port
from sync.settings import Home, Project
from sync.versions.manifest import write_version
from tests.e2e.conftest import RunningStack
from tests.e2e.fresh_project import FreshProject, open_fresh_project
from tests.fakes import classifiers
from tests.fakes.detectors import XML, make_version, write_detector

PASSWORD = "promotion password"
START_S = 120.0
IMAGES = 6
ASKERS = 4


@dataclass
class Served:
    """An ML backend of the test's own, started anew on the same folder of models."""

    home: Home
    model: str
    process: subprocess.Popen[bytes] | None = None
    url: str = ""
    runtime: str = "onnx"

    def start(self) -> None:
        port = find_free_port()
        self.url = f"http://127.0.0.1:{port}"
        environment = {
            **os.environ,
            "LABELLOOP_HOME": str(self.home.path),
            "LABELLOOP_PORT": str(port),
            "LABELLOOP_MODEL": self.model,
            "LABELLOOP_MODELS_DIR": str(self.home.models),
            "LABELLOOP_MEDIA_ROOT": str(self.home.media),
            "LABELLOOP_ML_BACKEND_PASSWORD": PASSWORD,
            "LABELLOOP_OFFLINE": "1",
            "LABELLOOP_RUNTIME": self.runtime,
        }
        log = self.home.logs / "ml-backend.log"
        with log.open("ab") as output:
            command = [sys.executable, "-P", "-m", "ml_backend"]
            self.process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        deadline = time.monotonic() + START_S
        while not self._is_ready():
            assert self.process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.1)

    def _is_ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/ready", timeout=10).ok
        except requests.ConnectionError:
            return False

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)

    def close(self) -> None:
        self.stop()

    def read_version(self) -> str:
        return MLBackend(self.url, PASSWORD).fetch_model_version()


@dataclass
class Asker:
    """Somebody who opens one task after the other, and keeps what was answered."""

    url: str
    body: dict[str, Any]
    stop: threading.Event
    answers: list[tuple[int, list[str], list[Any]]] = field(default_factory=list)

    def run(self) -> None:
        while not self.stop.is_set():
            answer = requests.post(f"{self.url}/predict", json=self.body, auth=("labelloop", PASSWORD), timeout=60)
            body = answer.json()
            versions = [result["model_version"] for result in body.get("results", ()) if result]
            self.answers.append((answer.status_code, versions, body.get("errors", [body])))


@dataclass(frozen=True)
class Place:
    """A project on the running tools with a home, a backend and a frozen version of its own."""

    project: FreshProject
    context: Context
    served: Served
    old: str
    better: Path


@pytest.fixture
def place(stack: RunningStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("LABELLOOP_OFFLINE", "1")
    home = Home(tmp_path / "home")
    home.make()
    home.label_config.write_text(XML, encoding="utf-8")
    write_version(home, make_version(tmp_path / "pictures", test=40))
    old = write_detector(tmp_path / "old.onnx", errs_by=5.0)
    served = Served(home, str(old))
    config = LabelConfig.from_xml(XML)
    with (
        closing(served),
        open_fresh_project(stack, tmp_path, images=IMAGES, config=config, draw=False) as project,
    ):
        served.start()
        link_folder(home, (tmp_path / "images").resolve())
        chosen = replace(project.context.project, model=str(old))
        chosen.write(home)
        context = replace(project.context, home=home, project=chosen, backend=MLBackend(served.url, PASSWORD))
        better = write_detector(tmp_path / "better.onnx", errs_by=1.0)
        yield Place(project, context, served, compute_version(old), better)


@contextmanager
def asking(place: Place) -> Iterator[list[Asker]]:
    """Have several people ask without a pause, until the block ends."""
    roots = MediaRoots.read(place.context.home)
    images = place.context.dataset.images()
    tasks = [
        {"id": number, "data": {"image": roots.to_url(image.path), "sample_id": sample_id}}
        for number, (sample_id, image) in enumerate(images.items())
    ]
    stop = threading.Event()
    bodies = [{"tasks": [task], "label_config": XML} for task in tasks[:ASKERS]]
    askers = [Asker(place.served.url, body, stop) for body in bodies]
    threads = [threading.Thread(target=asker.run) for asker in askers]
    for thread in threads:
        thread.start()
    try:
        yield askers
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)


def test_a_model_takes_over_without_a_dropped_request_and_goes_back_again(place: Place) -> None:
    context, old, new = place.context, place.old, compute_version(place.better)
    assert prelabel(context).moved == IMAGES
    push(context)
    (first, *_) = place.project.task_ids().items()
    place.project.submit(first[1], lambda regions: regions)
    pull(context)

    with asking(place) as askers:
        report = promote(context, candidate=str(place.better), by="ana")
        time.sleep(0.3)

    assert report.moved == 1, list(report.lines())
    for asker in askers:
        assert [answer for answer in asker.answers if answer[0] != 200 or answer[2]] == []
        versions = [version for _, found, _ in asker.answers for version in found]
        assert len(versions) == len(asker.answers) > 10
        # Once the new one answers, the old one never does again.
        assert versions == [old] * versions.count(old) + [new] * versions.count(new)
        assert {versions[0], versions[-1]} == {old, new}

    # What waits is what the console starts: all but the reviewed sample is drawn anew, and shown.
    (run,) = [run for run in context.ledger.runs(5) if run.job == "prelabel" and run.state == "queued"]
    drawn = prelabel(context, **context.ledger.run_params(run.id))
    versions = context.dataset.prediction_versions(context.dataset.sample_ids())
    assert drawn.moved == IMAGES - 1
    assert versions == {sample_id: old if sample_id == first[0] else new for sample_id in versions}
    assert context.label_studio.fetch_model_version() == new

    # A restart as of ``labelloop up``, which tells the backend the project's model, goes on with it.
    place.served.stop()
    place.served.model = read_model(context)
    place.served.start()
    assert (place.served.model, place.served.read_version()) == (new, new)
    back = replace(context, backend=MLBackend(place.served.url, PASSWORD))
    assert rollback(back, by="ben").moved == 1
    assert (place.served.read_version(), read_model(back)) == (old, old)
    assert Registry(context.home).ids() == sorted([old, new])


def read_model(context: Context) -> str:
    project = Project.read(context.home)
    assert project is not None
    return project.model


def test_what_is_right_and_wrong_is_shown_to_the_curator(stack: RunningStack, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.make()
    model = write_detector(tmp_path / "better.onnx", errs_by=1.0)
    with open_fresh_project(stack, tmp_path, images=IMAGES, config=LabelConfig.from_xml(XML)) as project:
        context, dataset = replace(project.context, home=home), project.fiftyone
        assert push(project.context).moved == IMAGES
        for task_id in project.task_ids().values():
            project.submit(task_id, lambda regions: regions)
        assert pull(project.context).moved == IMAGES
        freeze(context)
        before = context.dataset.labels()

        for _ in range(2):  # again, nothing piles up
            report = evaluate(context, model=str(model), version="v9", with_fields=True)

            assert report.is_clean, list(report.lines())
            dataset.reload()
            assert dataset.list_evaluations() == ["evaluation"]
            assert dataset.count("evaluated.detections") == IMAGES
        said = dataset.count_values("evaluated.detections.evaluation")
        assert sum(said.values()) == IMAGES
        misses = dataset.count_values("ground_truth.detections.evaluation")["fn"]
        wrong = dataset.load_saved_view("wrong in evaluation").values(["evaluation_fp", "evaluation_fn"])
        assert sum(map(sum, wrong)) == said["fp"] + misses > 0
        assert context.dataset.labels() == before


def test_the_first_classifier_of_a_project_answers_and_is_shown_to_the_curator(
    stack: RunningStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABELLOOP_OFFLINE", "1")
    home = Home(tmp_path / "home")
    home.make()
    home.label_config.write_text(classifiers.XML, encoding="utf-8")
    write_version(home, classifiers.make_answer_version(tmp_path / "pictures", test=40))
    detector = write_detector(tmp_path / "boxes.onnx", errs_by=1.0)
    good = classifiers.write_classifier(tmp_path / "good.safetensors", classifiers.RIGHT)
    served = Served(home, str(detector), runtime="auto")
    config = LabelConfig.from_xml(classifiers.XML)
    with (
        closing(served),
        open_fresh_project(stack, tmp_path, images=IMAGES, config=config, draw=False) as project,
    ):
        served.start()
        link_folder(home, (tmp_path / "images").resolve())
        chosen = replace(project.context.project, model=str(detector))
        chosen.write(home)
        context = replace(project.context, home=home, project=chosen, backend=MLBackend(served.url, PASSWORD))
        # The detector has nothing to say here, and keeps nobody from working.
        assert (prelabel(context).moved, push(context).moved) == (0, IMAGES)

        assert promote(context, candidate=str(good), by="ana").moved == 1
        assert prelabel(context, unreviewed=True).moved == IMAGES
        tasks = context.label_studio.fetch_tasks(list(project.task_ids().values()))
        shown = [region for task in tasks for region in task.predictions[-1].result]
        assert {(region["type"], region["from_name"]) for region in shown} == {("choices", "flower")}
        assert context.label_studio.fetch_model_version() == compute_version(good)

        for task_id in project.task_ids().values():
            project.submit(task_id, lambda regions: [say(region, "tulip") for region in regions])
        assert pull(context).moved == IMAGES
        freeze(context, number=9, xml=classifiers.XML)
        report = evaluate(context, model=compute_version(good), version="v9", with_fields=True)
        assert report.is_clean, list(report.lines())
        project.fiftyone.reload()
        wrong = project.fiftyone.load_saved_view("wrong in evaluation")
        shown_by_sample = project.fiftyone.values("evaluated.label")
        assert len(wrong) == sum(name != "tulip" for name in shown_by_sample) > 0
        assert set(project.fiftyone.values("flower.label")) == {"tulip"}
        assert rollback(context, by="ben").moved == 1
        assert served.read_version() == compute_version(detector)


def say(region: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a region of a Choices that says something else."""
    return region | {"value": region["value"] | {"choices": [name]}}


def freeze(context: Context, *, number: int = 9, xml: str = XML) -> None:
    """Freeze what is reviewed, all of it for the test."""
    from sync.versions.manifest import compute_content_sha256
    from sync.versions.version import Version, VersionImage, VersionLabel

    labels, images = context.dataset.labels(), context.dataset.images()
    frozen = tuple(
        VersionImage(
            sample_id,
            image.path,
            image.sha256,
            image.size,
            "test",
            labels=tuple(VersionLabel(one) for one in labels[sample_id].labels),  # type: ignore[union-attr]
        )
        for sample_id, image in images.items()
    )
    draft = Version(f"v{number}-00000000", "", context.dataset.name, ("car", "dog"), xml, frozen)
    digest = compute_content_sha256(draft)
    write_version(context.home, replace(draft, id=f"v{number}-{digest[:8]}", content_sha256=digest))
