"""Classifying by names with a CLIP of random weights, beside open_clip's own computation; agreement by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import cohen_kappa_score, confusion_matrix

from fiftyone_plugins.app.work import Tools, find_work
from fiftyone_plugins.zeroshot.agreement import compare
from fiftyone_plugins.zeroshot.answers import Comparison, compare_fields, list_comparisons
from fiftyone_plugins.zeroshot.panel import view_cell
from fiftyone_plugins.zeroshot.prompts import TEMPLATES, compute_probabilities
from labels.errors import LabelingError
from labels.report import Report
from tests.fiftyone_plugins.tiny_clip import write_tiny_clip

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
CLASSES = ["red car", "green tree", "blue sky"]
COLOURS = {"red car": (220, 30, 30), "green tree": (30, 160, 40), "blue sky": (90, 140, 250)}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a CLIP with random weights."""
    return write_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def photos(fiftyone: Any, tmp_path: Path) -> Iterator[Any]:
    """Nine noisy pictures in three colours with a label each but the last, and a box on the first three."""
    dataset = fiftyone.Dataset()
    noise = np.random.default_rng(0)
    samples = []
    for number in range(9):
        name = CLASSES[number % 3]
        pixels = np.clip(np.array(COLOURS[name]) + noise.integers(-40, 40, (40, 60, 3)), 0, 255).astype(np.uint8)
        path = tmp_path / f"{number}.png"
        Image.fromarray(pixels).save(path)
        sample = fiftyone.Sample(filepath=str(path))
        if number < 8:
            sample["label"] = fiftyone.Classification(label=name)
        if number < 3:
            box = fiftyone.Detection(label=name, bounding_box=[0, 0, 1, 1])
            sample["ground_truth"] = fiftyone.Detections(detections=[box])
        samples.append(sample)
    dataset.add_samples(samples, progress=False)
    yield dataset
    dataset.delete()


def classify(samples: Any, folder: Path, clip: Path, **params: Any) -> Report:
    given = {"model": "open_clip:tiny", "weights": str(clip), "classes": CLASSES, "device": "cpu", **params}
    return find_work("zeroshot").perform(samples, given, Tools(folder))


def test_classes_and_probabilities_are_those_of_open_clip(photos: Any, tmp_path: Path, clip: Path) -> None:
    import open_clip
    import torch

    report = classify(photos, tmp_path / "curation", clip)

    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{clip}")
    model.eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{clip}")
    with torch.inference_mode():
        classifier = open_clip.build_zero_shot_classifier(model, tokenizer, CLASSES, TEMPLATES)
        pictures = torch.stack([transform(Image.open(path)) for path in photos.values("filepath")])
        answers = (model.logit_scale.exp() * model.encode_image(pictures, normalize=True) @ classifier).softmax(dim=1)
    confidences, places = answers.max(dim=1)
    assert report.moved == 9
    assert photos.values("zero_shot.label") == [CLASSES[place] for place in places]
    assert np.allclose(photos.values("zero_shot.confidence"), confidences.numpy(), atol=1e-4)
    assert {name.partition("-")[0] for name in photos.distinct("zero_shot.model_version")} == {"tiny"}


def test_nothing_a_person_said_changes_and_the_report_says_how_they_agree(
    photos: Any, tmp_path: Path, clip: Path
) -> None:
    before = photos.values(["label", "ground_truth"])

    report = classify(photos, tmp_path / "curation", clip)

    assert [str(one) for one in photos.values(["label", "ground_truth"])] == [str(one) for one in before]
    agreed = sum(a == b for a, b in zip(photos.values("zero_shot.label"), photos.values("label.label"), strict=True))
    assert report.notes[0] == "classes: red car, green tree, blue sky"
    assert report.notes[1].startswith(f"agrees with label on {agreed} of 8 (")
    said, label = photos.values("zero_shot.label")[0], photos.values("label.label")[0]
    assert photos.first().id in view_cell(photos, said, label, Comparison(None, "label")).values("id")


def test_only_what_has_no_label_is_given_one_where_asked(photos: Any, tmp_path: Path, clip: Path) -> None:
    report = classify(photos, tmp_path / "curation", clip, unlabelled="label")

    assert report.moved == 1
    assert [one is None for one in photos.values("zero_shot")] == [True] * 8 + [False]


def test_crops_are_classified_on_their_labels(photos: Any, tmp_path: Path, clip: Path) -> None:
    report = classify(photos, tmp_path / "curation", clip, patches="ground_truth")

    names = photos.values("ground_truth.detections.zero_shot", unwind=True)
    sure = photos.values("ground_truth.detections.zero_shot_confidence", unwind=True)
    assert report.moved == 3
    assert set(names) <= set(CLASSES)
    assert all(1 / 3 <= one <= 1 for one in sure)
    assert photos.values("ground_truth.detections.label", unwind=True) == CLASSES
    assert report.notes[1].startswith("agrees with ground_truth on ")
    assert list_comparisons(photos) == {"crops of ground_truth": Comparison("ground_truth", "ground_truth")}
    # A box fills its picture here: crop and picture are the same.
    classify(photos, tmp_path / "curation", clip)
    assert photos.limit(3).values("zero_shot.label") == names


def test_a_cell_of_the_table_shows_its_crops_the_surest_first(photos: Any) -> None:
    answers = [("red car", 0.5), ("red car", 0.9), ("blue sky", 0.8)]
    for sample, (name, sure) in zip(photos.limit(3), answers, strict=True):
        box = sample["ground_truth"].detections[0]
        box["zero_shot"], box["zero_shot_confidence"], box.label = name, sure, "green tree"
        sample.save()
    crops = Comparison("ground_truth", "ground_truth")

    counted = compare_fields(photos, crops.field, crops.other).pairs
    shown = view_cell(photos, "red car", "green tree", crops)

    assert counted == {("red car", "green tree"): 2, ("blue sky", "green tree"): 1}
    assert shown.values("sample_id") == [photos.values("id")[place] for place in (1, 0)]


def test_without_names_the_classes_of_the_label_config_are_taken(photos: Any, tmp_path: Path, clip: Path) -> None:
    with pytest.raises(LabelingError, match="no label config here"):
        classify(photos, tmp_path / "curation", clip, classes=None)
    config = """<View><Image name="image" value="$image"/>
      <RectangleLabels name="box" toName="image"><Label value="bus"/><Label value="tram"/></RectangleLabels>
      <Choices name="quality" toName="image"><Choice value="keep"/><Choice value="trash"/></Choices>
      <Choices name="scene" toName="image"><Choice value="street"/><Choice value="field"/></Choices></View>"""
    (tmp_path / "label_config.xml").write_text(config)

    assert "classes: street, field" in classify(photos, tmp_path / "curation", clip, classes=None, dry_run=True).notes
    of_boxes = classify(photos, tmp_path / "curation", clip, classes=None, control="box", dry_run=True)
    assert (of_boxes.moved, of_boxes.notes) == (9, ("classes: bus, tram",))
    assert not photos.has_sample_field("zero_shot")


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ({"classes": ["cat"]}, "at least 2 names"),
        ({"classes": ["cat", "dog", "cat"]}, "class 'cat' is given twice"),
        ({"templates": ["a photo"]}, r"expected one \{\} where the class name goes"),
        ({"model": "efficientnet-lite0", "weights": None}, "reads no text: take a CLIP"),
        ({"compare": ["ground_truth"]}, r"has no class of the image \(those that have: label\)"),
        ({"unlabelled": "nothing"}, "there is none of that name"),
        ({"threshold": 1}, "parameter 'threshold' is not known"),
    ],
)
def test_what_cannot_be_used_is_told(
    photos: Any, tmp_path: Path, clip: Path, params: dict[str, Any], problem: str
) -> None:
    with pytest.raises(LabelingError, match=problem):
        classify(photos, tmp_path, clip, **params)


def test_a_persons_own_field_is_not_written_over(photos: Any, tmp_path: Path, clip: Path) -> None:
    photos.set_values("zero_shot", ["mine"] * 9)
    with pytest.raises(LabelingError, match="field 'zero_shot' is there already and is not labelloop's"):
        classify(photos, tmp_path, clip)
    assert photos.distinct("zero_shot") == ["mine"]


def test_agreement_is_what_scikit_learn_counts() -> None:
    random = np.random.default_rng(3)
    first = random.choice(["a", "b", "c"], 200).tolist()
    second = [one if random.random() < 0.7 else "b" for one in first]

    said = compare(zip(first, second, strict=True))

    assert said.table(["a", "b", "c"]) == confusion_matrix(first, second).tolist()
    assert said.kappa == pytest.approx(cohen_kappa_score(first, second))
    assert said.rate == pytest.approx(float(np.mean([a == b for a, b in zip(first, second, strict=True)])))


def test_what_only_one_says_is_counted_apart() -> None:
    said = compare([("a", None), (None, "b"), (None, "b"), (None, None)])

    assert (said.only_first, said.only_second, said.compared, said.rate, said.kappa) == (1, 2, 0, None, None)
    assert compare([("a", "a")]).kappa is None
    assert said.pairs == Counter()


def test_very_sure_answers_stay_numbers() -> None:
    unit = np.eye(2, dtype=np.float32)

    assert compute_probabilities(unit, unit, 5000.0).tolist() == [[1.0, 0.0], [0.0, 1.0]]
