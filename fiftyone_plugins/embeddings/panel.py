"""The panel «Groups and outliers»: sizes of groups, and how unlike all others images are. A click filters the grid."""

from __future__ import annotations

import os
from itertools import pairwise
from typing import Any, Final

from fiftyone import ViewField as F
from fiftyone.operators import types

from fiftyone_plugins.app.charts import COLOUR, draw_rows, lay_out, to_plot
from fiftyone_plugins.app.panels import CurationPanel
from fiftyone_plugins.app.running import find_curation_folder
from fiftyone_plugins.embeddings.store import EmbeddingStore
from labels.fields import CLUSTER, OUTLIER

BINS: Final = 20


class ClustersPanel(CurationPanel):
    """Charts of what the works have written on the samples, and the buttons that start them."""

    name_in_app = "clusters"
    label = "Groups and outliers"
    about = "Groups of like images, and images like no other. Click a bar to see them."
    icon = "workspaces"

    def read(self, ctx: Any) -> None:
        """Read the sizes of groups and the histogram of outliers."""
        groups = read_sizes(ctx.dataset)
        ctx.panel.state.groups = [name for name, _ in groups]
        ctx.panel.state.sizes = [size for _, size in groups]
        edges, counts = read_histogram(ctx.dataset)
        ctx.panel.state.edges, ctx.panel.state.counts = edges, counts
        ctx.panel.state.vectors = _describe_vectors(ctx.dataset)

    def show_group(self, ctx: Any) -> None:
        """Filter the grid to the group whose bar was clicked."""
        groups = ctx.panel.state.groups or []
        place = ctx.params.get("idx")
        if isinstance(place, int) and 0 <= place < len(groups):
            ctx.ops.set_view(ctx.dataset.match(F(CLUSTER) == groups[place]))

    def show_outliers(self, ctx: Any) -> None:
        """Filter the grid to the images of the bar that was clicked, the most unlike first."""
        edges = ctx.panel.state.edges or []
        place = ctx.params.get("idx")
        if isinstance(place, int) and 0 <= place < len(edges) - 1:
            ctx.ops.set_view(view_outliers(ctx.dataset, edges, place))

    def compute(self, ctx: Any) -> None:
        """Open the form that computes embeddings."""
        self.open_form(ctx, "compute_embeddings")

    def group(self, ctx: Any) -> None:
        """Open the form that groups."""
        self.open_form(ctx, "cluster_embeddings")

    def score(self, ctx: Any) -> None:
        """Open the form that finds outliers."""
        self.open_form(ctx, "find_outliers")

    def visualize(self, ctx: Any) -> None:
        """Open the form that puts vectors onto a plane."""
        self.open_form(ctx, "visualize_embeddings")

    def find_similar(self, ctx: Any) -> None:
        """Open the form that looks for what is like the selected images."""
        self.open_form(ctx, "find_similar")

    def search(self, ctx: Any) -> None:
        """Open the form that looks for what is nearest to a text."""
        self.open_form(ctx, "search_by_text")

    def fill(self, ctx: Any, panel: types.Object) -> None:
        """Add buttons and charts."""
        state = ctx.panel.state
        panel.md(state.vectors or "No dataset is open.", name="vectors")
        self._add_buttons(panel)
        if state.groups:
            panel.plot("groups_chart", on_click=self.show_group, **draw_groups(state.groups, state.sizes))
        if state.counts:
            panel.plot("outliers_chart", on_click=self.show_outliers, **draw_outliers(state.edges, state.counts))

    def _add_buttons(self, panel: types.Object) -> None:
        works = panel.h_stack("buttons", gap=1, wrap=True)
        works.btn("compute", label="Compute", icon="scatter_plot", variant="contained", on_click=self.compute)
        works.btn("group", label="Group", icon="workspaces", variant="outlined", on_click=self.group)
        works.btn("score", label="Outliers", icon="blur_on", variant="outlined", on_click=self.score)
        works.btn("visualize", label="Visualize", icon="bubble_chart", variant="outlined", on_click=self.visualize)
        views = panel.h_stack("views", gap=1, wrap=True)
        views.btn("find_similar", label="Find similar", icon="image_search", on_click=self.find_similar)
        views.btn("search", label="Search by text", icon="text_fields", on_click=self.search)
        views.btn("show_all", label="Show all", icon="clear", on_click=self.show_all)
        views.btn("refresh", label="Refresh", icon="refresh", on_click=self.refresh)


def read_sizes(dataset: Any) -> list[tuple[str, int]]:
    """Return each group and how many images it has, the largest first; nothing where nobody has grouped."""
    if not dataset.has_sample_field(CLUSTER):
        return []
    counts = {name: count for name, count in dataset.count_values(CLUSTER).items() if name is not None}
    return sorted(counts.items(), key=lambda one: (-one[1], one[0]))


def read_histogram(dataset: Any) -> tuple[list[float], list[int]]:
    """Return edges and counts of the outlier scores; nothing where nobody has scored."""
    low, high = dataset.bounds(OUTLIER) if dataset.has_sample_field(OUTLIER) else (None, None)
    if low is None or high is None:
        return [], []
    # The last edge lies above the highest score, which is inside then.
    counts, edges, _ = dataset.histogram_values(OUTLIER, bins=BINS, range=(low, high + max(1e-6, (high - low) / 1000)))
    return [float(edge) for edge in edges], [int(count) for count in counts]


def view_outliers(dataset: Any, edges: list[float], place: int) -> Any:
    """Return the images of one bar, the most unlike first."""
    inside = (F(OUTLIER) >= edges[place]) & (F(OUTLIER) < edges[place + 1])
    return dataset.match(inside).sort_by(OUTLIER, reverse=True)


def draw_groups(names: list[str], sizes: list[int]) -> dict[str, Any]:
    """Return a bar a group, the largest on top."""
    return draw_rows("Images in each group", names, sizes)


def draw_outliers(edges: list[float], counts: list[int]) -> dict[str, Any]:
    """Return a bar for each range of scores."""
    middles = [(low + high) / 2 for low, high in pairwise(edges)]
    widths = [high - low for low, high in pairwise(edges)]
    bars = {"type": "bar", "x": middles, "y": counts, "width": widths, "marker": {"color": COLOUR}}
    layout = lay_out("How unlike their nearest images they are (0: many like it)", height=260)
    layout["xaxis"] = {"title": {"text": OUTLIER}}
    layout["yaxis"] = {"title": {"text": "images"}, "type": "linear"}
    return to_plot(bars, layout)


def _describe_vectors(dataset: Any) -> str:
    keys = EmbeddingStore(find_curation_folder(os.environ), dataset.name).keys()
    if not keys:
        return "**No embeddings yet.** Compute them first: the model that comes with labelloop needs no network."
    return "Embeddings: " + ", ".join(f"`{name}`" for name in keys)
