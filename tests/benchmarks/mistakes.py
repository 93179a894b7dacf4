"""Planted label mistakes: what the plugin finds, beside FiftyOne's mistakenness, cleanlab and chance in the same run.

    python -m tests.benchmarks.mistakes DATA --model WEIGHTS [--model WEIGHTS] [--seeds 5]

DATA holds flowers5/CLASS/*.jpg and coco128/{images/, instances.json}. Labels are flipped, boxes removed, shifted,
swapped and added by seed. Of coco128 the images at odd places are used: with those at even ones, and other seeds, the
formulas were made. A number is the mean over the seeds, its deviation in brackets.

  P@k   share of mistakes among the first k, where k is how many were planted
  P@10  the same among the first ten
  AP    average precision
  AUROC how often an image with the mistake comes before one without it (of a kind: one with another mistake, too)

FiftyOne runs on a MongoDB of its own, started for the purpose. Asserts nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from fiftyone_plugins.mistakes.boxes import BoxScores, ImageBoxes, score_boxes
from fiftyone_plugins.mistakes.image_labels import judge_labels, predict_out_of_sample

Floats = NDArray[np.float64]
KINDS = ("swapped", "location", "missing", "spurious")
FLOOR = 0.05
# The formulas were made with seeds below this.
FIRST_SEED = 1000


@dataclass(frozen=True)
class Planted:
    """Images after the planting, and which mistake each has (None: none)."""

    images: list[ImageBoxes]
    kinds: list[str | None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", action="append", default=[], help="weights of a COCO detector")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--each", type=int, default=5, help="images with each kind of mistake")
    parser.add_argument("--all", action="store_true", help="all images of coco128, not only those held out")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    click.echo(f"Python {platform.python_version()}, {os.cpu_count()} CPUs, {options.seeds} seeds from {FIRST_SEED}")
    seeds = range(FIRST_SEED, FIRST_SEED + options.seeds)
    with tempfile.TemporaryDirectory() as folder, run_mongod(Path(folder)):
        measure_classes(options.data / "flowers5", seeds)
        for model in options.model:
            measure_boxes(options.data / "coco128", model, seeds, each=options.each, every=options.all)
    measure_speed()


@contextmanager
def run_mongod(folder: Path) -> Iterator[None]:
    from sync.services.mongod import find_mongod, to_database_uri, to_mongod_argv
    from sync.services.ports import find_free_port

    port = find_free_port()
    os.environ["FIFTYONE_DATABASE_URI"] = to_database_uri(port)
    os.environ["FIFTYONE_DATABASE_VALIDATION"], os.environ["FIFTYONE_DO_NOT_TRACK"] = "false", "1"
    server = subprocess.Popen(
        to_mongod_argv(find_mongod(), data=folder, port=port, cache_gb=0.25), stdout=subprocess.DEVNULL
    )
    try:
        import fiftyone as fo

        fo.config.show_progress_bars = False
        yield
    finally:
        server.terminate()
        server.wait()


# Classes of whole images


def measure_classes(folder: Path, seeds: Sequence[int]) -> None:
    paths = sorted(folder.glob("*/*.jpg"))
    names = sorted({path.parent.name for path in paths})
    truth = np.array([names.index(path.parent.name) for path in paths])
    vectors = embed(paths)
    click.echo(f"\nflowers5: {len(paths)} images, {len(names)} classes, embeddings of efficientnet-lite0")
    for share in (0.05, 0.1, 0.2):
        rows: dict[str, list[list[float]]] = defaultdict(list)
        for seed in seeds:
            random = np.random.default_rng(seed)
            flipped = random.choice(len(truth), round(share * len(truth)), replace=False)
            given = truth.copy()
            given[flipped] = (given[flipped] + random.integers(1, len(names), len(flipped))) % len(names)
            wrong = np.isin(np.arange(len(truth)), flipped)
            for name, scores in score_classes(vectors, [names[place] for place in given], names, random).items():
                rows[name].append(describe(scores, wrong))
        print_table(f"{share:.0%} flipped ({round(share * len(truth))})", rows)


def embed(paths: Sequence[Path]) -> NDArray[np.float32]:
    from fiftyone_plugins.embeddings.decoding import read_picture
    from fiftyone_plugins.embeddings.embedders import load_embedder, parse_model

    embedder = load_embedder(parse_model(), device="cpu")
    return np.concatenate([embedder.embed([embedder.prepare(read_picture(path))]) for path in paths])


def score_classes(
    vectors: NDArray[np.float32], labels: list[str], names: list[str], random: np.random.Generator
) -> dict[str, Floats]:
    from cleanlab.rank import get_label_quality_scores
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict
    from sklearn.preprocessing import normalize

    given = np.array([names.index(label) for label in labels])
    ours, classes = predict_out_of_sample(vectors, labels)
    # The same head, once, as both tools' own tutorials have it.
    head = LogisticRegression(C=10, max_iter=300)
    plain = cross_val_predict(head, normalize(vectors), given, cv=5, method="predict_proba")
    return {
        "labelloop": np.array([one.score for one in judge_labels(labels, ours, classes)]),
        "cleanlab, self-confidence": 1 - get_label_quality_scores(given, plain, method="self_confidence"),
        "cleanlab, normalized margin": 1 - get_label_quality_scores(given, plain, method="normalized_margin"),
        "FiftyOne mistakenness": score_with_fiftyone_classes(labels, plain, names),
        "random": random.random(len(labels)),
    }


def score_with_fiftyone_classes(labels: list[str], probabilities: Floats, names: list[str]) -> Floats:
    import fiftyone as fo
    import fiftyone.brain as fob

    dataset = fo.Dataset()
    dataset.add_samples(
        [
            fo.Sample(
                filepath=f"/nowhere/{number}.jpg",
                given=fo.Classification(label=label),
                seen=fo.Classification(
                    label=names[int(row.argmax())], confidence=float(row.max()), logits=np.log(row + 1e-12)
                ),
            )
            for number, (label, row) in enumerate(zip(labels, probabilities, strict=True))
        ]
    )
    fob.compute_mistakenness(dataset, "seen", label_field="given", use_logits=True)
    scores = np.array(dataset.values("mistakenness"))
    dataset.delete()
    return scores


# Boxes


def measure_boxes(folder: Path, model: str, seeds: Sequence[int], *, each: int, every: bool) -> None:
    images, names = read_coco(folder, model)
    images = images if every else images[1::2]
    count = sum(len(image.labels) for image in images)
    click.echo(f"\ncoco128{'' if every else ', held out'}: {len(images)} images, {count} boxes, {Path(model).stem}")
    rows: dict[str, dict[str, list[list[float]]]] = {kind: defaultdict(list) for kind in (*KINDS, "any")}
    for seed in seeds:
        planted = plant(images, seed, len(names), each=each)
        wrong = {kind: np.array([one == kind for one in planted.kinds]) for kind in KINDS}
        wrong["any"] = np.array([one is not None for one in planted.kinds])
        for kind, scores in score_planted(planted.images, names, np.random.default_rng(seed)).items():
            for name, column in scores.items():
                rows[kind][name].append(describe(column, wrong[kind]))
    for kind in (*KINDS, "any"):
        print_table(f"{kind} ({each if kind != 'any' else each * len(KINDS)} images)", rows[kind])


def read_coco(folder: Path, model: str) -> tuple[list[ImageBoxes], list[str]]:
    from ml_backend.serving.offline import detect_files, open_engine
    from ml_backend.settings import Settings

    about = json.loads((folder / "instances.json").read_text())
    categories = {one["id"]: one["name"] for one in about["categories"]}
    names = sorted(categories.values())
    drawn: dict[int, list[list[float]]] = defaultdict(list)
    for one in about["annotations"]:
        if not one["iscrowd"]:
            x, y, width, height = one["bbox"]
            drawn[one["image_id"]].append([x, y, x + width, y + height, names.index(categories[one["category_id"]])])
    listed = [one for one in sorted(about["images"], key=lambda one: one["file_name"]) if drawn[one["id"]]]
    paths = [folder / "images" / one["file_name"] for one in listed]
    settings = Settings(models_dir=Path(model).parent, media_root=folder, model=model, is_offline=True)
    images = []
    with open_engine(settings) as engine:
        numbers = {number: names.index(name) for number, name in engine.holder.get().detector.names.items()}
        for one, answer in zip(listed, detect_files(engine, paths, score_floor=FLOOR), strict=True):
            assert answer.found is not None, answer.problem
            labels = np.array(drawn[one["id"]])
            images.append(
                ImageBoxes(
                    labels[:, :4],
                    labels[:, 4].astype(np.int64),
                    answer.found.xyxy.astype(np.float64),
                    np.array([numbers[int(number)] for number in answer.found.class_ids], np.int64),
                    answer.found.scores.astype(np.float64),
                    float(one["width"] * one["height"]),
                )
            )
    return images, names


def plant(images: Sequence[ImageBoxes], seed: int, class_count: int, *, each: int) -> Planted:
    """Return the images with one mistake in some of them: as many of each kind."""
    random = np.random.default_rng(seed)
    made, kinds = list(images), list[str | None]([None] * len(images))
    pool = [(image, row) for image in images for row in range(len(image.labels))]
    order = random.permutation(len(images))
    for place, kind in enumerate(KINDS):
        for number in order[place * each : (place + 1) * each]:
            image = made[number]
            row = int(random.integers(len(image.labels)))
            made[number] = _PLANTERS[kind](image, row, random, class_count, pool)
            kinds[number] = kind
    return Planted(made, kinds)


def _swap(image: ImageBoxes, row: int, random: np.random.Generator, class_count: int, _: Any) -> ImageBoxes:
    classes = image.label_classes.copy()
    classes[row] = (classes[row] + random.integers(1, class_count)) % class_count
    return replace(image, label_classes=classes)


def _shift(image: ImageBoxes, row: int, random: np.random.Generator, _: int, __: Any) -> ImageBoxes:
    labels = image.labels.copy()
    side = labels[row, 2:] - labels[row, :2]
    middle = (labels[row, 2:] + labels[row, :2]) / 2 + random.uniform(0.2, 0.5, 2) * random.choice([-1, 1], 2) * side
    side = side * random.uniform(0.8, 1.25, 2)
    labels[row] = np.concatenate([middle - side / 2, middle + side / 2])
    return replace(image, labels=labels)


def _remove(image: ImageBoxes, row: int, _: np.random.Generator, __: int, ___: Any) -> ImageBoxes:
    return replace(
        image, labels=np.delete(image.labels, row, axis=0), label_classes=np.delete(image.label_classes, row)
    )


def _add(image: ImageBoxes, _: int, random: np.random.Generator, __: int, pool: Any) -> ImageBoxes:
    """Add a box of another image, of its size and class, in a place by chance."""
    other, row = pool[int(random.integers(len(pool)))]
    width = np.sqrt(image.area * 4 / 3)
    size = np.array([width, image.area / width])
    side = np.minimum(other.labels[row, 2:] - other.labels[row, :2], 0.9 * size)
    corner = random.uniform(0, size - side)
    return replace(
        image,
        labels=np.vstack([image.labels, np.concatenate([corner, corner + side])]),
        label_classes=np.append(image.label_classes, other.label_classes[row]),
    )


_PLANTERS: Mapping[str, Callable[..., ImageBoxes]] = {
    "swapped": _swap,
    "location": _shift,
    "missing": _remove,
    "spurious": _add,
}


def score_planted(
    images: Sequence[ImageBoxes], names: list[str], random: np.random.Generator
) -> dict[str, dict[str, Floats]]:
    """Return for each kind the score of every image by every tool."""
    ours = score_boxes(images, range(len(names)))
    columns = {kind: np.array([highest(one, kind) for one in ours]) for kind in KINDS}
    scores: dict[str, dict[str, Floats]] = {kind: {"labelloop": columns[kind]} for kind in KINDS}
    scores["any"] = {"labelloop, highest of four": np.max(list(columns.values()), axis=0)}
    for name, column in score_with_objectlab(images, len(names)).items():
        for kind in ("any", *KINDS) if name == "cleanlab, overall" else (_OBJECTLAB_KINDS[name],):
            scores[kind][name] = column
    for name, column in score_with_fiftyone_boxes(images, names).items():
        for kind in (*KINDS, "any"):
            scores[kind][name] = column
    for kind in (*KINDS, "any"):
        scores[kind]["random"] = random.random(len(images))
    return scores


def highest(scores: BoxScores, kind: str) -> float:
    column = getattr(scores, kind)
    known = column[~np.isnan(column)]
    return float(known.max(initial=0.0))


_OBJECTLAB_KINDS = {
    "cleanlab, swap": "swapped",
    "cleanlab, bad location": "location",
    "cleanlab, overlooked": "missing",
}


def score_with_objectlab(images: Sequence[ImageBoxes], class_count: int) -> dict[str, Floats]:
    from cleanlab.object_detection import rank

    labels = [{"bboxes": image.labels, "labels": image.label_classes} for image in images]
    found = []
    for image in images:
        parts = np.empty(class_count, dtype=object)
        rows = np.column_stack([image.found, image.scores])
        for number in range(class_count):
            parts[number] = rows[image.found_classes == number]
        found.append(parts)
    # An image without labels has no quality in its eyes: as good as any.
    filled = [row for row, image in enumerate(images) if len(image.labels)]
    chosen = [labels[row] for row in filled], [found[row] for row in filled]

    def spread(quality: Any) -> Floats:
        column = np.zeros(len(images))
        column[filled] = 1 - np.nan_to_num(np.asarray(quality, dtype=np.float64), nan=1.0)
        return column

    own = {
        "cleanlab, swap": rank.compute_swap_box_scores,
        "cleanlab, bad location": rank.compute_badloc_box_scores,
        "cleanlab, overlooked": rank.compute_overlooked_box_scores,
    }
    columns = {"cleanlab, overall": spread(rank.get_label_quality_scores(*chosen, verbose=False))}
    for name, compute in own.items():
        by_box = compute(labels=chosen[0], predictions=chosen[1])
        columns[name] = spread([np.nanmin(one) if len(one) and not np.isnan(one).all() else 1.0 for one in by_box])
    return columns


def score_with_fiftyone_boxes(images: Sequence[ImageBoxes], names: list[str]) -> dict[str, Floats]:
    import fiftyone as fo
    import fiftyone.brain as fob

    dataset = fo.Dataset()

    def to_detections(boxes: Floats, classes: Any, scores: Any, side: Floats) -> Any:
        return fo.Detections(
            detections=[
                fo.Detection(
                    label=names[number],
                    bounding_box=[float(value) for value in (*(box[:2] / side), *((box[2:] - box[:2]) / side))],
                    confidence=None if score is None else float(score),
                )
                for box, number, score in zip(boxes, classes, scores, strict=True)
            ]
        )

    for number, image in enumerate(images):
        side = np.sqrt(image.area) * np.ones(2)
        sample = fo.Sample(filepath=f"/nowhere/{number}.jpg")
        sample["given"] = to_detections(image.labels, image.label_classes, [None] * len(image.labels), side)
        sample["seen"] = to_detections(image.found, image.found_classes, image.scores, side)
        dataset.add_sample(sample)
    fob.compute_mistakenness(dataset, "seen", label_field="given", copy_missing=False)
    columns = {
        name: np.array([0.0 if one is None else float(one) for one in dataset.values(field)])
        for name, field in {
            "FiftyOne mistakenness": "mistakenness",
            "FiftyOne possible_missing": "possible_missing",
            "FiftyOne possible_spurious": "possible_spurious",
        }.items()
    }
    by_box = dataset.values("given.detections.mistakenness_loc")
    columns["FiftyOne mistakenness_loc"] = np.array(
        [max([one for one in row or () if one is not None], default=0.0) for row in by_box]
    )
    dataset.delete()
    return columns


# Figures


def describe(scores: Floats, wrong: NDArray[np.bool_]) -> list[float]:
    from sklearn.metrics import average_precision_score, roc_auc_score

    order = np.argsort(-scores, kind="stable")
    return [
        float(wrong[order[: wrong.sum()]].mean()),
        float(wrong[order[:10]].mean()),
        float(average_precision_score(wrong, scores)),
        float(roc_auc_score(wrong, scores)),
    ]


def print_table(title: str, rows: Mapping[str, list[list[float]]]) -> None:
    click.echo(f"  {title:34}{'P@k':>14}{'P@10':>14}{'AP':>14}{'AUROC':>14}")
    for name, values in rows.items():
        means, spreads = np.mean(values, axis=0), np.std(values, axis=0)
        cells = "".join(f"{mean:.3f} ({spread:.2f})".rjust(14) for mean, spread in zip(means, spreads, strict=True))
        click.echo(f"    {name:32}{cells}")


def measure_speed() -> None:
    """Print how long 5,000 images with 8 labels and 20 boxes of a detector each take, of 80 classes."""
    random = np.random.default_rng(0)
    images = []
    for _ in range(5000):
        corners = random.uniform(0, 500, (28, 2))
        boxes = np.column_stack([corners, corners + random.uniform(5, 140, (28, 2))])
        classes = random.integers(0, 80, 28)
        images.append(ImageBoxes(boxes[:8], classes[:8], boxes[8:], classes[8:], random.random(20), 640.0 * 640.0))
    started = time.process_time()
    score_boxes(images, range(80))
    click.echo(f"\n5,000 images x 8 labels x 20 boxes, 80 classes: {time.process_time() - started:.2f} CPU s")


if __name__ == "__main__":
    main()
