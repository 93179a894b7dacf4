"""The plugin's operators: forms, progress and results in the App; what they do lies in the works.

FiftyOne runs this file under a name of its own, and again when the plugin changes: nothing is kept here.
"""

from __future__ import annotations

import os
from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_plugins.app.forms import add_choice, add_problem, place_button
from fiftyone_plugins.app.operators import WorkOperator
from fiftyone_plugins.app.running import find_curation_folder
from fiftyone_plugins.app.work import Tools
from fiftyone_plugins.embeddings import maps, work
from fiftyone_plugins.embeddings.embedders import DEFAULT_MODEL, describe_models
from fiftyone_plugins.embeddings.grouping import METHODS as GROUPINGS
from fiftyone_plugins.embeddings.indexes import BACKENDS, QDRANT
from fiftyone_plugins.embeddings.items import list_box_fields, read_ids
from fiftyone_plugins.embeddings.panel import ClustersPanel
from fiftyone_plugins.embeddings.reading import read_stored
from fiftyone_plugins.embeddings.searching import choose_text_key, find_by_text, find_like, list_text_keys
from fiftyone_plugins.embeddings.store import EmbeddingStore, Key
from labels.errors import LabelingError

WHOLE_IMAGES = "whole images"
OTHER_MODEL = "other"
DEFAULT_FOUND = 100


class EmbeddingWork(WorkOperator):
    """A work of this plugin; it is started from the panel or from the list of operators, so it has no button."""

    def resolve_placement(self, ctx: Any) -> types.Placement | None:
        """Put no button into the grid's actions: there would be too many."""
        return None


class ComputeEmbeddings(EmbeddingWork):
    """Computes the vectors of images or crops that have none of this model yet."""

    name_in_app = "compute_embeddings"
    label = "Compute embeddings"
    about = "Compute where images or object crops lie among the others; only what is new"
    icon = "scatter_plot"
    job = work.JOB
    submit = "Compute"

    def ask(self, ctx: Any, inputs: types.Object, samples: Any) -> str | None:
        """Ask for the model and for images or crops; say how many have no vector yet."""
        _ask_for_crops(ctx, inputs)
        choices = types.Choices()
        for name, about in describe_models().items():
            choices.add_choice(name, label=name, description=about)
        choices.add_choice(OTHER_MODEL, label="another one", description="by its name, or from a file of weights")
        inputs.enum("model", choices.values(), default=DEFAULT_MODEL, label="Model", view=choices)
        if ctx.params.get("model") == OTHER_MODEL:
            about = "open_clip:ARCHITECTURE/TAG, timm:NAME or torchvision:NAME"
            inputs.str("name", label="Name of the model", description=about, required=True)
            inputs.str("weights", label="File of weights", description="Empty: the model's own, fetched once")
        inputs.bool("again", default=False, label="Compute all anew")
        try:
            plan = self._plan(ctx.params, samples)
        except LabelingError as error:
            return str(error)
        told = f"{plan.moved:,} vectors will be computed, {plan.unchanged:,} are there already."
        inputs.view("summary", types.Notice(label=told))
        return None

    def read_answers(self, answers: dict[str, Any]) -> dict[str, Any]:
        """Return the model, the field of the crops, and whether all is computed anew."""
        chosen = answers.get("model") or DEFAULT_MODEL
        asked = (answers.get("name") or "").strip() if chosen == OTHER_MODEL else chosen
        weights = (answers.get("weights") or "").strip() if chosen == OTHER_MODEL else ""
        read = {"model": asked or None, "weights": weights or None, "patches": _read_crops(answers)}
        return {name: value for name, value in read.items() if value} | (
            {"again": True} if answers.get("again") else {}
        )

    def _plan(self, answers: dict[str, Any], samples: Any) -> Any:
        arguments = dict(work.read_params(self.read_answers(answers)))
        return work.embed(samples, Tools(_folder()), **{**arguments, "dry_run": True})


class _VectorWork(EmbeddingWork):
    """Work on vectors that are there: the newest, or those of a key that is chosen."""

    def ask(self, ctx: Any, inputs: types.Object, samples: Any) -> str | None:
        """Ask for the vectors, then what ``ask_more`` adds; say how many samples have one."""
        store = EmbeddingStore(_folder(), ctx.dataset.name)
        keys = store.keys()
        if not keys:
            return "There are no embeddings yet: run «Compute embeddings» first."
        newest = store.latest() or keys[0]
        choices = types.Choices()
        for name in keys:
            choices.add_choice(name, label=_describe_key(store.read_key(name)))
        inputs.enum("vectors", choices.values(), default=newest, label="Embeddings", view=choices)
        key = _choose(ctx.params.get("vectors"), keys, newest)
        try:
            found = read_stored(store, samples, vectors=key)
        except LabelingError as error:
            return str(error)
        what = "images" if found.field is None else f"crops of {found.field}"
        told = f"{len(found):,} {what} have a vector and will be looked at."
        inputs.view("summary", types.Notice(label=told))
        return self.ask_more(ctx, inputs)

    def ask_more(self, ctx: Any, inputs: types.Object) -> str | None:
        """Ask for what this work needs besides; return what is wrong, or None."""
        return None

    def read_answers(self, answers: dict[str, Any]) -> dict[str, Any]:
        """Return the vectors' key, and what ``read_more`` adds."""
        return ({"vectors": answers["vectors"]} if answers.get("vectors") else {}) | self.read_more(answers)

    def read_more(self, answers: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters that ``ask_more`` asked for."""
        return {}


class VisualizeEmbeddings(_VectorWork):
    """Puts the vectors onto a plane, for the App's own Embeddings panel."""

    name_in_app = "visualize_embeddings"
    label = "Visualize embeddings"
    about = "Put images or crops onto a plane where near is alike, for the Embeddings panel"
    icon = "bubble_chart"
    job = maps.JOB
    submit = "Compute"

    def ask_more(self, ctx: Any, inputs: types.Object) -> str | None:
        """Ask for the method."""
        add_choice(inputs, "method", maps.METHODS, label="Method", default=next(iter(maps.METHODS)))
        return None

    def read_more(self, answers: dict[str, Any]) -> dict[str, Any]:
        """Return the method."""
        return {"method": answers.get("method") or next(iter(maps.METHODS))}


class ClusterEmbeddings(_VectorWork):
    """Groups like images, and names each group by what it shows."""

    name_in_app = "cluster_embeddings"
    label = "Group like images"
    about = "Put like images or crops into groups, each with a suggested name"
    icon = "workspaces"
    job = "cluster"
    submit = "Group"

    def ask_more(self, ctx: Any, inputs: types.Object) -> str | None:
        """Ask for the method, how many groups, and words to name them by."""
        add_choice(inputs, "method", GROUPINGS, label="Method", default=next(iter(GROUPINGS)))
        about = "k-means: how many. HDBSCAN: the fewest members. Empty: chosen by how many vectors there are"
        inputs.int("count", label="Groups", min=2, description=about)
        if list_text_keys(EmbeddingStore(_folder(), ctx.dataset.name)):
            about = "Parted by commas; for embeddings of a CLIP. Empty: the classes of the labels"
            inputs.str("words", label="Words to name the groups by", description=about)
        return None

    def read_more(self, answers: dict[str, Any]) -> dict[str, Any]:
        """Return the method, the count and the words."""
        words = [word.strip() for word in (answers.get("words") or "").split(",") if word.strip()]
        read = {"method": answers.get("method"), "count": answers.get("count"), "words": words}
        return {name: value for name, value in read.items() if value}


class FindOutliers(_VectorWork):
    """Scores how unlike its nearest ones each image is."""

    name_in_app = "find_outliers"
    label = "Find outliers"
    about = "Score how unlike all others each image or crop is"
    icon = "blur_on"
    job = "outliers"
    submit = "Score"


class BuildSimilarityIndex(_VectorWork):
    """Builds an index on which the App itself sorts by similarity."""

    name_in_app = "build_similarity_index"
    label = "Build similarity index"
    about = "Build an index for the App's own sort by similarity"
    icon = "manage_search"
    job = "similarity"
    submit = "Build"

    def ask_more(self, ctx: Any, inputs: types.Object) -> str | None:
        """Ask where the index is kept."""
        add_choice(inputs, "backend", BACKENDS, label="Kept by", default=next(iter(BACKENDS)))
        if ctx.params.get("backend") != QDRANT:
            return None
        inputs.str("url", label="Address of the Qdrant server", required=True)
        return None if ctx.params.get("url") else "Give the address of the Qdrant server."

    def read_more(self, answers: dict[str, Any]) -> dict[str, Any]:
        """Return the backend and its address."""
        backend = answers.get("backend") or next(iter(BACKENDS))
        return {"backend": backend} | ({"url": answers["url"]} if backend == QDRANT and answers.get("url") else {})


class _Search(foo.Operator):  # type: ignore[misc]  # FiftyOne has no types
    """Shows what is nearest to something, nearest first, as the App's view."""

    name_in_app: str
    label: str
    about: str
    icon: str

    @property
    def config(self) -> foo.OperatorConfig:
        """How the App lists this operator."""
        return foo.OperatorConfig(
            name=self.name_in_app,
            label=self.label,
            description=self.about,
            icon=self.icon,
            dynamic=True,
            view_target=False,
            risk_level=types.RiskLevel.LOW,
        )

    def resolve_placement(self, ctx: Any) -> types.Placement:
        """Put a button into the grid's actions."""
        return place_button(self.config)

    def resolve_input(self, ctx: Any) -> types.Property:
        """Return the form; what is wrong stands in it as a sentence, and it cannot be executed then."""
        inputs = types.Object()
        add_problem(inputs, self.fill_form(ctx, inputs))
        return types.Property(inputs, view=types.PromptView(label=self.label, submit_button_label="Search"))

    def fill_form(self, ctx: Any, inputs: types.Object) -> str | None:
        """Ask; return what is wrong, or None."""
        raise NotImplementedError

    def show(self, ctx: Any, key: str, ids: list[str]) -> dict[str, Any]:
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
        field = _shown_crops(ctx)
        if EmbeddingStore(_folder(), ctx.dataset.name).latest_of(field) is None:
            what = "the images" if field is None else f"the crops of {field}"
            return f"There are no embeddings of {what} yet: run «Compute embeddings» first."
        if not ctx.selected:
            return "Select one image or more first."
        inputs.int("count", default=DEFAULT_FOUND, min=1, label="How many")
        return None

    def execute(self, ctx: Any) -> dict[str, Any]:
        """Show them."""
        return self.show(ctx, *self._find(ctx.dataset, ctx.selected, _shown_crops(ctx), ctx.params))

    def __call__(self, samples: Any, count: int = DEFAULT_FOUND, patches: str | None = None) -> list[str]:
        """Return the ids of the images most like those of a view, nearest first; of crops, like those of its labels.

        Raises:
            LabelingError: there are no embeddings, or none of these.
        """
        return self._find(samples._dataset, read_ids(samples, patches), patches, {"count": count})[1]

    @staticmethod
    def _find(dataset: Any, ids: list[str], field: str | None, answers: dict[str, Any]) -> tuple[str, list[str]]:
        store = EmbeddingStore(_folder(), dataset.name)
        found = read_stored(store, dataset, patches=field)
        return found.key.name, find_like(found, ids, count=answers.get("count") or DEFAULT_FOUND).ids


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
        inputs.str("text", label="Text", description="a photo of a dog in the snow", required=True)
        inputs.int("count", default=DEFAULT_FOUND, min=1, label="How many")
        return None

    def execute(self, ctx: Any) -> dict[str, Any]:
        """Show them."""
        key, ids = self._find(ctx.dataset, ctx.params["text"], ctx.params.get("vectors"), ctx.params.get("count"))
        return self.show(ctx, key, ids)

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


def _folder() -> Any:
    return find_curation_folder(os.environ)


def _choose(asked: object, known: list[str], default: str) -> str:
    return next((one for one in known if one == asked), default)


def _describe_key(key: Key) -> str:
    return f"{'images' if key.field is None else f'crops of {key.field}'}, by {key.model}"


def _ask_for_crops(ctx: Any, inputs: types.Object) -> None:
    choices = {WHOLE_IMAGES: "Whole images"} | {name: f"Crops of {name}" for name in list_box_fields(ctx.dataset)}
    add_choice(inputs, "patches", choices, label="Of what", default=_shown_crops(ctx) or WHOLE_IMAGES)


def _read_crops(answers: dict[str, Any]) -> str | None:
    chosen = answers.get("patches")
    return None if chosen in (None, WHOLE_IMAGES) else str(chosen)


def _shown_crops(ctx: Any) -> str | None:
    """Return the field whose crops the App shows; None: it shows whole images."""
    return getattr(ctx.view, "_patches_field", None) if getattr(ctx.view, "_is_patches", False) else None


def register(plugin: Any) -> None:
    """Register operators and panel; FiftyOne calls this."""
    for operator in (
        ComputeEmbeddings,
        VisualizeEmbeddings,
        ClusterEmbeddings,
        FindOutliers,
        BuildSimilarityIndex,
        FindSimilar,
        SearchByText,
        ClustersPanel,
    ):
        plugin.register(operator)
