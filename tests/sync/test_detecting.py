"""Drawing for the plugins' works: what was drawn is kept by file, and names are the label config's."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fiftyone_plugins.app.work import DrawnBoxes
from labels.config import LabelConfig
from labels.errors import ItemError, LabelingError
from sync.jobs.curation.detecting import make_draw
from sync.jobs.curation.drawn_boxes import DrawnStore, to_file_key
from sync.settings import Home, Project

CONFIG = LabelConfig.from_xml(
    '<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">'
    '<Label value="Coach" predicted_values="bus"/></RectangleLabels></View>'
)


def make_boxes(*rows: tuple[float, str]) -> DrawnBoxes:
    scores = np.array([score for score, _ in rows], np.float32)
    xyxy = np.arange(4 * len(rows), dtype=np.float32).reshape(-1, 4)
    return DrawnBoxes(xyxy, scores, tuple(name for _, name in rows))


def assert_same(one: DrawnBoxes | None, other: DrawnBoxes) -> None:
    assert one is not None
    np.testing.assert_array_equal(one.xyxy, other.xyxy)
    np.testing.assert_array_equal(one.scores, other.scores)
    assert one.names == other.names


def test_what_was_drawn_is_found_again_nothing_seen_included(tmp_path: Path) -> None:
    some, nothing = make_boxes((0.5, "car"), (0.25, "dog")), make_boxes()
    store = DrawnStore(tmp_path)
    store.add("a", some)
    store.add("b", nothing)
    store.write()
    store.add("c", make_boxes((0.75, "cat")))
    store.write()

    again = DrawnStore(tmp_path)
    assert_same(again.find("a"), some)
    assert_same(again.find("b"), nothing)
    assert_same(again.find("c"), make_boxes((0.75, "cat")))
    assert again.find("d") is None
    assert len(list(tmp_path.iterdir())) == 2


def test_a_damaged_part_is_drawn_anew_and_the_others_count(tmp_path: Path) -> None:
    for name in ("a", "b"):
        store = DrawnStore(tmp_path)
        store.add(name, make_boxes((0.5, name)))
        store.write()
    (tmp_path / "000001.npz").write_bytes(b"PK half")
    again = DrawnStore(tmp_path)
    assert again.find("a") is None
    assert again.find("b") is not None


def test_a_file_that_was_replaced_has_another_key(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"one")
    before = to_file_key(path)
    path.write_bytes(b"two")
    os.utime(path, ns=(1, 1))
    assert to_file_key(path) != before


@pytest.fixture
def context(tmp_path: Path) -> Any:
    home = Home(tmp_path / "home")
    home.make()
    return SimpleNamespace(home=home, project=Project(model="yolo11n"), config=CONFIG)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """Ultralytics' photo of a bus."""
    spec = importlib.util.find_spec("ultralytics")
    assert spec is not None
    assert spec.origin is not None
    return Path(shutil.copy(Path(spec.origin).parent / "assets" / "bus.jpg", tmp_path / "bus.jpg"))


def test_the_detector_names_what_it_sees_like_the_label_config_and_looks_once(
    context: Any, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABELLOOP_RUNTIME", "torch")
    monkeypatch.setenv("LABELLOOP_OFFLINE", "1")
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    draw = make_draw(context)

    bus, failed, gone = draw([photo, broken, tmp_path / "gone.jpg"], model=None, score_floor=0.25)

    assert isinstance(bus, DrawnBoxes)
    assert {"Coach", "person"} <= set(bus.names)
    assert bus.known is not None
    assert "bus" not in bus.known
    assert isinstance(failed, ItemError)
    assert isinstance(gone, ItemError)
    # The same file with other bytes inside would be drawn anew; this one is not read again.
    stat = photo.stat()
    photo.write_bytes(b"x" * stat.st_size)
    os.utime(photo, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (kept,) = draw([photo], model=None, score_floor=0.25)
    assert_same(kept if isinstance(kept, DrawnBoxes) else None, bus)


def test_a_model_that_is_not_there_is_refused(context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABELLOOP_OFFLINE", "1")
    with pytest.raises(LabelingError, match="nothing-of-the-kind"):
        list(make_draw(context)([], model="nothing-of-the-kind", score_floor=0.1))
