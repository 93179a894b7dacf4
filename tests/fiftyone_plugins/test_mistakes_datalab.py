"""What cleanlab's Datalab says of labelled images, in our scores, and where it stands in the list."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fiftyone_plugins.app.work import Tools, find_work
from fiftyone_plugins.mistakes import datalab
from fiftyone_plugins.mistakes.datalab import Issues, describe_dataset, find_issues
from fiftyone_plugins.mistakes.deciding import keep
from fiftyone_plugins.mistakes.decisions import Decisions
from fiftyone_plugins.mistakes.image_labels import predict_out_of_sample
from fiftyone_plugins.mistakes.panel import read_list
from fiftyone_plugins.mistakes.ranking import CLASS, DATALAB, Finding
from labels.errors import LabelingError
from labels.report import Report
from tests.fiftyone_plugins.planted_mistakes import embed_as, write_picture
from tests.fiftyone_plugins.test_review_operators import resolve_form

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

FIND = "@labelloop/mistakes/find_mistakes"
COUNT, FLIPPED, COPY, OF, ODD = 60, 0, 10, 11, 20
NAMES = ["daisy", "rose", "tulip"]


def make_vectors() -> NDArray[np.float32]:
    """Return three groups of vectors in a mixed order; one is a copy of another, one like no other."""
    random = np.random.default_rng(7)
    vectors = np.eye(3, 12)[np.arange(COUNT) % 3] * 4 + random.normal(0, 0.5, (COUNT, 12))
    vectors[COPY] = vectors[OF]
    vectors[ODD] = -4 * np.ones(12)
    return np.asarray(vectors, np.float32)


def make_labels() -> list[str]:
    labels = [NAMES[number % 3] for number in range(COUNT)]
    labels[COPY], labels[FLIPPED] = labels[OF], "tulip"
    return labels


def ask(vectors: Any = None) -> list[Issues]:
    probabilities, classes = predict_out_of_sample(make_vectors(), make_labels())
    return find_issues(make_labels(), probabilities, classes, vectors)


def test_copies_and_outliers_are_found_and_named_with_scores_that_grow_with_the_doubt() -> None:
    found = ask(make_vectors())
    assert [row for row, one in enumerate(found) if "near_duplicate" in one.issues] == [COPY, OF]
    assert (found[COPY].twin, found[OF].twin) == (OF, COPY)
    assert found[COPY].scores["near_duplicate"] == pytest.approx(1, abs=1e-4)
    assert max(range(COUNT), key=lambda row: found[row].scores["outlier"]) == ODD
    assert "outlier" in found[ODD].issues
    assert max(range(COUNT), key=lambda row: found[row].scores["label"]) == FLIPPED
    assert all(0 <= score <= 1 for one in found for score in one.scores.values())
    assert "Datalab, near_duplicate: 2 images" in describe_dataset(found)


def test_without_vectors_nothing_is_said_of_neighbours() -> None:
    found = ask()
    assert "near_duplicate" not in found[COPY].scores
    assert found[COPY].twin is None
    assert max(range(COUNT), key=lambda row: found[row].scores["label"]) == FLIPPED


@pytest.fixture
def flowers(fiftyone: Any, tmp_path: Path) -> Iterator[Any]:
    """Images with a class each, and embeddings."""
    dataset = fiftyone.Dataset()
    samples = [
        fiftyone.Sample(filepath=write_picture(tmp_path, number), kind=fiftyone.Classification(label=label))
        for number, label in enumerate(make_labels())
    ]
    dataset.add_samples(samples, progress=False)
    embed_as(dataset, tmp_path, make_vectors())
    yield dataset
    dataset.delete()


def run(flowers: Any, tmp_path: Path, **params: Any) -> Report:
    report = find_work("mistakes").perform(flowers, {"labels": "kind", **params}, Tools(tmp_path))
    flowers.reload()
    return report


def list_kinds(flowers: Any) -> list[tuple[str, str, str]]:
    return [(one.kind, Path(one.filepath).stem, one.reason) for one in read_list(flowers)]


def test_its_issues_stand_in_the_list_until_they_are_kept(
    flowers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABELLOOP_HOME", str(tmp_path / "home"))
    run(flowers, tmp_path)
    assert flowers.values("mistake_datalab.score") == [None] * COUNT
    assert DATALAB not in {kind for kind, *_ in list_kinds(flowers)}
    before = flowers.values("mistakenness")

    report = run(flowers, tmp_path, datalab=True)
    assert report.failed == ()
    assert "Datalab, near_duplicate: 2 images" in report.notes
    assert flowers.values("mistakenness") == before
    listed = list_kinds(flowers)
    assert (DATALAB, str(COPY), f"nearly the same as {OF}.jpg") in listed
    assert (CLASS, str(FLIPPED)) in {(kind, stem) for kind, stem, _ in listed}
    assert run(flowers, tmp_path, datalab=True).moved == 0

    (copy,) = (one for one in read_list(flowers) if (one.kind, Path(one.filepath).stem) == (DATALAB, str(COPY)))
    keep(flowers, tmp_path / "home" / "curation", copy)
    assert (DATALAB, str(COPY)) not in {(kind, stem) for kind, stem, _ in list_kinds(flowers)}


def test_what_was_kept_of_one_issue_says_nothing_of_another(tmp_path: Path) -> None:
    outlier = Finding("a" * 24, "/a.jpg", None, DATALAB, 0.9, "", label="outlier")
    Decisions(tmp_path, "flowers").keep(outlier)
    (kept,) = Decisions(tmp_path, "flowers").kept()["a" * 24]
    assert kept.covers(outlier)
    assert not kept.covers(Finding("a" * 24, "/a.jpg", None, DATALAB, 0.9, "", label="near_duplicate"))


def test_it_is_refused_for_boxes(fiftyone: Any, tmp_path: Path) -> None:
    dataset = fiftyone.Dataset()
    dataset.add_sample(fiftyone.Sample(filepath="/a.jpg", ground_truth=fiftyone.Detections()))
    with pytest.raises(LabelingError, match="Datalab looks at classes of whole images, not at boxes"):
        find_work("mistakes").perform(dataset, {"datalab": True}, Tools(tmp_path))
    dataset.delete()


def test_where_it_is_not_installed_form_and_job_say_how_to_get_it(
    fiftyone: Any, flowers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datalab, "NEEDED", "no_such_package")
    with pytest.raises(LabelingError, match=r"pip install 'cleanlab\[datalab\]'"):
        run(flowers, tmp_path, datalab=True)
    assert datalab.HOW_TO_GET_IT in str(resolve_form(fiftyone, FIND, flowers, params={"labels": "kind"}))
