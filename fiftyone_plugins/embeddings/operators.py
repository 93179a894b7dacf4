"""The plugin's operators: forms, progress and results in the App; what they do lies in the works.

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
from fiftyone_plugins.embeddings import maps, work
from fiftyone_plugins.embeddings.asking import OTHER_MODEL, ask_for_crops, ask_for_model, read_crops, read_other_model
from fiftyone_plugins.embeddings.embedders import DEFAULT_MODEL, describe_models
from fiftyone_plugins.embeddings.grouping import METHODS as GROUPINGS
from fiftyone_plugins.embeddings.indexes import BACKENDS, QDRANT
from fiftyone_plugins.embeddings.panel import ClustersPanel
from fiftyone_plugins.embeddings.reading import read_stored
from fiftyone_plugins.embeddings.search_operators import FindSimilar, SearchByText
from fiftyone_plugins.embeddings.searching import list_text_keys
from fiftyone_plugins.embeddings.store import EmbeddingStore, Key
from labels.errors import LabelingError


class ComputeEmbeddings(WorkOperator):
    """Computes the vectors of images or crops that have none of this model yet."""

    name_in_app = "compute_embeddings"
    label = "Compute embeddings"
    about = "Compute where images or object crops lie among the others; only what is new"
    icon = "scatter_plot"
    job = work.JOB
    submit = "Compute"

    def ask(self, ctx: Any, inputs: types.Object, samples: Any) -> str | None:
        """Ask for the model and for images or crops; say how many have no vector yet."""
        ask_for_crops(ctx, inputs)
        choices = types.Choices()
        for name, about in describe_models().items():
            choices.add_choice(name, label=name, description=about)
        problem = ask_for_model(ctx, inputs, choices, "open_clip:ARCHITECTURE/TAG, timm:NAME or torchvision:NAME")
        inputs.bool("again", default=False, label="Compute all anew")
        if problem is not None:
            return problem
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
        read = read_other_model(answers) if chosen == OTHER_MODEL else {"model": chosen}
        crops = read_crops(answers)
        return read | ({"patches": crops} if crops else {}) | ({"again": True} if answers.get("again") else {})

    def _plan(self, answers: dict[str, Any], samples: Any) -> Any:
        arguments = dict(work.read_params(self.read_answers(answers)))
        return work.embed(samples, Tools(_folder()), **{**arguments, "dry_run": True})


class _VectorWork(WorkOperator):
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


def _folder() -> Any:
    return find_curation_folder(os.environ)


def _choose(asked: object, known: list[str], default: str) -> str:
    return next((one for one in known if one == asked), default)


def _describe_key(key: Key) -> str:
    return f"{'images' if key.field is None else f'crops of {key.field}'}, by {key.model}"


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
