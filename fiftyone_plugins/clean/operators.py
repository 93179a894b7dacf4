"""The plugin's operators: forms, progress and results in the App; what they do lies in the works.

FiftyOne runs this file under a name of its own, and again when the plugin changes: nothing is kept here.
"""

from __future__ import annotations

from typing import Any

import fiftyone as fo
from fiftyone.operators import types

from fiftyone_plugins.app.forms import add_choice
from fiftyone_plugins.app.journal import Decided
from fiftyone_plugins.app.operators import JobOperator, UndoOperator, WorkOperator
from fiftyone_plugins.app.running import has_console
from fiftyone_plugins.app.targets import find_count_problem, to_sample_params
from fiftyone_plugins.clean.memory import Question, read_memory, view_judged, view_unsure
from fiftyone_plugins.clean.panel import ClaimsPanel
from fiftyone_plugins.clean.planning import ACTIONS, Plan, plan, read_contradictions
from fiftyone_plugins.clean.work import DEFAULT_THRESHOLD, DEFAULT_UNSURE_FROM, read_clean
from labels import fields
from labels.errors import LabelingError

KINDS = {
    "all": "All of these images",
    "folder": "Their folder: one that is named like the class, or as below",
    "tag": "A tag",
    "field": "A field: its value, or its labels' classes",
}
# No field can have this name: it is no identifier.
DETECTOR = "a detector"
ACTIONS_IN_WORDS = {
    "retag": "Retag: put a tag right that was the claim, else say what was found by a tag",
    "copy": "Copy the files beside their folder",
    "move": "Move the files beside their folder; the samples follow. Not those that are in Label Studio",
}
STEPS_SHOWN = 5


class CheckClaims(WorkOperator):
    """Compares what is claimed of images with what a detector sees."""

    name_in_app = "check_claims"
    label = "Check claims"
    about = "Find images that do not hold what their folder, tag or label claims"
    icon = "fact_check"
    job = "clean"
    submit = "Check"

    def ask(self, ctx: Any, inputs: types.Object, samples: Any) -> str | None:
        """Ask what should be in the images, who says so, and by what it is looked at."""
        inputs.str("classes", label="What the images should hold", description="One class or several, with commas")
        add_choice(inputs, "kind", KINDS, label="Who says that they do", default="all")
        kind = ctx.params.get("kind") or "all"
        if kind != "all":
            about = {"folder": "Its name or path; empty: like the class", "tag": "Its name"}
            inputs.str("name", label=f"Which {kind}", description=about.get(kind, "Its name, or name=value"))
        self._ask_by_what(ctx, inputs)
        inputs.float("threshold", min=0, max=1, default=DEFAULT_THRESHOLD, label="From this confidence on it is seen")
        inputs.float("unsure_from", min=0, max=1, default=DEFAULT_UNSURE_FROM, label="Below this it is not seen")
        inputs.float("min_size", min=0, max=1, default=0, label="Part of the image a box must cover (0 to 1)")
        inputs.bool("only_new", default=False, label="Only what was not judged yet")
        try:
            asked = read_clean(self.read_answers(ctx.params))
        except LabelingError as error:
            return str(error)
        is_new = asked["only_new"] and ctx.dataset.has_sample_field(fields.CLEAN_ABOUT)
        judged = len(view_judged(samples, Question(asked["criteria"], asked["claim"]).mark)) if is_new else 0
        label = f"{len(samples) - judged:,} images will be looked at; no file is changed."
        inputs.view("summary", types.Notice(label=label))
        if ctx.params.get("seen_in") not in (None, DETECTOR) or has_console(ctx.dataset.name):
            return None
        return "Without labelloop's console there is no detector: start 'labelloop up', or choose a field of boxes."

    def read_answers(self, answers: dict[str, Any]) -> dict[str, Any]:
        """Return classes, claim and criteria."""
        classes = [name.strip() for name in (answers.get("classes") or "").split(",") if name.strip()]
        kind, name = answers.get("kind") or "all", (answers.get("name") or "").strip()
        claim = f"{kind}:{name}" if name and kind != "all" else kind
        chosen: dict[str, Any] = {"classes": classes, "claim": claim}
        for one in ("threshold", "unsure_from", "min_size", "only_new"):
            if answers.get(one) is not None and answers[one] is not False:
                chosen[one] = answers[one]
        for one in ("model", "seen_in"):
            text = (answers.get(one) or "").strip()
            chosen |= {one: text} if text and text != DETECTOR else {}
        if chosen.get("seen_in"):
            chosen.pop("model", None)
        return chosen

    def _ask_by_what(self, ctx: Any, inputs: types.Object) -> None:
        choices = {DETECTOR: "A detector"}
        for name, field in sorted(ctx.dataset.get_field_schema().items()):
            if getattr(field, "document_type", None) is fo.Detections and name != fields.CLEAN_SEEN:
                choices[name] = f"The boxes in {name}"
        add_choice(inputs, "seen_in", choices, label="Compare with", default=DETECTOR)
        if ctx.params.get("seen_in") in (None, DETECTOR):
            inputs.str("model", label="Which detector", description="Empty: the project's")


class ActOnContradictions(WorkOperator):
    """Retags, copies or moves what contradicts its claim, after a look at what would be done."""

    name_in_app = "act_on_contradictions"
    label = "Act on contradictions"
    about = "Retag, copy or move images that do not hold what is claimed; logged, and can be taken back"
    icon = "drive_file_move"
    job = "clean_apply"
    submit = "Do it"

    def ask(self, ctx: Any, inputs: types.Object, samples: Any) -> str | None:
        """Ask what to do, and show the first steps and what is left alone."""
        question = read_memory(ctx.dataset)
        if question is None:
            return "Nothing was judged yet: run «Check claims» first."
        add_choice(inputs, "action", ACTIONS_IN_WORDS, label="What to do", default=ACTIONS[0])
        label = "Only contradictions that are at least this sure"
        slider = types.SliderView(label=label, value_precision=2)
        inputs.float("min_score", min=0, max=1, default=0, label=label, view=slider)
        found = read_contradictions(samples, question, ctx.params.get("min_score") or 0.0)
        action = ctx.params.get("action") if ctx.params.get("action") in ACTIONS else ACTIONS[0]
        chosen = plan(found, action, question, None)  # type: ignore[arg-type]  # one of ACTIONS
        _show_plan(inputs, chosen)
        return None if chosen.steps else "There is nothing to do."

    def read_answers(self, answers: dict[str, Any]) -> dict[str, Any]:
        """Return the action, and from which score on."""
        least = answers.get("min_score")
        return {"action": answers.get("action") or ACTIONS[0]} | ({"min_score": least} if least else {})


class SendUnsure(JobOperator):
    """Sends what the detector is unsure of to Label Studio."""

    name_in_app = "send_unsure"
    label = "Send unsure images to Label Studio"
    about = "Let people say what the detector is unsure of"
    icon = "send"
    job = "push"
    submit = "Send"

    def resolve_placement(self, ctx: Any) -> types.Placement | None:
        """Put no button into the grid's actions; the panel has it."""
        return None

    def fill_form(self, ctx: Any, inputs: types.Object) -> str | None:
        """Say how many samples are sent."""
        unsure = view_unsure(ctx.dataset)
        if unsure is None:
            return "Nothing was judged yet: run «Check claims» first."
        count = len(unsure)
        if count == 0:
            return "The detector is unsure of nothing."
        has_tasks = ctx.dataset.has_sample_field(fields.TASK_ID)
        waiting = len(unsure.exists(fields.TASK_ID, False)) if has_tasks else count
        if waiting == 0:
            return f"The detector is unsure of {count:,} images, and each of them has its task already."
        told = f"The detector is unsure of {count:,} images; {waiting:,} have no task yet, and get one."
        inputs.view("summary", types.Notice(label=told))
        return find_count_problem(count, "view")

    def read_form(self, ctx: Any) -> dict[str, Any]:
        """Return the ids of what is unsure."""
        return to_sample_params(ctx.dataset, view_unsure(ctx.dataset), [], "view")


class UndoClaims(UndoOperator):
    """Takes back one decision about contradictions."""

    name_in_app = "undo_claims"
    label = "Take back a decision about claims"
    about = "Undo a retagging, copying or moving by its log"
    job = "clean_undo"
    kinds = ACTIONS

    def describe(self, decided: Decided) -> str:
        """Return a decision in words, with the claim it was about."""
        return f"{super().describe(decided)}, {decided.about['claim']}"


def _show_plan(inputs: types.Object, chosen: Plan) -> None:
    told = f"{len(chosen.steps):,} images will be changed, {chosen.unchanged:,} need nothing."
    shown = [step.text for step in chosen.steps[:STEPS_SHOWN]]
    more = len(chosen.steps) - len(shown)
    lines = "; ".join([*shown, *([f"and {more:,} more"] if more else [])])
    inputs.view("summary", types.Notice(label=f"{told} {lines}"))
    if chosen.failed:
        problems = sorted({one.problem for one in chosen.failed})
        label = f"{len(chosen.failed):,} are left alone: {'; '.join(problems)}"
        inputs.view("left", types.Warning(label=label))


def register(plugin: Any) -> None:
    """Register operators and panel; FiftyOne calls this."""
    for operator in (CheckClaims, ActOnContradictions, SendUnsure, UndoClaims, ClaimsPanel):
        plugin.register(operator)
