"""Mistakes on a real database: what is written, what is not, what a person decides, and the App's form and panel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bson import ObjectId

from fiftyone_plugins.app.work import Tools, find_work
from fiftyone_plugins.mistakes import recording
from fiftyone_plugins.mistakes.deciding import accept, keep
from fiftyone_plugins.mistakes.decisions import Decisions
from fiftyone_plugins.mistakes.ranking import list_findings
from fiftyone_plugins.mistakes.recording import Recorder
from fiftyone_plugins.mistakes.storing import read_documents
from fiftyone_plugins.mistakes.verdicts import Subject, Verdict
from labels.errors import LabelingError
from tests.fiftyone_plugins.conftest import FakeConsole
from tests.fiftyone_plugins.panel_contexts import open_panel
from tests.fiftyone_plugins.planted_mistakes import (
    BROKEN,
    CAR_BOX,
    DOG_BOX,
    EMPTY,
    MISSING,
    SEEN,
    SHIFTED,
    SWAPPED,
    UNSEEN,
    embed_as,
    make_planted,
    read_all,
    read_found,
    refuse_to_draw,
    run,
    write_picture,
)
from tests.fiftyone_plugins.test_review_operators import resolve_form, run_as_the_app

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # FiftyOne's own

FIND = "@labelloop/mistakes/find_mistakes"
PANEL = "@labelloop/mistakes/mistakes"


@pytest.fixture
def boxes(fiftyone: Any, tmp_path: Path) -> Iterator[Any]:
    dataset = make_planted(fiftyone, tmp_path)
    yield dataset
    dataset.delete()


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
    subject = Subject.of(document, "ground_truth")
    recorded = Recorder(boxes, tmp_path, "ground_truth").record({sample.id: (subject, verdict)})

    assert (recorded.moved, recorded.overtaken) == (0, [subject])
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


def test_classes_of_images_are_judged_by_their_embeddings(fiftyone: Any, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], 20)
    vectors = (random.normal(0, 1, (3, 12))[truth] + random.normal(0, 0.2, (60, 12))).astype(np.float32)
    names = ["ash", "elm", "fir"]
    dataset = fiftyone.Dataset()
    samples = [
        fiftyone.Sample(filepath=write_picture(tmp_path, row), kind=fiftyone.Classification(label=names[place]))
        for row, place in enumerate(truth)
    ]
    samples[7]["kind"].label = "fir"
    dataset.add_samples(samples, progress=False)
    with pytest.raises(LabelingError, match=r"no embeddings of the images yet.*labelloop embed"):
        run(dataset, tmp_path, labels="kind")
    ids = dataset.values("id")
    embed_as(dataset, tmp_path, vectors[:59])
    Path(dataset.first().filepath).write_bytes(b"another picture")

    report = run(dataset, tmp_path, labels="kind")

    wrong = list(dataset)[7]
    assert (wrong.kind.mistake_suggestion, wrong.kind.mistake_kind) == ("ash", "class")
    assert wrong.mistakenness == max(score for score in dataset.values("mistakenness") if score is not None)
    assert [(failure.sample_id, failure.problem) for failure in report.failed] == [
        (ids[row], "has no embedding of made-up as it is now: run labelloop embed") for row in (0, 59)
    ]
    assert any("left out: 1 (labelloop embed computes" in note for note in report.notes)
    (finding,) = (
        one for one in list_findings(read_documents(dataset, ids, ["kind"]), ["kind"], {}) if one.sample_id == ids[7]
    )
    accept(dataset, tmp_path, finding)
    dataset.reload()
    assert list(dataset)[7].kind.label == "ash"
    dataset.delete()


def add_second_field(fiftyone: Any, boxes: Any) -> None:
    """What Bob drew: a car and a dog on each image, as the detector sees it."""
    for sample in boxes.iter_samples(autosave=True):
        made = [fiftyone.Detection(label=name, bounding_box=box) for name, box, _ in SEEN]
        sample["bob"] = fiftyone.Detections(detections=made)


def read_scores(sample: Any) -> list[float | None]:
    return [sample[name] for name in ("mistakenness", "mistake_swapped", "mistake_missing", "mistake_location")]


def test_what_is_suspected_of_one_field_stays_when_another_is_judged(fiftyone: Any, boxes: Any, tmp_path: Path) -> None:
    run(boxes, tmp_path)
    before = [read_scores(sample) for sample in boxes]
    found = read_found(boxes, tmp_path)
    add_second_field(fiftyone, boxes)
    run(boxes, tmp_path, labels="bob")

    # Below 0.1 there is no proposal, so nothing is known of the other field.
    assert [read_scores(sample) for sample in boxes][:UNSEEN] == [
        pytest.approx(scores, abs=0.1) for scores in before[:UNSEEN]
    ]
    assert boxes.count_sample_tags() == {"mistake": 4}
    assert read_found(boxes, tmp_path, "ground_truth", "bob") == found
    assert run(boxes, tmp_path, labels="bob").moved == 0


def test_a_box_that_two_fields_lack_is_a_proposal_to_each(fiftyone: Any, boxes: Any, tmp_path: Path) -> None:
    run(boxes, tmp_path)
    boxes.clone_sample_field("ground_truth", "bob")
    run(boxes, tmp_path, labels="bob")

    proposals = list(boxes)[MISSING].mistake_proposals.detections
    assert [one.mistake_field for one in proposals] == ["ground_truth", "bob"]
    keep(boxes, tmp_path, next(one for one in read_found(boxes, tmp_path) if one.label_id == proposals[0].id))
    left = [one for one in read_found(boxes, tmp_path, "ground_truth", "bob") if one.label_id in ids_of(proposals)]
    assert [one.field for one in left] == ["bob"]


def ids_of(labels: Any) -> set[str]:
    return {one.id for one in labels}


def test_nothing_is_suspected_of_labels_that_are_gone(fiftyone: Any, boxes: Any, tmp_path: Path) -> None:
    run(boxes, tmp_path)
    for row in (SWAPPED, MISSING):
        sample = list(boxes)[row]
        sample.ground_truth = None
        sample.save()
    report = run(boxes, tmp_path)

    for row in (SWAPPED, MISSING):
        sample = list(boxes)[row]
        assert (sample.mistakenness, sample.mistake_swapped, sample.mistake_missing, sample.tags) == (None,) * 3 + ([],)
        assert sample.mistake_proposals.detections == []
    assert report.details["without labels"] == 3
    assert run(boxes, tmp_path).moved == 0


def test_where_all_labels_are_gone_what_was_suspected_goes_and_no_detector_is_loaded(
    boxes: Any, tmp_path: Path
) -> None:
    run(boxes, tmp_path)
    boxes.set_values("ground_truth", [None] * len(boxes))
    report = find_work("mistakes").perform(boxes, {}, Tools(tmp_path, draw=refuse_to_draw))
    boxes.reload()
    assert report.moved == 11
    assert boxes.count("mistakenness") == 0
    assert boxes.count_sample_tags() == {}


def test_what_people_keep_while_it_is_written_stays_out_of_the_score(
    boxes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(boxes, tmp_path)
    finding = read_all(boxes, tmp_path)["swapped"]
    sample = boxes[finding.sample_id]
    sample.ground_truth.detections[1].bounding_box = [0.55, 0.1, 0.3, 0.6]
    sample.save()
    write, written = recording.write_changes, list[int]()

    def write_late(*about: Any) -> int:
        if not written:
            # The panel has written the decision down and not yet come to the sample.
            Decisions(tmp_path, boxes.name).keep(finding)
        written.append(write(*about))
        return written[-1]

    monkeypatch.setattr(recording, "write_changes", write_late)
    report = run(boxes, tmp_path)

    sample.reload()
    assert sample.mistakenness < 0.3
    assert sample.tags == []
    assert report.details["samples tagged 'mistake'"] == 3


def test_a_tag_that_a_person_set_stays_and_ours_goes(boxes: Any, tmp_path: Path) -> None:
    boxes.limit(1).tag_samples("mistake")
    run(boxes, tmp_path)
    run(boxes, tmp_path, threshold=1)
    assert [bool(sample.tags) for sample in boxes] == [True] + [False] * 11


def test_a_field_of_a_person_in_the_way_is_said_before_the_detector_is_loaded(boxes: Any, tmp_path: Path) -> None:
    boxes.set_values("mistakenness", [f"opinion {number}" for number in range(12)])
    with pytest.raises(LabelingError, match="'mistakenness' is there already and is not labelloop's"):
        find_work("mistakes").perform(boxes, {}, Tools(tmp_path, draw=refuse_to_draw))
    assert boxes.values("mistakenness")[11] == "opinion 11"


def test_a_prediction_without_a_class_or_box_fails_its_image_and_the_others_go_on(
    fiftyone: Any, boxes: Any, tmp_path: Path
) -> None:
    for sample in boxes.iter_samples(autosave=True):
        made = [fiftyone.Detection(label=name, bounding_box=box, confidence=score) for name, box, score in SEEN]
        sample["predictions"] = fiftyone.Detections(detections=made)
    for row, bad in enumerate((fiftyone.Detection(label="car"), fiftyone.Detection(bounding_box=CAR_BOX))):
        sample = list(boxes)[row]
        sample.predictions.detections.append(bad)
        sample.save()
    report = run(boxes, tmp_path, against="predictions")

    assert [(Path(one.item).stem, one.problem) for one in report.failed] == [
        (number, "a label has no class or no box") for number in ("0", "1")
    ]
    assert list(boxes)[SWAPPED].ground_truth.detections[0].mistake_kind == "swapped"


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

    ctx.params = {"__method__": "on_change_view"}
    drawn: list[Any] = []
    ctx.ops.show_panel_output = drawn.append

    def see_after(change: Any) -> list[str] | None:
        """Return what is drawn; None: nothing is."""
        drawn.clear()
        change()
        panel.execute(ctx)
        return [row["key"] for row in ctx.panel.state.rows] if drawn else None

    assert see_after(lambda: None) is None
    assert see_after(lambda: setattr(ctx, "view", boxes.view())) is None
    assert see_after(lambda: setattr(ctx, "view", one)) == of_one
    assert see_after(boxes.first().save) is None
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
