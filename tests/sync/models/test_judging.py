"""What two models are judged by: all that either gives, so that nothing is lost unseen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labels.geometry import Box, ImageSize, Polygon
from labels.results import Label
from sync.jobs.models.judging import Judged, judge
from sync.models.gate import Rules
from sync.models.looks import Look, ModelFacts, Row
from sync.versions.version import Version, VersionImage, VersionLabel

SIZE = ImageSize(120, 100)
IMAGES = 40
ROAD = Polygon(((0.0, 60.0), (99.0, 60.0), (99.0, 79.0), (0.0, 79.0)))
XML = """<View><Image name="image" value="$image"/>
<RectangleLabels name="box" toName="image"><Label value="cell"/></RectangleLabels>
<PolygonLabels name="outline" toName="image"><Label value="road"/></PolygonLabels>{points}</View>"""
POINTS = '<KeyPointLabels name="points" toName="image"><Label value="nose"/></KeyPointLabels>'


def make_version(points: str = "", *, frames: int = 1) -> Version:
    """Return images with a cell in a box and a road in an outline; so many of them are frames of one film."""
    random = np.random.default_rng(0)
    images = []
    for number in range(IMAGES):
        x, y = (float(side) for side in random.integers(0, 50, 2))
        labels = (
            VersionLabel(Label(f"{number:023x}a", "box", ("cell",), Box(x, y, 30.0, 30.0))),
            VersionLabel(Label(f"{number:023x}b", "outline", ("road",), ROAD)),
        )
        group = None if frames == 1 else f"film {number // frames}"
        path = Path(f"/{number}.jpg")
        images.append(VersionImage(f"{number:024x}", path, "0" * 64, SIZE, "test", group=group, labels=labels))
    return Version("v1-00000000", "0" * 64, "made", ("cell", "road"), XML.format(points=points), tuple(images))


def look(version: Version, facts: ModelFacts, *, off_px: float, has_roads: bool) -> Look:
    """Return what a model finds: each cell, off by so many pixels, and each road or none."""
    rows = []
    for image in version.images:
        cell = image.regions[0].geometry
        assert isinstance(cell, Box)
        x1, y1, x2, y2 = cell.to_xyxy()
        rows.append(Row(image.sample_id, "cell", (x1 + off_px, y1 + off_px, x2 + off_px, y2 + off_px), 0.9))
        if has_roads:
            rows.append(Row(image.sample_id, "road", ROAD.to_xyxy(), 0.9))
    return Look(facts, rows, {})


def compare(version: Version, old: Look, new: Look) -> Judged:
    return judge(version, (old, new), ((), ()), Rules(resamples=100), lambda *_: None)


def test_a_detector_does_not_take_the_place_of_a_model_that_draws_outlines_too() -> None:
    version = make_version()
    outlines = look(version, ModelFacts("segment", "MIT", "old", 2), off_px=4.0, has_roads=True)
    boxes = look(version, ModelFacts("detect", "MIT", "new", 1), off_px=0.0, has_roads=False)

    judged = compare(version, outlines, boxes)

    assert [(one.name, one.examples, one.candidate) for one in judged.comparison.classes] == [
        ("cell", IMAGES, 1.0),
        ("road", IMAGES, 0.0),
    ]
    assert judged.verdict.decision == "not better"
    assert any(reason.startswith("class 'road' falls from 1.0000 to 0.0000") for reason in judged.verdict.reasons)


def test_what_neither_can_draw_does_not_count() -> None:
    version = make_version()
    before, after = (
        look(version, ModelFacts("detect", "MIT", name, 1), off_px=off_px, has_roads=False)
        for name, off_px in (("old", 4.0), ("new", 0.0))
    )

    judged = compare(version, before, after)

    assert [one.name for one in judged.comparison.classes] == ["cell"]
    assert judged.verdict.is_pass


def test_a_model_that_gives_nothing_here_takes_no_part_in_what_is_asked() -> None:
    version = make_version()
    nothing = Look(ModelFacts("segment", "MIT", "old", 0), [], {})

    judged = compare(version, nothing, look(version, ModelFacts("detect", "MIT", "new", 1), off_px=0, has_roads=False))

    assert [one.name for one in judged.comparison.classes] == ["cell"]


@pytest.mark.parametrize(
    ("points", "task", "decision"),
    [(POINTS, "detect", "undecided"), (POINTS, "pose", "better"), ("", "detect", "better")],
)
def test_key_points_that_nobody_can_judge_are_not_lost_without_a_persons_word(
    points: str, task: str, decision: str
) -> None:
    version = make_version(points)
    pose = look(version, ModelFacts("pose", "MIT", "old", 2), off_px=4.0, has_roads=False)

    verdict = compare(
        version, pose, look(version, ModelFacts(task, "MIT", "new", 1), off_px=0, has_roads=False)
    ).verdict

    assert verdict.decision == decision
    lost = "old draws key points by this label config, and new none: key points are not judged"
    assert (verdict.reasons[0] == lost) == (decision == "undecided")


def test_frames_of_one_film_count_as_one() -> None:
    version = make_version(frames=8)
    before, after = (
        look(version, ModelFacts("detect", "MIT", name, 1), off_px=off_px, has_roads=False)
        for name, off_px in (("old", 4.0), ("new", 0.0))
    )

    judged = compare(version, before, after)

    assert (judged.comparison.images, judged.comparison.groups, judged.verdict.decision) == (40, 5, "undecided")
