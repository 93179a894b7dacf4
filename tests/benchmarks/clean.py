"""Folders «has a person» and «has none», a tenth of the images in the wrong one: what the plugin clean makes of them.

    python -m tests.benchmarks.clean FOLDER [--model NAME_OR_PATH] [--class person] [--swapped 0.1] [--seeds 5]

FOLDER holds ``images/`` and ``instances.json`` of COCO, which says what is really in them. Prints TP/TN/FP/FN of
«contains» (the detector against the truth) and of «is in the wrong folder» (the contradictions against what was
swapped), for several thresholds, and how high the swapped ones stand in the ranking, beside chance. Asserts nothing.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

from fiftyone_plugins.app.work import DrawnBoxes
from fiftyone_plugins.clean.judging import CONTRADICTIONS, Criteria, find_boxes, judge
from labels.config import LabelConfig, default_label_config_path
from labels.errors import ItemError
from sync.jobs.curation.detecting import make_draw
from sync.settings import Home, Project

THRESHOLDS = (0.25, 0.5, 0.75)
MIN_SIZES = (0.0, 0.01)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="yolo11n")
    parser.add_argument("--class", dest="name", default="person")
    parser.add_argument("--swapped", type=float, default=0.1)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    paths, truth = read_truth(options.folder, options.name)
    click.echo(f"{len(paths)} images, {sum(truth)} with {options.name}, model {options.model}")
    started = time.perf_counter()
    drawn = draw(paths, options.model)
    click.echo(f"drawn in {time.perf_counter() - started:.1f} s")
    sizes = [read_area(path) for path in paths]
    for min_size in MIN_SIZES:
        criteria = Criteria((options.name,), min_size=min_size)
        best = [find_best(boxes, criteria, area) for boxes, area in zip(drawn, sizes, strict=True)]
        click.echo(f"\nboxes from {min_size:.0%} of the image on; AUROC {roc_auc_score(truth, best):.3f}")
        print_contains(best, truth, options.name)
        print_swapped(best, truth, options)


def read_truth(folder: Path, name: str) -> tuple[list[Path], list[bool]]:
    """Return the images and whether each holds the class, as COCO says."""
    content = json.loads((folder / "instances.json").read_text())
    wanted = {one["id"] for one in content["categories"] if one["name"] == name}
    holding = {one["image_id"] for one in content["annotations"] if one["category_id"] in wanted}
    by_name = {path.name: path for path in sorted((folder / "images").rglob("*")) if path.is_file()}
    images = sorted(content["images"], key=lambda image: image["file_name"])
    found = [image for image in images if Path(image["file_name"]).name in by_name]
    return [by_name[Path(one["file_name"]).name] for one in found], [one["id"] in holding for one in found]


def draw(paths: Sequence[Path], model: str) -> list[DrawnBoxes]:
    """Return the boxes of every image, drawn as the job draws them."""
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder) / "home")
        home.make()
        config = LabelConfig.read(default_label_config_path())
        context: Any = SimpleNamespace(home=home, project=Project(model=model), config=config)
        found = list(make_draw(context)(paths, model=model, score_floor=0.01))
    problems = [str(one) for one in found if isinstance(one, ItemError)]
    assert not problems, problems
    return [one for one in found if isinstance(one, DrawnBoxes)]


def read_area(path: Path) -> float:
    with Image.open(path) as image:
        return float(image.width * image.height)


def find_best(boxes: DrawnBoxes, criteria: Criteria, area: float) -> float:
    chosen = find_boxes(boxes, criteria, area)
    return float(boxes.scores[chosen[0]]) if len(chosen) else 0.0


def print_contains(best: Sequence[float], truth: Sequence[bool], name: str) -> None:
    """Print what the detector says of «contains», in two and in three ways."""
    click.echo(f"\n  contains {name}: detector against truth")
    click.echo("  threshold   TP   FN   FP   TN  unsure   precision  recall  accuracy")
    for threshold in THRESHOLDS:
        for unsure_from in (threshold, min(0.2, threshold)):
            criteria = Criteria((name,), threshold=threshold, unsure_from=unsure_from)
            outcomes = [judge(one, said, criteria).outcome for one, said in zip(best, truth, strict=True)]
            counts = [outcomes.count(f"{word}") for word in OUTCOME_ORDER]
            unsure = sum(one.startswith("unsure") for one in outcomes)
            click.echo(f"  {unsure_from:.2f}-{threshold:.2f}  {describe(counts, unsure)}")


OUTCOME_ORDER = ("true positive", "false negative", "false positive", "true negative")


def print_swapped(best: Sequence[float], truth: Sequence[bool], options: argparse.Namespace) -> None:
    """Print how well contradictions find the images in the wrong folder, summed over the seeds."""
    click.echo(f"\n  in the wrong folder ({options.swapped:.0%} swapped, {options.seeds} seeds): contradictions")
    click.echo("  threshold   TP   FN   FP   TN  unsure   precision  recall  accuracy")
    for threshold in THRESHOLDS:
        counts, unsure = np.zeros(4, int), 0
        for seed in range(options.seeds):
            swapped = swap(len(truth), options.swapped, seed)
            criteria = Criteria((options.name,), threshold=threshold, unsure_from=min(0.2, threshold))
            outcomes = [
                judge(one, said != is_wrong, criteria).outcome
                for one, said, is_wrong in zip(best, truth, swapped, strict=True)
            ]
            found = np.array([one in CONTRADICTIONS for one in outcomes])
            open_ = np.array([one.startswith("unsure") for one in outcomes])
            wrong = np.array(swapped)
            unsure += int(open_.sum())
            counts += [
                int((found & wrong).sum()),
                int((~found & wrong & ~open_).sum()),
                int((found & ~wrong).sum()),
                int((~found & ~wrong & ~open_).sum()),
            ]
        click.echo(f"  {min(0.2, threshold):.2f}-{threshold:.2f}  {describe(counts.tolist(), unsure)}")
    ranked, chance, firsts = [], [], []
    for seed in range(options.seeds):
        swapped = swap(len(truth), options.swapped, seed)
        claims = [said != is_wrong for said, is_wrong in zip(truth, swapped, strict=True)]
        scores = [1 - one if claim else one for one, claim in zip(best, claims, strict=True)]
        ranked.append(average_precision_score(swapped, scores))
        chance.append(average_precision_score(swapped, np.random.default_rng(seed).random(len(swapped))))
        first = np.argsort(-np.array(scores), kind="stable")[: sum(swapped)]
        firsts.append(np.mean(np.array(swapped)[first]))
    click.echo(f"\n  ranking by score: average precision {np.mean(ranked):.3f} (at random {np.mean(chance):.3f}),")
    click.echo(f"  of the first as many as were swapped {np.mean(firsts):.0%} were (at random {options.swapped:.0%})")


def swap(count: int, part: float, seed: int) -> list[bool]:
    """Return which images lie in the wrong folder."""
    chosen = set(random.Random(seed).sample(range(count), round(count * part)))
    return [number in chosen for number in range(count)]


def describe(counts: Sequence[int], unsure: int) -> str:
    hits, misses, alarms, rests = counts
    decided = max(1, hits + misses + alarms + rests)
    precision, recall = hits / max(1, hits + alarms), hits / max(1, hits + misses)
    numbers = "  ".join(f"{count:3}" for count in counts)
    return f"{numbers}   {unsure:4}       {precision:.3f}   {recall:.3f}     {(hits + rests) / decided:.3f}"


if __name__ == "__main__":
    main()
