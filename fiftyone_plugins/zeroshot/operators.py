"""The plugin's operator: its form, progress and result in the App; what it does lies in the work.

FiftyOne runs this file under a name of its own, and again when the plugin changes: nothing is kept here.
"""

from __future__ import annotations

import os
from typing import Any

from fiftyone.operators import types

from fiftyone_plugins.app.operators import WorkOperator
from fiftyone_plugins.app.running import find_curation_folder
from fiftyone_plugins.app.work import Tools
from fiftyone_plugins.embeddings.asking import OTHER_MODEL, ask_for_crops, ask_for_model, read_crops, read_other_model
from fiftyone_plugins.embeddings.embedders import OPEN_CLIP, SHORT_NAMES, describe_models
from fiftyone_plugins.embeddings.searching import list_text_sources
from fiftyone_plugins.embeddings.store import EmbeddingStore
from fiftyone_plugins.zeroshot.panel import AgreementPanel
from fiftyone_plugins.zeroshot.prompts import TEMPLATES
from fiftyone_plugins.zeroshot.work import JOB, classify, find_classes, read_params
from labels.errors import LabelingError
from labels.fields import GROUND_TRUTH, ZERO_SHOT


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
        ask_for_crops(ctx, inputs)
        about = "Parted by commas. Empty: the classes of the label config"
        inputs.str("classes", label="Class names", description=about)
        problem = ask_for_model(ctx, inputs, self._list_models(ctx), "open_clip:ARCHITECTURE/TAG")
        about = f"One a line, with {{}} where the name goes. Empty: {TEMPLATES[0]} and {len(TEMPLATES) - 1} more"
        inputs.str("templates", label="Sentences", description=about, view=types.TextFieldView(multiline=True))
        inputs.bool("unlabelled", default=False, label="Only images without ground truth")
        if problem is not None:
            return problem
        try:
            arguments = dict(read_params(self.read_answers(ctx.params)))
            names = arguments["classes"] or find_classes(find_curation_folder(os.environ))
            plan = classify(samples, Tools(find_curation_folder(os.environ)), **{**arguments, "dry_run": True})
        except LabelingError as error:
            return str(error)
        crops = read_crops(ctx.params)
        what, where = ("images", "the field") if crops is None else (f"crops of {crops}", "the attribute")
        told = f"{plan.moved:,} {what} get one of {len(names)} classes, in {where} {ZERO_SHOT}."
        told = f"{told} No label of a person changes."
        inputs.view("summary", types.Notice(label=told))
        return None

    def read_answers(self, answers: dict[str, Any]) -> dict[str, Any]:
        """Return classes, model, sentences, and what is looked at."""
        chosen = answers.get("model") or ""
        read: dict[str, Any] = {
            "classes": _split(answers.get("classes"), ","),
            "templates": _split(answers.get("templates"), "\n"),
            "patches": read_crops(answers),
            "unlabelled": GROUND_TRUTH if answers.get("unlabelled") else None,
        }
        if chosen == OTHER_MODEL:
            read |= read_other_model(answers)
        else:
            model, _, weights = chosen.partition("|")
            read |= {"model": model, "weights": weights}
        return {name: value for name, value in read.items() if value}

    def _list_models(self, ctx: Any) -> types.Choices:
        """Return the CLIPs that were used here, then those that are known by a short name."""
        choices = types.Choices()
        used = list_text_sources(EmbeddingStore(find_curation_folder(os.environ), ctx.dataset.name))
        for name, source in used.items():
            choices.add_choice(f"{source['model']}|{source['weights'] or ''}", label=f"{name}, used here before")
        abouts = describe_models()
        for name in (one for one, full in SHORT_NAMES.items() if full.startswith(OPEN_CLIP)):
            choices.add_choice(name, label=name, description=abouts[name])
        return choices


def _split(text: object, by: str) -> list[str]:
    return [part.strip() for part in str(text or "").split(by) if part.strip()]


def register(plugin: Any) -> None:
    """Register operator and panel; FiftyOne calls this."""
    plugin.register(ClassifyByNames)
    plugin.register(AgreementPanel)
