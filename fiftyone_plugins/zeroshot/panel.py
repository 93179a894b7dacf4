"""The panel «Zero-shot agreement»: a table of what the CLIP says against what another field says. A click filters."""

from __future__ import annotations

from typing import Any, Final

import fiftyone.operators as foo
from fiftyone import ViewField as F
from fiftyone.operators import types

from fiftyone_plugins.app.charts import COLOUR, to_plot
from fiftyone_plugins.zeroshot.agreement import Agreement
from fiftyone_plugins.zeroshot.answers import compare_fields, list_class_fields
from labels.fields import ZERO_SHOT

CLASSIFY: Final = "@labelloop/zeroshot/classify_by_names"
MOST_CLASSES: Final = 30
CELL_PX: Final = 34
SMALLEST_WIDTH_PX: Final = 500
COLOURS: Final = [[0, "#23262d"], [1, COLOUR]]


class AgreementPanel(foo.Panel):  # type: ignore[misc]  # FiftyOne has no types
    """Shows one table, and lets the other field be chosen."""

    @property
    def config(self) -> foo.PanelConfig:
        """How the App lists this panel."""
        return foo.PanelConfig(
            name="agreement",
            label="Zero-shot agreement",
            icon="grid_on",
            help_markdown="What the CLIP says of each image, against labels or another classifier. Click a cell.",
        )

    def on_load(self, ctx: Any) -> None:
        """Read what there is."""
        self.refresh(ctx)

    def on_change_dataset(self, ctx: Any) -> None:
        """Read what there is in the new one."""
        ctx.panel.state.other = None
        self.refresh(ctx)

    def refresh(self, ctx: Any) -> None:
        """Compare anew."""
        ctx.panel.state.table = None
        if ctx.dataset is None:
            return
        ctx.dataset.reload()
        known = list_class_fields(ctx.dataset)
        ctx.panel.state.fields = known
        if not known or not ctx.dataset.has_sample_field(ZERO_SHOT):
            return
        other = ctx.panel.state.other if ctx.panel.state.other in known else known[0]
        said = compare_fields(ctx.dataset, None, other)
        classes = said.classes[:MOST_CLASSES]
        ctx.panel.state.other = other
        ctx.panel.state.classes = classes
        ctx.panel.state.told = describe(said, other)
        ctx.panel.state.table = said.table(classes)

    def choose(self, ctx: Any) -> None:
        """Compare with another field."""
        ctx.panel.state.other = ctx.params.get("value")
        self.refresh(ctx)

    def show_cell(self, ctx: Any) -> None:
        """Filter the grid to the images of the cell that was clicked, the surest first."""
        first, second, other = ctx.params.get("y"), ctx.params.get("x"), ctx.panel.state.other
        if first is not None and second is not None and other:
            ctx.ops.set_view(view_cell(ctx.dataset, str(first), str(second), other))

    def classify(self, ctx: Any) -> None:
        """Open the form that classifies."""
        ctx.prompt(CLASSIFY, on_success=self.refresh)

    def show_all(self, ctx: Any) -> None:
        """Take the filter off."""
        ctx.ops.clear_view()

    def render(self, ctx: Any) -> types.Property:
        """Return the choice and the table, for a panel of half the window's width."""
        panel = types.Object()
        state = ctx.panel.state
        panel.md(state.told if state.table else _explain_nothing(ctx), name="told")
        buttons = panel.h_stack("buttons", gap=1, wrap=True)
        buttons.btn("classify", label="Classify", on_click=self.classify, variant="outlined")
        buttons.btn("refresh", label="Refresh", icon="refresh", on_click=self.refresh)
        buttons.btn("show_all", label="Show all", icon="clear", on_click=self.show_all)
        if len(state.fields or []) > 1:
            panel.enum("other_field", state.fields, label="Compare with", default=state.other, on_change=self.choose)
        if state.table:
            panel.plot("table_chart", on_click=self.show_cell, **draw_table(state.classes, state.table, state.other))
        return types.Property(panel, view=types.GridView(orientation="vertical", width=100, padding=1))


def view_cell(dataset: Any, first: str, second: str, other: str) -> Any:
    """Return the images of which the CLIP says one class and another field another, the surest first."""
    inside = (F(f"{ZERO_SHOT}.label") == first) & (F(f"{other}.label") == second)
    return dataset.match(inside).sort_by(f"{ZERO_SHOT}.confidence", reverse=True)


def describe(said: Agreement, other: str) -> str:
    """Return in words how the two agree.

    >>> from fiftyone_plugins.zeroshot.agreement import compare
    >>> describe(compare([("cat", "cat"), ("cat", "dog")]), "label")
    'The CLIP and `label` agree on **1 of 2** (50 %).'
    """
    if said.rate is None:
        return f"The CLIP and `{other}` have said nothing of the same image."
    told = f"The CLIP and `{other}` agree on **{said.agreed:,} of {said.compared:,}** ({said.rate:.0%})."
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


def _explain_nothing(ctx: Any) -> str:
    if ctx.dataset is None:
        return "No dataset is open."
    if not ctx.dataset.has_sample_field(ZERO_SHOT):
        return "**No image was classified yet.** It needs the weights of a CLIP, as a file or by the network."
    return "There is no other field with one class an image to compare with."
