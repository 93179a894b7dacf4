"""The plugin's operators and its panel: forms, progress and results in the App; what they do lies in the other modules.

FiftyOne runs this file under a name of its own, and again when the plugin changes: nothing is kept here.
"""

from __future__ import annotations

from typing import Any

from fiftyone.operators import types

from fiftyone_plugins.app.operators import WorkOperator
from fiftyone_plugins.mistakes.datalab import HOW_TO_GET_IT, has_datalab
from fiftyone_plugins.mistakes.image_labels import OWN_HEAD
from fiftyone_plugins.mistakes.panel import MistakesPanel
from fiftyone_plugins.mistakes.storing import list_judgeable
from fiftyone_plugins.mistakes.work import THRESHOLD
from labels import fields

DETECTOR = "detector"


class FindMistakes(WorkOperator):
    """Judges the labels of the selected samples, the current view or the dataset."""

    name_in_app = "find_mistakes"
    label = "Find label mistakes"
    about = "Find labels that are likely wrong: another class, a box in the wrong place, missing or superfluous boxes"
    icon = "spellcheck"
    job = "mistakes"
    submit = "Find"

    def ask(self, ctx: Any, inputs: types.Object, samples: Any) -> str | None:
        """Ask for the labels and what they are compared with; say how many samples have labels."""
        judgeable = list_judgeable(ctx.dataset)
        if not judgeable:
            return "This dataset has no field with boxes or with a class of the image."
        names = types.Choices()
        for name, kind in judgeable.items():
            names.add_choice(name, label=f"{name} ({kind})")
        first = fields.GROUND_TRUTH if fields.GROUND_TRUTH in judgeable else next(iter(judgeable))
        inputs.enum("labels", names.values(), default=first, label="Labels to be judged", view=names)
        chosen = ctx.params.get("labels")
        chosen = chosen if chosen in judgeable else first
        others = types.Choices()
        is_boxes = judgeable[chosen] == "boxes"
        default = DETECTOR if is_boxes else OWN_HEAD
        told = "The detector (in this App without a console: the predictions)" if is_boxes else "The images' embeddings"
        others.add_choice(default, label=told)
        for name, kind in judgeable.items():
            if kind == judgeable[chosen] and name != chosen:
                others.add_choice(name, label=f"The field {name}")
        inputs.enum("against", others.values(), default=default, label="Compared with", view=others)
        inputs.float("threshold", default=THRESHOLD, min=0, max=1, label="Tag and save as a view from")
        if is_boxes:
            inputs.bool("objectlab", default=False, label="Also cleanlab's ObjectLab (slow)")
        elif has_datalab():
            inputs.bool("datalab", default=False, label="Also cleanlab's Datalab: outliers, copies, rare classes, ...")
        else:
            inputs.view("no_datalab", types.Notice(label=HOW_TO_GET_IT))
        count = len(samples.exists(chosen))
        told = f"{count:,} of {len(samples):,} samples have labels in {chosen}: they get scores and reasons."
        inputs.view("summary", types.Notice(label=f"{told} No label is changed."))
        return None if count else f"None of these samples has labels in {chosen}."

    def read_answers(self, answers: dict[str, Any]) -> dict[str, Any]:
        """Return the labels, what they are compared with, and from where on samples are tagged."""
        named = {name: answers.get(name) for name in ("labels", "against", "threshold", "objectlab", "datalab")}
        if named["against"] == DETECTOR:
            named["against"] = None
        return {name: value for name, value in named.items() if value not in (None, False)}


def register(plugin: Any) -> None:
    """Register operators and panels; FiftyOne calls this."""
    plugin.register(FindMistakes)
    plugin.register(MistakesPanel)
