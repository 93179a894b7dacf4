"""Measuring, proposing, deciding and taking back, on the real database."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from fiftyone_plugins.app.work import Tools, find_work
from fiftyone_plugins.embeddings.items import read_items
from fiftyone_plugins.embeddings.store import EmbeddingStore, Key
from fiftyone_plugins.quality.aesthetic_training import compute_emd, train_head
from fiftyone_plugins.quality.aesthetics import Head, compute_mean, read_histograms
from fiftyone_plugins.quality.proposals import Rules, Scored, propose
from labels.errors import LabelingError
from labels.report import Report
from tests.fiftyone_plugins.test_quality_checks import make_large_photo, make_photo

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # FiftyOne's own

GOOD, BLURRED, BLACK, BROKEN, GONE = range(5)


@pytest.fixture
def photos(fiftyone: Any, tmp_path: Path) -> Iterator[Any]:
    """A good photo, a blurred one, a black one, a broken file, and one that is not there."""
    dataset = fiftyone.Dataset("quality")
    paths = [tmp_path / "photos" / f"{number}.png" for number in range(5)]
    paths[0].parent.mkdir()
    make_large_photo().save(paths[GOOD])
    make_large_photo().filter(ImageFilter.GaussianBlur(9)).save(paths[BLURRED])
    Image.new("RGB", (1200, 750)).save(paths[BLACK])
    paths[BROKEN].write_bytes(b"\x89PNG broken")
    dataset.add_samples([fiftyone.Sample(filepath=str(path)) for path in paths], progress=False)
    yield dataset
    dataset.delete()


@pytest.fixture
def tools(tmp_path: Path) -> Tools:
    return Tools(tmp_path / "curation")


def run(samples: Any, tools: Tools, job: str, **params: Any) -> Report:
    report = find_work(job).perform(samples, params, tools)
    samples._dataset.reload()
    return report


def test_every_image_is_measured_once_and_only_new_ones_the_next_time(photos: Any, tools: Tools) -> None:
    first = run(photos, tools, "quality")
    second = run(photos, tools, "quality")
    every = run(photos, tools, "quality", everything=True)

    assert (first.moved, second.moved, every.moved) == (4, 0, 4)
    assert [(Path(one.item).name, one.problem, one.sample_id) for one in first.failed] == [
        ("4.png", "is no file", photos.values("id")[GONE])
    ]
    assert photos.values("quality_corrupt") == [0.0, 0.0, 0.0, 1.0, None]
    assert photos.values("quality_blurry")[BROKEN] is None
    assert photos.values("quality_proposal") == ["keep", "trash", "trash", "trash", None]
    assert photos.values("quality_reason")[BROKEN] == "corrupt 1.00"
    assert first.details["proposed as trash"] == 3


def test_what_ends_the_progress_ends_the_work_and_the_next_run_goes_on(photos: Any, tools: Tools) -> None:
    class CancelledError(Exception):
        pass

    def cancel(done: float | None, message: str) -> None:
        if "proposing" in message:
            raise CancelledError

    with pytest.raises(CancelledError):
        run(photos, Tools(tools.folder, cancel), "quality")

    photos.reload()
    assert photos.values("quality_corrupt") == [0.0, 0.0, 0.0, 1.0, None]
    assert photos.values("quality_proposal") == [None] * 5
    assert run(photos, tools, "quality").moved == 0
    assert photos.values("quality_proposal") == ["keep", "trash", "trash", "trash", None]


def test_trash_is_a_tag_that_is_logged_and_taken_back(photos: Any, tools: Tools) -> None:
    run(photos, tools, "quality")
    would = run(photos, tools, "quality_decide", dry_run=True)
    assert (would.moved, photos.count_sample_tags()) == (3, {})

    decided = run(photos, tools, "quality_decide")
    again = run(photos, tools, "quality_decide")
    assert (decided.moved, again.moved, photos.count_sample_tags()) == (3, 0, {"trash": 3})
    assert decided.notes == ("to take it back: labelloop quality --undo trash-1",)
    assert len(photos) == 5

    undone = run(photos, tools, "quality_undo", run="trash-1")
    assert (undone.moved, photos.count_sample_tags()) == (3, {})
    with pytest.raises(LabelingError, match="trash-1: was taken back already"):
        run(photos, tools, "quality_undo", run="trash-1")
    with pytest.raises(LabelingError, match="there is no decision to take back"):
        run(photos, tools, "quality_undo")


def test_taking_back_leaves_a_tag_that_a_person_gave_before(photos: Any, tools: Tools) -> None:
    run(photos, tools, "quality")
    photos.select(photos.values("id")[BLACK]).tag_samples("trash")
    assert run(photos, tools, "quality_decide").moved == 2
    run(photos, tools, "quality_undo")

    assert photos.match_tags("trash").values("id") == [photos.values("id")[BLACK]]


def test_a_person_stands_above_a_proposal(fiftyone: Any, photos: Any, tools: Tools) -> None:
    ids = photos.values("id")
    photos.select(ids[BLACK]).tag_samples("keep")
    photos.set_values("quality", {ids[BLURRED]: fiftyone.Classification(label="keep")}, key_field="id")
    run(photos, tools, "quality")
    decided = run(photos, tools, "quality_decide")

    assert photos.values("quality_proposal") == ["keep", None, None, "trash", None]
    assert photos.match_tags("trash").values("id") == [ids[BROKEN]]
    assert decided.details["decided by people"] == 2
    assert photos.values("quality.label")[BLURRED] == "keep"


def test_thresholds_decide_what_is_trash_and_a_check_can_be_taken_out(photos: Any, tools: Tools) -> None:
    run(photos, tools, "quality")
    thresholds = {"corrupt": None, "blurry": None, "uniform": None, "low_contrast": None}
    report = run(photos, tools, "quality_decide", thresholds=thresholds, dry_run=True)

    assert report.details["trash for dark"] == 1
    assert report.moved == 1


def test_nothing_is_decided_about_what_was_not_measured(photos: Any, tools: Tools) -> None:
    with pytest.raises(LabelingError, match="no sample was measured yet"):
        run(photos, tools, "quality_decide")


def test_a_view_is_all_that_is_touched(photos: Any, tools: Tools) -> None:
    run(photos.limit(2), tools, "quality")

    assert [score is None for score in photos.values("quality_corrupt")] == [False, False, True, True, True]


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ({"thresholds": {"fuzzy": 0.5}}, "check 'fuzzy' is not known"),
        ({"thresholds": {"dark": 1.5}}, "dark 1.5: expected a number from 0 to 1"),
        ({"below_mean": 11}, "below_mean 11: expected a number from 1 to 10"),
        ({"dry_run": "yes"}, "parameter 'dry_run': expected true or false"),
        ({"delete": True}, "parameter 'delete' is not known"),
    ],
)
def test_what_cannot_be_meant_is_refused(photos: Any, tools: Tools, params: dict[str, Any], problem: str) -> None:
    with pytest.raises(LabelingError, match=problem):
        run(photos, tools, "quality_decide", **params)


# Ratings


def make_votes(generator: np.random.Generator, count: int) -> Any:
    """Return votes (count, 10) round means between 3 and 8."""
    means = generator.uniform(3, 8, count)
    votes = np.exp(-((np.arange(1, 11) - means[:, None]) ** 2) / 3)
    return votes / votes.sum(axis=1, keepdims=True)


def make_vectors(generator: np.random.Generator, votes: Any, noise: float) -> Any:
    """Return vectors of length 1 (n, 32) in which the mean of the votes is hidden under noise."""
    direction, other = np.linalg.qr(generator.normal(size=(32, 2)))[0].T
    vectors = np.outer(compute_mean(votes) - 5.5, direction) + other
    vectors = vectors + noise * generator.normal(size=vectors.shape)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_the_earth_movers_distance_grows_with_how_far_votes_lie_apart() -> None:
    all_on = np.eye(10)

    # By hand: k of the ten sums differ by 1, so it is the root of k / 10.
    assert compute_emd(all_on[[0, 0, 0]], all_on[[0, 3, 9]]) == pytest.approx([0, 0.3**0.5, 0.9**0.5])


def test_a_head_expects_votes_of_images_it_never_saw() -> None:
    generator = np.random.default_rng(4)
    votes = make_votes(generator, 300)
    head = train_head("m", make_vectors(np.random.default_rng(5), votes, 0.05), votes)

    assert head.scores["rank correlation"] > 0.9
    assert head.scores["distance"] < 0.5 * head.scores["distance of the usual votes"]
    new = make_votes(generator, 50)
    means = compute_mean(head.expect(make_vectors(np.random.default_rng(5), new, 0.05)))
    assert np.abs(means - compute_mean(new)).mean() < 0.5


def test_a_head_learns_nothing_where_there_is_nothing_to_learn() -> None:
    votes = make_votes(np.random.default_rng(4), 200)
    vectors = np.random.default_rng(6).normal(size=(200, 32))
    head = train_head("m", vectors / np.linalg.norm(vectors, axis=1, keepdims=True), votes)

    assert abs(head.scores["rank correlation"]) < 0.4


def test_a_head_that_was_kept_says_the_same(tmp_path: Path) -> None:
    votes = make_votes(np.random.default_rng(4), 60)
    vectors = make_vectors(np.random.default_rng(5), votes, 0.1)
    head = train_head("resnet/18@x", vectors, votes)
    head.write(tmp_path)
    kept = Head.read(tmp_path, "resnet/18@x")

    assert kept is not None
    assert np.array_equal(kept.expect(vectors), head.expect(vectors))
    assert Head.read(tmp_path, "another") is None


def write_votes(file: Path, votes: Any) -> Path:
    rows = [{"image_id": str(number), "label": row.tolist()} for number, row in enumerate(votes)]
    file.write_text(json.dumps(rows))
    return file


@pytest.mark.parametrize("row", [{"image_id": "1"}, {"label": [1] * 10}, {"image_id": "1", "label": [0] * 10}, [1]])
def test_votes_that_are_none_are_refused(tmp_path: Path, row: Any) -> None:
    (tmp_path / "votes.json").write_text(json.dumps([row]))

    with pytest.raises(LabelingError, match="entry 0: "):
        read_histograms(tmp_path / "votes.json")


@pytest.fixture
def many(fiftyone: Any, tmp_path: Path, tools: Tools) -> Iterator[Any]:
    """Forty photos named like images of AVA, with embeddings and votes."""
    dataset = fiftyone.Dataset("rated")
    folder = tmp_path / "rated"
    folder.mkdir()
    for number in range(40):
        make_photo(number).resize((80, 50)).save(folder / f"{number}.jpg")
    samples = [fiftyone.Sample(filepath=str(folder / f"{number}.jpg")) for number in range(40)]
    ids = dataset.add_samples(samples, progress=False)
    votes = make_votes(np.random.default_rng(4), 40)
    vectors = make_vectors(np.random.default_rng(5), votes, 0.02).astype(np.float32)
    stamps = [item.stamps[0] for item in read_items(dataset, None)]
    EmbeddingStore(tools.folder, "rated").append(Key("net"), ids[:38], vectors[:38], stamps=stamps[:38])
    write_votes(tmp_path / "votes.json", votes)
    yield dataset
    dataset.delete()


def test_images_are_rated_by_what_was_learnt_from_votes(many: Any, tools: Tools, tmp_path: Path) -> None:
    learnt = run(many, tools, "quality_learn", votes=str(tmp_path / "votes.json"))
    measured = run(many, tools, "quality", below_mean=5)

    means, scores = many.values(["aesthetic_mean", "quality_aesthetic"])
    true = compute_mean(np.array(list(read_histograms(tmp_path / "votes.json").values())))
    assert learnt.moved == 38
    assert measured.details["rated"] == 38
    assert "not rated: 2 images without an embedding of net" in measured.notes
    assert means[38:] == scores[38:] == [None, None]
    assert np.corrcoef(means[:38], true[:38])[0, 1] > 0.8
    assert scores[0] == pytest.approx((10 - means[0]) / 9)
    low = [mean < 5 for mean in means[:38]]
    assert ["rated" in (reason or "") for reason in many.values("quality_reason")[:38]] == low


def test_limits_of_ratings_say_that_nothing_is_rated_and_how_that_is_mended(photos: Any, tools: Tools) -> None:
    run(photos, tools, "quality")

    planned = run(photos, tools, "quality_decide", worst_percent=10, dry_run=True)
    assert any("no image is rated" in note and "quality --learn" in note for note in planned.notes)
    assert not any("rated" in note for note in run(photos, tools, "quality_decide", dry_run=True).notes)


def test_a_trial_of_tagging_says_how_many_were_not_measured(photos: Any, tools: Tools) -> None:
    run(photos.limit(2), tools, "quality")

    planned = run(photos, tools, "quality_decide", dry_run=True)
    assert planned.notes == (f"not measured yet: {len(photos) - 2} of {len(photos)} (labelloop quality measures them)",)


def test_the_worst_part_of_the_ratings_is_trash() -> None:
    samples = [Scored(str(number), {"corrupt": 0.0}, float(number)) for number in range(1, 11)]
    words = [one.word for one in propose(samples, Rules({}, worst_percent=20))]

    assert words == ["trash"] * 2 + ["keep"] * 8


# Examples to learn from


def read_lines(folder: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / "examples.jsonl").read_text().splitlines()]


def read_words(folder: Path) -> dict[str, str]:
    lines = read_lines(folder)
    assert all((folder / line["file"]).resolve() == Path(line["source"]).resolve() for line in lines)
    return {Path(line["source"]).name: line["word"] for line in lines}


def test_examples_come_from_the_checks_without_what_nobody_can_see(photos: Any, tools: Tools, tmp_path: Path) -> None:
    run(photos, tools, "quality")
    out = tmp_path / "examples"
    first = run(photos, tools, "quality_examples", out=str(out))
    content = (out / "examples.jsonl").read_bytes()
    run(photos, tools, "quality_examples", out=str(out))

    assert read_words(out) == {"0.png": "keep", "1.png": "trash", "2.png": "trash"}
    assert first.moved == 3
    assert (out / "examples.jsonl").read_bytes() == content


def test_examples_come_from_votes(many: Any, tools: Tools, tmp_path: Path) -> None:
    votes = tmp_path / "votes.json"
    run(many, tools, "quality_examples", source="votes", votes=str(votes), below_mean=5.5, out=str(tmp_path / "out"))

    words = read_words(tmp_path / "out")
    means = {f"{key}.jpg": compute_mean(row) for key, row in read_histograms(votes).items()}
    assert words == {name: "trash" if mean < 5.5 else "keep" for name, mean in means.items() if abs(mean - 5.5) >= 0.25}


def test_a_folder_of_somebody_else_is_not_written_to(photos: Any, tools: Tools, tmp_path: Path) -> None:
    run(photos, tools, "quality")

    with pytest.raises(LabelingError, match="holds no examples of labelloop"):
        run(photos, tools, "quality_examples", out=str(tmp_path / "photos"))


@pytest.mark.parametrize("copy", [True, False])
def test_examples_written_anew_leave_the_files_of_others_where_they_are(
    photos: Any, tools: Tools, tmp_path: Path, copy: bool
) -> None:
    run(photos, tools, "quality")
    out = tmp_path / "examples"
    run(photos, tools, "quality_examples", out=str(out), copy=copy)
    theirs = [out / "runs" / "best.pt", out / "train" / "keep" / "mine.png", tmp_path / ".examples.old" / "notes.txt"]
    for file in theirs:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"a night's work")
    old = {line["file"] for line in read_lines(out)}
    # The good photo is another one now: its example goes, the new one comes.
    photos.add_sample(photos.first().copy())
    run(photos.skip(1), tools, "quality")
    run(photos.skip(1), tools, "quality_examples", out=str(out), copy=copy)

    new = {line["file"] for line in read_lines(out)}
    assert [file.read_bytes() for file in theirs] == [b"a night's work"] * 3
    assert len(old - new) == len(new - old) == 1
    there = {file.relative_to(out).as_posix() for file in out.rglob("*") if not file.is_dir()}
    assert there == new | {"examples.jsonl", "runs/best.pt", "train/keep/mine.png"}


def test_examples_whose_moving_was_killed_are_ended_by_the_next_run(
    photos: Any, tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(photos, tools, "quality")
    out = tmp_path / "examples"
    for moved in range(1, 8):
        counted = itertools.count(1)

        def move(source: Path, target: Path, last: int = moved, counted: Any = counted) -> None:
            if next(counted) > last:
                raise KeyboardInterrupt
            shutil.move(source, target)

        with monkeypatch.context() as patch:
            patch.setattr("fiftyone_plugins.quality.example_folders.os.replace", move)
            with contextlib.suppress(KeyboardInterrupt):
                run(photos, tools, "quality_examples", out=str(out))
    run(photos, tools, "quality_examples", out=str(out))

    assert read_words(out) == {"0.png": "keep", "1.png": "trash", "2.png": "trash"}


def test_one_word_alone_teaches_nothing(photos: Any, tools: Tools) -> None:
    run(photos.limit(1), tools, "quality")

    with pytest.raises(LabelingError, match="1 images to keep and 0 of trash"):
        run(photos.limit(1), tools, "quality_examples")
