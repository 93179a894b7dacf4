"""The plugins embeddings and zeroshot through FiftyOne's own loader and executor, without a console."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fiftyone_plugins.embeddings.panel import read_histogram, read_sizes, view_outliers
from fiftyone_plugins.embeddings.store import EmbeddingStore
from labels.errors import LabelingError
from tests.fiftyone_plugins.test_review_operators import read_labels, resolve_form, run_as_the_app
from tests.fiftyone_plugins.tiny_clip import write_tiny_clip

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*torch.jit:FutureWarning")
PLUGIN = "@labelloop/embeddings"
EMBED = f"{PLUGIN}/compute_embeddings"
NEEDING_VECTORS = [
    f"{PLUGIN}/{name}"
    for name in ("visualize_embeddings", "cluster_embeddings", "find_outliers", "build_similarity_index")
]
SIMILAR = f"{PLUGIN}/find_similar"
BY_TEXT = f"{PLUGIN}/search_by_text"
CLASSIFY = "@labelloop/zeroshot/classify_by_names"


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A state folder of the test's own, and no console."""
    monkeypatch.delenv("LABELLOOP_CONSOLE_URL", raising=False)
    monkeypatch.setenv("LABELLOOP_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def colours(fiftyone: Any, tmp_path: Path) -> Iterator[Any]:
    """Three reds and three blues, each with a box."""
    dataset = fiftyone.Dataset()
    for number in range(6):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (60, 40), (200 + 8 * number, 10, 20) if number < 3 else (10, 20, 200 + 8 * number)).save(path)
        box = fiftyone.Detection(label="red" if number < 3 else "blue", bounding_box=[0, 0, 1, 1])
        dataset.add_sample(fiftyone.Sample(filepath=str(path), ground_truth=fiftyone.Detections(detections=[box])))
    yield dataset
    dataset.delete()


def run(fiftyone: Any, uri: str, samples: Any, **params: Any) -> dict[str, Any]:
    """Run an operator from Python."""
    report: dict[str, Any] = fiftyone.operators.get_operator(uri)(samples, **params)
    return report


def test_the_form_says_how_many_will_be_computed_and_of_what(fiftyone: Any, colours: Any) -> None:
    form = resolve_form(fiftyone, EMBED, colours, selected=colours.values("id")[:2])

    assert form["target"]["default"] == "selected"
    assert [one["label"] for one in form["patches"]["view"]["choices"]] == ["Whole images", "Crops of ground_truth"]
    assert form["summary"]["view"]["label"] == "2 vectors will be computed, 0 are there already."


def test_a_model_that_is_not_known_is_a_sentence_in_the_form(fiftyone: Any, colours: Any) -> None:
    form = resolve_form(fiftyone, EMBED, colours, params={"model": "other", "name": "timm", "weights": "/nowhere.pt"})

    assert form["problem"]["view"]["label"].startswith("Model 'timm' is not known")
    assert form["problem"]["invalid"]
    for operator in (EMBED, CLASSIFY):
        unnamed = resolve_form(fiftyone, operator, colours, params={"model": "other", "classes": "red, blue"})
        assert unnamed["problem"]["view"]["label"] == "Give the name of the model."
    form = resolve_form(
        fiftyone, EMBED, colours, params={"model": "other", "name": "resnet18", "weights": "/nowhere.pt"}
    )
    assert form["problem"]["view"]["label"] == "Weights '/nowhere.pt': no such file."


def test_in_the_app_the_work_shows_its_progress_and_its_report(fiftyone: Any, colours: Any, home: Path) -> None:
    told = run_as_the_app(fiftyone, EMBED, colours, params={"target": "dataset"})

    names = [name for name, _ in told]
    assert names[-3:] == ["show_output", "notify", "reload_dataset"]
    assert set(names[:-3]) <= {"set_progress"}
    assert told[-2][1] == {"message": "embed: 6 embedded, 0 unchanged", "variant": "success"}
    store = EmbeddingStore(home / "curation", colours.name)
    assert len(store.read("efficientnet-lite0-57934424@images")) == 6


@pytest.mark.parametrize("uri", NEEDING_VECTORS)
def test_without_embeddings_the_form_says_what_to_do_first(fiftyone: Any, colours: Any, uri: str) -> None:
    form = resolve_form(fiftyone, uri, colours)

    assert form["problem"]["view"]["label"] == "There are no embeddings yet: run «Compute embeddings» first."


def test_with_embeddings_each_form_says_how_many_it_looks_at(fiftyone: Any, colours: Any) -> None:
    assert run(fiftyone, EMBED, colours.limit(5))["moved"] == 5
    for uri in NEEDING_VECTORS:
        form = resolve_form(fiftyone, uri, colours)
        assert form["summary"]["view"]["label"] == "5 images have a vector and will be looked at."
    assert "problem" in resolve_form(fiftyone, NEEDING_VECTORS[3], colours, params={"backend": "qdrant"})


def test_python_runs_every_work_and_the_panel_reads_what_they_wrote(fiftyone: Any, colours: Any) -> None:
    assert read_sizes(colours) == []
    assert read_histogram(colours) == ([], [])
    run(fiftyone, EMBED, colours)
    run(fiftyone, f"{PLUGIN}/visualize_embeddings", colours, method="pca")
    run(fiftyone, f"{PLUGIN}/cluster_embeddings", colours, count=2)
    run(fiftyone, f"{PLUGIN}/find_outliers", colours)

    assert {name.partition(": ")[2]: size for name, size in read_sizes(colours)} == {"red": 3, "blue": 3}
    edges, counts = read_histogram(colours)
    assert (len(edges), len(counts), sum(counts)) == (21, 20, 6)
    highest = view_outliers(colours, edges, max(place for place, count in enumerate(counts) if count))
    assert highest.first().id == colours.sort_by("outlier", reverse=True).first().id


def test_similar_ones_are_shown_nearest_first(fiftyone: Any, colours: Any) -> None:
    ids = colours.values("id")
    assert "problem" in resolve_form(fiftyone, SIMILAR, colours, selected=ids[:1])
    run(fiftyone, EMBED, colours)
    assert resolve_form(fiftyone, SIMILAR, colours)["problem"]["view"]["label"] == "Select one image or more first."

    found = fiftyone.operators.get_operator(SIMILAR)(colours.select(ids[4]), count=3)
    told = run_as_the_app(fiftyone, SIMILAR, colours, selected=[ids[0]], params={"count": 3})

    assert found[0] == ids[4]
    assert set(found) == set(ids[3:])
    (view,) = [params["view"] for name, params in told if name == "set_view"]
    assert set(ids[:3]) == set(view[0]["kwargs"][0][1])


def test_crops_like_a_crop_are_shown_as_crops(fiftyone: Any, colours: Any) -> None:
    run(fiftyone, EMBED, colours, patches="ground_truth")
    patches = colours.to_patches("ground_truth")
    told = run_as_the_app(
        fiftyone, SIMILAR, colours, view=patches, selected=[patches.values("id")[5]], params={"count": 3}
    )

    found = fiftyone.operators.get_operator(SIMILAR)(patches.skip(5), count=3, patches="ground_truth")
    (view,) = [params["view"] for name, params in told if name == "set_view"]
    assert set(found) == set(patches.values("id")[3:])
    assert view[0]["_cls"].endswith("ToPatches")
    assert set(view[1]["kwargs"][0][1]) == set(patches.values("id")[3:])


def test_text_is_searched_with_a_clip_and_refused_without(fiftyone: Any, colours: Any, tmp_path: Path) -> None:
    run(fiftyone, EMBED, colours)
    told = resolve_form(fiftyone, BY_TEXT, colours)["problem"]["view"]["label"]
    assert told.startswith("There are no embeddings of a model that reads text")
    with pytest.raises(LabelingError, match="compute them with a CLIP first"):
        fiftyone.operators.get_operator(BY_TEXT)(colours, "a red thing")
    clip = write_tiny_clip(tmp_path / "clip")
    run(fiftyone, EMBED, colours, model="open_clip:tiny", weights=str(clip))

    ids = fiftyone.operators.get_operator(BY_TEXT)(colours, "a red thing", count=4)

    assert len(ids) == 4
    assert "problem" not in resolve_form(fiftyone, BY_TEXT, colours)
    # The model is loaded anew for each search: weights that were changed meanwhile read another space.
    write_tiny_clip(clip, seed=1)
    with pytest.raises(LabelingError, match="were changed since"):
        fiftyone.operators.get_operator(BY_TEXT)(colours, "a red thing")
    for text, problem in (("a red thing", "were changed since"), (" ", "give a text to search for")):
        ((name, said),) = run_as_the_app(fiftyone, BY_TEXT, colours, params={"text": text})
        assert name == "notify"
        assert problem in said["message"]
        assert said["variant"] == "error"


def test_groups_are_named_by_the_words_that_a_clip_finds_nearest(fiftyone: Any, colours: Any, tmp_path: Path) -> None:
    clip = write_tiny_clip(tmp_path / "clip")
    run(fiftyone, EMBED, colours, model="open_clip:tiny", weights=str(clip))
    run(fiftyone, f"{PLUGIN}/cluster_embeddings", colours, count=2, words=["fire", "water", "smoke"])

    names = [name for name, _ in read_sizes(colours)]
    assert len(names) == 2
    assert {word for name in names for word in name.partition(": ")[2].split(", ")} <= {"fire", "water", "smoke"}


def test_classifying_says_in_its_form_how_many_and_that_people_are_left_alone(
    fiftyone: Any, colours: Any, tmp_path: Path
) -> None:
    clip = write_tiny_clip(tmp_path / "clip")
    form = resolve_form(fiftyone, CLASSIFY, colours, params={"classes": "red, blue"})
    assert read_labels({"summary": form["summary"]}) == [
        "6 images get one of 2 classes, in the field zero_shot. No label of a person changes."
    ]
    assert "problem" in resolve_form(fiftyone, CLASSIFY, colours, params={"classes": "red"})
    crops = colours.to_patches("ground_truth")
    assert resolve_form(fiftyone, CLASSIFY, colours, view=crops)["patches"]["default"] == "ground_truth"
    form = resolve_form(fiftyone, CLASSIFY, colours, params={"classes": "red, blue", "patches": "ground_truth"})
    assert form["summary"]["view"]["label"].startswith("6 crops of ground_truth get one of 2 classes, in the attribute")

    report = run(fiftyone, CLASSIFY, colours, model="open_clip:tiny", weights=str(clip), classes=["red", "blue"])

    assert report["lines"][0] == "zeroshot: 6 classified, 0 unchanged"
    assert set(colours.values("zero_shot.label")) <= {"red", "blue"}
    used = resolve_form(fiftyone, CLASSIFY, colours)["model"]["view"]["choices"][0]
    assert used["label"].startswith("tiny-")
