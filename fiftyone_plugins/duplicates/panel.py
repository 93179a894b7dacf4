"""The panel «Duplicates»: one group at a time, side by side, to keep, drop or set apart; and the threshold by eye."""

from __future__ import annotations

import os
from typing import Any, Final

from fiftyone import ViewField as F
from fiftyone.operators import types

from fiftyone_plugins.app.panels import CurationPanel, tell_problems
from fiftyone_plugins.app.running import find_curation_folder
from fiftyone_plugins.app.work import Tools
from fiftyone_plugins.duplicates.deciding import (
    choose_kept,
    decide,
    decide_group,
    describe_decision,
    is_none_kept,
    open_decisions,
    undo,
)
from fiftyone_plugins.duplicates.decisions import Action
from fiftyone_plugins.duplicates.showing import FILTERS, MOST_CARDS, read_cards, read_examples, read_groups
from fiftyone_plugins.duplicates.work import DEFAULT_THRESHOLD
from labels import fields

FURTHEST: Final = 0.6
STEP: Final = 0.01
SIDE_BY_SIDE: Final = 2
KEYS: Final = (
    "**1**-**9**, **←** **→** choose an image, then **K** keep, **D** drop, **X** not a duplicate; "
    "**Enter** keep ★, drop the others; **N**, **P** next group, the one before; **U** undo"
)
"""What ``keys.js`` binds, once something in the panel was clicked."""

NONE_KEPT: Final = (
    "**No image of this group is kept:** it is neither queued nor exported, and stays undecided. Keep one, or undo."
)


class DuplicatesPanel(CurationPanel):
    """Shows a group and writes what is decided; or pairs at a distance, and starts the search anew from there."""

    name_in_app = "duplicates"
    label = "Duplicates"
    about = "Groups of images that show the same. Nothing is deleted: what is dropped is tagged."
    icon = "content_copy"

    def on_load(self, ctx: Any) -> None:
        """Show the first group."""
        ctx.panel.state.place = 0
        self.refresh(ctx)

    def read(self, ctx: Any) -> None:
        """Read groups and decisions."""
        state = ctx.panel.state
        latest = self._open(ctx).latest()
        listed = read_groups(ctx.dataset, latest)
        state.counts = {name: len(groups) for name, groups in listed.items()}
        chosen = listed[state.filter if state.filter in listed else "all"]
        state.total = len(chosen)
        state.place = min(max(state.place or 0, 0), max(len(chosen) - 1, 0))
        state.group = chosen[state.place] if chosen else None
        members = [] if state.group is None else read_cards(ctx.dataset, state.group, latest, most=None)
        state.is_none_kept = is_none_kept(card["decision"] for card in members)
        state.cards = cards = members[:MOST_CARDS]
        pictures = {f"{name_card(place)}.picture": card["picture"] for place, card in enumerate(cards)}
        ctx.panel.set_state(pictures)
        if state.by_eye:
            self._show_pairs(ctx)

    def find(self, ctx: Any) -> None:
        """Open the form that finds duplicates, with the threshold that was chosen by eye."""
        params = {"threshold": ctx.panel.state.threshold} if ctx.panel.state.by_eye else {}
        self.open_form(ctx, "find_duplicates", params, then=self.on_load)

    def drop_all(self, ctx: Any) -> None:
        """Open the form that drops what is proposed in every group."""
        self.open_form(ctx, "drop_duplicates")

    def choose(self, ctx: Any) -> None:
        """Show other groups: all, undecided, across splits, with other labels."""
        ctx.panel.state.filter, ctx.panel.state.place = ctx.params.get("filter", "all"), 0
        self.refresh(ctx)

    def turn(self, ctx: Any) -> None:
        """Show the next group, or the one before."""
        ctx.panel.state.place = (ctx.panel.state.place or 0) + ctx.params.get("by", 1)
        self.refresh(ctx)

    def keep(self, ctx: Any) -> None:
        """Keep an image."""
        self._decide_on_one(ctx, "keep")

    def drop(self, ctx: Any) -> None:
        """Drop an image: it is tagged, and leaves queue and exports."""
        self._decide_on_one(ctx, "drop")

    def set_apart(self, ctx: Any) -> None:
        """Say that an image is no duplicate of the others of its group: they never come together again."""
        self._decide_on_one(ctx, "apart")

    def accept(self, ctx: Any) -> None:
        """Keep what was marked to be kept, else the best that was not dropped; drop the others, show the next group."""
        group, latest = ctx.panel.state.group, self._open(ctx).latest()
        if group is None:
            # The last group was decided, and this was pressed again before the button was gone.
            return
        # Read anew and whole: what the window shows may be older, and of a large group it shows some.
        kept = choose_kept(read_cards(ctx.dataset, group, latest, most=None))
        if not kept:
            ctx.ops.notify("Every image of this group was dropped: mark the one to keep.", variant="warning")
            return
        with tell_problems(ctx):
            decide_group(ctx.dataset, self._open(ctx), group, kept)
            ctx.ops.reload_samples()
            if ctx.panel.state.filter != "undecided":
                ctx.panel.state.place = (ctx.panel.state.place or 0) + 1
            self.refresh(ctx)

    def undo(self, ctx: Any) -> None:
        """Take the last decision back."""
        decisions = self._open(ctx)
        last = decisions.find_last()
        if last is None:
            ctx.ops.notify("Nothing was decided.", variant="info")
            return
        undo(ctx.dataset, decisions, last)
        again = " It is in its group again after the next search." if last.action == "apart" else ""
        ctx.ops.notify(f"Taken back: {describe_decision(last)}.{again}", variant="success")
        ctx.ops.reload_samples()
        self.refresh(ctx)

    def show(self, ctx: Any) -> None:
        """Show the group in the grid, the proposed keeper first."""
        if ctx.panel.state.group is None:
            return
        shown = ctx.dataset.match(F(fields.DUPLICATE_GROUP) == ctx.panel.state.group)
        ctx.ops.set_view(shown.sort_by(fields.DUPLICATE_KEEPER, reverse=True))

    def open_sample(self, ctx: Any) -> None:
        """Open an image in the App's own window."""
        ctx.ops.open_sample(id=ctx.params["sample_id"])

    def switch(self, ctx: Any) -> None:
        """Show pairs by their distance, or groups."""
        ctx.panel.state.by_eye = not ctx.panel.state.by_eye
        self.refresh(ctx)

    def slide(self, ctx: Any) -> None:
        """Show the pairs at another distance."""
        # The App has moved on when this is answered: a threshold written here would move the slider back, which calls
        # this again, and so on without an end.
        self._show_pairs(ctx, ctx.params.get("value"))

    def fill(self, ctx: Any, panel: types.Object) -> None:
        """Add the buttons, and a group or pairs."""
        state = ctx.panel.state
        buttons = panel.h_stack("buttons", gap=1, wrap=True)
        buttons.btn("find", label="Find duplicates", icon="content_copy", variant="contained", on_click=self.find)
        buttons.btn("undo", label="Undo", icon="undo", variant="outlined", on_click=self.undo)
        buttons.btn("refresh", label="Refresh", icon="refresh", variant="outlined", on_click=self.refresh)
        label = "Back to the groups" if state.by_eye else "Choose the threshold by eye"
        buttons.btn("switch", label=label, icon="tune", variant="outlined", on_click=self.switch)
        if state.by_eye:
            self._add_pairs(panel, state)
        elif not (state.counts or {}).get("all"):
            panel.md("No duplicates are known here. «Find duplicates» looks for them.", name="nothing")
        else:
            self._add_group(panel, state)

    def _add_group(self, panel: types.Object, state: Any) -> None:
        filters = panel.h_stack("filters", gap=1, wrap=True)
        for name, label in FILTERS.items():
            is_chosen = name == (state.filter or "all")
            if is_chosen or state.counts[name]:
                filters.btn(
                    f"filter_{name}", label=f"{label} ({state.counts[name]:,})",
                    variant="contained" if is_chosen else "outlined", on_click=self.choose, params={"filter": name},
                )  # fmt: skip
        if state.group is None:
            panel.md("There is no such group.", name="nothing")
            return
        place, total = state.place or 0, state.total or 0
        steps = panel.h_stack("steps", gap=1, align_y="center", wrap=True)
        steps.btn("back", label="Back", variant="outlined", disabled=place == 0, on_click=self.turn, params={"by": -1})
        # By the name the keys know whether another group was drawn.
        steps.md(f"group {place + 1:,} of {total:,} · {state.group}", name="where")
        steps.btn(
            "on", label="Next", variant="outlined", disabled=place >= total - 1, on_click=self.turn, params={"by": 1}
        )
        steps.btn("show", label="Show in grid", icon="grid_view", variant="outlined", on_click=self.show)
        actions = panel.h_stack("actions", gap=1, align_y="center")
        actions.btn(
            "accept", label="Keep ★, drop the others", icon="done_all", variant="contained", on_click=self.accept,
            disabled=bool(state.is_none_kept),
        )  # fmt: skip
        actions.btn(
            "drop_all", label="Drop all proposed", icon="playlist_remove", variant="outlined", on_click=self.drop_all
        )
        told = f"{NONE_KEPT}\n\n" if state.is_none_kept else ""
        panel.md(f"{told}{describe_group(state.cards or [])}\n\n{KEYS}", name="about")
        rows: dict[str, types.Object] = {}
        for number, card in enumerate(state.cards or []):
            row, name = name_card(number).split(".")
            if row not in rows:
                rows[row] = panel.h_stack(row, gap=2, align_y="top")
            self._add_card(rows[row], name, number, card)

    def _add_card(self, shown: types.Object, name: str, number: int, card: dict[str, Any]) -> None:
        stack = shown.v_stack(name, gap=0.5, width="245px")
        target = {"sample_id": card["sample_id"]}
        stack.img(
            "picture", height="150px", alt_text=card["name"], on_click=self.open_sample, params=target,
        )  # fmt: skip
        stack.md(f"{number + 1} · {card['text']}", name="text")
        buttons = stack.h_stack("decide", gap=0.5, wrap=True)
        for action, label, method in (("keep", "Keep", self.keep), ("drop", "Drop", self.drop)):
            variant = "contained" if card["decision"] == action else "outlined"
            buttons.btn(action, label=label, variant=variant, on_click=method, params=target)
        buttons.btn("apart", label="Not a duplicate", variant="outlined", on_click=self.set_apart, params=target)

    def _add_pairs(self, panel: types.Object, state: Any) -> None:
        panel.float(
            "threshold", min=0.0, max=FURTHEST, label="Distance", on_change=self.slide,
            default=DEFAULT_THRESHOLD, view=types.SliderView(view_multiple_of=STEP, value_precision=2),
        )  # fmt: skip
        pairs = state.pairs or []
        if not pairs:
            panel.md("There are no pairs yet: «Find duplicates» with the method «near» looks for them.", name="nothing")
            return
        told = f"The pairs nearest to {state.shown_at:.2f}. Where they are not the same, the threshold is too high."
        panel.md(f"{told} «Find duplicates» takes the distance over.", name="about")
        for number, pair in enumerate(pairs):
            row = panel.h_stack(f"pair_{number}", gap=1, align_y="center")
            for side in ("first", "second"):
                target = {"sample_id": pair[side]}
                row.img(side, height="130px", width="180px", alt_text=side, on_click=self.open_sample, params=target)
            row.md(pair["text"], name="text")

    def _show_pairs(self, ctx: Any, distance: float | None = None) -> None:
        state = ctx.panel.state
        if state.threshold is None:
            state.threshold = DEFAULT_THRESHOLD
        shown_at = float(state.threshold if distance is None else distance)
        pairs = read_examples(ctx.dataset, find_curation_folder(os.environ), shown_at)
        state.pairs, state.shown_at = pairs, shown_at
        pictures = {
            f"pair_{number}.{side}": pair[f"{side}_picture"]
            for number, pair in enumerate(pairs)
            for side in ("first", "second")
        }
        ctx.panel.set_state(pictures)

    def _decide_on_one(self, ctx: Any, action: Action) -> None:
        with tell_problems(ctx):
            decide(ctx.dataset, self._open(ctx), action, ctx.panel.state.group, [ctx.params["sample_id"]])
            ctx.ops.reload_samples()
        self.refresh(ctx)

    def _open(self, ctx: Any) -> Any:
        return open_decisions(Tools(find_curation_folder(os.environ)), ctx.dataset)


def name_card(number: int) -> str:
    """Return where in the panel an image of a group stands: so many side by side as fit.

    >>> name_card(3)
    'row_1.card_3'
    """
    return f"row_{number // SIDE_BY_SIDE}.card_{number}"


def describe_group(cards: list[dict[str, Any]]) -> str:
    """Return what is to be known of a group as a whole.

    >>> describe_group([{"is_leak": True, "differs": True, "splits": ("val",)}, {"splits": ("train",)}])
    '**Leak:** it is in the splits train and val. **The labels differ.**'
    """
    said = []
    if cards and cards[0]["is_leak"]:
        splits = sorted({split for card in cards for split in card["splits"]})
        said.append(f"**Leak:** it is in the splits {' and '.join(splits)}." if len(splits) > 1 else "**Leak.**")
    if cards and cards[0]["differs"]:
        said.append("**The labels differ.**")
    return " ".join(said) or "★ is proposed to be kept: reviewed and labelled before large before sharp."
