"""The plugin's operators: forms, progress and results in the App; what they do lies in the works.

FiftyOne runs this file under a name of its own, and again when the plugin changes: nothing is kept here.
"""

from __future__ import annotations

import os
from typing import Any

from fiftyone.operators import types

from fiftyone_plugins.app.operators import WorkOperator
from fiftyone_plugins.app.running import find_curation_folder
from fiftyone_plugins.app.work import Tools
from fiftyone_plugins.duplicates.collecting import find_label_fields
from fiftyone_plugins.duplicates.deciding import DROP_JOB, UNDO_JOB, describe_decision, drop_proposed, open_decisions
from fiftyone_plugins.duplicates.panel import DuplicatesPanel
from fiftyone_plugins.duplicates.scanning import JOB
from fiftyone_plugins.duplicates.work import DEFAULT_THRESHOLD, METHODS
from labels.errors import LabelingError

ABOUT = {
    "exact": "the same bytes",
    "phash": "re-encoded, resized, turned or mirrored",
    "near": "cropped, edited or nearly the same",
}
NOTHING_TO_DROP = "There is nothing to drop: every group is decided."


class FindDuplicates(WorkOperator):
    """Finds groups of images that show the same."""

    name_in_app = "find_duplicates"
    label = "Find duplicates"
    about = "Group images that show the same: by their bytes, perceptual hashes and embeddings"
    icon = "content_copy"
    job = JOB
    submit = "Find"

    def ask(self, ctx: Any, inputs: types.Object, samples: Any) -> str | None:
        """Ask for the methods, the threshold and the splits; say how many images are looked at."""
        for name in METHODS:
            inputs.bool(f"method_{name}", default=True, label=f"{name}: {ABOUT[name]}")
        if ctx.params.get("method_near", True):
            inputs.float(
                "threshold",
                default=DEFAULT_THRESHOLD,
                min=0.0,
                max=1.0,
                label="Threshold",
                description="Up to which distance embeddings propose a pair; the panel shows pairs of each distance",
                view=types.SliderView(),
            )
            inputs.bool(
                "check",
                default=True,
                label="Compare the pictures too",
                description="Off: the threshold decides alone, for scenes that are alike and not the same picture",
            )
        choices = types.Choices()
        for name in _list_text_fields(samples):
            choices.add_choice(name, label=name)
        inputs.enum(
            "splits", choices.values(), label="Field of the splits", description="Empty: the tags train, val, test",
            view=choices, required=False,
        )  # fmt: skip
        if not any(ctx.params.get(f"method_{name}", True) for name in METHODS):
            return "Choose at least one way to look for duplicates."
        told = f"{len(samples):,} images will be compared. Groups are written as fields; nothing is tagged or deleted."
        inputs.view("summary", types.Notice(label=told))
        return None

    def read_answers(self, answers: dict[str, Any]) -> dict[str, Any]:
        """Return the methods, threshold and splits."""
        methods = [name for name in METHODS if answers.get(f"method_{name}", True)]
        read: dict[str, Any] = {"methods": methods}
        if "near" in methods:
            threshold = answers.get("threshold")
            read["threshold"] = DEFAULT_THRESHOLD if threshold is None else float(threshold)
            if not answers.get("check", True):
                read["unchecked"] = True
        return read | ({"splits": answers["splits"]} if answers.get("splits") else {})


class DropDuplicates(WorkOperator):
    """Drops all but the proposed keeper of every group that nobody has decided on."""

    name_in_app = "drop_duplicates"
    label = "Drop proposed duplicates"
    about = "Tag all but the proposed keeper of each group: they leave queue and exports, nothing is deleted"
    icon = "playlist_remove"
    job = DROP_JOB
    submit = "Drop"

    def ask(self, ctx: Any, inputs: types.Object, samples: Any) -> str | None:
        """Say how many images would be dropped."""
        try:
            plan = drop_proposed(samples, Tools(find_curation_folder(os.environ)), dry_run=True)
        except LabelingError as error:
            return str(error)
        if plan.moved == 0:
            return "; ".join(("There is nothing to drop", *plan.notes)) if plan.notes else NOTHING_TO_DROP
        told = f"{plan.moved:,} images in {plan.details['groups']:,} groups will be tagged «duplicate», and leave queue"
        inputs.view("summary", types.Notice(label=f"{told} and exports. «Undo» takes one group back at a time."))
        return None

    def read_answers(self, answers: dict[str, Any]) -> dict[str, Any]:
        """Return no parameters."""
        return {}


class UndoDuplicates(WorkOperator):
    """Takes back the last decision about duplicates."""

    name_in_app = "undo_duplicates"
    label = "Undo the last decision about duplicates"
    about = "Take back what was kept, dropped or set apart last"
    icon = "undo"
    job = UNDO_JOB
    submit = "Undo"
    asks_for_samples = False

    def ask(self, ctx: Any, inputs: types.Object, samples: Any) -> str | None:
        """Say what will be taken back."""
        last = open_decisions(Tools(find_curation_folder(os.environ)), ctx.dataset).find_last()
        if last is None:
            return "Nothing was decided."
        inputs.view("summary", types.Notice(label=f"Taken back: {describe_decision(last)}"))
        return None

    def read_answers(self, answers: dict[str, Any]) -> dict[str, Any]:
        """Return no parameters."""
        return {}


def _list_text_fields(samples: Any) -> list[str]:
    import fiftyone as fo

    taken = ("id", "filepath", *find_label_fields(samples))
    schema = samples.get_field_schema(ftype=fo.StringField)
    return [name for name in schema if name not in taken and not name.startswith("duplicate_")]


def register(plugin: Any) -> None:
    """Register operators and panel; FiftyOne calls this."""
    plugin.register(FindDuplicates)
    plugin.register(DropDuplicates)
    plugin.register(UndoDuplicates)
    plugin.register(DuplicatesPanel)
