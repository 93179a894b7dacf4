"""Prints which uncertainty finds a model's mistakes, and what calibration does to its error. Asserts nothing.

    uv run python tests/benchmarks/uncertainty.py FOLDER --model yolo11n

FOLDER holds images/ and instances.json, ground truth in COCO's format whose category names are the model's (coco128).
A mistake is a box shown that matches no object of its class by IoU 0.5, or an object no box matches. One line a score:
  rho errors   Spearman's rank correlation with the mistakes of an image
  rho err/box  with the mistakes for each object or box a person has to look at
  AUC          how often an image with more mistakes a box than the median comes before one with fewer
  top quarter  share of all mistakes and of all boxes that are in the first quarter of the queue, and their ratio
The calibration error is that of images held back, five times in turn, over all boxes from 0.05 on.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
from scipy.stats import rankdata, spearmanr
from sklearn.metrics import roc_auc_score

from labels.geometry import Box
from labels.results import Label
from ml_backend.answers.uncertainty import Candidate, Uncertainties, compute_disagreement, compute_uncertainties
from ml_backend.detectors import Detections, Detector, Image
from ml_backend.imaging.decoding import decode_image
from ml_backend.models.calibration_fit import METHODS, Example, fit_calibration
from ml_backend.serving.offline import open_engine
from ml_backend.settings import Settings
from sync.jobs.models.calibrate import to_examples

FLOOR = 0.05
SCORES: dict[str, Callable[[Uncertainties], float | None]] = {
    "u_mean": lambda one: one.u_mean,
    "u_sum": lambda one: one.u_sum,
    "u_disagree (flip)": lambda one: one.u_disagree,
    "u_rare": lambda one: one.u_rare,
    "1 - max p": lambda one: one.least_confidence,
    "mean entropy": lambda one: one.mean_entropy,
}


@dataclass(frozen=True)
class Judged:
    """One image: what is said of it, its mistakes, and how many boxes there are to look at."""

    said: Uncertainties
    errors: int
    boxes: int


def to_labels(found: Detections, names: dict[int, str], floor: float) -> list[Label]:
    return [
        Label(str(row), "label", (names[int(found.class_ids[row])],), Box.from_xyxy(*map(float, found.xyxy[row])),
              confidence=float(found.scores[row]))
        for row in range(len(found)) if found.scores[row] >= floor
    ]  # fmt: skip


def look(detector: Detector, image: Image) -> tuple[Detections, Detections]:
    """Return what is found in an image and in its mirror image, both in the image's own pixels."""
    mirrored = np.ascontiguousarray(image[:, ::-1])
    (found,), (other,) = (detector.detect([one], score_floor=FLOOR) for one in (image, mirrored))
    xyxy = other.xyxy.copy()
    xyxy[:, [0, 2]] = image.shape[1] - other.xyxy[:, [2, 0]]
    return found, replace(other, xyxy=xyxy)


def judge(found: Detections, mirrored: Detections, truth: Sequence[Label], names: dict[int, str], *,
          threshold: float, counts: dict[str, int]) -> Judged:  # fmt: skip
    candidates = [
        Candidate(names[int(class_id)], float(score), bool(score >= threshold))
        for class_id, score in zip(found.class_ids, found.scores, strict=True)
    ]
    said = compute_uncertainties(candidates, disagreement=compute_disagreement([found, mirrored]), label_counts=counts)
    examples = to_examples("one", to_labels(found, names, threshold), truth)
    right = sum(one.is_right for one in examples)
    return Judged(said, len(examples) + len(truth) - 2 * right, len(examples) + len(truth) - right)


def read_truth(folder: Path) -> dict[str, list[Label]]:
    said = json.loads((folder / "instances.json").read_text(encoding="utf-8"))
    names = {one["id"]: one["name"] for one in said["categories"]}
    files = {one["id"]: one["file_name"] for one in said["images"]}
    truth: dict[str, list[Label]] = {file: [] for file in files.values()}
    for one in said["annotations"]:
        if not one.get("iscrowd"):
            box = Box(*map(float, one["bbox"]))
            truth[files[one["image_id"]]].append(Label(str(one["id"]), "label", (names[one["category_id"]],), box))
    return truth


def show(name: str, values: Sequence[float], judged: Sequence[Judged]) -> None:
    errors = np.array([one.errors for one in judged], float)
    boxes = np.array([max(one.boxes, 1) for one in judged], float)
    share = errors / boxes
    order = np.argsort(-np.asarray(values), kind="stable")[: len(judged) // 4]
    top_errors, top_boxes = errors[order].sum() / errors.sum(), boxes[order].sum() / boxes.sum()
    auc = roc_auc_score(share > np.median(share), rankdata(values))
    click.echo(
        f"{name:18} {spearmanr(values, errors)[0]:10.2f} {spearmanr(values, share)[0]:11.2f} {auc:6.2f}"
        f"   {top_errors:.0%} : {top_boxes:.0%} = {top_errors / top_boxes:.2f}"
    )


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--model", default="yolo11n", help="Weights: a path or a known name.")
@click.option("--threshold", default=0.25, help="From which probability on a box is shown.")
def main(folder: Path, model: str, threshold: float) -> None:
    """Measure every score on a folder with ground truth."""
    truth = read_truth(folder)
    counts: dict[str, int] = defaultdict(int)
    for label in (label for labels in truth.values() for label in labels):
        counts[label.class_name] += 1
    judged, examples = [], list[Example]()
    settings = Settings(models_dir=folder / "models", media_root=folder, model=model, is_offline=True)
    with open_engine(settings) as engine:
        served = engine.holder.get()
        detector, names = served.detector, dict(served.detector.names)
        for file, labels in sorted(truth.items()):
            image = decode_image((folder / "images" / file).read_bytes(), item=file).pixels
            found, mirrored = look(detector, image)
            judged.append(judge(found, mirrored, labels, names, threshold=threshold, counts=counts))
            examples += to_examples(file, to_labels(found, names, FLOOR), labels)
    errors = sum(one.errors for one in judged)
    click.echo(f"{served.version}: {len(judged)} images, {errors} mistakes at {threshold}\n")
    click.echo(f"{'':18} {'rho errors':>10} {'rho err/box':>11} {'AUC':>6}   top quarter, errors : boxes")
    chance = random.Random(0)
    show("random", [chance.random() for _ in judged], judged)
    for name, read in SCORES.items():
        values = [read(one.said) for one in judged]
        show(name, [0.5 if value is None else value for value in values], judged)
    middle = float(np.median([one.said.corrections for one in judged]))
    click.echo(f"\nexpected corrections, median of the images: {middle:.1f}")
    for method in METHODS:
        fit = fit_calibration(examples, model_version=served.version, method=method).calibration
        click.echo(
            f"calibration error of {fit.examples} boxes: {fit.error_before:.4f} raw, {fit.error_after:.4f} {method}"
        )


if __name__ == "__main__":
    main()
