"""The panel «Zero-shot agreement»: a table of what the CLIP says against what another field says. A click filters."""

from __future__ import annotations

from typing import Any, Final

from fiftyone import ViewField as F
from fiftyone.operators import types

from fiftyone_plugins.app.charts import COLOUR, to_plot
from fiftyone_plugins.app.panels import CurationPanel
from fiftyone_plugins.zeroshot.agreement import Agreement
from fiftyone_plugins.zeroshot.answers import CONFIDENCE, Comparison, compare_fields, list_comparisons
from labels.fields import ZERO_SHOT

MOST_CLASSES: Final = 30
CELL_PX: Final = 34
SMALLEST_WIDTH_PX: Final = 500
COLOURS: Final = [[0, "#23262d"], [1, COLOUR]]


class AgreementPanel(CurationPanel):
    """Shows one table, and lets what the CLIP is compared with be chosen."""

    name_in_app = "agreement"
    label = "Zero-shot agreement"
    about = "What the CLIP says of each image or crop, against labels or another classifier. Click a cell."
    icon = "grid_on"

    def read(self, ctx: Any) -> None:
        """Compare."""
        state = ctx.panel.state
        known = list_comparisons(ctx.dataset)
        state.known, state.table = list(known), None
        if not known:
            state.told = explain_nothing(ctx.dataset)
            return
        state.other = state.other if state.other in known else next(iter(known))
        chosen = known[state.other]
        said = compare_fields(ctx.dataset, chosen.field, chosen.other)
        state.told = describe(said, chosen)
        if said.compared:
            state.classes = said.classes[:MOST_CLASSES]
            state.table = said.table(state.classes)

    def choose(self, ctx: Any) -> None:
        """Compare with something else."""
        ctx.panel.state.other = ctx.params.get("value")
        self.refresh(ctx)

    def show_cell(self, ctx: Any) -> None:
        """Filter the grid to the images or crops of the cell that was clicked, the surest first."""
        first, second = ctx.params.get("y"), ctx.params.get("x")
        chosen = list_comparisons(ctx.dataset).get(ctx.panel.state.other)
        if first is not None and second is not None and chosen is not None:
            ctx.ops.set_view(view_cell(ctx.dataset, str(first), str(second), chosen))

    def classify(self, ctx: Any) -> None:
        """Open the form that classifies."""
        self.open_form(ctx, "classify_by_names")

    def fill(self, ctx: Any, panel: types.Object) -> None:
        """Add buttons, the choice and the table."""
        state = ctx.panel.state
        panel.md(state.told or "No dataset is open.", name="told")
        buttons = panel.h_stack("buttons", gap=1, wrap=True)
        buttons.btn("classify", label="Classify", icon="style", variant="contained", on_click=self.classify)
        buttons.btn("show_all", label="Show all", icon="clear", on_click=self.show_all)
        buttons.btn("refresh", label="Refresh", icon="refresh", on_click=self.refresh)
        if len(state.known or []) > 1:
            panel.enum("other_field", state.known, label="Compare with", default=state.other, on_change=self.choose)
        if state.table:
            panel.plot("table_chart", on_click=self.show_cell, **draw_table(state.classes, state.table, state.other))


def view_cell(dataset: Any, first: str, second: str, chosen: Comparison) -> Any:
    """Return the images, or crops, of which the CLIP says one class and the label another, the surest first."""
    if chosen.field is None:
        inside = (F(f"{ZERO_SHOT}.label") == first) & (F(f"{chosen.other}.label") == second)
        return dataset.match(inside).sort_by(f"{ZERO_SHOT}.confidence", reverse=True)
    inside = (F(ZERO_SHOT) == first) & (F("label") == second)
    crops = dataset.filter_labels(chosen.field, inside).to_patches(chosen.field)
    return crops.sort_by(f"{chosen.field}.{CONFIDENCE}", reverse=True)


def describe(said: Agreement, chosen: Comparison) -> str:
    """Return in words how the two agree.

    >>> from fiftyone_plugins.zeroshot.agreement import compare
    >>> describe(compare([("cat", "cat"), ("cat", "dog")]), Comparison(None, "label"))
    'The CLIP and `label` agree on **1 of 2** images (50 %).'
    """
    what = "images" if chosen.field is None else "crops"
    if said.rate is None:
        return f"The CLIP and `{chosen.other}` have said nothing of the same {what}."
    told = f"The CLIP and `{chosen.other}` agree on **{said.agreed:,} of {said.compared:,}** {what} ({said.rate:.0%})."
    more = f" Of {said.only_first:,} more only the CLIP says something." if said.only_first else ""
    return told.replace("%", " %") + more


def draw_table(classes: list[str], table: list[list[int]], other: str) -> dict[str, Any]:
    """Return the table as coloured cells, with its counts in them."""
    size = CELL_PX * len(classes)
    cells = {
        "type": "heatmap",
        "x": classes,
        "y": classes,
        "z": table,
        "text": [[str(count) if count else "" for count in row] for row in table],
        "texttemplate": "%{text}",
        "textfont": {"color": "#fff"},
        "hovertemplate": f"{ZERO_SHOT}: %{{y}}<br>{other}: %{{x}}<br>%{{z}}<extra></extra>",
        "colorscale": COLOURS,
        "showscale": False,
    }
    width, height = max(SMALLEST_WIDTH_PX, 190 + size), 190 + size
    layout = {
        "width": width,
        "height": height,
        "margin": {"l": 90, "r": 20, "t": 20, "b": 90},
        "xaxis": {"title": {"text": other, "standoff": 15}, "type": "category", "automargin": True},
        "yaxis": {
            "title": {"text": ZERO_SHOT, "standoff": 15},
            "type": "category",
            "automargin": True,
            "autorange": "reversed",
        },
    }
    return to_plot(cells, layout)


def explain_nothing(dataset: Any) -> str:
    """Return why there is nothing to compare."""
    if not dataset.has_sample_field(ZERO_SHOT):
        return "**No image was classified yet.** It needs the weights of a CLIP, as a file or by the network."
    return "There is no other field with one class an image to compare with."
