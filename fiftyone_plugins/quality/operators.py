"""The plugin's operators: forms, progress and results in the App; what they do lies in the works.

FiftyOne runs this file under a name of its own, and again when the plugin changes: nothing is kept here.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fiftyone.operators import types

from fiftyone_plugins.app.forms import add_choice
from fiftyone_plugins.app.operators import UndoOperator, WorkOperator
from fiftyone_plugins.app.running import find_curation_folder
from fiftyone_plugins.embeddings.store import EmbeddingStore
from fiftyone_plugins.quality.checks import ALL_CHECKS, default_thresholds, find_check
from fiftyone_plugins.quality.history import TAGS
from fiftyone_plugins.quality.learning import SOURCES
from fiftyone_plugins.quality.panel import SURE, THRESHOLD, QualityPanel
from fiftyone_plugins.quality.proposals import Rules
from fiftyone_plugins.quality.scanning import count_unmeasured
from fiftyone_plugins.quality.views import count_over, has_scores, list_measured, view_trash
from labels import fields

CHECKS = "checks"
MEASURE_FIRST = "No image was measured yet: run «Check image quality» first."
WORDS = {
    "checks": "The checks: what they are sure of",
    "people": "People: the tag keep, and their answers in Label Studio",
    "votes": "Votes: a file as AVA has them, and the rating below which an image is trash",
}


class CheckQuality(WorkOperator):
    """Measures the images that were not measured yet."""

    name_in_app = "check_quality"
    label = "Check image quality"
    about = "Measure blur, darkness, contrast and more; only what is new"
    icon = "high_quality"
    job = "quality"
    submit = "Measure"

    def ask(self, ctx: Any, inputs: types.Object, samples: Any) -> str | None:
        """Ask whether all are measured anew; say how many images will be read."""
        inputs.bool("everything", default=False, label="Measure anew what was measured")
        count = len(samples) if ctx.params.get("everything") else count_unmeasured(samples)
        others = "" if ctx.params.get("everything") else ", and those whose files changed"
        inputs.view("summary", types.Notice(label=f"{count:,} images will be read{others}; no file is written to."))
        return None

    def read_answers(self, answers: dict[str, Any]) -> dict[str, Any]:
        """Return whether all are measured anew."""
        return {"everything": True} if answers.get("everything") else {}


class TagTrash(WorkOperator):
    """Tags the images that are proposed as trash, with a slider for each check and the count at once."""

    name_in_app = "tag_trash"
    label = "Tag trash by quality"
    about = "Choose what is trash by the scores; a tag, which can be taken back"
    icon = "delete_sweep"
    job = "quality_decide"
    submit = "Tag"

    def ask(self, ctx: Any, inputs: types.Object, samples: Any) -> str | None:
        """Ask for the thresholds, say how many images reach each, and how many would be tagged."""
        if not has_scores(ctx.dataset):
            return MEASURE_FIRST
        measured = list_measured(ctx.dataset)
        choices = types.DropdownView(multiple=True)
        for name in measured:
            choices.add_choice(name, label=find_check(name).label)
        inputs.list(CHECKS, types.String(), default=list(default_thresholds()), label="What counts", view=choices)
        rules = read_rules(ctx.params)
        counts = count_over(samples, rules.thresholds)
        for name, threshold in rules.thresholds.items():
            label = f"{find_check(name).label}: {counts.get(name, 0):,} from {threshold:g} on"
            about = find_check(name).about
            default = find_check(name).threshold or SURE
            slider = types.SliderView(label=label, description=about, value_precision=2)
            inputs.float(THRESHOLD + name, min=0, max=1, default=default, label=label, view=slider)
        if ctx.dataset.has_sample_field(fields.AESTHETIC_MEAN):
            about = "On AVA's scale of 1 to 10; 6 is called good there. Empty: ratings do not count"
            inputs.float("below_mean", min=1, max=10, label="Trash below this rating", description=about)
            inputs.float("worst_percent", min=0, max=100, label="Trash this part of the lowest rated, in percent")
        count = len(view_trash(samples, rules))
        told = f"{count:,} of {len(samples):,} images would be tagged «{fields.TRASH_TAG}». They are neither queued nor"
        inputs.view("summary", types.Notice(label=f"{told} exported then; no file is touched."))
        return None if count else "No image reaches a threshold."

    def read_answers(self, answers: dict[str, Any]) -> dict[str, Any]:
        """Return the thresholds and limits of ratings."""
        rules = read_rules(answers)
        thresholds: dict[str, float | None] = {name: rules.thresholds.get(name) for name in ALL_CHECKS}
        limits = {"below_mean": rules.below_mean, "worst_percent": rules.worst_percent}
        return {"thresholds": thresholds} | {name: limit for name, limit in limits.items() if limit is not None}


class UntagTrash(UndoOperator):
    """Takes back one decision about trash."""

    name_in_app = "untag_trash"
    label = "Take back trash tags"
    about = "Take the tag off what one decision tagged"
    job = "quality_undo"
    kinds = tuple(TAGS)


class LearnRatings(WorkOperator):
    """Trains the head that rates images from votes."""

    name_in_app = "learn_ratings"
    label = "Learn ratings from votes"
    about = "Train a small head on embeddings that expects how people would rate an image"
    icon = "school"
    job = "quality_learn"
    submit = "Learn"

    def ask(self, ctx: Any, inputs: types.Object, samples: Any) -> str | None:
        """Ask for the file with the votes."""
        if EmbeddingStore(_folder(), ctx.dataset.name).latest() is None:
            return "No image has an embedding yet: run «Compute embeddings» first."
        about = 'A JSON list of {"image_id": …, "label": [ten counts]}; an image\'s id is its file name without the end'
        inputs.str("votes", label="File with the votes", description=about, required=True)
        path = (ctx.params.get("votes") or "").strip()
        return None if Path(path).is_file() else "Give the path of the file with the votes."

    def read_answers(self, answers: dict[str, Any]) -> dict[str, Any]:
        """Return the file."""
        return {"votes": (answers.get("votes") or "").strip()}


class WriteExamples(WorkOperator):
    """Writes folders of images to keep and of trash, which trainers of classifiers read."""

    name_in_app = "write_examples"
    label = "Write keep/trash examples"
    about = "Write folders to train a keep/trash classifier on, into labelloop's state folder"
    icon = "folder_special"
    job = "quality_examples"
    submit = "Write"

    def ask(self, ctx: Any, inputs: types.Object, samples: Any) -> str | None:
        """Ask who says what is trash."""
        add_choice(inputs, "source", WORDS, label="Who says what is trash", default=SOURCES[0])
        inputs.bool("copy", default=False, label="Copies in place of links")
        if ctx.params.get("source") != "votes":
            return None if has_scores(ctx.dataset) or ctx.params.get("source") == "people" else MEASURE_FIRST
        inputs.str("votes", label="File with the votes", required=True)
        inputs.float("below_mean", min=1, max=10, default=6, label="Trash below this rating")
        path = (ctx.params.get("votes") or "").strip()
        return None if Path(path).is_file() else "Give the path of the file with the votes."

    def read_answers(self, answers: dict[str, Any]) -> dict[str, Any]:
        """Return who says it, and the votes."""
        source = answers.get("source") or SOURCES[0]
        chosen: dict[str, Any] = {"source": source} | ({"copy": True} if answers.get("copy") else {})
        if source == "votes":
            chosen |= {"votes": (answers.get("votes") or "").strip(), "below_mean": answers.get("below_mean") or 6}
        return chosen


def read_rules(answers: dict[str, Any]) -> Rules:
    """Return the rules of what a form holds: of the checks that count, with their sliders."""
    names = answers.get(CHECKS)
    usual = default_thresholds()
    chosen = [name for name in ALL_CHECKS if name in (usual if names is None else names)]
    thresholds: dict[str, float] = {}
    for name in chosen:
        given = answers.get(THRESHOLD + name)
        thresholds[name] = float(find_check(name).threshold or SURE) if given is None else float(given)
    return Rules(thresholds, answers.get("below_mean"), answers.get("worst_percent"))


def _folder() -> Path:
    return find_curation_folder(os.environ)


def register(plugin: Any) -> None:
    """Register operators and panel; FiftyOne calls this."""
    for operator in (CheckQuality, TagTrash, UntagTrash, LearnRatings, WriteExamples, QualityPanel):
        plugin.register(operator)
