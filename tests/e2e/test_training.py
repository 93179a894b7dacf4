"""From reviews in the real Label Studio to a model: frozen, trained in a process of its own, loaded to be served."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from labels.errors import LabelingError
from labels.results import to_result
from ml_backend.models.building import build_detector
from sync.jobs.exchange.pull import pull
from sync.jobs.exchange.push import push
from sync.jobs.models.train import Options, train
from sync.jobs.registry import run_job
from sync.models.candidate import find_of_run, list_candidates
from sync.settings import Home
from sync.versions.manifest import read_version
from tests.e2e.conftest import RunningStack
from tests.e2e.fresh_project import SIZE, open_fresh_project

PARAMS = {"model": "yolo11n.yaml", "epochs": 1, "imgsz": 64, "batch": 4, "device": "cpu", "corrections_weight": 2}


def test_what_people_submitted_becomes_a_model(stack: RunningStack, tmp_path: Path) -> None:
    with open_fresh_project(stack, tmp_path, images=8) as project:
        push(project.context)
        # The stack's own home stays without what is trained here.
        context = replace(project.context, home=Home(tmp_path / "home"))
        with pytest.raises(LabelingError, match="no image is reviewed yet, there is nothing to train on"):
            train(context, Options("yolo11n.yaml"))
        for number, task_id in enumerate(project.task_ids().values()):
            # Every other image is answered with one box less than was drawn.
            project.annotator.submit_shown(task_id, lambda regions, cut=number % 2: regions[cut:])
        pull(project.context)

        report = run_job(context, "train", PARAMS)

        candidate = find_of_run(context.home, context.ledger.runs(1)[0].id)
        assert candidate is not None
        version = read_version(context.home)
        assert (candidate.version_id, candidate.state) == (version.id, "trained")
        assert candidate.classes == context.config.region_classes
        train_images = version.in_split("train")
        assert report.details["train images"] == len(train_images)
        labels = context.dataset.labels([image.sample_id for image in train_images])
        regions = sum(len(to_result(one.labels, context.config, SIZE)) for one in labels.values())  # type: ignore[union-attr]  # all can be read
        assert report.details["train labels"] == regions
        assert 0 < report.details["corrected images"] < len(train_images)
        assert candidate.weights_path is not None
        detector = build_detector(candidate.weights_path, device="cpu")
        assert tuple(detector.names.values()) == candidate.classes
        # The second time there is nothing to do.
        assert run_job(context, "train", PARAMS).unchanged == 1
        assert len(list_candidates(context.home)) == 1
