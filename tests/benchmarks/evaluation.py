"""Evaluation of 5,000 images with 80 classes: ours, hotcoco alone and pycocotools on the same boxes in one run.

``python -m tests.benchmarks.evaluation --images 5000``. Prints the seconds and the scores of each, and how long the
gate's interval takes. Asserts nothing.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable
from typing import Any

import click
import numpy as np

from labels.geometry import ImageSize
from sync.models.bootstrap import draw_differences, find_interval, read_matches
from sync.models.boxes import Boxes, match_coco
from sync.models.evaluation import evaluate_boxes

SIZE = ImageSize(640, 480)
CLASSES = tuple(f"class {number}" for number in range(80))
BOXES_PER_IMAGE = 7.6
FOUND_PER_IMAGE = 30


@click.command()
@click.option("--images", type=int, default=5000, show_default=True)
@click.option("--draws", type=int, default=200, show_default=True, help="Of the interval; the gate makes 1000.")
def main(images: int, draws: int) -> None:
    """Print the seconds and the scores of each."""
    truth = make_truth(images)
    found = make_found(truth, images, seed=1, off_px=9.0)
    click.echo(f"{images} images, {len(truth)} boxes of people, {len(found)} found, {len(CLASSES)} classes")
    sizes = [SIZE] * images

    ours_s, ours = measure(lambda: evaluate_boxes(sizes, CLASSES, truth, found))
    bare_s, _ = measure(lambda: run_hotcoco(sizes, truth, found))
    theirs_s, theirs = measure(lambda: run_pycocotools(truth, found, images))

    click.echo(f"{'':34}{'seconds':>9}  {'mAP50-95':>9}  {'mAP50':>9}")
    click.echo(f"{'ours (with precision, recall, ...)':34}{ours_s:9.2f}  {ours.map50_95:9.5f}  {ours.map50:9.5f}")
    click.echo(f"{'hotcoco alone':34}{bare_s:9.2f}")
    click.echo(f"{'pycocotools':34}{theirs_s:9.2f}  {theirs.stats[0]:9.5f}  {theirs.stats[1]:9.5f}")
    click.echo(
        f"pycocotools takes {theirs_s / ours_s:.1f} times as long as ours, {theirs_s / bare_s:.1f} times hotcoco"
    )

    other = make_found(truth, images, seed=2, off_px=7.0)
    pair_s, pair = measure(
        lambda: [read_matches(truth, one, images=images, classes=len(CLASSES)) for one in (found, other)]
    )
    drawn_s, drawn = measure(lambda: draw_differences(pair[0], pair[1], groups=np.arange(images), draws=draws, seed=0))
    click.echo(
        f"interval of the difference: {pair_s:.1f} s to match both, {drawn_s:.1f} s for {draws} draws"
        f" ({drawn_s / draws * 1000:.0f} s for 1000): {find_interval(drawn.overall, 0.95)}"
    )


def measure(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def make_truth(images: int) -> Boxes:
    random = np.random.default_rng(0)
    count = int(images * BOXES_PER_IMAGE)
    sides = np.exp(random.uniform(np.log(8), np.log(300), (count, 2)))
    corners = random.uniform(0, 1, (count, 2)) * (np.array([SIZE.width, SIZE.height]) - sides)
    # A few classes are frequent and many are rare, as in COCO.
    classes = np.minimum(random.geometric(0.05, count) - 1, len(CLASSES) - 1)
    return Boxes(random.integers(0, images, count), classes, np.hstack([corners, corners + sides]))


def make_found(truth: Boxes, images: int, *, seed: int, off_px: float) -> Boxes:
    random = np.random.default_rng(seed)
    rows = np.flatnonzero(random.uniform(size=len(truth)) > 0.25)
    near = truth.xyxy[rows] + random.normal(0, off_px, (len(rows), 4))
    extra = images * FOUND_PER_IMAGE - len(rows)
    far = truth.xyxy[random.integers(0, len(truth), extra)] + random.normal(0, 60, (extra, 4))
    xyxy = np.vstack([near, far])
    xyxy[:, 2:] = np.maximum(xyxy[:, 2:], xyxy[:, :2] + 1)
    return Boxes(
        np.concatenate([truth.images[rows], random.integers(0, images, extra)]),
        np.concatenate([truth.classes[rows], random.integers(0, len(CLASSES), extra)]),
        xyxy,
        np.concatenate([random.uniform(0.3, 1, len(rows)), random.uniform(0, 0.6, extra)]),
    )


def run_hotcoco(sizes: list[ImageSize], truth: Boxes, found: Boxes) -> Any:
    matched = match_coco(sizes, CLASSES, truth, found)
    matched.accumulate()
    return matched


def run_pycocotools(truth: Boxes, found: Boxes, images: int) -> Any:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        drawn = COCO()
        drawn.dataset = {
            "images": [{"id": number + 1, "width": SIZE.width, "height": SIZE.height} for number in range(images)],
            "categories": [{"id": number + 1, "name": name} for number, name in enumerate(CLASSES)],
            "annotations": [one | {"iscrowd": 0} for one in to_annotations(truth)],
        }
        drawn.createIndex()
        assert found.scores is not None
        results = [
            one | {"score": float(score)} for one, score in zip(to_annotations(found), found.scores, strict=True)
        ]
        evaluation = COCOeval(drawn, drawn.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def to_annotations(boxes: Boxes) -> list[dict[str, Any]]:
    columns = zip(boxes.images.tolist(), boxes.classes.tolist(), boxes.xyxy.tolist(), strict=True)
    return [
        {
            "id": row + 1,
            "image_id": image + 1,
            "category_id": name + 1,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": (x2 - x1) * (y2 - y1),
        }
        for row, (image, name, (x1, y1, x2, y2)) in enumerate(columns)
    ]


if __name__ == "__main__":
    main()
