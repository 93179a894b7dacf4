"""Mistakes on a real database: what is written, what is not, what a person decides, and the App's form and panel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bson import ObjectId
from PIL import Image

from fiftyone_plugins.app.work import DrawnBoxes, Tools, find_work
from fiftyone_plugins.embeddings.store import EmbeddingStore, Key
from fiftyone_plugins.mistakes.deciding import accept, keep, undo
from fiftyone_plugins.mistakes.decisions import Decisions
from fiftyone_plugins.mistakes.ranking import Finding, list_findings
from fiftyone_plugins.mistakes.storing import read_documents, write_verdicts
from fiftyone_plugins.mistakes.verdicts import Verdict
from labels.errors import ItemError, LabelingError
from labels.report import Report
from tests.fiftyone_plugins.conftest import FakeConsole
from tests.fiftyone_plugins.panel_contexts import open_panel
from tests.fiftyone_plugins.test_review_operators import resolve_form, run_as_the_app

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # FiftyOne's own

FIND = "@labelloop/mistakes/find_mistakes"
PANEL = "@labelloop/mistakes/mistakes"
WIDE, HIGH = 200, 100
CAR_BOX = [0.1, 0.2, 0.4, 0.4]
DOG_BOX = [0.6, 0.1, 0.2, 0.5]
# What the detector sees in every image but the last, which it cannot read.
SEEN = [("car", CAR_BOX, 0.9), ("dog", DOG_BOX, 0.95)]
LABELS: list[list[tuple[str, list[float]]] | None] = [
    *[[("car", CAR_BOX), ("dog", DOG_BOX)]] * 6,
    [("dog", CAR_BOX), ("dog", DOG_BOX)],
    [("car", CAR_BOX)],
    [("car", [0.32, 0.2, 0.4, 0.4]), ("dog", DOG_BOX)],
    [],
    None,
    [("car", CAR_BOX)],
]
SWAPPED, MISSING, SHIFTED, EMPTY, UNSEEN, BROKEN = range(6, 12)


def draw(images: Iterable[Path], *, model: str | None, score_floor: float) -> Iterator[DrawnBoxes | ItemError]:
    for path in images:
        if path.stem == str(BROKEN):
            yield ItemError(str(path), "is no image")
            continue
        sides = np.array([box for _, box, _ in SEEN], np.float32) * [WIDE, HIGH, WIDE, HIGH]
        sides[:, 2:] += sides[:, :2]
        scores = np.array([score for *_, score in SEEN], np.float32)
        yield DrawnBoxes(sides, scores, tuple(name for name, *_ in SEEN), frozenset({"car", "dog"}))


def refuse_to_draw(
    images: Iterable[Path], *, model: str | None, score_floor: float
) -> Iterator[DrawnBoxes | ItemError]:
    raise AssertionError("the detector was loaded")


@pytest.fixture
def boxes(fiftyone: Any, tmp_path: Path) -> Iterator[Any]:
    """Twelve photos: six are right, then a swapped class, a missing and a shifted box, and three odd ones."""
    dataset = fiftyone.Dataset("planted")
    samples = []
    for number, said in enumerate(LABELS):
        path = tmp_path / f"{number}.jpg"
        Image.new("RGB", (WIDE, HIGH)).save(path)
        size = fiftyone.ImageMetadata(width=WIDE, height=HIGH)
        sample = fiftyone.Sample(filepath=str(path), metadata=size)
        if said is not None:
            made = [fiftyone.Detection(label=name, bounding_box=box, colour="red") for name, box in said]
            sample["ground_truth"] = fiftyone.Detections(detections=made)
        samples.append(sample)
    dataset.add_samples(samples, dynamic=True, progress=False)
    yield dataset
    dataset.delete()


def run(samples: Any, folder: Path, *, has_detector: bool = True, **params: Any) -> Report:
    report = find_work("mistakes").perform(samples, params, Tools(folder, draw=draw if has_detector else None))
    samples._dataset.reload()
    return report


def read_all(dataset: Any, folder: Path) -> dict[str, Finding]:
    documents = read_documents(dataset, dataset.values("id"), ["ground_truth"])
    kept = Decisions(folder, dataset.name).kept()
    return {one.kind: one for one in list_findings(documents, ["ground_truth"], kept)}


def test_each_mistake_is_scored_explained_and_tagged(boxes: Any, tmp_path: Path) -> None:
    report = run(boxes, tmp_path)

    samples = list(boxes)
    assert (report.moved, report.unchanged) == (11, 0)
    assert [failure.problem for failure in report.failed] == ["is no image"]
    wrong = samples[SWAPPED].ground_truth.detections[0]
    assert (wrong.mistake_kind, wrong.mistake_suggestion) == ("swapped", "car")
    assert wrong.mistake_reason == "labelled dog, the detector sees car here"
    moved = samples[SHIFTED].ground_truth.detections[0]
    assert moved.mistake_kind == "location"
    np.testing.assert_allclose(moved.mistake_box, CAR_BOX, atol=1e-6)
    (proposal,) = samples[MISSING].mistake_proposals.detections
    assert (proposal.label, proposal.mistake_field) == ("dog", "ground_truth")
    np.testing.assert_allclose(proposal.bounding_box, DOG_BOX, atol=1e-6)
    tagged = [number for number, sample in enumerate(samples) if "mistake" in sample.tags]
    assert tagged == [SWAPPED, MISSING, SHIFTED, EMPTY]
    assert boxes.load_saved_view("mistakes").values("id")[0] in {samples[one].id for one in tagged}


def test_a_class_that_no_label_has_is_seen_where_the_dataset_names_it(boxes: Any, tmp_path: Path) -> None:
    for sample in boxes.iter_samples(autosave=True):
        if sample.ground_truth is not None:
            kept = [one for one in sample.ground_truth.detections if one.bounding_box != DOG_BOX]
            sample.ground_truth.detections = kept
    sample = boxes.first()
    sample.ground_truth.detections[0].label = "cat"
    sample.save()
    boxes.classes = {"ground_truth": ["car", "cat", "dog", "unicorn"]}
    report = run(boxes, tmp_path)

    (proposal,) = list(boxes)[MISSING].mistake_proposals.detections
    assert proposal.label == "dog"
    told = [note for note in report.notes if "does not know these classes" in note]
    assert told == ["the detector does not know these classes, their boxes were judged by the rules alone: cat"]


def test_where_nothing_is_labelled_it_says_so_and_loads_no_detector(boxes: Any, tmp_path: Path) -> None:
    untouched = boxes.skip(UNSEEN).limit(1)
    for params in ({}, {"dry_run": True}):
        with pytest.raises(LabelingError, match=r"no sample has labels in 'ground_truth' yet.*and pull.*another field"):
            find_work("mistakes").perform(untouched, params, Tools(tmp_path, draw=refuse_to_draw))
    assert not boxes.has_sample_field("mistakenness")


def test_absent_empty_and_unknown_stay_three_things(boxes: Any, tmp_path: Path) -> None:
    run(boxes, tmp_path)
    samples = list(boxes)

    assert samples[EMPTY].mistake_swapped == 0.0
    assert samples[EMPTY].mistake_missing > 0.5
    assert samples[UNSEEN].mistakenness is None
    assert samples[UNSEEN].mistake_proposals is None
    assert (samples[BROKEN].mistake_swapped, samples[BROKEN].mistake_missing) == (None, None)
    assert samples[BROKEN].mistake_rule == 0.0


def test_what_people_drew_is_what_it_was(boxes: Any, tmp_path: Path) -> None:
    paths = ["ground_truth.detections." + name for name in ("id", "label", "bounding_box", "colour")]
    before = boxes.values(paths)
    run(boxes, tmp_path)
    assert boxes.values(paths) == before


def test_the_report_says_what_the_saved_view_holds_and_that_the_panel_lists_more(boxes: Any, tmp_path: Path) -> None:
    some = run(boxes, tmp_path)
    none = run(boxes, tmp_path, threshold=1)

    count = some.details["samples tagged 'mistake'"]
    assert any(f"the view 'mistakes' has the {count} from 0.3 on" in note for note in some.notes)
    assert none.details["samples tagged 'mistake'"] == 0
    assert any("no sample reaches 1, so the view 'mistakes' is empty" in note for note in none.notes)
    assert all("lists lower scores too" in report.notes[-1] for report in (some, none))


def test_a_second_run_changes_nothing(boxes: Any, tmp_path: Path) -> None:
    run(boxes, tmp_path)
    changed_at = boxes.values("last_modified_at")
    again = run(boxes, tmp_path)
    assert (again.moved, again.unchanged) == (0, 11)
    assert boxes.values("last_modified_at") == changed_at


def test_a_dry_run_writes_nothing(boxes: Any, tmp_path: Path) -> None:
    report = run(boxes, tmp_path, dry_run=True)
    assert (report.moved, report.is_dry_run) == (11, True)
    assert not boxes.has_sample_field("mistakenness")


def test_only_the_samples_of_a_view_are_judged(boxes: Any, tmp_path: Path) -> None:
    report = run(boxes.skip(SWAPPED).limit(2), tmp_path)
    assert report.moved == 2
    assert [one is not None for one in boxes.values("mistakenness")].count(True) == 2


def test_a_label_that_was_changed_meanwhile_gets_no_verdict(boxes: Any, tmp_path: Path) -> None:
    run(boxes, tmp_path)
    sample = boxes.skip(SWAPPED).first()
    (document,) = read_documents(boxes, [sample.id], ["ground_truth"])
    sample.ground_truth.detections[0].label = "cat"
    sample.save()

    verdict = Verdict(({"mistake_kind": "rule"}, {"mistake_kind": "rule"}), {}, None)
    left_out = write_verdicts(boxes, "ground_truth", [(document, verdict)], {sample.id: 0.7})

    assert left_out == [sample.id]
    boxes.reload()
    assert boxes[sample.id].ground_truth.detections[0].mistake_kind == "swapped"


def test_without_a_detector_the_predictions_are_taken_and_this_is_said(
    fiftyone: Any, boxes: Any, tmp_path: Path
) -> None:
    with pytest.raises(LabelingError, match="'predictions' holds no boxes to compare with; labelloop prelabel"):
        run(boxes, tmp_path, has_detector=False)
    for sample in boxes.iter_samples(autosave=True):
        seen = [fiftyone.Detection(label=name, bounding_box=box, confidence=score) for name, box, score in SEEN]
        sample["predictions"] = fiftyone.Detections(detections=seen)
    report = run(boxes, tmp_path, has_detector=False)
    assert report.moved == 11
    assert any("compared with the field 'predictions'" in note for note in report.notes)


def test_accepting_a_swapped_class_changes_the_label_and_undo_brings_it_back(boxes: Any, tmp_path: Path) -> None:
    run(boxes, tmp_path)
    before = list(boxes)[SWAPPED].mistakenness
    accept(boxes, tmp_path, read_all(boxes, tmp_path)["swapped"])
    boxes.reload()
    label = list(boxes)[SWAPPED].ground_truth.detections[0]
    assert (label.label, label.colour, label.mistake_kind) == ("car", "red", None)
    assert list(boxes)[SWAPPED].mistakenness < 0.1 < before

    undo(boxes, tmp_path)
    boxes.reload()
    label = list(boxes)[SWAPPED].ground_truth.detections[0]
    assert (label.label, label.mistake_kind) == ("dog", "swapped")
    assert list(boxes)[SWAPPED].mistakenness == before


def test_accepting_moves_a_box_and_adds_a_missing_one_under_the_proposals_id(boxes: Any, tmp_path: Path) -> None:
    run(boxes, tmp_path)
    found = read_all(boxes.skip(MISSING).limit(2)._dataset, tmp_path)
    accept(boxes, tmp_path, found["location"])
    # Of the two samples with something missing, that of the image with a car.
    sample = list(boxes)[MISSING]
    (document,) = read_documents(boxes, [sample.id], ["ground_truth"])
    (missing,) = list_findings([document], ["ground_truth"], {})
    accept(boxes, tmp_path, missing)
    boxes.reload()

    np.testing.assert_allclose(list(boxes)[SHIFTED].ground_truth.detections[0].bounding_box, CAR_BOX, atol=1e-6)
    added = list(boxes)[MISSING].ground_truth.detections[1]
    assert (added.id, added.label, added.confidence) == (missing.label_id, "dog", None)
    assert list(boxes)[MISSING].mistake_proposals.detections == []


def test_a_superfluous_box_goes_and_comes_back_with_undo(fiftyone: Any, boxes: Any, tmp_path: Path) -> None:
    sample = boxes.first()
    twin = fiftyone.Detection(label="car", bounding_box=[0.1, 0.21, 0.4, 0.4], colour="blue")
    sample.ground_truth.detections.append(twin)
    sample.save()
    run(boxes, tmp_path)
    accept(boxes, tmp_path, read_all(boxes, tmp_path)["rule"])
    boxes.reload()
    assert [one.id == twin.id for one in boxes.first().ground_truth.detections] == [False, False]

    undo(boxes, tmp_path)
    boxes.reload()
    assert boxes.first().ground_truth.detections[-1].colour == "blue"


def test_a_label_that_was_changed_since_the_list_was_read_is_not_touched(boxes: Any, tmp_path: Path) -> None:
    run(boxes, tmp_path)
    finding = read_all(boxes, tmp_path)["swapped"]
    sample = boxes[finding.sample_id]
    sample.ground_truth.detections[0].label = "cat"
    sample.save()
    with pytest.raises(LabelingError, match="was changed meanwhile"):
        accept(boxes, tmp_path, finding)
    boxes.reload()
    assert boxes[finding.sample_id].ground_truth.detections[0].label == "cat"
    assert Decisions(tmp_path, boxes.name).read() == {}


def test_what_was_kept_lowers_mistakenness_at_once_and_in_the_next_run(boxes: Any, tmp_path: Path) -> None:
    run(boxes, tmp_path)
    finding = read_all(boxes, tmp_path)["swapped"]
    keep(boxes, tmp_path, finding)
    boxes.reload()
    lowered = boxes[finding.sample_id].mistakenness
    assert lowered < 0.1
    run(boxes, tmp_path)
    assert boxes[finding.sample_id].mistakenness == lowered
    assert "swapped" not in read_all(boxes, tmp_path)


def test_undo_leaves_a_label_that_was_changed_again(boxes: Any, tmp_path: Path) -> None:
    run(boxes, tmp_path)
    accept(boxes, tmp_path, read_all(boxes, tmp_path)["swapped"])
    sample = boxes.skip(SWAPPED).first()
    sample.reload()
    sample.ground_truth.detections[0].label = "cat"
    sample.save()
    with pytest.raises(LabelingError, match="was changed since"):
        undo(boxes, tmp_path)


def test_classes_of_images_are_judged_by_their_embeddings(fiftyone: Any, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], 20)
    vectors = (random.normal(0, 1, (3, 12))[truth] + random.normal(0, 0.2, (60, 12))).astype(np.float32)
    names = ["ash", "elm", "fir"]
    dataset = fiftyone.Dataset()
    samples = [
        fiftyone.Sample(filepath=f"/nowhere/{row}.jpg", kind=fiftyone.Classification(label=names[place]))
        for row, place in enumerate(truth)
    ]
    samples[7]["kind"].label = "fir"
    dataset.add_samples(samples, progress=False)
    with pytest.raises(LabelingError, match=r"no embeddings of the images yet.*labelloop embed"):
        run(dataset, tmp_path, labels="kind")
    ids = dataset.values("id")
    EmbeddingStore(tmp_path, dataset.name).append(Key("tiny"), ids[:59], vectors[:59], stamps=["x"] * 59)

    report = run(dataset, tmp_path, labels="kind")

    wrong = list(dataset)[7]
    assert (wrong.kind.mistake_suggestion, wrong.kind.mistake_kind) == ("ash", "class")
    assert wrong.mistakenness == max(score for score in dataset.values("mistakenness") if score is not None)
    assert [(failure.sample_id, failure.problem) for failure in report.failed] == [
        (ids[59], "has no embedding of tiny: run labelloop embed")
    ]
    (finding,) = (
        one for one in list_findings(read_documents(dataset, ids, ["kind"]), ["kind"], {}) if one.sample_id == ids[7]
    )
    accept(dataset, tmp_path, finding)
    dataset.reload()
    assert list(dataset)[7].kind.label == "ash"
    dataset.delete()


def test_the_form_says_how_many_samples_have_labels(fiftyone: Any, boxes: Any) -> None:
    form = resolve_form(fiftyone, FIND, boxes)
    assert form["summary"]["view"]["label"].startswith("11 of 12 samples have labels in ground_truth")


def test_the_form_refuses_a_dataset_without_labels(fiftyone: Any, dataset: Any) -> None:
    form = resolve_form(fiftyone, FIND, dataset)
    assert "no field with boxes" in form["problem"]["view"]["label"]


def test_the_operator_runs_in_the_app_without_a_console(
    fiftyone: Any, boxes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABELLOOP_HOME", str(tmp_path))
    monkeypatch.delenv("LABELLOOP_CONSOLE_URL", raising=False)
    for sample in boxes.iter_samples(autosave=True):
        seen = [fiftyone.Detection(label=name, bounding_box=box, confidence=score) for name, box, score in SEEN]
        sample["predictions"] = fiftyone.Detections(detections=seen)
    told = run_as_the_app(fiftyone, FIND, boxes, params={"labels": "ground_truth", "against": "detector"})
    assert told[-1][0] == "reload_dataset"
    boxes.reload()
    assert list(boxes)[SWAPPED].ground_truth.detections[0].mistake_kind == "swapped"


def test_the_panel_is_registered(fiftyone: Any) -> None:
    assert PANEL in {panel.uri for panel in fiftyone.operators.list_operators(type="panel")}


def test_a_reload_of_what_the_panel_has_just_read_takes_no_click_back(
    fiftyone: Any, boxes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABELLOOP_HOME", str(tmp_path))
    monkeypatch.delenv("LABELLOOP_CONSOLE_URL", raising=False)
    run(boxes, tmp_path)
    panel = fiftyone.operators.get_operator(PANEL)
    ctx, _ = open_panel(boxes)
    panel.on_load(ctx)
    one = boxes.skip(SWAPPED).limit(1)
    of_one = [row["key"] for row in ctx.panel.state.rows if row["sample_id"] == one.first().id]
    assert 0 < len(of_one) < len(ctx.panel.state.rows)

    def see_after(change: Any) -> list[str]:
        ctx.panel.state.rows = []
        change()
        panel.on_change_view(ctx)
        return [row["key"] for row in ctx.panel.state.rows]

    assert see_after(lambda: None) == []
    assert see_after(lambda: setattr(ctx, "view", boxes.view())) == []
    assert see_after(lambda: setattr(ctx, "view", one)) == of_one
    assert see_after(boxes.first().save) == []
    sample = boxes.first()
    sample.tags.append("written")
    assert see_after(sample.save) == of_one


def test_proposals_have_ids_that_label_studio_can_carry(boxes: Any, tmp_path: Path) -> None:
    run(boxes, tmp_path)
    ids = [one.id for sample in boxes if sample.mistake_proposals for one in sample.mistake_proposals.detections]
    assert ids
    assert all(str(ObjectId(one)) == one for one in ids)


def test_a_finding_links_to_the_task_of_its_sample(boxes: Any, tmp_path: Path, console: FakeConsole) -> None:
    from fiftyone_plugins.mistakes.panel import make_links

    console.status["dataset"] = boxes.name
    run(boxes, tmp_path)
    found = read_all(boxes, tmp_path)
    sample = boxes[found["swapped"].sample_id]
    sample["task_id"] = 41
    sample.save()

    links = make_links(boxes, list(found.values()))

    assert links == {found["swapped"].key: "http://127.0.0.1:8080/projects/1/data?task=41"}


def test_without_a_console_there_is_no_link(boxes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fiftyone_plugins.mistakes.panel import make_links

    monkeypatch.delenv("LABELLOOP_CONSOLE_URL", raising=False)
    run(boxes, tmp_path)
    sample = boxes.first()
    sample["task_id"] = 41
    sample.save()
    assert make_links(boxes, list(read_all(boxes, tmp_path).values())) == {}
