"""Names, shapes and folders of exports: what all formats have in common."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from labels.errors import LabelingError
from labels.geometry import Box, Geometry, ImageSize, Keypoint, Mask, Polygon
from sync.exports.folder import MANIFEST_NAME, Stage, open_stage
from sync.exports.layout import export_stem, export_stems
from sync.exports.shapes import Shape, ShapeError, clip_outline, to_run_lengths, to_shape

# pycocotools 2.0.11 was built before numpy 2 settled this; its numbers are right.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIZE = ImageSize(40, 20)


def test_files_of_one_name_in_two_folders_get_two_names() -> None:
    stems = export_stems([Path("/a/cat.jpg"), Path("/b/cat.jpg"), Path("/b/CAT.JPG"), Path("/b/cat.png")])
    assert len({stem.casefold() for stem in stems.values()}) == 4


def test_a_name_depends_on_its_own_path_alone() -> None:
    alone = export_stems([Path("/a/cat.jpg")])
    among = export_stems([Path("/0/cat.jpg"), Path("/a/cat.jpg"), Path("/a/CAT.jpg")])
    assert among[Path("/a/cat.jpg")] == alone[Path("/a/cat.jpg")]


@given(st.text(min_size=1, max_size=300).filter(lambda name: name not in (".", "..") and not set(name) & {"/", "\0"}))
def test_any_source_name_becomes_a_harmless_one(name: str) -> None:
    stem = export_stem(Path("/photos") / name)
    assert stem.replace("-", "").replace("_", "").isalnum()
    assert 14 <= len(stem) <= 93
    assert len(stem.encode()) <= 249, "with a suffix of six bytes a file system takes it"


def test_a_long_name_is_cut_where_it_always_was_unless_its_letters_take_more_room() -> None:
    assert export_stem(Path("/a") / ("x" * 200)).startswith("x" * 80 + "-")
    assert export_stem(Path("/a") / ("é" * 100)).startswith("é" * 80 + "-")
    assert export_stem(Path("/a") / ("猫" * 80)).startswith("猫" * 78 + "-")


def test_one_file_for_two_samples_is_an_error() -> None:
    with pytest.raises(LabelingError, match=r"/a/cat\.jpg.*exported to one file"):
        export_stems([Path("/a/cat.jpg"), Path("/a/cat.jpg")])


def test_a_box_over_the_edge_is_cut_there() -> None:
    assert to_shape(Box(-10, 5, 30, 30), SIZE) == Shape((0, 5, 20, 20), area=300, is_clipped=True)


def test_a_box_that_touches_the_edge_is_whole() -> None:
    assert to_shape(Box(10, 5, 30 + 1e-9, 15), SIZE).is_clipped is False


def test_a_turned_box_is_cut_along_its_true_outline() -> None:
    # A square of area 200 standing on its corner, its centre on the left edge: the right half is left.
    diamond = Box(0, 0, 10 * math.sqrt(2), 10 * math.sqrt(2), rotation_deg=45)
    shape = to_shape(diamond, SIZE)
    assert shape.xyxy == pytest.approx((0, 0, 10, 20))
    assert shape.area == pytest.approx(100)
    assert shape.is_clipped


def test_a_concave_outline_is_cut_at_two_edges() -> None:
    # A "U" of which the image shows the upper part of both arms, 2 x 4 each, joined along the lower edge.
    points = [(0, 16), (2, 16), (2, 22), (4, 22), (4, 16), (6, 16), (6, 30), (0, 30)]
    shape = to_shape(Polygon(tuple((float(x), float(y)) for x, y in points)), SIZE)
    assert shape.area == pytest.approx(16)
    assert shape.xyxy == (0, 16, 6, 20)


@given(
    st.lists(st.tuples(st.floats(-30, 70), st.floats(-30, 50)), min_size=3, max_size=8),
)
def test_what_is_cut_lies_inside_the_image(points: list[tuple[float, float]]) -> None:
    for x, y in clip_outline(points, SIZE):
        assert -1e-9 <= x <= 40 + 1e-9
        assert -1e-9 <= y <= 20 + 1e-9


@pytest.mark.parametrize(
    ("geometry", "problem"),
    [
        (Box(5, 5, 0, 10), "has no area"),
        (Box(5, 5, 10, 0.001), "has no area"),
        (Box(50, 5, 10, 10), "lies outside the image"),
        (Polygon(()), "has no area"),
        (Polygon(((1, 1), (5, 5), (9, 9))), "has no area"),
        (Polygon(((50, 1), (60, 1), (60, 9))), "lies outside the image"),
        # Its upright box reaches into the image, the triangle itself does not.
        (Polygon(((38.0, 30.0), (60.0, 18.0), (60.0, 30.0))), "lies outside the image"),
        (Mask(np.zeros((20, 40), dtype=bool)), "has no area"),
        (Mask(np.ones((40, 20), dtype=bool)), "is a mask of 20x40 on an image of 40x20"),
        (Keypoint(41, 5, 2), "lies outside the image"),
    ],
)
def test_a_shape_without_a_place_in_the_image_is_refused(geometry: Geometry, problem: str) -> None:
    with pytest.raises(ShapeError, match=problem):
        to_shape(geometry, SIZE)


def test_a_point_without_a_size_gets_a_box_that_trainers_accept() -> None:
    assert to_shape(Keypoint(10, 20, 0), SIZE).xyxy == (9.5, 19.5, 10.5, 20)


@given(st.lists(st.booleans(), min_size=12, max_size=12))
def test_run_lengths_are_those_of_pycocotools(painted: list[bool]) -> None:
    pixels = np.array(painted).reshape(3, 4)
    rle = coco_mask.frPyObjects({"size": [3, 4], "counts": to_run_lengths(pixels)}, 3, 4)
    assert np.array_equal(coco_mask.decode(rle).astype(bool), pixels)


def _write(out_dir: Path, name: str = "a.txt", content: bytes = b"1") -> None:
    with open_stage(out_dir) as stage:
        stage.write(name, content)
        stage.write_manifest({})


def test_an_export_replaces_an_earlier_one_and_what_a_trainer_left_there(tmp_path: Path) -> None:
    _write(tmp_path / "out", "labels/a.txt")
    (tmp_path / "out" / "labels" / "train.cache").write_bytes(b"made by a trainer")
    _write(tmp_path / "out", "labels/b.txt")
    names = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert names == ["out/labelloop.json", "out/labels/b.txt"]


@pytest.mark.parametrize("name", ["notes.txt", "labels/mine.txt"])
def test_a_folder_with_foreign_files_is_refused_and_left_alone(tmp_path: Path, name: str) -> None:
    _write(tmp_path / "out", "labels/a.txt")
    (tmp_path / "out" / name).write_text("precious")
    with pytest.raises(LabelingError, match=f"holds '{name}', which no export wrote"):
        _write(tmp_path / "out")
    assert (tmp_path / "out" / name).read_text() == "precious"
    assert (tmp_path / "out" / "labels" / "a.txt").exists()


def test_a_folder_that_is_no_export_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(LabelingError, match="is no export of labelloop"):
        _write(tmp_path / "photos")
    (tmp_path / "photos" / MANIFEST_NAME).write_text("[]")
    with pytest.raises(LabelingError, match="is no export of labelloop"):
        _write(tmp_path / "photos")
    with pytest.raises(LabelingError, match="there is a file of that name"):
        _write(tmp_path / "photos" / "cat.jpg")


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    _write(tmp_path / "out")
    assert (tmp_path / "out" / "a.txt").read_bytes() == b"1"


def test_an_error_on_the_way_leaves_the_old_export(tmp_path: Path) -> None:
    _write(tmp_path / "out", content=b"old")

    def fail(stage: Stage) -> None:
        stage.write("a.txt", b"new")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"), open_stage(tmp_path / "out") as stage:
        fail(stage)
    assert (tmp_path / "out" / "a.txt").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


KILLED = """
import os, sys
from pathlib import Path
from sync.exports.folder import open_stage
with open_stage(Path(sys.argv[1])) as stage:
    stage.write("a.txt", b"new")
    os.kill(os.getpid(), 9)
"""


def test_a_killed_export_leaves_the_old_one_and_the_next_clears_up(tmp_path: Path) -> None:
    _write(tmp_path / "out", content=b"old")
    root = Path(__file__).resolve().parents[2]
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "out")], check=False, cwd=root)
    assert killed.returncode == -9
    assert (tmp_path / "out" / "a.txt").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 2
    _write(tmp_path / "out", content=b"newer")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "a.txt").read_bytes() == b"newer"


def test_an_export_that_was_killed_while_it_took_its_place_loses_nothing_where_the_next_one_fails(
    tmp_path: Path,
) -> None:
    _write(tmp_path / "out", content=b"good")
    # As between the two renames.
    (tmp_path / "out").rename(tmp_path / ".out.replaced-999999999")
    with pytest.raises(LabelingError, match="a class"), open_stage(tmp_path / "out"):
        raise LabelingError("a class that the config does not have")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "a.txt").read_bytes() == b"good"
    _write(tmp_path / "out", content=b"better")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_place_that_cannot_be_written_to_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LabelingError, match=r"export .*(File exists|Not a directory)"):
        _write(tmp_path / "file" / "out")
