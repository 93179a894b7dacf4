"""What the report tells of a project: who said what, and what counts without anybody having said it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from labels.geometry import Box
from labels.results import Label
from sync.jobs.context import Context
from sync.jobs.datasets.import_labels import Wish, ingest_labels
from sync.jobs.datasets.reviewed import choose_reviewed
from sync.jobs.exchange.pull import pull
from sync.jobs.exchange.push import push
from sync.models.candidate import Candidate, candidates_dir
from sync.reporting.facts import Unsubmitted, find_learned, find_unsubmitted
from sync.settings import Home
from tests.fakes.detectors import make_version
from tests.fakes.pictures import write_picture
from tests.fakes.project import SIZE, open_fake_project
from tests.sync.test_imports import XML

DRAWN = Label("a" * 24, "label", ("dog",), Box(10, 10, 20, 30))


def test_imported_labels_have_a_line_of_their_own_until_somebody_submits_the_image(tmp_path: Path):
    folder, labels = tmp_path / "photos", tmp_path / "annotations"
    labels.mkdir()
    for number, name in enumerate("abcd"):
        write_picture(folder / f"{name}.png", number)
    for name in "abc":
        values = {"width": SIZE.width, "height": SIZE.height, "label": "car", "box": (1, 2, 30, 40)}
        (labels / f"{name}.xml").write_text(XML.format(name=f"{name}.png", **values))
    with open_fake_project(images=0) as project:
        ingest_labels(project.context, Wish(folder, labels))
        by_name = {one.image.path.stem: key for key, one in project.dataset.samples.items()}
        project.dataset.curate(by_name["d"], [DRAWN, replace(DRAWN, id="b" * 24)])
        push(project.context)
        assert tell(project.context) == [
            Unsubmitted("imported from annotations", 3, 3),
            Unsubmitted("drawn in FiftyOne, or imported without a label", 1, 2),
        ]

        project.annotator.submit(project.task_ids()[by_name["b"]], [])
        pull(project.context)
        assert tell(project.context)[0] == Unsubmitted("imported from annotations", 2, 2)


def test_a_trained_model_is_told_with_the_images_it_learned_from_and_not_with_its_whole_version(tmp_path: Path):
    version, home = make_version(tmp_path / "pictures", test=1, val=1, train=5), Home(tmp_path / "home")
    for name, counts in (("part", {"train images": 2, "train labels": 3}), ("unknown", {})):
        folder = candidates_dir(home) / name
        candidate = Candidate(name, folder, "trained", version.id, "x.pt", "ultralytics", ("car",), 0)
        replace(candidate, model_version=name, counts=counts).write()

    learned = {one.model_version: (one.images, one.labels) for one in find_learned(home, [version], ())}

    assert learned == {"part": (2, 3), "unknown": (5, 5)}


def tell(context: Context) -> list[Unsubmitted]:
    return [*find_unsubmitted(context, choose_reviewed(context).chosen, context.ledger.reviews())]
