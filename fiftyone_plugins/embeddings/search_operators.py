"""The operators that search: what is like the selected images or crops, and what is nearest to a text."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_plugins.app.forms import add_problem
from fiftyone_plugins.app.operators import to_config
from fiftyone_plugins.app.panels import tell_problems
from fiftyone_plugins.app.running import find_curation_folder
from fiftyone_plugins.embeddings.asking import find_shown_crops
from fiftyone_plugins.embeddings.items import read_ids
from fiftyone_plugins.embeddings.reading import read_stored
from fiftyone_plugins.embeddings.searching import choose_text_key, find_by_text, find_like, list_text_keys
from fiftyone_plugins.embeddings.store import EmbeddingStore
from labels.errors import LabelingError

DEFAULT_FOUND = 100


class _Search(foo.Operator, ABC):  # type: ignore[misc]  # FiftyOne has no types
    """Shows what is nearest to something, nearest first, as the App's view."""

    name_in_app: str
    label: str
    about: str
    icon: str

    @property
    def config(self) -> foo.OperatorConfig:
        """How the App lists this operator."""
        return to_config(self, risk_level=types.RiskLevel.LOW)

    def resolve_input(self, ctx: Any) -> types.Property:
        """Return the form; what is wrong stands in it as a sentence, and it cannot be executed then."""
        inputs = types.Object()
        add_problem(inputs, self.fill_form(ctx, inputs))
        return types.Property(inputs, view=types.PromptView(label=self.label, submit_button_label="Search"))

    def execute(self, ctx: Any) -> dict[str, Any]:
        """Show what is found, or say what is wrong."""
        with tell_problems(ctx):
            return self._show(ctx, *self.find(ctx))
        return {}

    @abstractmethod
    def fill_form(self, ctx: Any, inputs: types.Object) -> str | None:
        """Ask; return what is wrong, or None."""

    @abstractmethod
    def find(self, ctx: Any) -> tuple[str, list[str]]:
        """Return the key of the vectors, and the ids of what is nearest in them.

        Raises:
            LabelingError: they cannot be searched.
        """

    def _show(self, ctx: Any, key: str, ids: list[str]) -> dict[str, Any]:
        """Set the App's view to these images or crops, in their order."""
        field = EmbeddingStore(_folder(), ctx.dataset.name).read_key(key).field
        samples = ctx.dataset if field is None else ctx.dataset.to_patches(field)
        ctx.ops.set_view(view=samples.select(ids, ordered=True))
        return {"ids": ids}


class FindSimilar(_Search):
    """Shows the images, or crops, most like the selected ones."""

    name_in_app = "find_similar"
    label = "Find similar to selected"
    about = "Show what is most like the selected images or crops, nearest first"
    icon = "image_search"

    def fill_form(self, ctx: Any, inputs: types.Object) -> str | None:
        """Ask how many, and say of what."""
        if ctx.dataset is None:
            return "No dataset is open: open one first."
        field = find_shown_crops(ctx)
        if EmbeddingStore(_folder(), ctx.dataset.name).latest_of(field) is None:
            what = "the images" if field is None else f"the crops of {field}"
            return f"There are no embeddings of {what} yet: run «Compute embeddings» first."
        if not ctx.selected:
            return "Select one image or more first."
        inputs.int("count", default=DEFAULT_FOUND, min=1, label="How many")
        return None

    def find(self, ctx: Any) -> tuple[str, list[str]]:
        """Return what is most like the selected."""
        return self._find(ctx.dataset, ctx.selected, find_shown_crops(ctx), ctx.params.get("count"))

    def __call__(self, samples: Any, count: int = DEFAULT_FOUND, patches: str | None = None) -> list[str]:
        """Return the ids of the images most like those of a view, nearest first; of crops, like those of its labels.

        Raises:
            LabelingError: there are no embeddings, or none of these.
        """
        return self._find(samples._root_dataset, read_ids(samples, patches), patches, count)[1]

    @staticmethod
    def _find(dataset: Any, ids: list[str], field: str | None, count: int | None) -> tuple[str, list[str]]:
        store = EmbeddingStore(_folder(), dataset.name)
        found = read_stored(store, dataset, patches=field)
        return found.key.name, find_like(found, ids, count=count or DEFAULT_FOUND).ids


class SearchByText(_Search):
    """Shows the images, or crops, nearest to a text."""

    name_in_app = "search_by_text"
    label = "Search by text"
    about = "Show what is nearest to a text, for embeddings of a CLIP"
    icon = "text_fields"

    def fill_form(self, ctx: Any, inputs: types.Object) -> str | None:
        """Ask for the text and how many."""
        if ctx.dataset is None:
            return "No dataset is open: open one first."
        keys = list_text_keys(EmbeddingStore(_folder(), ctx.dataset.name))
        if not keys:
            return "There are no embeddings of a model that reads text: run «Compute embeddings» with a CLIP first."
        if len(keys) > 1:
            inputs.enum("vectors", keys, default=keys[-1], label="Embeddings")
        about = "In the words of a caption, such as: a photo of a dog in the snow"
        inputs.str("text", label="Text", description=about, required=True)
        inputs.int("count", default=DEFAULT_FOUND, min=1, label="How many")
        return None

    def find(self, ctx: Any) -> tuple[str, list[str]]:
        """Return what is nearest to the text."""
        text = (ctx.params.get("text") or "").strip()
        if not text:
            raise LabelingError("give a text to search for")
        return self._find(ctx.dataset, text, ctx.params.get("vectors"), ctx.params.get("count"))

    def __call__(self, dataset: Any, text: str, count: int = DEFAULT_FOUND, vectors: str | None = None) -> list[str]:
        """Return the ids of the images nearest to a text, nearest first.

        Raises:
            LabelingError: there are no embeddings of a model that reads text.
        """
        return self._find(dataset, text, vectors, count)[1]

    @staticmethod
    def _find(dataset: Any, text: str, vectors: str | None, count: int | None) -> tuple[str, list[str]]:
        store = EmbeddingStore(_folder(), dataset.name)
        found = read_stored(store, dataset, vectors=choose_text_key(store, vectors))
        return found.key.name, find_by_text(store, found, text, count=count or DEFAULT_FOUND).ids


def _folder() -> Path:
    return find_curation_folder(os.environ)
