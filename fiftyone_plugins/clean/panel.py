"""The panel «Claims»: claims against what was seen as a table to click, and the contradictions with their images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fiftyone import ViewField as F
from fiftyone.operators import types

from fiftyone_plugins.app.charts import lay_out, to_plot
from fiftyone_plugins.app.markdown import escape
from fiftyone_plugins.app.panels import CurationPanel, to_media_url
from fiftyone_plugins.clean.judging import (
    CONTRADICTIONS,
    FALSE_NEGATIVE,
    FALSE_POSITIVE,
    NO_CLAIM,
    OUTCOMES,
    SETTLED,
    TRUE_NEGATIVE,
    TRUE_POSITIVE,
    UNSURE_CLAIMED,
    UNSURE_OTHERS,
)
from fiftyone_plugins.clean.memory import read_memory, view_judged
from fiftyone_plugins.clean.planning import list_confirmations
from labels import fields

COLUMNS: Final = ("seen", "unsure", "not seen")
CELLS: Final = (
    (TRUE_POSITIVE, UNSURE_CLAIMED, FALSE_NEGATIVE),
    (FALSE_POSITIVE, UNSURE_OTHERS, TRUE_NEGATIVE),
)
A_PAGE: Final = 6
A_ROW: Final = 3
IMAGE_PX: Final = 115
CARD_PX: Final = 160


class ClaimsPanel(CurationPanel):
    """Counts, the contradictions ranked with their images, and the buttons that act on them."""

    name_in_app = "claims"
    label = "Claims"
    about = "What is claimed of images against what a detector sees. Click a cell to see its images."
    icon = "fact_check"

    def read(self, ctx: Any) -> None:
        """Read counts and contradictions."""
        state = ctx.panel.state
        question = read_memory(ctx.dataset)
        state.is_judged = question is not None
        if question is None:
            return
        state.classes, state.mark = question.name, question.mark
        counts = view_judged(ctx.dataset, question.mark).count_values(fields.CLEAN_OUTCOME)
        state.told = describe(counts, question.name, question.claim.text)
        state.cells = count_cells(counts)
        self._read_page(ctx)

    def show_cell(self, ctx: Any) -> None:
        """Filter the grid to the images of the cell that was clicked, the surest contradiction first."""
        column, row = ctx.params.get("x"), ctx.params.get("y")
        rows = name_rows(ctx.panel.state.classes)
        if column in COLUMNS and row in rows:
            judged = view_judged(ctx.dataset, ctx.panel.state.mark)
            ctx.ops.set_view(view_cell(judged, CELLS[rows.index(row)][COLUMNS.index(column)]))

    def show_contradictions(self, ctx: Any) -> None:
        """Filter the grid to all contradictions, the surest first."""
        ctx.ops.set_view(view_contradictions(view_judged(ctx.dataset, ctx.panel.state.mark)))

    def turn(self, ctx: Any) -> None:
        """Show the next contradictions, or those before."""
        ctx.panel.state.page = max(0, (ctx.panel.state.page or 0) + ctx.params.get("by", 1))
        self._read_page(ctx)

    def open_sample(self, ctx: Any) -> None:
        """Open the image that was clicked in the App's own window."""
        ctx.ops.open_sample(id=ctx.params["sample_id"])

    def confirm(self, ctx: Any) -> None:
        """Say that the claim about one image is right: nothing is done about it from now on."""
        shown = {one["sample_id"]: one["outcome"] for one in ctx.panel.state.shown or []}
        outcome = shown.get(ctx.params["sample_id"])
        if outcome is not None:
            tag, *_ = list_confirmations(ctx.panel.state.classes)[outcome]
            ctx.dataset.select([ctx.params["sample_id"]]).tag_samples(tag)
            ctx.ops.reload_dataset()
        self.refresh(ctx)

    def check(self, ctx: Any) -> None:
        """Open the form that judges."""
        self.open_form(ctx, "check_claims")

    def act(self, ctx: Any) -> None:
        """Open the form that retags, copies or moves."""
        self.open_form(ctx, "act_on_contradictions")

    def send(self, ctx: Any) -> None:
        """Open the form that sends what is unsure to Label Studio."""
        self.open_form(ctx, "send_unsure")

    def undo(self, ctx: Any) -> None:
        """Open the form that takes a decision back."""
        self.open_form(ctx, "undo_claims")

    def fill(self, ctx: Any, panel: types.Object) -> None:
        """Add buttons, the table and a page of contradictions."""
        state = ctx.panel.state
        panel.md(state.told or "**Nothing was judged yet.** «Check claims» asks what the images should hold.", name="t")
        self._add_buttons(panel, is_judged=bool(state.is_judged))
        if state.cells:
            panel.plot("table", on_click=self.show_cell, **draw_table(state.cells, state.classes))
            self._add_contradictions(panel, state)

    def _add_buttons(self, panel: types.Object, *, is_judged: bool) -> None:
        first = panel.h_stack("work", gap=1, wrap=True)
        first.btn("check", label="Check claims", variant="outlined", on_click=self.check)
        if is_judged:
            first.btn("act", label="Retag, copy, move", variant="contained", on_click=self.act)
            first.btn("send", label="Send unsure", variant="outlined", on_click=self.send)
            first.btn("undo", label="Take back", variant="outlined", on_click=self.undo)
        second = panel.h_stack("views", gap=1, wrap=True)
        if is_judged:
            second.btn("wrong", label="Show contradictions", on_click=self.show_contradictions)
        second.btn("show_all", label="Show all", on_click=self.show_all)
        second.btn("refresh", label="Refresh", on_click=self.refresh)

    def _add_contradictions(self, panel: types.Object, state: Any) -> None:
        """Add the page of contradictions: three images side by side, each with its words and a button."""
        shown = state.shown or []
        if not shown:
            panel.md("No image contradicts its claim.", name="none")
            return
        first = (state.page or 0) * A_PAGE
        panel.md(f"**Contradictions {first + 1} to {first + len(shown)}** of {state.total}, the surest first", name="p")
        for start in range(0, len(shown), A_ROW):
            row = panel.h_stack(f"row{start}", gap=2, align_y="top")
            for one in shown[start : start + A_ROW]:
                self._add_one(row, one)
        turn = panel.h_stack("turn", gap=1)
        for name, label, by, is_end in (
            ("back", "Back", -1, first == 0),
            ("on", "Next", 1, first + len(shown) >= state.total),
        ):
            step = {"by": by}
            turn.btn(name, label=label, variant="outlined", disabled=is_end, on_click=self.turn, params=step)

    def _add_one(self, row: types.Object, one: dict[str, Any]) -> None:
        cell, target = row.v_stack(one["place"], gap=0.5, width=f"{CARD_PX}px"), {"sample_id": one["sample_id"]}
        cell.img("image", height=f"{IMAGE_PX}px", alt_text=one["name"], on_click=self.open_sample, params=target)
        cell.md(one["text"], name="words")
        cell.btn("right", label="The claim is right", variant="outlined", on_click=self.confirm, params=target)

    def _read_page(self, ctx: Any) -> None:
        state = ctx.panel.state
        view = view_contradictions(view_judged(ctx.dataset, state.mark), state.classes)
        state.total = len(view)
        pages = max(1, -(-state.total // A_PAGE))
        state.page = min(state.page or 0, pages - 1)
        state.shown = read_page(view, state.page, str(state.classes))
        for start in range(0, len(state.shown), A_ROW):
            # An image is shown from the state, by its place among the parts of the panel.
            row = state.shown[start : start + A_ROW]
            setattr(state, f"row{start}", {one["place"]: {"image": to_media_url(one["path"])} for one in row})


def describe(counts: Mapping[str, int], classes: str, claim: str) -> str:
    """Return in words what was judged, by how often each outcome came."""
    told = [f"Claim **{escape(claim)}**: the images hold **{escape(classes)}**"]
    told.append(f"**{sum(counts.values()):,}** images judged")
    others = [f"**{counts[name]:,}** {OUTCOMES[name]}" for name in (NO_CLAIM, SETTLED) if counts.get(name)]
    return " · ".join([*told, *others])


def count_cells(counts: Mapping[str, int]) -> list[list[int]]:
    """Return the counts of the table, a row for what is claimed and one for what is not."""
    return [[counts.get(outcome, 0) for outcome in row] for row in CELLS]


def view_cell(judged: Any, outcome: str) -> Any:
    """Return the images of a cell, the surest contradiction first."""
    return judged.match(F(fields.CLEAN_OUTCOME) == outcome).sort_by(fields.CLEAN_SCORE, reverse=True)


def view_contradictions(judged: Any, classes: str | None = None) -> Any:
    """Return what contradicts its claim, the surest first; with ``classes`` without what a person has confirmed."""
    view = judged.match(F(fields.CLEAN_OUTCOME).is_in(list(CONTRADICTIONS)))
    if classes is not None:
        confirmed = [
            {fields.CLEAN_OUTCOME: outcome, "tags": {"$in": list(tags)}}
            for outcome, tags in list_confirmations(classes).items()
        ]
        view = view.match({"$nor": confirmed})
    return view.sort_by(fields.CLEAN_SCORE, reverse=True)


def read_page(view: Any, page: int, classes: str) -> list[dict[str, Any]]:
    """Return what is shown of the contradictions of one page."""
    names = ["id", "filepath", fields.CLEAN_OUTCOME, fields.CLEAN_SCORE]
    rows = zip(*view.skip(page * A_PAGE).limit(A_PAGE).values(names), strict=True)
    words = {
        FALSE_POSITIVE: f"{classes} seen, though not claimed",
        FALSE_NEGATIVE: f"{classes} claimed, and not seen",
    }
    shown = []
    for number, (sample_id, path, outcome, score) in enumerate(rows):
        name = "/".join(path.split("/")[-2:])
        text = f"**{score:.2f}** {escape(words[outcome])}\n\n{escape(name)}"
        one = {"sample_id": str(sample_id), "path": path, "name": name, "text": text, "outcome": outcome}
        shown.append(one | {"place": f"one{number}"})
    return shown


def name_rows(classes: str) -> list[str]:
    """Return what the two rows of the table are called."""
    return [f"claimed: {classes}", f"not claimed: {classes}"]


def draw_table(cells: list[list[int]], classes: str) -> dict[str, Any]:
    """Return the counts as a table to click; what contradicts stands out."""
    weights = [[0.1, 0.45, 1.0], [1.0, 0.45, 0.1]]
    names = {TRUE_POSITIVE: "TP", TRUE_NEGATIVE: "TN", FALSE_POSITIVE: "FP", FALSE_NEGATIVE: "FN"}
    texts = [
        [f"{count:,} {names.get(outcome, 'unsure')}" for count, outcome in zip(row, outcomes, strict=True)]
        for row, outcomes in zip(cells, CELLS, strict=True)
    ]
    data = {
        "type": "heatmap",
        "x": list(COLUMNS),
        "y": name_rows(classes),
        "z": weights,
        "text": texts,
        "texttemplate": "%{text}",
        "hoverinfo": "text",
        "showscale": False,
        "colorscale": [[0, "#5b8def"], [0.5, "#c9c9c9"], [1, "#e4572e"]],
        "zmin": 0,
        "zmax": 1,
        "xgap": 3,
        "ygap": 3,
        "textfont": {"size": 16, "color": "#111"},
    }
    layout = lay_out("What is claimed, and what was seen", height=220)
    layout["yaxis"] = {"autorange": "reversed", "automargin": True, "type": "category"}
    layout["xaxis"] = {"side": "top", "type": "category"}
    layout["margin"]["t"] = 60
    return to_plot(data, layout)
