"""The plugin's operator: its form, progress and result in the App; what it does lies in the work.

FiftyOne runs this file under a name of its own, and again when the plugin changes: nothing is kept here.
"""

from __future__ import annotations

import os
from typing import Any

from fiftyone.operators import types

from fiftyone_plugins.app.forms import add_choice
from fiftyone_plugins.app.operators import WorkOperator
from fiftyone_plugins.app.running import find_curation_folder
from fiftyone_plugins.app.work import Tools
from fiftyone_plugins.embeddings.embedders import OPEN_CLIP, SHORT_NAMES, describe_models
from fiftyone_plugins.embeddings.items import list_offered_fields
from fiftyone_plugins.embeddings.searching import list_text_sources
from fiftyone_plugins.embeddings.store import EmbeddingStore
from fiftyone_plugins.zeroshot.panel import AgreementPanel
from fiftyone_plugins.zeroshot.prompts import TEMPLATES
from fiftyone_plugins.zeroshot.work import JOB, classify, find_classes, read_params
from labels.errors import LabelingError
from labels.fields import ZERO_SHOT

WHOLE_IMAGES = "whole images"
OTHER_MODEL = "other"


class ClassifyByNames(WorkOperator):
    """Asks a CLIP which of some class names fits each image, or each crop, best."""

    name_in_app = "classify_by_names"
    label = "Classify by class names"
    about = "Ask a CLIP which of some class names fits each image or crop best, and compare with labels"
    icon = "style"
    job = JOB
    submit = "Classify"

    def ask(self, ctx: Any, inputs: types.Object, samples: Any) -> str | None:
        """Ask for the classes, the model and images or crops; say how many are looked at."""
        crops = {WHOLE_IMAGES: "Whole images"} | {name: f"Crops of {name}" for name in list_offered_fields(ctx.dataset)}
        add_choice(inputs, "patches", crops, label="Of what", default=WHOLE_IMAGES)
        about = "Parted by commas. Empty: the classes of the label config"
        inputs.str("classes", label="Class names", description=about)
        self._ask_for_model(ctx, inputs)
        about = f"One a line, with {{}} where the name goes. Empty: {TEMPLATES[0]} and {len(TEMPLATES) - 1} more"
        inputs.str("templates", label="Sentences", description=about, view=types.TextFieldView(multiline=True))
        inputs.bool("unlabelled", default=False, label="Only images without ground truth")
        try:
            arguments = dict(read_params(self.read_answers(ctx.params)))
            names = arguments["classes"] or find_classes(find_curation_folder(os.environ))
            plan = classify(samples, Tools(find_curation_folder(os.environ)), **{**arguments, "dry_run": True})
        except LabelingError as error:
            return str(error)
        told = (
            f"{plan.moved:,} get one of {len(names)} classes, in the field {ZERO_SHOT}. No label of a person changes."
        )
        inputs.view("summary", types.Notice(label=told))
        return None

    def read_answers(self, answers: dict[str, Any]) -> dict[str, Any]:
        """Return classes, model, sentences, and what is looked at."""
        chosen = answers.get("model")
        patches = answers.get("patches")
        read: dict[str, Any] = {
            "classes": _split(answers.get("classes"), ","),
            "templates": _split(answers.get("templates"), "\n"),
            "patches": None if patches in (None, WHOLE_IMAGES) else patches,
            "unlabelled": "ground_truth" if answers.get("unlabelled") else None,
        }
        if chosen == OTHER_MODEL:
            read |= {"model": _strip(answers.get("name")), "weights": _strip(answers.get("weights"))}
        elif chosen:
            model, _, weights = chosen.partition("|")
            read |= {"model": model, "weights": weights or None}
        return {name: value for name, value in read.items() if value}

    def _ask_for_model(self, ctx: Any, inputs: types.Object) -> None:
        choices = types.Choices()
        used = list_text_sources(EmbeddingStore(find_curation_folder(os.environ), ctx.dataset.name))
        for name, source in used.items():
            choices.add_choice(f"{source['model']}|{source['weights'] or ''}", label=f"{name}, used here before")
        abouts = describe_models()
        for name in (one for one, full in SHORT_NAMES.items() if full.startswith(OPEN_CLIP)):
            choices.add_choice(name, label=name, description=abouts[name])
        choices.add_choice(OTHER_MODEL, label="another one", description="by its name, or from a file of weights")
        inputs.enum("model", choices.values(), default=choices.values()[0], label="Model", view=choices)
        if ctx.params.get("model") == OTHER_MODEL:
            inputs.str("name", label="Name of the model", description="open_clip:ARCHITECTURE/TAG", required=True)
            inputs.str("weights", label="File of weights", description="Empty: the model's own, fetched once")


def _split(text: object, by: str) -> list[str]:
    return [part.strip() for part in str(text or "").split(by) if part.strip()]


def _strip(text: object) -> str | None:
    return str(text or "").strip() or None


def register(plugin: Any) -> None:
    """Register operator and panel; FiftyOne calls this."""
    plugin.register(ClassifyByNames)
    plugin.register(AgreementPanel)
