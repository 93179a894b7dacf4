"""Judging and acting on the real database, with real files and a detector that says what it is told."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fiftyone_plugins.app.work import DrawnBoxes, Tools, find_work
from labels.errors import ItemError, LabelingError
from labels.report import Report

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # FiftyOne's own

SIZE = (200, 100)
# What lies where, and how sure the detector is of a person there; None: the file is broken.
PHOTOS: dict[str, float | None] = {
    "person/sure.jpg": 0.9,
    "person/empty.jpg": 0.0,
    "person/doubt.jpg": 0.3,
    "others/empty.jpg": 0.05,
    "others/sure.jpg": 0.8,
    "others/broken.jpg": None,
}
FALSE = {"person/empty.jpg": "false negative", "others/sure.jpg": "false positive"}


@dataclass
class FakeDetector:
    """Draws a box of a person, as sure as it is told for each file; keeps what it was asked."""

    confidences: dict[str, float | None]
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def __call__(
        self, images: Iterable[Path], *, model: str | None, score_floor: float
    ) -> Iterator[DrawnBoxes | ItemError]:
        for path in images:
            name = f"{path.parent.name}/{path.name}"
            self.asked.append((name, model))
            confidence = self.confidences[name]
            if confidence is None:
                yield ItemError(str(path), "is broken")
                continue
            boxes = [[20, 10, 120, 60]] if confidence >= score_floor else []
            scores = np.array([confidence][: len(boxes)], np.float32)
            xyxy = np.array(boxes, np.float32).reshape(-1, 4)
            yield DrawnBoxes(xyxy, scores, ("person",) * len(boxes), frozenset({"person", "car"}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(PHOTOS):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE, (number * 40, 0, 0)).save(path)
    return tmp_path / "photos"


@pytest.fixture
def photos(fiftyone: Any, folder: Path) -> Iterator[Any]:
    dataset = fiftyone.Dataset("claimed")
    dataset.add_sample_field("task_id", fiftyone.IntField)
    dataset.add_sample_field("source_path", fiftyone.StringField)
    dataset.add_samples([fiftyone.Sample(filepath=str(folder / name)) for name in PHOTOS], progress=False)
    yield dataset
    dataset.delete()


@pytest.fixture
def tools(tmp_path: Path) -> Tools:
    return Tools(tmp_path / "curation", draw=FakeDetector(dict(PHOTOS)))


def run(samples: Any, tools: Tools, job: str, **params: Any) -> Report:
    report = find_work(job).perform(samples, params, tools)
    samples._dataset.reload()
    return report


def judge(samples: Any, tools: Tools, claim: str = "folder", **params: Any) -> Report:
    return run(samples, tools, "clean", classes=["person"], claim=claim, **params)


def name_of(path: str | Path) -> str:
    return "/".join(Path(path).parts[-2:])


def read_by_name(dataset: Any, name: str) -> dict[str, Any]:
    return {name_of(path): value for path, value in zip(*dataset.values(["filepath", name]), strict=True)}


def list_files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


# Judging


def test_images_are_judged_by_what_their_folder_claims(photos: Any, tools: Tools) -> None:
    report = judge(photos, tools)

    assert read_by_name(photos, "clean_outcome") == {
        "person/sure.jpg": "true positive",
        "person/empty.jpg": "false negative",
        "person/doubt.jpg": "unsure, claimed",
        "others/empty.jpg": "true negative",
        "others/sure.jpg": "false positive",
        "others/broken.jpg": None,
    }
    scores = read_by_name(photos, "clean_score")
    assert scores["person/empty.jpg"] == 1.0
    assert scores["others/sure.jpg"] == pytest.approx(0.8)
    assert [(name_of(one.item), one.problem) for one in report.failed] == [("others/broken.jpg", "is broken")]
    assert report.notes[:3] == (
        "                     seen  unsure  not seen",
        "claimed: person      1 TP  1       1 FN",
        "not claimed: person  1 FP  0       1 TN",
    )
    assert [note.partition(":")[0] for note in report.notes[3:]] == ["1.00 false negative", "0.80 false positive"]


def test_the_boxes_that_were_seen_are_on_the_sample(photos: Any, tools: Tools) -> None:
    judge(photos, tools)
    seen = read_by_name(photos, "clean_seen")
    (box,) = seen["others/sure.jpg"].detections

    assert box.bounding_box == pytest.approx([0.1, 0.1, 0.5, 0.5])
    assert (box.label, box.confidence) == ("person", pytest.approx(0.8))
    assert seen["person/empty.jpg"].detections == []
    assert seen["others/broken.jpg"] is None


def test_a_box_that_is_too_small_does_not_count(photos: Any, tools: Tools) -> None:
    # The box is a quarter of the picture.
    judge(photos, tools, min_size=0.26)

    assert read_by_name(photos, "clean_outcome")["person/sure.jpg"] == "false negative"


def test_a_tag_a_field_and_all_claim_too(fiftyone: Any, photos: Any, tools: Tools) -> None:
    ids = photos.values("id")
    photos.select(ids[:1]).tag_samples("people")
    judge(photos.limit(5), tools, "tag:people")
    by_tag = photos.values("clean_outcome")
    photos.set_values("scene", {ids[0]: fiftyone.Classification(label="person")}, key_field="id")
    judge(photos.limit(5), tools, "field:scene")
    by_field = photos.values("clean_outcome")
    judge(photos.limit(5), tools, "all")

    assert by_tag[:5] == ["true positive", "true negative", "unsure, not claimed", "true negative", "false positive"]
    assert by_field[:5] == ["true positive", *["no claim"] * 4]
    assert photos.values("clean_outcome")[:5] == [
        "true positive",
        "false negative",
        "unsure, claimed",
        "false negative",
        "true positive",
    ]


def test_boxes_that_are_there_already_need_no_detector(fiftyone: Any, photos: Any, tools: Tools) -> None:
    box = fiftyone.Detection(label="person", bounding_box=[0, 0, 0.5, 0.5], confidence=0.7)
    drawn = [fiftyone.Detections(detections=[box]), fiftyone.Detections(), None, None, None, None]
    photos.set_values("predictions", drawn)
    report = judge(photos, replace(tools, draw=None), seen_in="predictions")

    assert photos.values("clean_outcome") == ["true positive", "false negative", None, None, None, None]
    assert {one.problem for one in report.failed} == {"'predictions' says nothing of it"}


def test_a_class_the_detector_does_not_know_is_refused_and_the_detector_is_closed(photos: Any, tools: Tools) -> None:
    ended: list[str] = []

    def draw(images: Iterable[Path], *, model: str | None, score_floor: float) -> Iterator[DrawnBoxes | ItemError]:
        try:
            yield from FakeDetector(dict(PHOTOS))(images, model=model, score_floor=score_floor)
        finally:
            ended.append("closed")

    # The error is still held, with all that led to it: what it holds alone would end only with the process.
    with pytest.raises(LabelingError, match="unicorn") as refused:
        run(photos, replace(tools, draw=draw), "clean", classes=["unicorn"])
    assert refused.value is not None
    assert ended == ["closed"]


def test_without_a_detector_the_message_says_what_to_do(photos: Any, tools: Tools) -> None:
    with pytest.raises(LabelingError, match="there is no detector here: start labelloop's console"):
        judge(photos, replace(tools, draw=None))


@pytest.mark.parametrize(
    ("claim", "problem"),
    [
        ("tag:nobody", "no image has the tag 'nobody'"),
        ("folder:nowhere", "no image lies in a folder named 'nowhere'"),
        ("field:colour", "the dataset has no field 'colour'"),
    ],
)
def test_a_claim_that_nobody_makes_is_refused(photos: Any, tools: Tools, claim: str, problem: str) -> None:
    with pytest.raises(LabelingError, match=problem):
        judge(photos, tools, claim)


def test_only_what_is_new_is_looked_at_when_asked(photos: Any, tools: Tools) -> None:
    judge(photos.limit(2), tools)
    detector = tools.draw
    assert isinstance(detector, FakeDetector)
    detector.asked.clear()
    report = judge(photos, tools, only_new=True)

    assert [name for name, _ in detector.asked] == list(PHOTOS)[2:]
    assert (report.moved, report.unchanged, len(report.failed)) == (3, 2, 1)


def test_what_was_judged_by_another_question_is_new(photos: Any, tools: Tools) -> None:
    judge(photos, tools)
    report = judge(photos, tools, "all", only_new=True)
    again = judge(photos, tools, "all", only_new=True)

    assert (report.moved, report.unchanged, len(report.failed)) == (5, 0, 1)
    assert (again.moved, again.unchanged, len(again.failed)) == (0, 5, 1)


def test_an_image_that_can_no_longer_be_read_has_no_outcome_any_more(photos: Any, tools: Tools) -> None:
    judge(photos, tools)
    report = judge(photos, replace(tools, draw=FakeDetector(dict.fromkeys(PHOTOS))))

    assert len(report.failed) == len(PHOTOS)
    for name in ("clean_outcome", "clean_score", "clean_confidence", "clean_seen"):
        assert photos.values(name) == [None] * len(PHOTOS)


def test_a_label_without_a_class_is_reported_and_the_other_images_are_judged(
    fiftyone: Any, photos: Any, tools: Tools
) -> None:
    drawn = [fiftyone.Detections(detections=[fiftyone.Detection(bounding_box=[0, 0, 1, 1])])]
    photos.set_values("predictions", [*drawn, *[fiftyone.Detections()] * 5])
    report = judge(photos, replace(tools, draw=None), seen_in="predictions")

    assert report.moved == 5
    assert [(name_of(one.item), one.problem) for one in report.failed] == [
        ("person/sure.jpg", "a label has no class or no box")
    ]


def test_a_persons_own_field_of_the_name_is_left_and_named(photos: Any, tools: Tools) -> None:
    photos.set_values("clean_score", ["mine"] * len(PHOTOS))
    with pytest.raises(LabelingError, match="field 'clean_score' is there already and is not labelloop's"):
        judge(photos, tools)

    assert photos.distinct("clean_score") == ["mine"]
    assert not photos.has_sample_field("clean_outcome")


def test_what_an_earlier_labelloop_judged_is_judged_anew_before_it_is_acted_on(photos: Any, tools: Tools) -> None:
    judge(photos, tools)
    photos.delete_sample_field("clean_about")
    for name in ("clean_outcome", "clean_score", "clean_confidence", "clean_seen"):
        field = photos.get_field(name)
        field.description = None
        field.save()
    with pytest.raises(LabelingError, match="no sample was judged yet"):
        run(photos, tools, "clean_apply", action="retag")
    judge(photos, tools)

    assert run(photos, tools, "clean_apply", action="retag").moved == 2


@pytest.mark.parametrize("action", [None, "retag", "move"])
def test_a_rehearsal_says_what_would_come_of_it_and_writes_nothing(
    photos: Any, tools: Tools, folder: Path, action: str | None
) -> None:
    def look() -> tuple[Any, ...]:
        return list_files(folder), photos.to_dict(), list(photos.get_field_schema()), photos.list_runs()

    before = look()
    would = judge(photos, tools, dry_run=True, action=action)
    assert look() == before
    judged = judge(photos, tools)

    assert not tools.folder.exists()
    assert next(would.lines()) == "clean: 5 would be judged, 0 unchanged, 1 failed"
    assert would.notes[: len(judged.notes)] == judged.notes
    done = run(photos, tools, "clean_apply", action=action or "retag", dry_run=True)
    foreseen = () if action is None else (f"{action}: 2 would be changed, 0 unchanged", *done.notes)
    assert would.notes[len(judged.notes) :] == foreseen


def test_a_rehearsal_counts_what_was_judged_before_too(photos: Any, tools: Tools) -> None:
    judge(photos.limit(2), tools)
    would = judge(photos, tools, only_new=True, dry_run=True, action="retag")

    assert (would.moved, would.unchanged) == (3, 2)
    assert "retag: 2 would be changed, 0 unchanged" in would.notes


def test_acting_without_a_trial_is_another_job(photos: Any, tools: Tools) -> None:
    with pytest.raises(LabelingError, match="'action': goes with 'dry_run'; the job clean_apply acts"):
        judge(photos, tools, action="retag")


# Acting


def test_only_the_contradictions_of_the_last_question_are_acted_on(photos: Any, tools: Tools) -> None:
    judge(photos, tools, "all")
    run(photos.limit(1), tools, "clean", classes=["car"])
    run(photos, tools, "clean_apply", action="retag")

    assert photos.values("tags") == [["without car"], [], [], [], [], []]
    judge(photos, tools, "all", only_new=True)
    run(photos, tools, "clean_apply", action="retag")
    tagged = [name for name, tags in read_by_name(photos, "tags").items() if "without person" in tags]
    assert tagged == ["person/empty.jpg", "others/empty.jpg"]


def test_what_a_killed_run_judged_is_never_taken_for_the_answer_to_an_earlier_question(
    photos: Any, tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(done: float | None, message: str) -> None:
        if "2/6" in message:
            raise KeyboardInterrupt

    judge(photos, tools, "all")
    monkeypatch.setattr("fiftyone_plugins.clean.looking.IMAGES_PER_WRITE", 2)
    with pytest.raises(KeyboardInterrupt):
        run(photos, replace(tools, on_progress=stop), "clean", classes=["car"])
    run(photos, tools, "clean_apply", action="retag")

    assert photos.values("tags") == [["without car"], ["without car"], [], [], [], []]


def test_a_refused_question_leaves_the_last_one_in_place(photos: Any, tools: Tools) -> None:
    judge(photos, tools, "all")
    with pytest.raises(LabelingError, match="unicorn"):
        run(photos, tools, "clean", classes=["unicorn"])

    assert run(photos, tools, "clean_apply", action="retag", dry_run=True).moved == 2


def test_taking_back_leaves_the_answer_to_a_later_question(photos: Any, tools: Tools, folder: Path) -> None:
    judge(photos, tools)
    before = list_files(folder)
    run(photos, tools, "clean_apply", action="move")
    tools.draw.confidences |= {f"{Path(path).parent.name}/{Path(path).name}": 0.0 for path in photos.values("filepath")}  # type: ignore[union-attr]
    run(photos, tools, "clean", classes=["car"])
    run(photos, tools, "clean_undo")

    assert list_files(folder) == before
    assert photos.values("clean_outcome") == ["false negative"] * len(PHOTOS)


@pytest.mark.parametrize("place", ["files.Path.unlink", "applying._write_path"])
def test_a_killed_undo_of_a_move_is_ended_by_the_next_one(
    photos: Any, tools: Tools, folder: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    judge(photos, tools)
    before = (list_files(folder), photos.values("filepath"))
    run(photos, tools, "clean_apply", action="move")
    with monkeypatch.context() as patch:
        patch.setattr(f"fiftyone_plugins.clean.{place}", die)
        with pytest.raises(KeyboardInterrupt):
            run(photos, tools, "clean_undo")
    undone = run(photos, tools, "clean_undo")

    assert (list_files(folder), photos.values("filepath")) == before
    assert (undone.moved, undone.failed) == (2, ())
    assert {name: read_by_name(photos, "clean_outcome")[name] for name in FALSE} == FALSE


def test_retagging_a_claim_by_tag_puts_the_tag_right_and_can_be_taken_back(photos: Any, tools: Tools) -> None:
    ids = dict(zip(map(name_of, photos.values("filepath")), photos.values("id"), strict=True))
    photos.select([ids[name] for name in PHOTOS if name.startswith("person")]).tag_samples("people")
    judge(photos, tools, "tag:people")
    would = run(photos, tools, "clean_apply", action="retag", dry_run=True)
    before = photos.values("tags")
    done = run(photos, tools, "clean_apply", action="retag")
    tagged = {name for name, tags in read_by_name(photos, "tags").items() if "people" in tags}
    again = run(photos, tools, "clean_apply", action="retag")
    outcome = read_by_name(photos, "clean_outcome")["others/sure.jpg"]
    undone = run(photos, tools, "clean_undo")

    assert (would.moved, done.moved, again.moved, undone.moved) == (2, 2, 0, 2)
    assert tagged == {"person/sure.jpg", "person/doubt.jpg", "others/sure.jpg"}
    assert outcome == "settled"
    assert photos.values("tags") == before
    assert {name: read_by_name(photos, "clean_outcome")[name] for name in FALSE} == FALSE


def test_retagging_another_claim_says_what_was_found(photos: Any, tools: Tools) -> None:
    judge(photos, tools)
    run(photos, tools, "clean_apply", action="retag")

    assert photos.count_sample_tags() == {"with person": 1, "without person": 1}


def test_what_a_person_confirmed_is_left(photos: Any, tools: Tools, folder: Path) -> None:
    judge(photos, tools)
    photos.match_tags("x")  # no such tag: nothing
    view = photos.match({"clean_outcome": "false negative"})
    view.tag_samples("claim confirmed: person")
    moved = run(photos, tools, "clean_apply", action="move")

    assert (moved.moved, moved.unchanged) == (1, 1)
    assert (folder / "person" / "empty.jpg").exists()


def test_moved_files_take_their_samples_along_and_come_back(photos: Any, tools: Tools, folder: Path) -> None:
    judge(photos, tools)
    before = (list_files(folder), photos.values("filepath"))
    done = run(photos, tools, "clean_apply", action="move")
    moved = list_files(folder)
    assert moved == (before[0] - set(FALSE)) | {"person-without-person/empty.jpg", "others-with-person/sure.jpg"}
    assert set(map(str, (folder / name for name in moved))) == set(photos.values("filepath"))
    assert done.moved == 2
    assert run(photos, tools, "clean_apply", action="move").moved == 0

    undone = run(photos, tools, "clean_undo", run="move-1")
    assert (list_files(folder), photos.values("filepath")) == before
    assert undone.moved == 2
    assert {name: read_by_name(photos, "clean_outcome")[name] for name in FALSE} == FALSE
    lines = (tools.folder / "decisions" / "claimed" / "move-1.jsonl").read_text().splitlines()
    assert [json.loads(line).get("end") for line in lines[-2:]] == ["done", "undone"]


@pytest.mark.parametrize(("sample_is", "comes_back"), [("deleted", True), ("added anew", False)])
def test_a_file_whose_sample_was_deleted_comes_back_unless_it_is_another_ones_by_now(
    fiftyone: Any, photos: Any, tools: Tools, folder: Path, sample_is: str, comes_back: bool
) -> None:
    judge(photos, tools)
    run(photos, tools, "clean_apply", action="move")
    moved = folder / "person-without-person" / "empty.jpg"
    photos.delete_samples(photos.match({"filepath": str(moved)}))
    if sample_is == "added anew":
        photos.add_samples([fiftyone.Sample(filepath=str(moved))], progress=False)
    undone = run(photos, tools, "clean_undo")

    problems = [] if comes_back else ["is the file of another sample by now: it is left"]
    assert [one.problem for one in undone.failed] == problems
    assert (moved.exists(), (folder / "person" / "empty.jpg").exists()) == (not comes_back, comes_back)


def test_a_copy_that_became_a_sample_is_not_taken_back(fiftyone: Any, photos: Any, tools: Tools, folder: Path) -> None:
    judge(photos, tools)
    run(photos, tools, "clean_apply", action="copy")
    copy = folder / "person-without-person" / "empty.jpg"
    photos.add_samples([fiftyone.Sample(filepath=str(copy))], progress=False)
    undone = run(photos, tools, "clean_undo")

    assert undone.moved == 1
    assert [(one.item, one.problem) for one in undone.failed] == [
        (str(copy), "is the file of another sample by now: it is left")
    ]
    assert copy.is_file()


def test_a_sample_that_label_studio_knows_is_not_moved(photos: Any, tools: Tools, folder: Path) -> None:
    ids = dict(zip(map(name_of, photos.values("filepath")), photos.values("id"), strict=True))
    photos.set_values("task_id", {ids["others/sure.jpg"]: 41}, key_field="id")
    judge(photos, tools)
    would = run(photos, tools, "clean_apply", action="move", dry_run=True)
    moved = run(photos, tools, "clean_apply", action="move")
    retagged = run(photos, tools, "clean_apply", action="retag")

    assert (would.moved, moved.moved, retagged.moved) == (1, 1, 1)
    for report in (would, moved):
        assert [(name_of(one.item), "is in Label Studio" in one.problem) for one in report.failed] == [
            ("others/sure.jpg", True)
        ]
    assert (folder / "others" / "sure.jpg").exists()


def test_of_a_converted_image_the_persons_file_moves_and_the_copy_stays(
    photos: Any, tools: Tools, folder: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "others" / "sure.jpg"
    copy.parent.mkdir()
    Image.new("RGB", SIZE).save(copy)
    sample_id = photos.values("id")[list(PHOTOS).index("others/sure.jpg")]
    photos.set_values("source_path", {sample_id: str(folder / "others" / "sure.jpg")}, key_field="id")
    photos.set_values("filepath", {sample_id: str(copy)}, key_field="id")
    judge(photos, tools)
    run(photos, tools, "clean_apply", action="move")

    sample = photos.select([sample_id]).first()
    assert sample.filepath == str(copy)
    assert sample.source_path == str(folder / "others-with-person" / "sure.jpg")
    assert Path(sample.source_path).is_file()


def test_links_and_files_of_several_samples_are_not_moved(
    fiftyone: Any, photos: Any, tools: Tools, folder: Path, tmp_path: Path
) -> None:
    own = folder / "person" / "empty.jpg"
    own.rename(tmp_path / "elsewhere.jpg")
    own.symlink_to(tmp_path / "elsewhere.jpg")
    photos.add_samples([fiftyone.Sample(filepath=str(folder / "others" / "sure.jpg"))], progress=False)
    judge(photos, tools)
    report = run(photos, tools, "clean_apply", action="move")

    assert report.moved == 0
    assert {one.problem for one in report.failed if "is broken" not in one.problem} == {
        "is the file of several samples: it is not moved",
        "is a link, which is not moved; retag it, or copy it",
    }
    assert own.is_symlink()


def test_copies_leave_the_dataset_as_it_is_and_are_taken_back_unless_changed(
    photos: Any, tools: Tools, folder: Path, tmp_path: Path
) -> None:
    judge(photos, tools)
    before = photos.values("filepath")
    out = tmp_path / "copies"
    first = run(photos, tools, "clean_apply", action="copy", to=str(out))
    run(photos, tools, "clean_apply", action="copy", to=str(out))
    assert list_files(out) == {"without-person/empty.jpg", "with-person/sure.jpg"}
    assert photos.values("filepath") == before
    (out / "with-person" / "sure.jpg").write_bytes(b"mine now")
    undone = run(photos, tools, "clean_undo", run="copy-1")

    assert first.moved == 2
    assert list_files(out) == {"with-person/sure.jpg"}
    assert (undone.moved, [one.problem for one in undone.failed]) == (
        1,
        ["was changed since it was copied: it is left"],
    )
    assert list_files(folder) == set(PHOTOS)


class KilledError(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("line", ["before the file", "after the file", "before the end"])
def test_a_move_that_is_killed_is_ended_by_the_next_one(
    photos: Any, tools: Tools, folder: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    from fiftyone_plugins.app.journal import Journal
    from fiftyone_plugins.clean import applying

    def die(*_: Any, **__: Any) -> None:
        raise KilledError

    place = {
        "before the file": (applying, "move_file"),
        "after the file": (applying, "_write_path"),
        "before the end": (Journal, "close"),
    }[line]
    judge(photos, tools)
    with monkeypatch.context() as patch:
        patch.setattr(*place, die)
        with pytest.raises(KilledError):
            run(photos, tools, "clean_apply", action="move")
    photos.reload()
    run(photos, tools, "clean_apply", action="move")

    assert set(photos.values("filepath")) == {str(folder / name) for name in list_files(folder)}
    assert list_files(folder) == (set(PHOTOS) - set(FALSE)) | {
        "person-without-person/empty.jpg",
        "others-with-person/sure.jpg",
    }
    # All that was moved, by whichever of the two, can be taken back.
    for decided in ("move-2", "move-1"):
        if (tools.folder / "decisions" / "claimed" / f"{decided}.jsonl").exists():
            run(photos, tools, "clean_undo", run=decided)
    assert list_files(folder) == set(PHOTOS)
    assert set(photos.values("filepath")) == {str(folder / name) for name in PHOTOS}


def test_nothing_is_done_about_what_was_not_judged(photos: Any, tools: Tools) -> None:
    with pytest.raises(LabelingError, match="no sample was judged yet"):
        run(photos, tools, "clean_apply")


def test_only_contradictions_that_are_sure_enough_are_acted_on(photos: Any, tools: Tools) -> None:
    judge(photos, tools)

    assert run(photos, tools, "clean_apply", action="retag", min_score=0.9, dry_run=True).moved == 1
