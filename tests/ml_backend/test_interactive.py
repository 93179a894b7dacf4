from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from labels.config import LabelConfig
from labels.errors import ItemError, LabelingError
from labels.geometry import Box, ImageSize, Mask, Polygon, compute_iou
from labels.results import from_result
from ml_backend.answers.label_plans import LabelPlan, Thresholds, build_plan
from ml_backend.answers.regions import PredictedItem
from ml_backend.detectors import Detections, Image, MaskCrop
from ml_backend.interactive import Assistant
from ml_backend.interactive.features import FeatureCache, FeatureMap, ImageFeatures, Proposals
from ml_backend.interactive.lookalikes import find_lookalikes
from ml_backend.interactive.prompts import Prompt, read_boxes, read_prompt
from ml_backend.interactive.segmenters import FastSamSegmenter, load_segmenter

SIZE = ImageSize(200, 100)
ITEM = PredictedItem("task 7", "ab12", SIZE)
SMART = """
<View>
  <Image name="image" value="$image"/>
  <RectangleLabels name="boxes" toName="image" smart="true"><Label value="car"/></RectangleLabels>
  <KeyPointLabels name="clicks" toName="image" smart="true"><Label value="car"/></KeyPointLabels>
  {masks}
</View>
"""
BRUSH = '<BrushLabels name="masks" toName="image"><Label value="Car"/></BrushLabels>'
POLYGON = '<PolygonLabels name="outlines" toName="image"><Label value="car"/></PolygonLabels>'


def make_plan(masks: str = "") -> LabelPlan:
    return build_plan(LabelConfig.from_xml(SMART.format(masks=masks)), {0: "car"}, thresholds=Thresholds(0.2))


def make_click(x: float, y: float, *, is_positive: bool = True, region_id: str = "click") -> dict[str, Any]:
    """A key point as Label Studio sends it: in percent."""
    return {
        "id": region_id,
        "type": "keypointlabels",
        "from_name": "clicks",
        "to_name": "image",
        "original_width": 200,
        "original_height": 100,
        "image_rotation": 0,
        "is_positive": is_positive,
        "value": {"x": x, "y": y, "width": 0.5, "keypointlabels": ["car"]},
        "origin": "manual",
    }


def make_box(x: float, y: float, width: float, height: float, *, region_id: str = "drawn") -> dict[str, Any]:
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": 0, "rectanglelabels": ["car"]}
    return make_click(0, 0, region_id=region_id) | {"type": "rectanglelabels", "from_name": "boxes", "value": value}


# Prompts


def test_the_newest_region_is_what_is_asked_for() -> None:
    prompt = read_prompt([make_click(1, 1), make_box(10, 20, 50, 40)], make_plan().config, SIZE, item="task 7")

    assert prompt == Prompt("drawn", "car", box=Box(20, 20, 100, 40))


def test_clicks_of_one_label_are_asked_together_and_say_what_to_leave_out() -> None:
    result = [
        make_box(10, 20, 50, 40),
        make_click(10, 20, region_id="a"),
        make_click(30, 40, is_positive=False, region_id="b"),
        make_click(50, 60, region_id="c"),
    ]

    prompt = read_prompt(result, make_plan().config, SIZE, item="task 7")

    assert prompt == Prompt("c", "car", points=((20, 20), (100, 60)), away=((60, 40),))


def test_a_key_point_of_the_annotation_itself_is_no_click() -> None:
    labelled = make_click(10, 20, region_id="a")
    del labelled["is_positive"]

    prompt = read_prompt([labelled, make_click(50, 60)], make_plan().config, SIZE, item="task 7")

    assert prompt == Prompt("click", "car", points=((100, 60),))


def test_what_is_neither_a_click_nor_a_box_asks_for_nothing() -> None:
    painted = {"id": "p", "type": "brushlabels", "from_name": "masks", "value": {}}

    assert read_prompt([painted], make_plan(BRUSH).config, SIZE, item="task 7") is None


@pytest.mark.parametrize(
    "result",
    [
        [],
        ["car"],
        [make_box(1, 2, 3, 4) | {"from_name": "elsewhere"}],
        [make_box(1, 2, 3, 4) | {"value": {"x": 1}}],
        [make_click(1, 2) | {"value": {"x": 1, "y": 2, "keypointlabels": ["tram"]}}],
    ],
)
def test_a_newest_region_that_cannot_be_read_is_an_error_that_names_the_task(result: list[Any]) -> None:
    with pytest.raises(ItemError, match="task 7"):
        read_prompt(result, make_plan().config, SIZE, item="task 7")


def test_boxes_drawn_so_far_are_read_and_what_is_broken_is_passed_over() -> None:
    result = [make_box(10, 20, 50, 40), make_click(1, 1), {"type": "rectanglelabels", "value": {"x": "a"}}, "junk"]

    assert read_boxes(result, SIZE) == [Box(20, 20, 100, 40)]  # type: ignore[arg-type]


def test_of_a_turned_box_the_upright_one_round_it_is_read() -> None:
    turned = make_box(50, 50, 40, 5)
    turned["value"]["rotation"] = 90

    (box,) = read_boxes([turned], SIZE)

    # 80 wide and 5 high from (100, 50), turned clockwise round that corner.
    assert (box.x, box.y, box.width, box.height) == pytest.approx((95, 50, 5, 80))


plain = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5)
anything = st.recursive(
    plain, lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=5), inside, max_size=3)
)
value = st.dictionaries(
    st.sampled_from(["x", "y", "width", "height", "rotation", "rectanglelabels", "keypointlabels"]),
    st.floats(-50, 150) | st.just(["car"]) | anything,
)
region = st.fixed_dictionaries(
    {},
    optional={
        "id": anything,
        "type": st.sampled_from(["rectanglelabels", "keypointlabels"]) | anything,
        "from_name": st.sampled_from(["boxes", "clicks"]) | anything,
        "value": value | anything,
        "is_positive": st.booleans() | anything,
        "original_width": st.just(200) | anything,
        "original_height": st.just(100) | anything,
    },
)


@settings(deadline=None)
@given(st.lists(st.just(make_click(1, 2)) | st.just(make_box(1, 2, 3, 4)) | region | anything, max_size=4))
def test_whatever_is_sent_is_a_prompt_none_or_an_error_that_names_the_task(result: list[Any]) -> None:
    prompt, problem = None, "task 7"
    try:
        prompt = read_prompt(result, make_plan().config, SIZE, item="task 7")
    except ItemError as error:
        problem = str(error)
    assert problem.startswith("task 7")
    boxes = read_boxes(result, SIZE)
    assert prompt is None or prompt.box is not None or prompt.points or prompt.away
    assert find_lookalikes(make_features(), prompt.box, boxes) == [] if prompt is not None and prompt.box else True


# Look-alikes


def make_features(*places: tuple[float, float, float, float, float, float], pattern: bool = False) -> ImageFeatures:
    """Rows are a box and the probabilities of two classes; the pattern has one texture at x = 20..40 and 120..140."""
    table = np.array(places, np.float32).reshape(-1, 6)
    proposals = Proposals(table[:, :4], table[:, 4:])
    values = np.zeros((25, 50, 2), np.float32)
    if pattern:
        for left in (5, 30):
            values[5:10, left : left + 5] = (1, 2)
        values[15:20, 15:20] = (2, -1)
    return ImageFeatures(FeatureMap.from_values(values, 4.0), (200, 100), proposals, proposals)


def test_what_the_network_takes_for_the_same_is_proposed_best_first() -> None:
    features = make_features(
        (20, 20, 40, 40, 0.9, 0.0),  # the example
        (60, 20, 80, 40, 0.6, 0.3),
        (120, 20, 140, 40, 0.8, 0.0),
        (160, 20, 180, 40, 0.0, 0.9),  # of the other class
    )

    found = find_lookalikes(features, Box(20, 20, 20, 20), [])

    # Without a texture the look counts nothing; the mean with a cosine of 1 and of .6 / |(.6, .3)| is .5 and .447.
    assert [(box, round(likeness, 3)) for box, likeness in found] == [(Box(120, 20, 20, 20), 0.5)]


def test_what_is_drawn_already_is_not_proposed_again() -> None:
    features = make_features(*[(left, 20, left + 20, 40, 0.9, 0.0) for left in (20, 60, 100)])

    found = find_lookalikes(features, Box(20, 20, 20, 20), [Box(61, 21, 20, 20)])

    assert [box.x for box, _ in found] == [100]


def test_an_example_the_network_sees_nothing_in_is_compared_by_its_looks() -> None:
    features = make_features(pattern=True)

    found = find_lookalikes(features, Box(20, 20, 20, 20), [])

    best, likeness = found[0]
    assert (best.x, best.y) == (pytest.approx(120, abs=3), pytest.approx(20, abs=3))
    assert likeness > 0.9
    assert all(box.y < 50 for box, _ in found)


@pytest.mark.parametrize("example", [Box(300, 20, 20, 20), Box(20, 20, 0.1, 20), Box(-50, 0, 40, 20)])
def test_an_example_outside_of_the_image_or_without_an_area_has_no_look_alike(example: Box) -> None:
    assert find_lookalikes(make_features(pattern=True), example, []) == []


def test_features_of_an_image_are_made_once_and_kept_for_the_last_images(tmp_path: Path) -> None:
    made: list[Image] = []

    def load(_models_dir: Path) -> Callable[[Image], ImageFeatures]:
        def extract(image: Image) -> ImageFeatures:
            made.append(image)
            return make_features()

        return extract

    cache = FeatureCache(tmp_path, max_images=2, load=load)
    image = np.zeros((4, 5, 3), np.uint8)

    for sha256 in ("a", "a", "b", "a", "c", "a", "b"):
        cache.get(image, sha256)

    assert len(made) == 4  # a, b, c, and b again: it was the one not asked for longest


def test_a_drawn_person_finds_the_others_in_a_real_photo(photos: Path, tmp_path: Path) -> None:
    image = np.asarray(PillowImage.open(photos / "bus.jpg").convert("RGB"))
    size = ImageSize(810, 1080)
    people = [Box.from_xyxy(48, 399, 245, 903), Box.from_xyxy(669, 391, 810, 877), Box.from_xyxy(222, 404, 345, 861)]
    x, y, width, height = people[0].to_percent(size)
    drawn = make_box(x, y, width, height) | {"original_width": 810, "original_height": 1080}
    plan, item = make_plan(), PredictedItem("task 7", "cd34", size)

    regions = Assistant(models_dir=tmp_path).suggest(image, "cd34", [drawn], plan, model_version="w-1", item=item)

    found = [label.geometry for label in from_result(regions, plan.config, item="task 7") if label.geometry]
    assert all(max(compute_iou(person, box) for box in found) > 0.8 for person in people[1:])
    assert max(compute_iou(people[0], box) for box in found) < 0.3
    assert {region["value"]["rectanglelabels"][0] for region in regions} == {"car"}  # the class that was drawn
    assert len({region["id"] for region in regions}) == len(regions)


# Segmenters


class FakeDetector:
    names: Mapping[int, str] = {0: "object"}
    task = "segment"
    licence = "unknown"

    def __init__(self) -> None:
        self.calls = 0

    def detect(self, images: Any, *, score_floor: float) -> list[Detections]:
        self.calls += 1
        large, small = np.ones((60, 100), np.bool_), np.ones((10, 20), np.bool_)
        boxes = np.array([[20, 20, 120, 80], [40, 30, 60, 40]], np.float32)
        crops = (MaskCrop(20, 20, large), MaskCrop(40, 30, small))
        return [Detections(boxes, np.array([0.9, 0.8], np.float32), np.zeros(2, np.int64), masks=crops)]


def test_fastsam_runs_once_an_image_and_the_click_takes_the_smallest_object_under_it() -> None:
    detector = FakeDetector()
    segmenter = FastSamSegmenter(detector, max_images=4)
    image = np.zeros((100, 200, 3), np.uint8)

    def ask(prompt: Prompt) -> tuple[int, int] | None:
        found = segmenter.segment(image, "a", prompt)
        return None if found is None else found[0].pixels.shape

    assert ask(Prompt("1", "car", points=((50, 35),))) == (10, 20)
    assert ask(Prompt("1", "car", points=((100, 70),))) == (60, 100)
    assert ask(Prompt("1", "car", points=((100, 70),), away=((30, 30),))) is None
    assert ask(Prompt("1", "car", box=Box(22, 21, 95, 60))) == (60, 100)
    assert ask(Prompt("1", "car", points=((199, 99),))) is None
    assert detector.calls == 1


@pytest.fixture(scope="module")
def mobile_sam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of MobileSAM's own class that nobody trained: the path is the real one, the masks mean nothing."""
    import torch
    from ultralytics.models.sam.build import build_mobile_sam

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    torch.save(build_mobile_sam().state_dict(), folder / "mobile_sam.pt")
    return folder


def test_a_click_becomes_a_box_and_a_mask_and_the_second_one_does_not_encode_the_image_again(mobile_sam: Path) -> None:
    plan = make_plan(BRUSH)
    image = np.random.default_rng(0).integers(0, 255, (100, 200, 3), dtype=np.uint8)
    assistant = Assistant(models_dir=mobile_sam, device="cpu", segmenter="mobile_sam.pt")

    def ask(*clicks: dict[str, Any]) -> list[dict[str, Any]]:
        return assistant.suggest(image, "ab12", clicks, plan, model_version="w-1", item=ITEM)

    first = ask(make_click(50, 50))
    predictor = assistant._segmenter._predictor  # type: ignore[union-attr]
    predictor.get_im_features = None  # whoever asks for features from now on fails
    second = ask(make_click(50, 50), make_click(10, 10, is_positive=False, region_id="other"))

    assert [(region["type"], region["from_name"]) for region in first] == [
        ("brushlabels", "masks"),
        ("rectanglelabels", "boxes"),
    ]
    mask, box = from_result(first, plan.config, item="task 7")
    assert isinstance(mask.geometry, Mask)
    assert isinstance(box.geometry, Box)
    assert box.geometry.to_xyxy() == mask.geometry.to_xyxy()
    assert mask.classes == ("Car",)
    assert {region["id"] for region in first}.isdisjoint(region["id"] for region in second)


def test_a_box_becomes_the_outline_of_its_object_where_the_config_has_outlines(tmp_path: Path) -> None:
    plan = make_plan(POLYGON)
    assistant = Assistant(models_dir=tmp_path, segmenter="FastSAM-s.pt")
    assistant._segmenter = FastSamSegmenter(FakeDetector(), max_images=4)

    regions = assistant.suggest(
        np.zeros((100, 200, 3), np.uint8), "a", [make_box(10, 20, 50, 60)], plan, model_version="w-1", item=ITEM
    )

    (label,) = from_result(regions, plan.config, item="task 7")
    assert (label.control, label.classes) == ("outlines", ("car",))
    assert isinstance(label.geometry, Polygon)
    assert label.geometry.to_xyxy() == pytest.approx((20, 20, 120, 80))


def test_an_object_that_has_its_outline_already_is_not_proposed_again(tmp_path: Path) -> None:
    plan = make_plan(POLYGON)
    assistant = Assistant(models_dir=tmp_path, segmenter="FastSAM-s.pt")
    assistant._segmenter = FastSamSegmenter(FakeDetector(), max_images=4)

    def ask(*drawn: dict[str, Any]) -> list[dict[str, Any]]:
        image = np.zeros((100, 200, 3), np.uint8)
        return assistant.suggest(image, "a", drawn, plan, model_version="w-1", item=ITEM)

    click = make_click(50, 70)
    outline, box = ask(click)
    refining = make_click(52, 70, region_id="second")

    assert [region["type"] for region in (outline, box)] == ["polygonlabels", "rectanglelabels"]
    assert ask(outline, click) == []  # the box adds nothing to the outline either
    assert [region["type"] for region in ask(box, click)] == ["polygonlabels"]
    assert [region["type"] for region in ask({"type": "polygonlabels", "value": 7}, click)] == [
        "polygonlabels",
        "rectanglelabels",
    ]
    assert len(ask(outline, click, refining)) == 2


def test_a_look_alike_with_an_outline_of_its_class_is_not_proposed_again(photos: Path, tmp_path: Path) -> None:
    image = np.asarray(PillowImage.open(photos / "bus.jpg").convert("RGB"))
    size = ImageSize(810, 1080)
    plan, item = make_plan(POLYGON), PredictedItem("task 7", "cd34", size)
    person = Box.from_xyxy(669, 391, 810, 877)
    corners = [[669, 391], [810, 391], [810, 877], [669, 877]]
    sized = {"original_width": 810, "original_height": 1080}
    points = [[x / 8.1, y / 10.8] for x, y in corners]
    outline = make_click(0, 0) | {
        "type": "polygonlabels",
        "from_name": "outlines",
        "value": {"points": points, "polygonlabels": ["car"]},
    }
    x, y, width, height = Box.from_xyxy(48, 399, 245, 903).to_percent(size)
    example = make_box(x, y, width, height) | sized
    assistant = Assistant(models_dir=tmp_path)

    def ask(*drawn: dict[str, Any]) -> float:
        regions = assistant.suggest(image, "cd34", drawn, plan, model_version="w-1", item=item)
        found = [label.geometry for label in from_result(regions, plan.config, item="task 7") if label.geometry]
        return max(compute_iou(person, box) for box in found)

    assert ask(example) > 0.8
    assert ask(outline | sized, example) < 0.7


def test_a_click_without_a_segmenter_has_no_answer(tmp_path: Path) -> None:
    assistant = Assistant(models_dir=tmp_path)

    regions = assistant.suggest(
        np.zeros((100, 200, 3), np.uint8), "a", [make_click(50, 50)], make_plan(), model_version="w-1", item=ITEM
    )

    assert regions == []


@pytest.mark.parametrize(("name", "content"), [("mobile_sam.pt", b"junk"), ("sam2_t.pt", b""), ("other.pt", b"junk")])
def test_weights_that_are_no_segmenter_are_refused_by_name(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(LabelingError, match=name):
        load_segmenter(name, models_dir=tmp_path, device="cpu")
