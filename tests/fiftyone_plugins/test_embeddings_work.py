"""Embedding, maps, groups, outliers and indexes on a real database, with the weights that come with labelloop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fiftyone_plugins.app.work import Tools, find_work
from fiftyone_plugins.embeddings.computing import compute_vectors
from fiftyone_plugins.embeddings.embedders import load_embedder, parse_model
from fiftyone_plugins.embeddings.items import list_offered_fields, read_items
from fiftyone_plugins.embeddings.store import EmbeddingStore
from labels.errors import LabelingError, ServiceError
from labels.report import Report

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore:.*torch.jit:FutureWarning", "ignore::UserWarning:umap"
)
LITE0 = "efficientnet-lite0-57934424@images"
KINDS = ("disc", "bars")


def draw_picture(kind: str, number: int) -> Image.Image:
    """Return a picture that is not square, of one of two kinds, each a little different."""
    picture = Image.new("RGB", (120, 80), (40 + 5 * number, 90, 200) if kind == "disc" else (230, 230 - 5 * number, 80))
    pen = ImageDraw.Draw(picture)
    if kind == "disc":
        pen.ellipse((30 + number, 10, 90 + number, 70), fill="white")
    else:
        for left in range(number, 120, 20):
            pen.rectangle((left, 0, left + 8, 80), fill="black")
    return picture


@pytest.fixture
def photos(fiftyone: Any, tmp_path: Path) -> Iterator[Any]:
    """Six discs and six barred pictures with a box round what they show; the last file is broken."""
    dataset = fiftyone.Dataset()
    samples = []
    for number in range(12):
        kind = KINDS[number % 2]
        path = tmp_path / f"{kind}_{number}.png"
        draw_picture(kind, number).save(path)
        box = fiftyone.Detection(label=kind, bounding_box=[0.25, 0.125, 0.5, 0.75])
        samples.append(fiftyone.Sample(filepath=str(path), ground_truth=fiftyone.Detections(detections=[box])))
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 no image")
    samples.append(fiftyone.Sample(filepath=str(broken)))
    dataset.add_samples(samples, progress=False)
    yield dataset
    dataset.delete()


def run(job: str, samples: Any, folder: Path, **params: Any) -> Report:
    return find_work(job).perform(samples, params, Tools(folder))


def test_only_what_is_new_or_changed_is_computed_and_a_broken_file_is_told(photos: Any, tmp_path: Path) -> None:
    folder = tmp_path / "curation"
    planned = run("embed", photos, folder, dry_run=True)
    assert (planned.moved, planned.unchanged, planned.is_dry_run) == (13, 0, True)
    first = run("embed", photos.limit(5), folder)
    assert (first.moved, first.unchanged, first.failed) == (5, 0, ())

    whole = run("embed", photos, folder)

    broken = photos.last()
    assert (whole.moved, whole.unchanged) == (7, 5)
    assert [(one.item, one.sample_id) for one in whole.failed] == [("broken.jpg", broken.id)]
    assert "cannot be read as an image" in whole.failed[0].problem
    store = EmbeddingStore(folder, photos.name)
    found = store.read(LITE0)
    assert set(found.ids.tolist()) == set(photos.values("id")) - {broken.id}
    assert found.vectors.shape == (12, 1280)
    assert photos.get_field_schema().keys() == {
        "id",
        "filepath",
        "tags",
        "metadata",
        "created_at",
        "last_modified_at",
        "ground_truth",
    }

    changed = photos.first()
    Image.new("RGB", (90, 60), "red").save(changed.filepath)
    again = run("embed", photos, folder)
    assert (again.moved, again.unchanged) == (1, 11)
    assert not np.allclose(store.read(LITE0).only([changed.id]).vectors, found.only([changed.id]).vectors)


def test_a_file_that_was_changed_after_its_ingest_is_computed_again(fiftyone: Any, photos: Any, tmp_path: Path) -> None:
    few = photos.limit(2)
    photos.add_sample_field("image_sha256", fiftyone.StringField)
    few.set_values("image_sha256", ["a" * 64, "b" * 64])
    run("embed", few, tmp_path)
    assert run("embed", few, tmp_path).moved == 0

    Image.new("RGB", (90, 60), "red").save(photos.first().filepath)

    again = run("embed", few, tmp_path)
    assert (again.moved, again.unchanged) == (1, 1)


def test_fields_in_which_plugins_keep_findings_are_not_offered_for_crops(fiftyone: Any, photos: Any) -> None:
    for name in ("mistake_proposals", "clean_seen", "cars"):
        photos.add_sample_field(name, fiftyone.EmbeddedDocumentField, embedded_doc_type=fiftyone.Detections)
    assert "cars" in list_offered_fields(photos)
    assert not {"mistake_proposals", "clean_seen"} & set(list_offered_fields(photos))


def test_what_a_run_computed_before_it_was_ended_is_kept(photos: Any, tmp_path: Path) -> None:
    folder = tmp_path / "curation"

    class CancelledError(Exception):
        pass

    def cancel_at_half(done: float | None, _message: str) -> None:
        if done is not None and done > 0.5:
            raise CancelledError

    with pytest.raises(CancelledError):
        find_work("embed").perform(photos, {"batch_size": 2}, Tools(folder, cancel_at_half))
    kept = len(EmbeddingStore(folder, photos.name).read(LITE0))

    assert 6 <= kept < 12
    assert run("embed", photos, folder).moved == 12 - kept


def test_crops_get_vectors_of_their_own_and_a_moved_box_is_computed_again(
    fiftyone: Any, photos: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "curation"
    sample = photos.first()
    sample.ground_truth.detections.append(fiftyone.Detection(label="disc", bounding_box=[0.5, 0.5, 0.001, 0.001]))
    sample.save()

    first = run("embed", photos, folder, patches="ground_truth")

    assert (first.moved, first.failed) == (12, ())
    assert first.details == {"crops too small to be looked at": 1}
    sample.ground_truth.detections[0].bounding_box = [0.0, 0.0, 0.5, 0.5]
    sample.save()
    assert run("embed", photos, folder, patches="ground_truth").moved == 1
    found = EmbeddingStore(folder, photos.name).read("efficientnet-lite0-57934424@patches-ground_truth")
    alone = tmp_path / "crop.png"
    with Image.open(sample.filepath) as picture:
        picture.crop((0, 0, 60, 40)).save(alone)
    other = fiftyone.Dataset()
    other.add_sample(fiftyone.Sample(filepath=str(alone)))
    (looked,) = compute_vectors(read_items(other, None), load_embedder(parse_model()))
    other.delete()
    crop = found.only([sample.ground_truth.detections[0].id])
    assert crop.sample_ids.tolist() == [sample.id]
    assert np.allclose(crop.vectors[0], looked.vectors[0], rtol=1e-3, atol=1e-4)


def test_a_box_that_is_turned_is_cut_out_whole(fiftyone: Any, photos: Any) -> None:
    sample = photos.first()
    sample.compute_metadata()
    sample.ground_truth.detections = [
        fiftyone.Detection(label="disc", bounding_box=[0.25, 0.25, 0.5, 0.5], rotation_deg=90.0)
    ]
    sample.save()
    photos.add_dynamic_sample_fields()

    item = next(iter(read_items(photos, "ground_truth")))

    # 60 x 40 pixels stand on end: 40 x 60 round the same middle of 120 x 80.
    assert item.boxes is not None
    assert np.allclose(item.boxes[0], (1 / 3, 0.125, 1 / 3, 0.75))


def test_a_field_without_boxes_is_refused_with_those_that_have_some(photos: Any, tmp_path: Path) -> None:
    with pytest.raises(LabelingError, match=r"'filepath': has no boxes .*\(those that have: ground_truth\)"):
        run("embed", photos, tmp_path, patches="filepath")


@pytest.mark.parametrize("job", ["visualize", "cluster", "outliers", "similarity"])
def test_without_vectors_each_says_what_computes_them(photos: Any, tmp_path: Path, job: str) -> None:
    with pytest.raises(LabelingError, match=r"no embeddings of the images yet.*labelloop embed"):
        run(job, photos, tmp_path)
    with pytest.raises(LabelingError, match="labelloop embed --patches ground_truth"):
        run(job, photos, tmp_path, patches="ground_truth")


@pytest.mark.parametrize("method", ["pca", "tsne", "umap"])
def test_the_apps_own_panel_gets_a_point_for_each_vector(photos: Any, tmp_path: Path, method: str) -> None:
    run("embed", photos, tmp_path)
    key = f"{method}_efficientnet_lite0_57934424"
    first = run("visualize", photos, tmp_path, method=method)
    run("visualize", photos, tmp_path, method=method)

    assert first.moved == 12
    assert photos.list_brain_runs() == [key]
    results = photos.load_brain_results(key)
    assert results.points.shape == (12, 2)
    assert set(results.sample_ids) == set(photos.values("id")[:12])
    assert photos.values("main_class") == [*KINDS * 6, None]


def test_crops_get_points_too(photos: Any, tmp_path: Path) -> None:
    run("embed", photos, tmp_path, patches="ground_truth")
    run("visualize", photos, tmp_path, method="pca", patches="ground_truth")

    results = photos.load_brain_results("pca_ground_truth_efficientnet_lite0_57934424")
    assert results.config.patches_field == "ground_truth"
    assert set(results.label_ids) == set(photos.values("ground_truth.detections.id", unwind=True))


def test_groups_are_named_by_what_they_show(photos: Any, tmp_path: Path) -> None:
    run("embed", photos, tmp_path)
    report = run("cluster", photos, tmp_path, method="kmeans", count=2)

    by_kind = dict(zip(photos.values("filepath"), photos.values("cluster"), strict=True))
    assert {Path(path).name.split("_")[0]: name for path, name in by_kind.items()} in (
        {"disc": "1: disc", "bars": "2: bars", "broken.jpg": None},
        {"disc": "2: disc", "bars": "1: bars", "broken.jpg": None},
    )
    assert len({*by_kind.values()}) == 3
    assert report.details == {"groups": 2}
    # A group of an earlier grouping stays on nobody.
    run("cluster", photos.limit(4), tmp_path, method="kmeans", count=2)
    assert [name is None for name in photos.values("cluster")] == [False] * 4 + [True] * 9


def test_fields_of_a_persons_own_are_not_written(photos: Any, tmp_path: Path) -> None:
    run("embed", photos, tmp_path)
    own = [f"site {number}" for number in range(13)]
    for name, job in (("cluster", "cluster"), ("main_class", "visualize"), ("uniqueness", "outliers")):
        photos.set_values(name, own)
        params = {"method": "pca"} if job == "visualize" else {}
        said = f"field '{name}' is there already and is not labelloop's: give it another name"
        if job == "visualize":
            # The map itself is made.
            assert run(job, photos, tmp_path, **params).notes[1].startswith(said)
        else:
            with pytest.raises(LabelingError, match=said):
                run(job, photos, tmp_path, **params)
        assert photos.values(name) == own


def test_crops_are_grouped_on_their_labels(photos: Any, tmp_path: Path) -> None:
    run("embed", photos, tmp_path, patches="ground_truth")
    run("cluster", photos, tmp_path, count=2, patches="ground_truth")
    run("outliers", photos, tmp_path, patches="ground_truth")

    names = photos.values("ground_truth.detections.cluster", unwind=True)
    labels = photos.values("ground_truth.detections.label", unwind=True)
    assert {name.partition(": ")[2] == label for name, label in zip(names, labels, strict=True)} == {True}
    assert not photos.has_sample_field("cluster")
    assert all(0 <= score <= 1 for score in photos.values("ground_truth.detections.outlier", unwind=True))


def test_the_one_like_no_other_is_the_outlier(fiftyone: Any, photos: Any, tmp_path: Path) -> None:
    odd = tmp_path / "odd.png"
    noise = np.random.default_rng(0).integers(0, 255, (80, 120, 3), dtype=np.uint8)
    Image.fromarray(noise).save(odd)
    photos.add_sample(fiftyone.Sample(filepath=str(odd)))
    run("embed", photos, tmp_path)
    run("outliers", photos, tmp_path, neighbours=3)

    scores = dict(zip(photos.values("filepath"), photos.values("outlier"), strict=True))
    assert scores.pop(str(tmp_path / "broken.jpg")) is None
    assert max(scores, key=lambda path: scores[path]) == str(odd)
    assert all(0 <= score <= 1 for score in scores.values())
    assert photos.bounds("uniqueness")[1] == 1.0
    assert photos.sort_by("uniqueness", reverse=True).first().filepath == str(odd)


@pytest.mark.parametrize("backend", ["lancedb", "labelloop"])
def test_the_brain_sorts_by_similarity_from_our_vectors(photos: Any, tmp_path: Path, backend: str) -> None:
    run("embed", photos, tmp_path)
    run("similarity", photos, tmp_path, backend=backend)
    report = run("similarity", photos, tmp_path, backend=backend)

    (key,) = photos.list_brain_runs()
    assert key == f"similar_{backend}_efficientnet_lite0_57934424"
    assert report.moved == 12
    photos.clear_cache()
    like = photos.sort_by_similarity(photos.first().id, k=6, brain_key=key)
    assert {Path(path).name.split("_")[0] for path in like.values("filepath")} == {"disc"}
    if backend == "lancedb":
        assert list((tmp_path / "lancedb").iterdir())


@pytest.mark.parametrize("patches", [None, "ground_truth"])
@pytest.mark.parametrize("backend", ["lancedb", "labelloop"])
def test_an_index_holds_what_it_was_made_of_and_nothing_that_was_deleted(
    photos: Any, tmp_path: Path, backend: str, patches: str | None
) -> None:
    run("embed", photos, tmp_path, patches=patches)
    ids = photos.values("id")
    report = run("similarity", photos.limit(8), tmp_path, backend=backend, patches=patches)
    (key,) = photos.list_brain_runs()
    photos.clear_cache()
    _, of_a_view, _ = photos.load_brain_results(key).get_embeddings()
    photos.delete_samples(ids[:6])
    photos.clear_cache()
    run("similarity", photos, tmp_path, backend=backend, patches=patches)
    photos.clear_cache()
    _, left, _ = photos.load_brain_results(key).get_embeddings()

    assert (report.moved, sorted(of_a_view)) == (8, sorted(ids[:8]))
    assert sorted(left) == sorted(ids[6:12])


def test_what_is_deleted_later_is_not_found_by_an_index_on_the_store(photos: Any, tmp_path: Path) -> None:
    run("embed", photos, tmp_path)
    run("similarity", photos, tmp_path, backend="labelloop")
    (key,) = photos.list_brain_runs()
    gone = photos.values("id")[:6]
    photos.delete_samples(gone)
    photos.clear_cache()
    index = photos.load_brain_results(key)
    index.find_unique(3)

    assert len(photos.sort_by_similarity(photos.first().id, k=5, brain_key=key)) == 5
    assert not set(gone) & set(index.unique_ids)


def test_an_index_made_anew_leaves_no_vectors_of_the_last_one_behind(
    photos: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("embed", photos, tmp_path)
    for _ in range(3):
        run("similarity", photos, tmp_path)
    keys = photos.list_brain_runs()

    assert len(list((tmp_path / "lancedb").glob("*.lance"))) == 1
    # Where the new one cannot be made, the last one is still there.
    import fiftyone.brain

    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError("no answer")

    monkeypatch.setattr(fiftyone.brain, "compute_similarity", fail)
    with pytest.raises(ServiceError, match="no answer"):
        run("similarity", photos, tmp_path)
    photos.clear_cache()
    assert photos.list_brain_runs() == keys
    assert photos.load_brain_results(keys[0]).total_index_size == 12


@pytest.mark.parametrize("patches", [None, "ground_truth"])
def test_nothing_goes_by_the_vector_of_a_picture_that_is_another_one_now(
    photos: Any, tmp_path: Path, patches: str | None
) -> None:
    run("embed", photos, tmp_path, patches=patches)
    run("outliers", photos, tmp_path, patches=patches)
    run("cluster", photos, tmp_path, count=2, patches=patches)
    # One file is unreadable now, one shows something else.
    Path(photos.first().filepath).write_bytes(b"no picture any more")
    Image.new("RGB", (90, 60), "red").save(photos.skip(1).first().filepath)
    run("embed", photos[:1], tmp_path, patches=patches)
    reports = [run(job, photos, tmp_path, patches=patches) for job in ("outliers", "cluster", "similarity")]
    field = "ground_truth.detections." if patches else ""

    told = "changed or gone since they were embedded, and left out: 2 (labelloop embed computes them anew)"
    assert [report.notes[-1] for report in reports] == [told] * 3
    assert {report.moved for report in reports} == {10}
    for name in ("outlier", "uniqueness", "cluster"):
        values = photos[:12].values(f"{field}{name}", unwind=bool(patches))
        assert [value is None for value in values] == [True, True, *[False] * 10]


def test_qdrant_without_an_address_is_refused(photos: Any, tmp_path: Path) -> None:
    with pytest.raises(LabelingError, match="the address of the Qdrant server"):
        run("similarity", photos, tmp_path, backend="qdrant")
