"""The operators and panels of quality and clean through FiftyOne's own loader and executor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image, ImageFilter

from fiftyone_plugins.app.work import Tools, find_work
from fiftyone_plugins.clean.memory import view_unsure
from fiftyone_plugins.quality.proposals import Rules, propose, read_scored
from fiftyone_plugins.quality.views import count_over, view_trash
from tests.fiftyone_plugins.test_quality_checks import make_large_photo
from tests.fiftyone_plugins.test_review_operators import resolve_form, run_as_the_app

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # FiftyOne's own

QUALITY, CLEAN = "@labelloop/quality", "@labelloop/clean"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder, and no console."""
    monkeypatch.setenv("LABELLOOP_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LABELLOOP_CONSOLE_URL", raising=False)
    return tmp_path / "home"


@pytest.fixture
def photos(fiftyone: Any, tmp_path: Path) -> Iterator[Any]:
    """A good photo, a blurred one and a black one, in folders «person» and «others», with boxes of a detector."""
    dataset = fiftyone.Dataset("curated")
    good = make_large_photo()
    pictures = [good, good.filter(ImageFilter.GaussianBlur(9)), Image.new("RGB", (1200, 750))]
    samples = []
    for number, picture in enumerate(pictures):
        path = tmp_path / ("person" if number < 2 else "others") / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        picture.save(path)
        box = fiftyone.Detection(label="person", bounding_box=[0.1, 0.1, 0.5, 0.5], confidence=[0.9, 0.1, 0.8][number])
        samples.append(
            fiftyone.Sample(
                filepath=str(path), predictions=fiftyone.Detections(detections=[box] if number != 1 else [])
            )
        )
    dataset.add_samples(samples, progress=False)
    yield dataset
    dataset.delete()


@dataclass
class State:
    """The state of a panel, as the App keeps it."""

    values: dict[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        return self.__dict__["values"].get(name)

    def __setattr__(self, name: str, value: Any) -> None:
        (self.__dict__ if name == "values" else self.__dict__["values"])[name] = value

    def clear(self) -> None:
        self.values.clear()


class Ops:
    """Keeps what a panel tells the App to do."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *given, **named: self.told.append((name, given[0] if given else named))


def open_panel(fiftyone: Any, uri: str, dataset: Any) -> tuple[Any, Any]:
    """Return a panel that was loaded, and the context it acts in."""
    panel = fiftyone.operators.get_operator(uri)
    shown = {"dataset": dataset, "view": dataset.view(), "selected": []}
    ctx = SimpleNamespace(panel=SimpleNamespace(state=State()), ops=Ops(), params={}, prompt=Ops().prompt, **shown)
    panel.on_load(ctx)
    return panel, ctx


def list_parts(panel: Any, ctx: Any) -> set[str]:
    return set(panel.render(ctx).to_json()["type"]["properties"])


# Quality


def test_images_are_measured_and_tagged_from_the_app_without_a_console(fiftyone: Any, photos: Any) -> None:
    form = resolve_form(fiftyone, f"{QUALITY}/check_quality", photos)
    first = run_as_the_app(fiftyone, f"{QUALITY}/check_quality", photos)
    photos.reload()
    tag = resolve_form(fiftyone, f"{QUALITY}/tag_trash", photos)
    run_as_the_app(fiftyone, f"{QUALITY}/tag_trash", photos)

    told = "3 images will be read, and those whose files changed; no file is written to."
    assert form["summary"]["view"]["label"] == told
    assert [name for name, _ in first][-3:] == ["show_output", "notify", "reload_dataset"]
    assert tag["summary"]["view"]["label"].startswith("2 of 3 images would be tagged «trash».")
    assert tag["threshold_blurry"]["view"]["label"] == "blurry: 1 from 0.6 on"
    assert photos.match_tags("trash").count() == 2
    assert "There is no decision" not in str(resolve_form(fiftyone, f"{QUALITY}/untag_trash", photos))
    run_as_the_app(fiftyone, f"{QUALITY}/untag_trash", photos, params={"run": "trash-1"})
    assert photos.match_tags("trash").count() == 0


def test_the_count_in_the_form_follows_the_sliders(fiftyone: Any, photos: Any) -> None:
    run_as_the_app(fiftyone, f"{QUALITY}/check_quality", photos)
    photos.reload()
    params = {"checks": ["bright"], "threshold_bright": 0.99}
    form = resolve_form(fiftyone, f"{QUALITY}/tag_trash", photos, params=params)

    assert form["summary"]["view"]["label"].startswith("0 of 3 images would be tagged")
    assert form["problem"]["view"]["label"] == "No image reaches a threshold."
    assert "threshold_dark" not in form


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        (f"{QUALITY}/tag_trash", "No image was measured yet: run «Check image quality» first."),
        (f"{QUALITY}/untag_trash", "There is no decision to take back."),
        (f"{QUALITY}/learn_ratings", "No image has an embedding yet: run «Compute embeddings» first."),
        (f"{QUALITY}/write_examples", "No image was measured yet: run «Check image quality» first."),
        (f"{CLEAN}/check_claims", "Give at least one class."),
        (f"{CLEAN}/act_on_contradictions", "Nothing was judged yet: run «Check claims» first."),
        (f"{CLEAN}/undo_claims", "There is no decision to take back."),
    ],
)
def test_what_is_missing_is_a_sentence_in_the_form(fiftyone: Any, photos: Any, uri: str, problem: str) -> None:
    assert resolve_form(fiftyone, uri, photos)["problem"]["view"]["label"] == problem


@pytest.mark.parametrize(
    "rules",
    [
        Rules(),
        Rules({"dark": 0.9}),
        Rules({}),
        Rules({"blurry": 0.99}, below_mean=5),
        Rules({}, worst_percent=50),
    ],
)
def test_the_database_counts_what_the_rules_propose(fiftyone: Any, photos: Any, tmp_path: Path, rules: Rules) -> None:
    find_work("quality").perform(photos, {}, Tools(tmp_path / "curation"))
    photos.reload()
    photos.set_values("aesthetic_mean", [6.0, 3.0, None])
    photos.set_values("quality", [None, None, fiftyone.Classification(label="keep")])
    scored = read_scored(photos)
    proposed = [one.sample_id for one in propose(scored, rules) if one.word == "trash"]

    assert view_trash(photos, rules).values("id") == proposed
    for limit in (0.0, 0.6, 0.9):
        for name, count in count_over(photos, {"dark": limit, "blurry": limit}).items():
            assert count == sum((score := one.scores[name]) is not None and score >= limit for one in scored)


def test_the_quality_panel_shows_scores_and_filters_the_grid(fiftyone: Any, photos: Any) -> None:
    panel, ctx = open_panel(fiftyone, f"{QUALITY}/quality", photos)
    assert "histogram" not in list_parts(panel, ctx)
    run_as_the_app(fiftyone, f"{QUALITY}/check_quality", photos)
    ctx.params = {"value": "dark"}
    panel.choose_check(ctx)
    assert {"histogram", "over_chart", "threshold_dark"} <= list_parts(panel, ctx)
    assert sum(ctx.panel.state.counts) == 3
    assert ctx.panel.state.counts[-1] == 1

    ctx.params = {"idx": 19}
    panel.show_bar(ctx)
    name, view = ctx.ops.told[-1]
    assert (name, view.values("id")) == ("set_view", photos.values("id")[2:])
    ctx.params = {"path": "threshold_dark", "value": 0.0}
    panel.choose_threshold(ctx)
    assert ctx.panel.state.over["dark"] == 3


def test_selected_images_are_kept_or_trashed_by_hand(fiftyone: Any, photos: Any) -> None:
    run_as_the_app(fiftyone, f"{QUALITY}/check_quality", photos)
    panel, ctx = open_panel(fiftyone, f"{QUALITY}/quality", photos)
    panel.keep_selected(ctx)
    assert ctx.ops.told[-1][0] == "notify"
    ctx.selected = photos.values("id")[1:]
    panel.trash_selected(ctx)
    assert photos.match_tags("trash").count() == 2
    ctx.selected = photos.values("id")[2:]
    panel.keep_selected(ctx)

    assert photos.count_sample_tags() == {"trash": 1, "keep": 1}
    panel.keep_selected(ctx)
    assert ctx.ops.told[-1] == ("notify", "All of them are kept already.")
    run_as_the_app(fiftyone, f"{QUALITY}/untag_trash", photos, params={"run": "keep-1"})
    assert photos.count_sample_tags() == {"trash": 2}
    panel.keep_selected(ctx)
    run_as_the_app(fiftyone, f"{QUALITY}/untag_trash", photos, params={"run": "trash-1"})
    assert photos.count_sample_tags() == {"keep": 1}


def test_of_selected_crops_the_images_are_trashed(fiftyone: Any, photos: Any) -> None:
    panel, ctx = open_panel(fiftyone, f"{QUALITY}/quality", photos)
    ctx.view = photos.to_patches("predictions")
    ctx.selected = ctx.view.values("id")[:1]
    panel.trash_selected(ctx)

    assert photos.values("tags") == [["trash"], [], []]


@pytest.mark.parametrize("by_name", [True, False])
def test_work_on_a_view_of_crops_is_done_on_the_images_they_were_cut_from(
    fiftyone: Any, photos: Any, by_name: bool
) -> None:
    crops = photos.to_patches("predictions")
    photos.save_view("crops", crops)
    check = fiftyone.operators.get_operator(f"{QUALITY}/check_quality")
    report = check(photos, view="crops") if by_name else check(crops)

    assert report["moved"] == 2
    assert [one is None for one in photos.values("quality_dark")] == [False, True, False]
    assert not crops._dataset.has_sample_field("quality_dark")


def test_keeping_what_was_kept_and_trashed_takes_the_trash_off_and_comes_back_whole(fiftyone: Any, photos: Any) -> None:
    panel, ctx = open_panel(fiftyone, f"{QUALITY}/quality", photos)
    photos.limit(1).tag_samples(["keep", "trash"])
    ctx.selected = photos.values("id")[:1]
    panel.keep_selected(ctx)
    kept = photos.count_sample_tags()
    run_as_the_app(fiftyone, f"{QUALITY}/untag_trash", photos, params={"run": "keep-1"})

    assert kept == {"keep": 1}
    assert photos.count_sample_tags() == {"keep": 1, "trash": 1}


def test_a_threshold_of_zero_is_shown_as_zero(fiftyone: Any, photos: Any) -> None:
    run_as_the_app(fiftyone, f"{QUALITY}/check_quality", photos)
    panel, ctx = open_panel(fiftyone, f"{QUALITY}/quality", photos)
    ctx.params = {"path": "threshold_blurry", "value": 0.0}
    panel.choose_threshold(ctx)

    assert panel.render(ctx).to_json()["type"]["properties"]["threshold_blurry"]["default"] == 0.0


def test_a_slider_that_the_app_draws_anew_changes_nothing_and_asks_for_nothing(fiftyone: Any, photos: Any) -> None:
    run_as_the_app(fiftyone, f"{QUALITY}/check_quality", photos)
    panel, ctx = open_panel(fiftyone, f"{QUALITY}/quality", photos)
    panel.forget_threshold(ctx)
    before, told = dict(ctx.panel.state.values), len(ctx.ops.told)
    assert before["threshold_blurry"] == 0.6
    for path, value in (("threshold_blurry", 0.6), ("threshold_blurry", 1), ("threshold_dark", 0.7)):
        ctx.params = {"path": path, "value": value}
        panel.choose_threshold(ctx)

    assert (ctx.panel.state.values, len(ctx.ops.told)) == (before, told)
    assert "threshold_blurry" not in list_parts(panel, ctx)
    panel.restore_threshold(ctx)
    assert panel.render(ctx).to_json()["type"]["properties"]["threshold_blurry"]["default"] == 0.6


def test_where_no_check_is_a_reason_any_more_nothing_is_proposed(fiftyone: Any, photos: Any) -> None:
    run_as_the_app(fiftyone, f"{QUALITY}/check_quality", photos)
    panel, ctx = open_panel(fiftyone, f"{QUALITY}/quality", photos)
    for name in list(ctx.panel.state.thresholds):
        ctx.panel.state.check = name
        panel.forget_threshold(ctx)
    panel.refresh(ctx)

    assert ctx.panel.state.thresholds == {}
    assert "**0** proposed as trash" in ctx.panel.state.summary
    assert {"histogram", "restore"} <= list_parts(panel, ctx)
    panel.show_trash(ctx)
    assert ctx.ops.told[-1][1].values("id") == []
    panel.restore_threshold(ctx)
    assert ctx.panel.state.thresholds == {"corrupt": 0.5}


def test_another_dataset_begins_anew(fiftyone: Any, photos: Any) -> None:
    panel, ctx = open_panel(fiftyone, f"{QUALITY}/quality", photos)
    ctx.params = {"path": "threshold_blurry", "value": 0.1}
    panel.choose_threshold(ctx)
    assert 0.1 in ctx.panel.state.thresholds.values()
    panel.on_change_dataset(ctx)

    assert 0.1 not in ctx.panel.state.thresholds.values()


def test_before_anything_is_measured_the_grid_stays_and_the_panel_says_what_to_do(fiftyone: Any, photos: Any) -> None:
    panel, ctx = open_panel(fiftyone, f"{QUALITY}/quality", photos)
    panel.show_trash(ctx)
    assert ctx.ops.told[-1][0] == "notify"
    assert "Check image quality" in ctx.ops.told[-1][1]


# Clean


CLAIM = {"classes": "person", "kind": "folder", "seen_in": "predictions"}


def test_claims_are_checked_and_acted_on_from_the_app_without_a_console(fiftyone: Any, photos: Any) -> None:
    form = resolve_form(fiftyone, f"{CLEAN}/check_claims", photos, params={"classes": "person", "kind": "folder"})
    run_as_the_app(fiftyone, f"{CLEAN}/check_claims", photos, params=CLAIM)
    photos.reload()
    act = resolve_form(fiftyone, f"{CLEAN}/act_on_contradictions", photos)
    run_as_the_app(fiftyone, f"{CLEAN}/act_on_contradictions", photos, params={"action": "retag"})

    assert form["problem"]["view"]["label"].startswith("Without labelloop's console there is no detector")
    assert photos.values("clean_outcome") == ["true positive", "false negative", "false positive"]
    assert act["summary"]["view"]["label"].startswith("2 images will be changed, 0 need nothing.")
    assert photos.count_sample_tags() == {"with person": 1, "without person": 1}
    run_as_the_app(fiftyone, f"{CLEAN}/undo_claims", photos, params={"run": "retag-1"})
    assert photos.count_sample_tags() == {}


def test_the_form_counts_only_what_is_new_where_asked(fiftyone: Any, photos: Any) -> None:
    def ask() -> str:
        form = resolve_form(fiftyone, f"{CLEAN}/check_claims", photos, params=CLAIM | {"only_new": True})
        return str(form["summary"]["view"]["label"])

    before = ask()
    run_as_the_app(fiftyone, f"{CLEAN}/check_claims", photos, params=CLAIM)
    photos.reload()
    photos.set_values("clean_about", [photos.first().clean_about, None, None])

    assert before == "3 images will be looked at; no file is changed."
    assert ask() == "2 images will be looked at; no file is changed."


def test_nobody_can_name_a_folder_to_write_to_in_the_app(fiftyone: Any, photos: Any, tmp_path: Path) -> None:
    run_as_the_app(fiftyone, f"{CLEAN}/check_claims", photos, params=CLAIM)
    params = {"action": "copy", "to": str(tmp_path / "elsewhere")}
    run_as_the_app(fiftyone, f"{CLEAN}/act_on_contradictions", photos, params=params)

    assert not (tmp_path / "elsewhere").exists()
    assert (tmp_path / "person-without-person" / "1.png").is_file()


def test_the_claims_panel_filters_the_grid_and_takes_a_persons_word(fiftyone: Any, photos: Any) -> None:
    panel, ctx = open_panel(fiftyone, f"{CLEAN}/claims", photos)
    assert "table" not in list_parts(panel, ctx)
    run_as_the_app(fiftyone, f"{CLEAN}/check_claims", photos, params=CLAIM)
    panel.refresh(ctx)
    assert {"table", "row0"} <= list_parts(panel, ctx)
    assert ctx.panel.state.cells == [[1, 0, 1], [1, 0, 0]]
    assert [one["text"].splitlines()[0] for one in ctx.panel.state.shown] == [
        "**1.00** person claimed, and not seen",
        "**0.80** person seen, though not claimed",
    ]

    ctx.params = {"x": "seen", "y": "not claimed: person"}
    panel.show_cell(ctx)
    assert ctx.ops.told[-1][1].values("id") == photos.values("id")[2:]
    ctx.params = {"sample_id": photos.values("id")[1]}
    panel.confirm(ctx)
    assert [one["sample_id"] for one in ctx.panel.state.shown] == photos.values("id")[2:]
    run_as_the_app(fiftyone, f"{CLEAN}/act_on_contradictions", photos, params={"action": "retag"})
    assert photos.count_sample_tags() == {"claim confirmed: with person": 1, "with person": 1}


def test_the_claims_panel_and_the_unsure_ones_are_of_the_last_question(fiftyone: Any, photos: Any) -> None:
    run_as_the_app(fiftyone, f"{CLEAN}/check_claims", photos, params=CLAIM | {"threshold": 0.95, "unsure_from": 0.85})
    first = {"target": "selected", "classes": "car", "kind": "all"}
    run_as_the_app(fiftyone, f"{CLEAN}/check_claims", photos, params=CLAIM | first, selected=photos.values("id")[:1])
    photos.reload()
    panel, ctx = open_panel(fiftyone, f"{CLEAN}/claims", photos)

    assert ctx.panel.state.cells == [[0, 0, 1], [0, 0, 0]]
    assert "**1** images judged" in ctx.panel.state.told
    assert [one["sample_id"] for one in ctx.panel.state.shown] == photos.values("id")[:1]
    panel.show_contradictions(ctx)
    assert ctx.ops.told[-1][1].values("id") == photos.values("id")[:1]
    assert view_unsure(photos).values("id") == []


def test_a_confirmed_claim_says_nothing_for_a_claim_of_the_opposite(fiftyone: Any, photos: Any) -> None:
    panel, ctx = open_panel(fiftyone, f"{CLEAN}/claims", photos)
    run_as_the_app(fiftyone, f"{CLEAN}/check_claims", photos, params=CLAIM)
    panel.refresh(ctx)
    ctx.params = {"sample_id": photos.values("id")[2]}
    panel.confirm(ctx)
    panel.confirm(ctx)
    assert photos.values("tags") == [[], [], ["claim confirmed: without person"]]
    photos.set_values("predictions", [None, None, fiftyone.Detections()])
    run_as_the_app(fiftyone, f"{CLEAN}/check_claims", photos, params=CLAIM | {"kind": "all"})
    panel.refresh(ctx)

    assert [one["sample_id"] for one in ctx.panel.state.shown] == photos.values("id")[2:]


def test_a_panel_whose_fields_a_person_deleted_begins_anew(fiftyone: Any, photos: Any) -> None:
    run_as_the_app(fiftyone, f"{CLEAN}/check_claims", photos, params=CLAIM)
    photos.reload()
    photos.delete_sample_field("clean_outcome")
    panel, ctx = open_panel(fiftyone, f"{CLEAN}/claims", photos)

    assert "table" not in list_parts(panel, ctx)
    run_as_the_app(fiftyone, f"{CLEAN}/check_claims", photos, params=CLAIM)
    panel.refresh(ctx)
    assert ctx.panel.state.cells == [[1, 0, 1], [1, 0, 0]]
