"""The plugin «duplicates» as FiftyOne loads it: groups, decisions and what follows from them, on a real database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fiftyone_plugins.app.running import run_work_for_python
from fiftyone_plugins.app.work import Tools, find_work, select_samples
from fiftyone_plugins.duplicates.deciding import EMPTIED, choose_kept, decide, decide_group, open_decisions, undo
from fiftyone_plugins.duplicates.showing import read_cards, read_examples, read_groups
from fiftyone_plugins.embeddings.embedders import parse_model
from fiftyone_plugins.embeddings.store import EmbeddingStore, Key
from labels import fields
from labels.errors import LabelingError
from labels.report import Report
from tests.fakes.stale_schema import forget_fields
from tests.fiftyone_plugins.test_duplicates_modules import draw

PLUGIN = "@labelloop/duplicates"


@pytest.fixture
def photos(fiftyone: Any, tmp_path: Path) -> Iterator[Any]:
    """Two copies and a small version of one picture, a crop of it, another picture, and a damaged file."""
    picture = draw(1)
    pictures = {
        "a": picture,
        "copy": picture,
        "small": picture.resize((160, 100)),
        "crop": picture.crop((24, 0, 296, 170)),
        "other": draw(2),
    }
    dataset = fiftyone.Dataset()
    for name, one in pictures.items():
        one.save(tmp_path / f"{name}.png")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no image")
    files = [*(f"{name}.png" for name in pictures), "broken.jpg"]
    dataset.add_samples([fiftyone.Sample(filepath=str(tmp_path / file)) for file in files], progress=False)
    yield dataset
    dataset.delete()


@pytest.fixture
def tools(photos: Any, tmp_path: Path) -> Tools:
    """A folder with vectors in which the crop is near the first picture, and the other one is not."""
    near = {"a": 0.0, "copy": 0.0, "small": 0.01, "crop": 0.1, "other": 1.5}
    rows = {sample.id: Path(sample.filepath).stem for sample in photos}
    vectors = np.array([[np.cos(near.get(name, 3.0)), np.sin(near.get(name, 3.0))] for name in rows.values()])
    store = EmbeddingStore(tmp_path / "curation", photos.name)
    store.append(Key("a-model"), list(rows), vectors.astype(np.float32), stamps=["1"] * len(rows))
    return Tools(tmp_path / "curation")


def find(samples: Any, tools: Tools, **params: Any) -> Report:
    report = find_work("duplicates").perform(samples, params, tools)
    samples._dataset.reload()
    return report


def open_in_panel(dataset: Any, group: str) -> Any:
    """What FiftyOne hands to a panel, with this group on show."""
    state = SimpleNamespace(filter="all", place=0, group=group, by_eye=False)
    return SimpleNamespace(
        dataset=dataset,
        params={},
        panel=SimpleNamespace(state=state, set_state=lambda _values: None),
        ops=SimpleNamespace(reload_samples=lambda: None, notify=lambda *_text, **_how: None),
    )


def read_parts(panel: Any, ctx: Any) -> dict[str, Any]:
    """What the panel says of the group, and whether its button to accept is closed."""
    shown = panel.render(ctx).type.properties
    accept = shown["actions"].type.properties["accept"].view
    return {"about": shown["about"].default, "is_closed": accept.to_json()["disabled"]}


def names_of(dataset: Any, *, where: Any = None) -> dict[str, Any]:
    values = dataset.values(["filepath", where or fields.DUPLICATE_GROUP])
    return {Path(path).stem: value for path, value in zip(*values, strict=True)}


def ids_of(dataset: Any) -> dict[str, str]:
    return {Path(path).stem: one for path, one in zip(*dataset.values(["filepath", "id"]), strict=True)}


def test_each_method_adds_what_only_it_finds_and_a_second_run_changes_nothing(photos: Any, tools: Tools) -> None:
    report = find(photos, tools, methods=["exact"])
    groups = names_of(photos)
    assert groups["a"] == groups["copy"] is not None
    assert groups["small"] is groups["other"] is None
    assert [(one.item, one.sample_id) for one in report.failed] == [("broken.jpg", ids_of(photos)["broken"])]
    find(photos, tools, methods=["exact", "phash"])
    assert names_of(photos)["small"] == groups["a"]
    report = find(photos, tools, vectors="a-model@images")
    assert names_of(photos) == {
        **dict.fromkeys(("a", "copy", "small", "crop"), groups["a"]),
        "other": None,
        "broken": None,
    }
    assert names_of(photos, where=fields.DUPLICATE_METHOD)["crop"] == "near"
    assert sum(value is True for value in photos.values(fields.DUPLICATE_KEEPER)) == 1
    assert find(photos, tools).moved == 0
    assert report.details["images in groups"] == 4


def test_a_dry_run_says_what_would_be_written_and_writes_nothing(photos: Any, tools: Tools) -> None:
    report = find(photos, tools, methods=["exact", "phash"], dry_run=True)
    assert next(iter(report.lines())) == "duplicates: 3 would be grouped anew, 2 unchanged, 1 failed"
    assert not photos.has_sample_field(fields.DUPLICATE_GROUP)


def test_without_vectors_they_are_computed_of_the_model_that_comes_with_labelloop(photos: Any, tmp_path: Path) -> None:
    tools = Tools(tmp_path / "other")
    find(photos, tools)
    (key,) = EmbeddingStore(tools.folder, photos.name).keys()
    assert key == Key(parse_model().name).name
    assert names_of(photos)["crop"] == names_of(photos)["a"] is not None


def test_leaks_and_labels_that_differ_have_their_views(fiftyone: Any, photos: Any, tools: Tools) -> None:
    ids = ids_of(photos)
    photos.select(ids["a"]).tag_samples("train")
    photos.select(ids["copy"]).tag_samples("test")
    for name, label in (("a", "cat"), ("copy", "dog")):
        sample = photos[ids[name]]
        sample[fields.GROUND_TRUTH] = fiftyone.Classification(label=label)
        sample.save()
    report = find(photos, tools, methods=["exact"])
    assert report.details["groups across splits"] == report.details["groups with other labels"] == 1
    for view in ("duplicate groups", "duplicate leaks", "duplicates with other labels"):
        (group,) = photos.load_saved_view(view).iter_dynamic_groups()
        assert {Path(path).stem for path in group.values("filepath")} == {"a", "copy"}
    assert read_groups(photos, {})["leaks"] == read_groups(photos, {})["differs"] == [names_of(photos)["a"]]
    cards = read_cards(photos, names_of(photos)["a"], {})
    assert [(card["name"], card["splits"]) for card in cards] == [("a.png", ("train",)), ("copy.png", ("test",))]
    assert "labels: cat" in cards[0]["text"]


def test_a_field_of_splits_is_read_and_one_that_is_not_there_refused(photos: Any, tools: Tools) -> None:
    photos.set_values("fold", ["one", "two", "one", "one", "one", "one"])
    assert find(photos, tools, methods=["exact"], splits="fold").details["groups across splits"] == 1
    with pytest.raises(LabelingError, match="'folds'"):
        find(photos, tools, methods=["exact"], splits="folds")


def test_what_is_no_duplicate_never_comes_again_and_a_new_image_joins(
    fiftyone: Any, photos: Any, tools: Tools, tmp_path: Path
) -> None:
    find(photos, tools, methods=["exact", "phash"])
    group, ids = names_of(photos)["a"], ids_of(photos)
    decide(photos, open_decisions(tools, photos), "apart", group, [ids["small"]])
    photos.reload()
    assert names_of(photos)["small"] is None
    draw(1).resize((200, 125)).save(tmp_path / "new.png")
    photos.add_samples([fiftyone.Sample(filepath=str(tmp_path / "new.png"))], progress=False)
    find(photos, tools, methods=["exact", "phash"])
    groups = names_of(photos)
    assert groups["a"] == groups["copy"] == group
    assert groups["small"] != group
    decisions = open_decisions(tools, photos)
    undo(photos, decisions, decisions.find_last())
    find(photos, tools, methods=["exact", "phash"])
    groups = names_of(photos)
    assert groups["small"] == groups["new"] == groups["a"] == groups["copy"] is not None


def test_the_only_image_that_is_kept_is_not_set_apart_from_those_that_were_dropped_for_it(
    photos: Any, tools: Tools
) -> None:
    find(photos, tools, methods=["exact"])
    group, decisions, ids = names_of(photos)["a"], open_decisions(tools, photos), ids_of(photos)
    decide(photos, decisions, "drop", group, [ids["copy"]])
    with pytest.raises(LabelingError, match="every other image of this group was dropped"):
        decide(photos, decisions, "apart", group, [ids["a"]])
    assert names_of(photos)["a"] == names_of(photos)["copy"] == group

    decide(photos, decisions, "keep", group, [ids["copy"]])
    decide(photos, decisions, "apart", group, [ids["a"]])

    assert (names_of(photos)["a"], names_of(photos)["copy"]) == (None, None)
    assert photos.count_sample_tags() == {}


def test_dropping_tags_all_but_the_keeper_of_what_is_undecided_and_undo_takes_it_back(
    photos: Any, tools: Tools
) -> None:
    find(photos, tools, methods=["exact", "phash"])
    group, ids = names_of(photos)["a"], ids_of(photos)
    drop, take_back = find_work("duplicates_drop"), find_work("duplicates_undo")
    assert drop.perform(photos, {"dry_run": True}, tools).moved == 2
    assert photos.count_sample_tags() == {}
    keeper = next(name for name, is_keeper in names_of(photos, where=fields.DUPLICATE_KEEPER).items() if is_keeper)
    spared = next(name for name in ("copy", "small") if name != keeper)
    decide(photos, open_decisions(tools, photos), "keep", group, [ids[spared]])
    assert drop.perform(photos, {}, tools).moved == 1
    (dropped,) = photos.match_tags(fields.DUPLICATE_TAG).values("id")
    assert dropped not in (ids[keeper], ids[spared])
    assert len(photos) == 6
    assert find(photos, tools, methods=["exact", "phash"]).moved == 0
    assert take_back.perform(photos, {}, tools).moved == 1
    assert photos.count_sample_tags() == {}
    assert take_back.perform(photos, {}, tools).moved == 1
    assert list(take_back.perform(photos, {}, tools).lines())[1] == "  note: nothing was decided"


def test_a_group_is_decided_and_taken_back_as_one_and_who_was_dropped_is_not_kept_for_its_star(
    photos: Any, tools: Tools
) -> None:
    find(photos, tools, methods=["exact", "phash"])
    group, decisions = names_of(photos)["a"], open_decisions(tools, photos)
    star, second, _ = (card["sample_id"] for card in read_cards(photos, group, {}))
    assert choose_kept(read_cards(photos, group, {})) == [star]
    decide(photos, decisions, "drop", group, [star])
    assert photos.match_tags(fields.DUPLICATE_TAG).values("id") == [star]

    kept = choose_kept(read_cards(photos, group, decisions.latest()))
    decide_group(photos, decisions, group, kept)

    # The small version is the worse of the two that are left.
    assert (kept, names_of(photos, where="tags")["small"]) == ([second], [fields.DUPLICATE_TAG])
    assert len(photos.match_tags(fields.DUPLICATE_TAG)) == 2
    report = find_work("duplicates_undo").perform(photos, {}, tools)
    assert (report.moved, *report.notes) == (3, f"taken back: 1 image kept and 2 dropped in group {group}")
    assert photos.match_tags(fields.DUPLICATE_TAG).values("id") == [star]
    everything = dict.fromkeys(photos.values("id"), "drop")
    assert choose_kept(read_cards(photos, group, everything)) == []


def test_the_panel_keeps_the_best_of_those_nobody_dropped(
    photos: Any, tools: Tools, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from fiftyone_plugins.duplicates.panel import DuplicatesPanel

    monkeypatch.setenv("LABELLOOP_HOME", str(tmp_path))
    find(photos, tools, methods=["exact", "phash"])
    group, told = names_of(photos)["a"], []
    star, second, third = (card["sample_id"] for card in read_cards(photos, group, {}))
    ctx = open_in_panel(photos, group)
    ctx.params["sample_id"], ctx.ops.notify = star, lambda text, **_how: told.append(text)
    panel = DuplicatesPanel()
    panel.drop(ctx)
    panel.accept(ctx)
    assert set(photos.match_tags(fields.DUPLICATE_TAG).values("id")) == {star, third}
    panel.undo(ctx)
    assert photos.match_tags(fields.DUPLICATE_TAG).values("id") == [star]
    for ctx.params["sample_id"] in (second, third):
        panel.drop(ctx)
    panel.accept(ctx)
    assert told[-1] == "Every image of this group was dropped: mark the one to keep."
    assert len(photos.match_tags(fields.DUPLICATE_TAG)) == 3


def test_a_group_of_which_none_is_kept_stays_undecided_and_the_panel_says_so(
    photos: Any, tools: Tools, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    find(photos, tools, methods=["exact", "phash"])
    group = names_of(photos)["a"]
    monkeypatch.setenv("LABELLOOP_HOME", str(tmp_path))
    ctx = open_in_panel(photos, group)
    from fiftyone_plugins.duplicates.panel import DuplicatesPanel

    panel = DuplicatesPanel()
    ids = [card["sample_id"] for card in read_cards(photos, group, {})]
    for ctx.params["sample_id"] in ids[:2]:
        panel.drop(ctx)
    assert read_groups(photos, open_decisions(tools, photos).latest())["undecided"] == []
    assert read_parts(panel, ctx)["about"].startswith("★ is proposed")

    ctx.params["sample_id"] = ids[2]
    panel.drop(ctx)

    assert read_groups(photos, open_decisions(tools, photos).latest())["undecided"] == [group]
    shown = read_parts(panel, ctx)
    assert shown["about"].startswith("**No image of this group is kept:**")
    assert shown["is_closed"] is True
    # Of a group with more images than are shown, all count.
    monkeypatch.setattr("fiftyone_plugins.duplicates.panel.MOST_CARDS", 1)
    panel.undo(ctx)
    shown = read_parts(panel, ctx)
    assert (shown["about"].startswith("★"), shown["is_closed"]) == (True, False)
    assert read_groups(photos, open_decisions(tools, photos).latest())["undecided"] == []


def test_dropping_what_is_proposed_leaves_a_group_alone_whose_keeper_was_dropped(photos: Any, tools: Tools) -> None:
    find(photos, tools, methods=["exact", "phash"])
    group, decisions = names_of(photos)["a"], open_decisions(tools, photos)
    star, second, third = (card["sample_id"] for card in read_cards(photos, group, {}))
    decide(photos, decisions, "drop", group, [star])
    drop = find_work("duplicates_drop")

    report = drop.perform(photos, {}, tools)

    assert (report.moved, report.unchanged) == (0, 3)
    assert report.notes == (f"{EMPTIED}: 1",)
    assert photos.match_tags(fields.DUPLICATE_TAG).values("id") == [star]
    # Who is kept out of the view is kept all the same.
    decide(photos, open_decisions(tools, photos), "keep", group, [second])
    report = drop.perform(photos.select(third), {}, tools)
    assert (report.moved, report.notes) == (1, ())


def test_a_converted_image_has_the_name_of_the_file_it_was_made_of(fiftyone: Any, photos: Any, tools: Tools) -> None:
    find(photos, tools, methods=["exact"])
    own = "a_long_name_from_the_camera_of_a_person_0001.tiff"
    photos.add_sample_field(fields.SOURCE_PATH, fiftyone.StringField)
    sample = photos[ids_of(photos)["a"]]
    sample[fields.SOURCE_PATH] = f"/photos/{own}"
    sample.save()

    cards = {card["sample_id"]: card for card in read_cards(photos, names_of(photos)["a"], {})}

    assert cards[sample.id]["name"] == own
    assert "a\\_long\\_name\\_…n\\_0001\\.tiff" in cards[sample.id]["text"]
    assert cards[ids_of(photos)["copy"]]["name"] == "copy.png"


def test_all_that_was_dropped_in_one_go_is_taken_back_in_one(fiftyone: Any, photos: Any, tools: Tools) -> None:
    other = next(path for path in photos.values("filepath") if path.endswith("other.png"))
    twin = Path(other).with_name("twin.png")
    twin.write_bytes(Path(other).read_bytes())
    photos.add_samples([fiftyone.Sample(filepath=str(twin))], progress=False)
    find(photos, tools, methods=["exact"])
    assert find_work("duplicates_drop").perform(photos, {}, tools).details == {"groups": 2}
    report = find_work("duplicates_undo").perform(photos, {}, tools)
    assert (report.moved, *report.notes) == (2, "taken back: 2 images dropped in several groups")
    assert photos.count_sample_tags() == {}


def test_what_is_told_meanwhile_is_true(photos: Any, tools: Tools) -> None:
    told: list[str] = []
    watched = Tools(tools.folder, lambda _done, message: told.append(message))
    find(photos, watched, methods=["exact", "phash"], dry_run=True)
    assert "comparing" in told
    assert [one for one in told if "writing" in one or " 0 pairs" in one] == []
    find(photos, watched, methods=["exact"])
    assert told[-1] == "writing"


def test_work_in_the_apps_process_sees_what_a_command_wrote(
    photos: Any, tools: Tools, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LABELLOOP_HOME", str(tmp_path))
    find(photos, tools, methods=["exact"])
    forget_fields(photos, fields.DUPLICATE_GROUP, fields.DUPLICATE_KEEPER)
    assert run_work_for_python(photos, "duplicates_drop", {})["moved"] == 1


def test_ids_that_are_nobodys_are_refused(photos: Any, tools: Tools) -> None:
    known = ids_of(photos)["a"]
    assert select_samples(photos, {"sample_ids": [known]}).values("id") == [known]
    assert len(select_samples(photos, {"sample_ids": []})) == 0
    with pytest.raises(LabelingError, match=r"sample a\.png is not in the dataset \(and 1 more\)"):
        select_samples(photos, {"sample_ids": [known, "a.png", "f" * 24]})


def test_a_decision_about_a_group_that_changed_meanwhile_is_refused(photos: Any, tools: Tools) -> None:
    find(photos, tools, methods=["exact"])
    with pytest.raises(LabelingError, match="has changed"):
        decide(photos, open_decisions(tools, photos), "drop", names_of(photos)["a"], [ids_of(photos)["other"]])
    with pytest.raises(LabelingError, match="nobody has looked"):
        find_work("duplicates_drop").perform(photos.select_fields("filepath"), {}, tools)


def test_the_pairs_nearest_to_a_distance_are_there_to_be_looked_at(photos: Any, tools: Tools) -> None:
    find(photos, tools, vectors="a-model@images")
    distances = [pair["distance"] for pair in read_examples(photos, tools.folder, 0.0)]
    assert distances == sorted(distances)
    assert distances[0] == 0
    assert distances[-1] == pytest.approx(1 - np.cos(0.1), abs=1e-3)
    assert read_examples(photos, tools.folder / "nowhere", 0.0) == []


def test_an_image_that_changed_is_read_again(photos: Any, tools: Tools) -> None:
    find(photos, tools, methods=["exact"])
    (copy,) = [path for path in photos.values("filepath") if path.endswith("copy.png")]
    Image.new("RGB", (64, 48), "red").save(copy)
    find(photos, tools, methods=["exact"])
    assert set(names_of(photos).values()) == {None}


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"methods": ["sift"]}, "sift"),
        ({"methods": []}, "expected a list"),
        ({"threshold": 2}, "threshold"),
        ({"treshold": 1}, "treshold"),
        ({"vectors": "none"}, "none"),
    ],
)
def test_what_cannot_be_done_is_said_with_its_cause(
    photos: Any, tools: Tools, params: dict[str, Any], said: str
) -> None:
    with pytest.raises(LabelingError, match=said):
        find(photos, tools, **params)


def test_fiftyone_loads_the_plugin_and_runs_its_operators(
    fiftyone: Any, photos: Any, tools: Tools, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import fiftyone.operators as foo

    monkeypatch.setenv("LABELLOOP_HOME", str(tmp_path))
    assert foo.get_operator(f"{PLUGIN}/duplicates").config.label == "Duplicates"
    # The App loads the keys only where FiftyOne finds the file.
    assert fiftyone.plugins.get_plugin(PLUGIN).has_js
    report = foo.get_operator(f"{PLUGIN}/find_duplicates")(photos, methods=["exact", "phash"])
    assert report["moved"] == 3
    assert foo.get_operator(f"{PLUGIN}/drop_duplicates")(photos)["moved"] == 2
    assert foo.get_operator(f"{PLUGIN}/undo_duplicates")(photos)["moved"] == 2


def test_a_button_pressed_twice_at_the_last_group_drops_nothing_that_is_in_no_group(
    photos: Any, tools: Tools, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from fiftyone_plugins.duplicates.panel import DuplicatesPanel

    monkeypatch.setenv("LABELLOOP_HOME", str(tmp_path))
    find(photos, tools, methods=["exact"])
    ctx = open_in_panel(photos, names_of(photos)["a"])
    ctx.panel.state.filter = "undecided"
    panel = DuplicatesPanel()
    panel.accept(ctx)
    assert ctx.panel.state.group is None
    panel.accept(ctx)
    assert photos.count_sample_tags() == {fields.DUPLICATE_TAG: 1}
    with pytest.raises(LabelingError, match="has changed"):
        decide_group(photos, open_decisions(tools, photos), "", [ids_of(photos)["other"]])


@pytest.mark.parametrize("action", ["keep", "drop", "apart"])
def test_undo_gives_back_the_tag_that_a_person_had_given_by_hand(photos: Any, tools: Tools, action: Any) -> None:
    find(photos, tools, methods=["exact", "phash"])
    ids, decisions = ids_of(photos), open_decisions(tools, photos)
    photos.select(ids["a"]).tag_samples(fields.DUPLICATE_TAG)
    decision = decide(photos, decisions, action, names_of(photos)["a"], [ids["a"]])
    undo(photos, open_decisions(tools, photos), decision)
    assert photos.match_tags(fields.DUPLICATE_TAG).values("id") == [ids["a"]]


def test_new_copies_in_a_decided_group_are_undecided_and_a_decided_group_is_not_dropped_from(
    fiftyone: Any, photos: Any, tools: Tools, tmp_path: Path
) -> None:
    find(photos, tools, methods=["exact"])
    group, ids = names_of(photos)["a"], ids_of(photos)
    drop = find_work("duplicates_drop")
    decide(photos, open_decisions(tools, photos), "keep", group, [ids["a"]])
    decide(photos, open_decisions(tools, photos), "keep", group, [ids["copy"]])
    assert read_groups(photos, open_decisions(tools, photos).latest())["undecided"] == []
    assert drop.perform(photos, {}, tools).moved == 0
    (tmp_path / "new.png").write_bytes((tmp_path / "a.png").read_bytes())
    photos.add_samples([fiftyone.Sample(filepath=str(tmp_path / "new.png"))], progress=False)
    find(photos, tools, methods=["exact"])
    assert read_groups(photos, open_decisions(tools, photos).latest())["undecided"] == [group]
    assert drop.perform(photos, {}, tools).moved == 1
    assert photos.match_tags(fields.DUPLICATE_TAG).values("id") == [ids_of(photos)["new"]]


def test_who_is_left_of_a_group_whose_others_were_deleted_is_shown_as_no_group(photos: Any, tools: Tools) -> None:
    find(photos, tools, methods=["exact"])
    photos.delete_samples([ids_of(photos)["copy"]])
    assert read_groups(photos, {}) == {"all": [], "undecided": [], "leaks": [], "differs": []}


def test_a_search_in_a_view_takes_no_group_apart_that_reaches_out_of_it(photos: Any, tools: Tools) -> None:
    find(photos, tools, methods=["exact", "phash"])
    before = names_of(photos)
    report = find(photos.select(ids_of(photos)["a"]), tools, methods=["exact", "phash"])
    assert names_of(photos) == before
    assert report.moved == 0
    assert report.notes[0] == "compared as well, since they are in a group with one of these: 2"


def test_who_is_set_apart_while_a_search_runs_stays_apart(
    photos: Any, tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fiftyone_plugins.duplicates.scanning as scanning

    find(photos, tools, methods=["exact", "phash"])
    group, small, write = names_of(photos)["a"], ids_of(photos)["small"], scanning._write

    def write_late(*given: Any) -> None:
        if not open_decisions(tools, photos).taken:
            decide(photos, open_decisions(tools, photos), "apart", group, [small])
        write(*given)

    monkeypatch.setattr(scanning, "_write", write_late)
    find(photos, tools, methods=["exact", "phash"])
    groups = names_of(photos)
    assert (groups["a"], groups["copy"], groups["small"]) == (group, group, None)


def test_an_image_that_was_dropped_and_is_like_nothing_now_is_told_and_in_a_view(photos: Any, tools: Tools) -> None:
    find(photos, tools, methods=["exact"])
    decide(photos, open_decisions(tools, photos), "drop", names_of(photos)["a"], [ids_of(photos)["copy"]])
    draw(7).save(photos[ids_of(photos)["copy"]].filepath)
    report = find(photos, tools, methods=["exact"])
    assert any("like nothing now" in note and note.endswith(": 1") for note in report.notes)
    assert photos.load_saved_view("dropped and like nothing now").values("id") == [ids_of(photos)["copy"]]


def test_a_field_of_a_person_with_the_name_of_ours_is_not_written_over(photos: Any, tools: Tools) -> None:
    photos.set_values(fields.DUPLICATE_GROUP, ["mine"] * 6)
    with pytest.raises(LabelingError, match="not labelloop's"):
        find(photos, tools, methods=["exact"])
    assert photos.values(fields.DUPLICATE_GROUP) == ["mine"] * 6


def test_all_split_tags_of_an_image_count_whatever_their_case(photos: Any, tools: Tools) -> None:
    ids = ids_of(photos)
    photos.select(ids["a"]).tag_samples(["Train", "test"])
    photos.select(ids["copy"]).tag_samples("train")
    assert find(photos, tools, methods=["exact"]).details["groups across splits"] == 1
