"""The panel «Image quality»: how the scores lie, what thresholds mean, and deciding. A click filters the grid."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from fiftyone import ViewField as F
from fiftyone.operators import types

from fiftyone_plugins.app.charts import COLOUR, STRIKING, draw_rows, lay_out, to_plot
from fiftyone_plugins.app.panels import CurationPanel
from fiftyone_plugins.app.running import find_curation_folder
from fiftyone_plugins.app.targets import collect
from fiftyone_plugins.quality.checks import default_thresholds, find_check
from fiftyone_plugins.quality.deciding import keep_by_hand, trash_by_hand
from fiftyone_plugins.quality.proposals import Rules
from fiftyone_plugins.quality.scanning import count_unmeasured
from fiftyone_plugins.quality.views import count_over, has_scores, list_measured, view_range, view_trash
from labels import fields

BINS: Final = 20
FIRST: Final = "blurry"
THRESHOLD: Final = "threshold_"
"""Each check has a slider of its own: its value is never taken for that of another check."""
SURE: Final = 0.9
"""The first threshold of a check that has none of its own."""


class QualityPanel(CurationPanel):
    """A histogram of one check with its threshold, what all thresholds mean together, and the buttons that decide."""

    name_in_app = "quality"
    label = "Image quality"
    about = "Scores are 0 to 1; higher: look here first. Click a bar to see its images."
    icon = "high_quality"

    def read(self, ctx: Any) -> None:
        """Read counts and the histogram."""
        state = ctx.panel.state
        state.thresholds = _thresholds_of(state)
        state.check = state.check or FIRST
        state.measured = list_measured(ctx.dataset)
        state.summary = describe(ctx.dataset, Rules(state.thresholds))
        if not has_scores(ctx.dataset):
            return
        if state.check in state.thresholds and getattr(state, THRESHOLD + state.check) is None:
            # A slider without a value takes its first one, and the App tells the panel that it was moved.
            setattr(state, THRESHOLD + state.check, state.thresholds[state.check])
        state.over = count_over(ctx.dataset, state.thresholds)
        counts, _, _ = ctx.dataset.histogram_values(find_check(state.check).field, bins=BINS, range=(0, 1.0001))
        state.counts = [int(count) for count in counts]

    def choose_check(self, ctx: Any) -> None:
        """Show another check."""
        ctx.panel.state.check = ctx.params.get("value")
        self.refresh(ctx)

    def choose_threshold(self, ctx: Any) -> None:
        """Set the threshold of the check whose slider was moved."""
        name, value = str(ctx.params.get("path")).removeprefix(THRESHOLD), ctx.params.get("value")
        thresholds = _thresholds_of(ctx.panel.state)
        # The App calls this too whenever it draws a slider anew: what answered that would be called for ever.
        if name in thresholds and isinstance(value, int | float) and value != thresholds[name]:
            ctx.panel.state.thresholds = thresholds | {name: float(value)}
            self.refresh(ctx)

    def forget_threshold(self, ctx: Any) -> None:
        """Let the check that is shown no longer speak for trash."""
        thresholds = _thresholds_of(ctx.panel.state)
        thresholds.pop(ctx.panel.state.check, None)
        ctx.panel.state.thresholds = thresholds
        self.refresh(ctx)

    def restore_threshold(self, ctx: Any) -> None:
        """Let the check that is shown speak for trash, from its usual threshold on."""
        state = ctx.panel.state
        limit = find_check(state.check).threshold or SURE
        state.thresholds = _thresholds_of(state) | {state.check: limit}
        # Where the slider was left the last time is not the threshold any more.
        setattr(state, THRESHOLD + state.check, limit)
        self.refresh(ctx)

    def show_bar(self, ctx: Any) -> None:
        """Filter the grid to the images of the bar that was clicked, the highest first."""
        place = ctx.params.get("idx")
        if isinstance(place, int) and 0 <= place < BINS:
            ctx.ops.set_view(view_range(ctx.dataset, ctx.panel.state.check, place / BINS, (place + 1) / BINS))

    def show_over(self, ctx: Any) -> None:
        """Filter the grid to what reaches the threshold of the check whose bar was clicked."""
        names = list(ctx.panel.state.over or {})
        place = ctx.params.get("idx")
        if isinstance(place, int) and 0 <= place < len(names):
            name = names[place]
            ctx.ops.set_view(view_range(ctx.dataset, name, ctx.panel.state.thresholds[name], 1.0))

    def show_trash(self, ctx: Any) -> None:
        """Filter the grid to what would be tagged."""
        if not has_scores(ctx.dataset):
            ctx.ops.notify("Nothing is measured yet: «Check image quality» first.", variant="warning")
            return
        ctx.ops.set_view(view_trash(ctx.dataset, Rules(_thresholds_of(ctx.panel.state))))

    def show_tagged(self, ctx: Any) -> None:
        """Filter the grid to what is tagged."""
        ctx.ops.set_view(ctx.dataset.match_tags(fields.TRASH_TAG))

    def keep_selected(self, ctx: Any) -> None:
        """Say of the selected samples that they are good: no proposal says otherwise from now on."""
        self._decide_on_selected(ctx, keep_by_hand, "kept")

    def trash_selected(self, ctx: Any) -> None:
        """Tag the selected samples as trash."""
        self._decide_on_selected(ctx, trash_by_hand, "tagged as trash")

    def measure(self, ctx: Any) -> None:
        """Open the form that measures."""
        self.open_form(ctx, "check_quality")

    def tag(self, ctx: Any) -> None:
        """Open the form that tags, with the thresholds that are set here."""
        thresholds = _thresholds_of(ctx.panel.state)
        params = {"checks": list(thresholds)} | {THRESHOLD + name: limit for name, limit in thresholds.items()}
        self.open_form(ctx, "tag_trash", params)

    def undo(self, ctx: Any) -> None:
        """Open the form that takes a decision back."""
        self.open_form(ctx, "untag_trash")

    def fill(self, ctx: Any, panel: types.Object) -> None:
        """Add buttons and charts."""
        state = ctx.panel.state
        panel.md(state.summary or "No dataset is open.", name="told")
        self._add_buttons(panel)
        if state.counts:
            choices = types.DropdownView(label="Check")
            for name in state.measured or []:
                choices.add_choice(name, label=find_check(name).label)
            panel.enum("check", choices.values(), label="Check", view=choices, on_change=self.choose_check)
            threshold = _thresholds_of(state).get(state.check)
            panel.plot("histogram", on_click=self.show_bar, **draw_histogram(state.check, state.counts, threshold))
            self._add_threshold(panel, state.check, threshold)
            if state.over:
                panel.plot("over_chart", on_click=self.show_over, **draw_over(state.over, state.thresholds))

    def _add_threshold(self, panel: types.Object, check: str, threshold: float | None) -> None:
        if threshold is None:
            panel.btn("restore", label="Make this check a reason for trash", on_click=self.restore_threshold)
            return
        panel.float(
            THRESHOLD + check,
            min=0,
            max=1,
            default=threshold,
            label="Trash from this score on",
            view=types.SliderView(label="Trash from", value_precision=2),
            on_change=self.choose_threshold,
        )
        panel.btn("forget", label="This check is no reason for trash", on_click=self.forget_threshold)

    def _add_buttons(self, panel: types.Object) -> None:
        first = panel.h_stack("work", gap=1, wrap=True)
        first.btn("measure", label="Check image quality", variant="outlined", on_click=self.measure)
        first.btn("show_trash", label="Show proposed trash", variant="outlined", on_click=self.show_trash)
        first.btn("tag", label="Tag trash", variant="contained", on_click=self.tag)
        first.btn("undo", label="Take back", variant="outlined", on_click=self.undo)
        second = panel.h_stack("choose", gap=1, wrap=True)
        second.btn("keep", label="Keep selected", variant="outlined", on_click=self.keep_selected)
        second.btn("trash", label="Trash selected", variant="outlined", on_click=self.trash_selected)
        second.btn("tagged", label="Show trash", variant="outlined", on_click=self.show_tagged)
        second.btn("show_all", label="Show all", variant="outlined", on_click=self.show_all)
        second.btn("refresh", label="Refresh", variant="outlined", on_click=self.refresh)

    def _decide_on_selected(self, ctx: Any, decide: Callable[[Any, Path], tuple[str | None, int]], told: str) -> None:
        if not ctx.selected:
            ctx.ops.notify("Select samples in the grid first.", variant="warning")
            return
        samples = collect(ctx.dataset, ctx.view, ctx.selected, "selected")
        run, count = decide(samples, find_curation_folder(os.environ))
        if run is None:
            ctx.ops.notify(f"All of them are {told} already.", variant="info")
            return
        ctx.ops.notify(f"{count:,} are {told} ({run})", variant="success")
        ctx.ops.reload_dataset()
        self.refresh(ctx)


def describe(dataset: Any, rules: Rules) -> str:
    """Return in words what is measured, proposed and decided."""
    waiting = count_unmeasured(dataset)
    if waiting == len(dataset):
        return "**Nothing is measured yet.** «Check image quality» reads each image once."
    tags = dataset.count_sample_tags()
    proposed = len(view_trash(dataset, rules))
    told = [f"**{len(dataset) - waiting:,}** images measured", f"**{proposed:,}** proposed as trash"]
    told += [
        f"**{tags.get(fields.TRASH_TAG, 0):,}** tagged trash",
        f"**{tags.get(fields.KEEP_TAG, 0):,}** kept by hand",
    ]
    told += [f"**{waiting:,}** not measured yet"] if waiting else []
    damaged = len(dataset.match(F(find_check("corrupt").field) >= 0.5))
    return " · ".join(told + ([f"**{damaged:,}** corrupt"] if damaged else []))


def draw_histogram(check: str, counts: list[int], threshold: float | None) -> dict[str, Any]:
    """Return a bar for each range of scores; those that reach the threshold in another colour."""
    middles = [(place + 0.5) / BINS for place in range(BINS)]
    colours = [STRIKING if threshold is not None and middle >= threshold else COLOUR for middle in middles]
    bars = {"type": "bar", "x": middles, "y": counts, "width": [1 / BINS] * BINS, "marker": {"color": colours}}
    layout = lay_out(f"{find_check(check).label}: {find_check(check).about}", height=260)
    layout["xaxis"] = {"title": {"text": find_check(check).field}, "range": [0, 1]}
    layout["yaxis"] = {"title": {"text": "images"}, "type": "linear"}
    if threshold is not None:
        line = {"type": "line", "x0": threshold, "x1": threshold, "y0": 0, "y1": 1, "yref": "paper"}
        layout["shapes"] = [line | {"line": {"color": STRIKING, "dash": "dot"}}]
    return to_plot(bars, layout)


def draw_over(over: dict[str, int], thresholds: dict[str, float]) -> dict[str, Any]:
    """Return a bar for each check: how many images reach its threshold."""
    names = [f"{find_check(name).label} from {thresholds[name]:g}" for name in over]
    return draw_rows("Images that reach each threshold", names, list(over.values()), STRIKING)


def _thresholds_of(state: Any) -> dict[str, float]:
    """Return the thresholds that are set in the panel, the usual ones where none were; empty: no check counts."""
    return default_thresholds() if state.thresholds is None else dict(state.thresholds)
