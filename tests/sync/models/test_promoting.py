"""Evaluating, promoting and rolling back, with real detectors of a few hundred bytes and the real engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labels.errors import LabelingError, ServiceError
from ml_backend.models.weights import compute_version, resolve_weights
from sync.jobs.models.evaluate import evaluate
from sync.jobs.models.promote import promote
from sync.jobs.models.rollback import rollback
from sync.jobs.parameters import check_params
from sync.models.candidate import Candidate, candidates_dir
from sync.models.registry import Registry
from sync.models.results import list_results
from sync.versions.manifest import write_version
from sync.versions.version import Split
from tests.fakes.detectors import make_version, write_detector
from tests.sync.models.conftest import TEST_IMAGES, Bench


def promote_path(bench: Bench, path: Path, **more: Any) -> Any:
    return promote(bench.context, candidate=str(path), **{"by": "ana", **more})


def test_evaluate_says_how_good_the_current_model_is_and_keeps_it(bench: Bench) -> None:
    report = evaluate(bench.context)

    (result,) = list_results(bench.home)
    assert report.is_clean
    assert report.moved == TEST_IMAGES
    assert report.details["examples"] == TEST_IMAGES
    assert (result.model_version, result.version_id, result.split) == (
        compute_version(bench.current),
        bench.version.id,
        "test",
    )
    assert result.evaluation.map50 == pytest.approx(1.0)
    assert 0.3 < (result.evaluation.map50_95 or 0) < 0.95
    # Nobody drew a dog: nothing is known of dogs.
    assert [(one.name, one.map50_95 is None) for one in result.evaluation.classes] == [("car", False), ("dog", True)]
    assert result.thresholds == {"car": 0.8999}
    assert "1 classes have no example there: nothing is known of them" in report.notes


@pytest.mark.parametrize(
    ("was_in", "said"),
    [
        ("train", "the model learned from 40 of these images: the numbers are too good"),
        ("val", "the model's best epoch was chosen on 40 of these images: the numbers are a little too good"),
    ],
)
def test_evaluate_says_what_training_did_with_the_images(bench: Bench, was_in: Split, said: str) -> None:
    images = tuple(replace(one, split=was_in) for one in bench.version.images if one.split == "test")
    others = tuple(one for one in bench.version.images if one.split != "test")
    _write_frozen(bench, replace(bench.version, images=(*others, *images)))
    name = _write_trained(bench, "mine", errs_by=1.0, version_id=_ids(bench)[-1])

    report = evaluate(bench.context, model=name, version="v1", split="test")

    assert report.notes[0] == said
    assert sum("too good" in note for note in report.notes) == 1


def test_a_second_evaluation_looks_at_nothing_and_says_the_same(bench: Bench) -> None:
    first = evaluate(bench.context)
    for image in bench.version.images:
        image.path.unlink(missing_ok=True)

    assert evaluate(bench.context).notes[0] == first.notes[0]


def test_an_image_that_changed_since_it_was_frozen_is_reported_and_left_out(bench: Bench) -> None:
    changed, gone = (bench.version.images[place].path for place in (3, 5))
    changed.write_bytes(bench.version.images[4].path.read_bytes())
    gone.unlink()

    report = evaluate(bench.context)

    assert report.moved == TEST_IMAGES - 2
    problems = {failure.item: failure.problem for failure in report.failed}
    assert problems[str(changed)] == "is not the file that was frozen: its content changed"
    assert set(problems) == {str(changed), str(gone)}
    changed.write_bytes(b"")
    assert len(evaluate(bench.context).failed) == 2


def test_a_better_model_takes_over_is_registered_and_what_is_not_reviewed_is_drawn_anew(bench: Bench) -> None:
    better = bench.write_candidate("better", errs_by=1.0)

    report = promote_path(bench, better)

    new, old = compute_version(better), compute_version(bench.current)
    assert report.is_clean, list(report.lines())
    assert (report.moved, bench.read_current(), bench.backend.loaded) == (1, new, [new])
    registry = Registry(bench.home)
    assert registry.ids() == sorted([new, old])
    card = registry.read(new)
    assert (card.decision, card.registered_by, card.forced_by, card.replaces) == ("better", "ana", None, old)
    assert (card.tested_on, card.licence, card.thresholds) == (bench.version.id, "MIT", {"car": 0.8999})
    assert card.comparison is not None
    assert card.comparison.low is not None
    assert card.comparison.low > 0
    sheet = (registry.folder_of(new) / "card.md").read_text()
    assert "| car | 40 |" in sheet
    assert (registry.folder_of(new) / "precision-recall.svg").read_bytes().startswith(b"<?xml")
    assert bench.runs() == [("prelabel", "queued", {"unreviewed": True})]
    (promotion,) = bench.context.ledger.promotions()
    assert (promotion.model, promotion.previous, promotion.action, promotion.promoted_by) == (
        new,
        old,
        "promoted",
        "ana",
    )
    # It is found by its name, and served with the thresholds that were chosen.
    assert resolve_weights(new, models_dir=bench.home.models, is_offline=True).version == new


def test_a_model_that_is_no_better_stays_out_and_the_reason_is_told(bench: Bench) -> None:
    worse = bench.write_candidate("worse", errs_by=10.0)

    report = promote_path(bench, worse)

    (failure,) = report.failed
    assert failure.item == compute_version(worse)
    assert failure.problem.startswith("not better: mAP50-95 ")
    assert (bench.read_current(), bench.backend.loaded, bench.runs()) == (str(bench.current), [], [])
    assert Registry(bench.home).ids() == []
    assert "to promote it all the same: --force --reason TEXT" in report.notes


def test_a_dry_run_says_what_the_gate_says_and_changes_nothing(bench: Bench) -> None:
    better, worse = bench.write_candidate("better", errs_by=1.0), bench.write_candidate("worse", errs_by=12.0)

    assert (promote_path(bench, better, dry_run=True).moved, promote_path(bench, worse, dry_run=True).moved) == (1, 0)
    assert (Registry(bench.home).ids(), bench.backend.loaded, bench.context.ledger.promotions()) == ([], [], [])


def test_who_forced_a_model_and_why_is_kept(bench: Bench) -> None:
    worse = bench.write_candidate("worse", errs_by=10.0)

    with pytest.raises(LabelingError, match="--reason"):
        promote_path(bench, worse, force=True)
    report = promote_path(bench, worse, force=True, reason="sees dogs")

    card = Registry(bench.home).read(compute_version(worse))
    assert report.moved == 1
    assert (card.decision, card.forced_by, card.forced_reason) == ("not better", "ana", "sees dogs")
    assert "- Forced: by ana: sees dogs" in (Registry(bench.home).folder_of(card.id) / "card.md").read_text()
    (promotion,) = bench.context.ledger.promotions()
    assert (promotion.action, promotion.reason, promotion.verdict["decision"]) == ("forced", "sees dogs", "not better")


def test_too_few_test_images_decide_nothing(bench: Bench) -> None:
    small = make_version(bench.folder / "few", test=10, number=2)
    write_version(bench.home, small)

    report = promote_path(bench, bench.write_candidate("better", errs_by=0.0), version="v2")

    (failure,) = report.failed
    assert failure.problem == "undecided: 10 test images are too few to decide (expected at least 30)"


def test_a_model_that_learned_from_test_images_is_refused(bench: Bench) -> None:
    # The same pictures, those of the test split among what was learned from.
    other = replace(
        bench.version, images=tuple(replace(image, split="train") for image in bench.version.images), id="v2-00000000"
    )
    _write_frozen(bench, other)
    candidate = _write_trained(bench, "leaky", errs_by=1.0, version_id=_ids(bench)[-1])

    with pytest.raises(LabelingError, match=f"learned from {TEST_IMAGES} images of the test split"):
        promote(bench.context, candidate=candidate, version="v1")


def _ids(bench: Bench) -> list[str]:
    from sync.versions.manifest import list_versions

    return list_versions(bench.home)


def _write_frozen(bench: Bench, version: Any) -> None:
    from sync.versions.manifest import compute_content_sha256

    digest = compute_content_sha256(version)
    write_version(bench.home, replace(version, id=f"v2-{digest[:8]}", content_sha256=digest))


def _write_trained(bench: Bench, name: str, *, errs_by: float, version_id: str) -> str:
    folder = candidates_dir(bench.home) / name
    weights = write_detector(folder / f"{name}.onnx", errs_by=errs_by)
    candidate = Candidate(
        id=name,
        folder=folder,
        state="trained",
        version_id=version_id,
        model="made.pt",
        family="ultralytics",
        classes=("car", "dog"),
        seed=0,
        task="detect",
        weights=weights.name,
        model_version=compute_version(weights),
        licence="Apache-2.0",
        base_version="base-00000000",
    )
    candidate.write()
    return name


def test_a_candidate_is_judged_by_the_version_it_learned_from_and_its_card_says_from_what(bench: Bench) -> None:
    newer = make_version(bench.folder / "newer", test=31, number=2)
    write_version(bench.home, newer)
    name = _write_trained(bench, "mine", errs_by=1.0, version_id=bench.version.id)

    report = promote(bench.context, candidate=name, by="ana")

    card = Registry(bench.home).read(bench.read_current())
    assert report.moved == 1
    assert report.notes[0].startswith(f"candidate {name}, model {card.id} against ")
    assert (card.trained_on, card.tested_on) == (bench.version.id, bench.version.id)
    assert (card.source, card.base_version, card.licence) == ("candidate mine", "base-00000000", "Apache-2.0")


def test_the_way_back_goes_one_model_further_each_time(bench: Bench) -> None:
    names = [str(bench.current)]
    for number, errs_by in enumerate((3.0, 1.0)):
        path = bench.write_candidate(f"model{number}", errs_by=errs_by)
        assert promote_path(bench, path).moved == 1
        names.append(compute_version(path))

    assert rollback(bench.context, by="ben", reason="too slow").moved == 1
    assert bench.read_current() == names[1]
    assert rollback(bench.context).moved == 1
    assert bench.read_current() == compute_version(bench.current)
    with pytest.raises(LabelingError, match=r"no model was before it; name one of the registered ones with --to"):
        rollback(bench.context)

    last, before, *_ = bench.context.ledger.promotions()
    assert (last.action, last.model, before.promoted_by, before.reason) == (
        "rolled back",
        compute_version(bench.current),
        "ben",
        "too slow",
    )
    assert rollback(bench.context, to=names[2]).moved == 1
    assert bench.backend.loaded[-1] == names[2]


def test_a_model_that_is_current_already_is_not_promoted_again(bench: Bench) -> None:
    better = bench.write_candidate("better", errs_by=1.0)
    promote_path(bench, better)

    again = promote_path(bench, better)

    assert (again.moved, again.unchanged, len(bench.context.ledger.promotions())) == (0, 1, 1)


class KilledError(BaseException):
    """Stands for the end of the process."""


def kill_at(bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str, work: Callable[[], Any]) -> None:
    """Do the work with a process that ends where the ledger is asked for this."""

    def end(*_: Any, **__: Any) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(type(bench.context.ledger), name, end)
        with pytest.raises(KilledError):
            work()


@pytest.mark.parametrize("killed_at", ["record_changing", "record_run_queued", "record_promotion"])
def test_a_promotion_that_was_ended_before_the_ledger_knew_is_finished(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    better = bench.write_candidate("better", errs_by=1.0)
    kill_at(bench, monkeypatch, killed_at, lambda: promote_path(bench, better))

    report = promote_path(bench, better)

    (promotion,) = bench.context.ledger.promotions()
    assert (report.moved, promotion.model, promotion.previous, promotion.promoted_by) == (
        1,
        compute_version(better),
        compute_version(bench.current),
        "ana",
    )
    assert promotion.verdict["decision"] == "better"
    assert bench.runs() == [("prelabel", "queued", {"unreviewed": True})]
    assert promote_path(bench, better).unchanged == 1


@pytest.mark.parametrize("killed_at", ["record_changing", "record_run_queued", "record_promotion"])
def test_a_roll_back_that_was_ended_on_its_way_goes_back_one_model_and_no_further(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    names = []
    for number, errs_by in enumerate((3.0, 1.0)):
        path = bench.write_candidate(f"model{number}", errs_by=errs_by)
        assert promote_path(bench, path).moved == 1
        names.append(compute_version(path))
    kill_at(bench, monkeypatch, killed_at, lambda: rollback(bench.context, by="ben", reason="too slow"))

    assert rollback(bench.context, dry_run=True).moved == 1
    report = rollback(bench.context, by="ben", reason="too slow")

    last, *_ = bench.context.ledger.promotions()
    assert (report.moved, bench.read_current(), bench.backend.loaded[-1]) == (1, names[0], names[0])
    assert (last.model, last.previous, last.action, last.promoted_by) == (names[0], names[1], "rolled back", "ben")
    assert len(bench.context.ledger.promotions()) == 3
    # The next one goes further back.
    rollback(bench.context)
    assert bench.read_current() == compute_version(bench.current)


def test_a_promotion_that_was_ended_on_its_way_can_be_rolled_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    better = bench.write_candidate("better", errs_by=1.0)
    kill_at(bench, monkeypatch, "record_promotion", lambda: promote_path(bench, better))

    rollback(bench.context)

    assert bench.read_current() == compute_version(bench.current)
    assert [one.action for one in bench.context.ledger.promotions()] == ["rolled back", "promoted"]


def test_a_registered_model_that_somebody_started_the_stack_with_is_no_promotion_that_was_begun(bench: Bench) -> None:
    names = []
    for number, errs_by in enumerate((3.0, 1.0)):
        path = bench.write_candidate(f"model{number}", errs_by=errs_by)
        promote_path(bench, path)
        names.append(compute_version(path))
    before = bench.context.ledger.promotions()
    # As labelloop up --model does.
    replace(bench.context.project, model=names[0]).write(bench.home)

    report = promote(bench.context, candidate=names[0], by="ana")

    assert (report.moved, report.unchanged, report.notes) == (0, 1, (f"{names[0]} is the current model already",))
    assert bench.context.ledger.promotions() == before


def test_the_same_promotion_is_noted_again_where_somebody_had_started_the_stack_with_the_old_model(
    bench: Bench,
) -> None:
    better = bench.write_candidate("better", errs_by=1.0)
    assert promote_path(bench, better).moved == 1
    # As labelloop up --model does.
    replace(bench.context.project, model=str(bench.current)).write(bench.home)
    bench.backend.model_version = compute_version(bench.current)

    promote_path(bench, better, by="ben")

    assert [one.promoted_by for one in bench.context.ledger.promotions()] == ["ben", "ana"]


def test_a_name_that_no_registered_model_can_have_is_refused_before_anything_is_looked_at(bench: Bench) -> None:
    seen: list[str] = []

    with pytest.raises(LabelingError, match="is no name of a registered model"):
        promote_path(
            bench, bench.write_candidate("-best", errs_by=1.0), on_progress=lambda _, message: seen.append(message)
        )
    assert not any("looks at the images" in message for message in seen)


def test_weights_whose_name_begins_with_a_letter_of_another_alphabet_are_promoted(bench: Bench) -> None:
    assert promote_path(bench, bench.write_candidate("über", errs_by=1.0)).moved == 1
    assert resolve_weights(bench.read_current(), models_dir=bench.home.models, is_offline=True).registered is not None


def test_a_backend_that_cannot_load_it_leaves_everything_as_it_was(bench: Bench) -> None:
    class Refusing(type(bench.backend)):  # type: ignore[misc]  # the fake's own class
        def load(self, model: str) -> None:
            raise ServiceError("no weights")

    bench.backend.__class__ = Refusing

    with pytest.raises(ServiceError, match="no weights"):
        promote_path(bench, bench.write_candidate("better", errs_by=1.0))

    assert bench.read_current() == str(bench.current)
    assert (bench.context.ledger.promotions(), bench.runs()) == ([], [])


def test_a_registered_file_that_was_changed_is_not_loaded(bench: Bench) -> None:
    better = bench.write_candidate("better", errs_by=1.0)
    promote_path(bench, better)
    registered = Registry(bench.home).folder_of(bench.read_current()) / better.name
    registered.write_bytes(registered.read_bytes() + b"x")

    with pytest.raises(LabelingError, match="is not the file that was promoted"):
        resolve_weights(bench.read_current(), models_dir=bench.home.models, is_offline=True)


def test_a_card_is_read_as_it_was_written_and_a_damaged_one_is_named(bench: Bench) -> None:
    promote_path(bench, bench.write_candidate("better", errs_by=1.0))
    registry, name = Registry(bench.home), bench.read_current()
    path = registry.folder_of(name) / "card.json"

    written = json.loads(path.read_text())
    assert registry.read(name).to_dict() == written
    path.write_text("{}")
    with pytest.raises(LabelingError, match=r"card.json: is damaged"):
        registry.read(name)
    with pytest.raises(LabelingError, match=r"card.json: is damaged"):
        resolve_weights(name, models_dir=bench.home.models, is_offline=True)
    for bad in ("../../etc", "nothing-00000000"):
        with pytest.raises(LabelingError):
            registry.read(bad)


def test_what_is_half_written_is_no_registered_model(bench: Bench) -> None:
    better = bench.write_candidate("better", errs_by=1.0)
    folder = Registry(bench.home).folder_of(compute_version(better))
    folder.mkdir(parents=True)
    (folder / better.name).write_bytes(b"half")

    assert Registry(bench.home).ids() == []
    assert promote_path(bench, better).moved == 1
    assert (folder / better.name).read_bytes() == better.read_bytes()


def test_an_ensemble_is_refused_before_anything_is_looked_at(bench: Bench) -> None:
    paths = [str(bench.write_candidate(name, errs_by=1.0)) for name in ("one", "two")]

    with pytest.raises(LabelingError, match="is an ensemble"):
        promote(bench.context, candidate=",".join(paths))


def test_a_model_promoted_meanwhile_stops_the_one_that_was_judged_against_another(bench: Bench) -> None:
    better = bench.write_candidate("better", errs_by=1.0)
    seen: list[str] = []

    def promote_another(_: float | None, message: str) -> None:
        if "drawn anew" in message and not seen:
            seen.append(message)
            replace(bench.context.project, model="other").write(bench.home)

    with pytest.raises(LabelingError, match="another model took the place"):
        promote_path(bench, better, on_progress=promote_another)
    assert bench.backend.loaded == []


def test_a_cancelled_promotion_changes_nothing(bench: Bench) -> None:
    class StoppedError(Exception):
        pass

    def cancel(_: float | None, message: str) -> None:
        if "looks at the images, 30" in message:
            raise StoppedError

    with pytest.raises(StoppedError):
        promote_path(bench, bench.write_candidate("better", errs_by=1.0), on_progress=cancel)

    assert (bench.read_current(), bench.backend.loaded, Registry(bench.home).ids()) == (str(bench.current), [], [])


@pytest.mark.parametrize(
    ("job", "params", "problem"),
    [
        ("evaluate", {"model": "/etc/passwd"}, "only the command line may name a path"),
        ("promote", {"candidate": "../best.pt"}, "only the command line may name a path"),
        ("promote", {"candidate": "~/best.pt"}, "only the command line may name a path"),
        ("train", {"model": "/models/best.pt"}, "only the command line may name a path"),
        ("train", {"model": "timm:resnet50", "weights": "resnet50.pth"}, "only the command line may name a file"),
        ("promote", {"candidate": "best", "trust": True}, "only the command line may let weights in"),
        ("promote", {"candidate": "best", "margin": 2}, "expected a number from 0 to 1"),
        ("promote", {"candidate": "best", "confidence": 0.1}, "confidence is from 0.5"),
        ("promote", {}, "'candidate': expected a text"),
        ("promote", {"candidate": "best", "force": True}, "force needs a reason"),
        ("evaluate", {"split": "all"}, "split 'all' is not known"),
        ("rollback", {"from": "x"}, "'from' is not known"),
    ],
)
def test_what_a_job_cannot_be_given_is_refused_before_it_waits(job: str, params: dict[str, Any], problem: str) -> None:
    with pytest.raises(LabelingError, match=problem):
        check_params(job, params)


def test_a_run_that_the_command_line_began_may_be_repeated_with_its_path() -> None:
    check_params("promote", {"candidate": "/models/best.pt"}, is_again=True)
    check_params("train", {"model": "/models/best.pt"}, is_again=True)
    check_params("train", {"model": "timm:resnet50", "weights": "/models/resnet50.pth"}, is_again=True)


@pytest.mark.parametrize("name", ["yolo11n.pt", "timm:efficientnet_b2", "net-1a2b3c4d"])
def test_known_names_and_candidates_may_be_trained_from_anywhere(name: str) -> None:
    check_params("train", {"model": name})


def test_rolling_back_to_a_model_that_is_not_registered_is_refused(bench: Bench) -> None:
    with pytest.raises(LabelingError, match=r"'yolo11n' is not registered \(registered: none yet\)"):
        rollback(bench.context, to="yolo11n")
    assert bench.backend.loaded == []
