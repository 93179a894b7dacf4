"""What forms about vectors ask alike: whole images or crops, and a model that is not in the list."""

from __future__ import annotations

from typing import Any, Final

from fiftyone.operators import types

from fiftyone_plugins.app.forms import add_choice
from fiftyone_plugins.embeddings.items import list_offered_fields

WHOLE_IMAGES: Final = "whole images"
OTHER_MODEL: Final = "other"


def find_shown_crops(ctx: Any) -> str | None:
    """Return the field whose crops the App shows; None: it shows whole images."""
    return getattr(ctx.view, "_patches_field", None) if getattr(ctx.view, "_is_patches", False) else None


def ask_for_crops(ctx: Any, inputs: types.Object) -> None:
    """Ask for whole images or crops of a field; those that the App shows are the default."""
    choices = {WHOLE_IMAGES: "Whole images"} | {name: f"Crops of {name}" for name in list_offered_fields(ctx.dataset)}
    add_choice(inputs, "patches", choices, label="Of what", default=find_shown_crops(ctx) or WHOLE_IMAGES)


def read_crops(answers: dict[str, Any]) -> str | None:
    """Return the field of the crops; None: whole images."""
    chosen = answers.get("patches")
    return None if chosen in (None, WHOLE_IMAGES) else str(chosen)


def ask_for_model(ctx: Any, inputs: types.Object, choices: types.Choices, about: str) -> str | None:
    """Ask for a model of the list, or for the name and weights of another; return what is wrong, or None.

    ``about`` says how names of others are written. The first one of the list is the default.
    """
    choices.add_choice(OTHER_MODEL, label="another one", description="by its name, or from a file of weights")
    inputs.enum("model", choices.values(), default=choices.values()[0], label="Model", view=choices)
    if ctx.params.get("model") != OTHER_MODEL:
        return None
    inputs.str("name", label="Name of the model", description=about, required=True)
    inputs.str("weights", label="File of weights", description="Empty: the model's own, fetched once")
    return None if (ctx.params.get("name") or "").strip() else "Give the name of the model."


def read_other_model(answers: dict[str, Any]) -> dict[str, str]:
    """Return name and weights of a model that is not in the list; what was left empty is left out."""
    read = {"model": (answers.get("name") or "").strip(), "weights": (answers.get("weights") or "").strip()}
    return {name: value for name, value in read.items() if value}
