"""What all plugins share: the log of decisions, and what every panel does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fiftyone_plugins.app.journal import (
    Journal,
    find_standing,
    list_decided,
    list_standing,
    mark_undone,
    read_decided,
    to_folder,
)
from fiftyone_plugins.app.panels import CurationPanel, tell_problems
from labels.errors import LabelingError
from tests.fiftyone_plugins.panel_contexts import open_panel

PANELS = [
    "@labelloop/clean/claims",
    "@labelloop/duplicates/duplicates",
    "@labelloop/embeddings/clusters",
    "@labelloop/mistakes/mistakes",
    "@labelloop/quality/quality",
    "@labelloop/zeroshot/agreement",
]

# The log of a decision


def test_half_a_line_of_a_killed_process_is_nobodys_change(tmp_path: Path) -> None:
    journal = Journal.begin(tmp_path, "a/b", "move", {"classes": ["person"]})
    journal.add([{"sample_id": "1"}])
    with journal.file.open("a") as stream:
        stream.write('{"sample_id": "2", "to')
    assert read_decided(tmp_path, "a/b", "move-1").end is None
    journal.add([{"sample_id": "3"}])
    journal.close("done")

    decided = read_decided(tmp_path, "a/b", "move-1")
    assert (decided.about, decided.end) == ({"classes": ["person"]}, "done")
    assert decided.changes == ({"sample_id": "1"}, {"sample_id": "3"})


def test_a_log_that_lost_its_first_line_with_the_power_is_no_decision(tmp_path: Path) -> None:
    Journal.begin(tmp_path, "a", "move", {}).add([{"sample_id": "1"}])
    (to_folder(tmp_path, "a") / "move-2.jsonl").touch()

    assert [one.run for one in list_standing(tmp_path, "a", "move")] == ["move-1"]
    assert Journal.begin(tmp_path, "a", "move", {}).run == "move-3"
    assert {file.suffix for file in to_folder(tmp_path, "a").iterdir()} == {".jsonl"}


def test_a_dataset_of_a_long_name_has_a_place_for_its_decisions(tmp_path: Path) -> None:
    names = ["照片" * 30, "照片" * 30 + "二"]
    for name in names:
        Journal.begin(tmp_path, name, "move", {"of": name})

    assert [list_decided(tmp_path, name, "move")[0].about["of"] for name in names] == names


def test_decisions_are_numbered_by_kind_and_dataset(tmp_path: Path) -> None:
    runs = [Journal.begin(tmp_path, name, kind, {}).run for name in ("a", "b") for kind in ("move", "copy", "move")]

    assert runs == ["move-1", "copy-1", "move-2"] * 2
    assert {one.run for one in list_decided(tmp_path, "a", "move")} == {"move-1", "move-2"}
    with pytest.raises(LabelingError, match="decision 'move-9' is not known \\(known: copy-1, move-1, move-2\\)"):
        read_decided(tmp_path, "a", "move-9")


@pytest.mark.parametrize("name", ["..", "a/../../b", "."])
def test_no_name_of_a_dataset_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    assert to_folder(tmp_path, name).resolve().parent == tmp_path.resolve() / "decisions"


def test_the_last_decision_that_stands_is_taken_back_where_none_is_named(tmp_path: Path) -> None:
    for kind in ("move", "trash", "move"):
        Journal.begin(tmp_path, "a", kind, {}).close("done")
    first = find_standing(tmp_path, "a", "move", run=None)
    mark_undone(tmp_path, "a", first)
    second = find_standing(tmp_path, "a", "move", run=None)

    assert (first.run, second.run, second.kind) == ("move-2", "move-1", "move")
    assert [one.run for one in list_standing(tmp_path, "a", "move")] == ["move-1"]


@pytest.mark.parametrize(
    ("run", "problem"),
    [
        (None, "there is no decision to take back"),
        ("move-1", "move-1: was taken back already"),
        ("move-7", r"decision 'move-7' is not known \(known: move-1, trash-1\)"),
        ("trash-1", r"trash-1: is another kind of decision \(expected one of: move, copy\)"),
    ],
)
def test_what_cannot_be_taken_back_is_told(tmp_path: Path, run: str | None, problem: str) -> None:
    for kind in ("move", "trash"):
        Journal.begin(tmp_path, "a", kind, {}).close("done")
    mark_undone(tmp_path, "a", read_decided(tmp_path, "a", "move-1"))

    with pytest.raises(LabelingError, match=problem):
        find_standing(tmp_path, "a", "move", "copy", run=run)


# Panels


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A state folder of the test's own, and no console."""
    monkeypatch.setenv("LABELLOOP_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LABELLOOP_CONSOLE_URL", raising=False)


@pytest.mark.parametrize("uri", PANELS)
def test_a_panel_opens_without_a_dataset_and_on_one_of_which_nothing_is_known(
    fiftyone: Any, dataset: Any, uri: str
) -> None:
    panel = fiftyone.operators.get_operator(uri)
    shown = []
    for opened in (None, dataset):
        ctx, _ = open_panel(opened)
        panel.on_load(ctx)
        shown.append(panel.render(ctx).to_json()["type"]["properties"])

    assert isinstance(panel, CurationPanel)
    assert all(len(parts) >= 2 for parts in shown)


@pytest.mark.parametrize("uri", PANELS)
def test_every_form_a_panel_opens_is_there(fiftyone: Any, dataset: Any, uri: str) -> None:
    panel = fiftyone.operators.get_operator(uri)
    ctx, forms = open_panel(dataset)
    panel.on_load(ctx)
    opening = [name for name, method in vars(type(panel)).items() if (method.__doc__ or "").startswith("Open the form")]
    for name in opening:
        getattr(panel, name)(ctx)

    assert len(forms) == len(opening) > 0
    known = {operator.uri for operator in fiftyone.operators.list_operators(builtin=False)}
    assert {operator for operator, _ in forms} <= known


@pytest.mark.parametrize("uri", PANELS)
def test_another_dataset_finds_nothing_of_the_one_before(fiftyone: Any, dataset: Any, uri: str) -> None:
    panel = fiftyone.operators.get_operator(uri)
    fresh, _ = open_panel(dataset)
    panel.on_load(fresh)
    used, _ = open_panel(dataset)
    used.panel.state.update(dict.fromkeys(("filter", "other", "kind", "by_eye", "thresholds"), "of the one before"))
    panel.on_change_dataset(used)

    assert used.panel.state == fresh.panel.state


def test_a_problem_is_told_in_the_app_and_what_is_no_problem_of_a_person_goes_on() -> None:
    ctx, told = open_panel(None)
    with tell_problems(ctx):
        raise LabelingError("the group has changed")
    assert told == [("error", "the group has changed")]
    with pytest.raises(ZeroDivisionError), tell_problems(ctx):
        _ = 1 / 0
