"""The panel «Label mistakes»: the ranked list, a picture and a reason each, and what a person decides about it."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from bson import json_util
from fiftyone.operators import types
from pymongo import DESCENDING

from fiftyone_plugins.app.console import Console
from fiftyone_plugins.app.forms import FORM_TIMEOUT_S, check_dataset
from fiftyone_plugins.app.markdown import escape
from fiftyone_plugins.app.panels import CurationPanel, tell_problems, to_media_url
from fiftyone_plugins.app.running import find_curation_folder, run_for_python
from fiftyone_plugins.app.writing import CHANGED_AT
from fiftyone_plugins.mistakes.deciding import IN_WORDS, accept, keep, undo
from fiftyone_plugins.mistakes.decisions import Decisions
from fiftyone_plugins.mistakes.marking import make_picture
from fiftyone_plugins.mistakes.ranking import DISAGREEMENT, KINDS, MISSING, Finding, list_findings
from fiftyone_plugins.mistakes.storing import read_highest, read_judged
from labels import fields
from labels.errors import ItemError, LabelingError

PER_PAGE: Final = 6
MOST_SAMPLES: Final = 300
"""Samples that are read for the list: nobody works through more before the next run."""

MOST_SHOWN_IDS: Final = 100_000
MARKED: Final = "tasks with marked mistakes"
"""What the console's push counts them as."""

PICTURES: Final = "mistake_pictures"
ALL: Final = "all"


class MistakesPanel(CurationPanel):
    """The list and its buttons. What is shown lives in the panel's state; what is decided, in files and labels."""

    name_in_app = "mistakes"
    label = "Label mistakes"
    about = "Labels that are likely wrong, the likeliest first. Red: the label; green: a suggestion."
    icon = "spellcheck"

    def on_load(self, ctx: Any) -> None:
        """Read the list, from its first page on."""
        ctx.panel.state.page = 0
        self.refresh(ctx)

    def on_change_view(self, ctx: Any) -> None:
        """List what is in the view."""
        self.refresh(ctx)

    def is_news(self, ctx: Any) -> bool:
        """Return whether another view is shown, or something was written: the App says so six times a reload."""
        is_view = ctx.params.get("__method__") == "on_change_view" and ctx.dataset is not None
        return not is_view or ctx.panel.state.seen != make_shown_mark(ctx.dataset, ctx.view)

    def read(self, ctx: Any) -> None:
        """Read the list."""
        # Before the list: what is written while it is read is read again.
        seen = make_shown_mark(ctx.dataset, ctx.view)
        found = read_list(ctx.dataset, _list_shown_ids(ctx))
        state = ctx.panel.state
        state.seen = seen
        state.counts = dict(Counter(one.kind for one in found))
        kind = state.kind if state.kind in state.counts else ALL
        state.kind = kind
        chosen = [one for one in found if kind in (ALL, one.kind)]
        state.total = len(chosen)
        state.page = min(state.page or 0, max(0, (len(chosen) - 1) // PER_PAGE))
        shown = chosen[state.page * PER_PAGE : (state.page + 1) * PER_PAGE]
        links = make_links(ctx.dataset, shown)
        state.rows = [_to_row(one, links.get(one.key)) for one in shown]
        ctx.panel.set_state({f"{row['name']}.picture": row["picture"] for row in state.rows})

    def find(self, ctx: Any) -> None:
        """Open the form that finds mistakes."""
        self.open_form(ctx, "find_mistakes", then=self.on_load)

    def choose_kind(self, ctx: Any) -> None:
        """Show one kind alone, or all."""
        ctx.panel.state.kind, ctx.panel.state.page = ctx.params.get("kind", ALL), 0
        self.refresh(ctx)

    def turn(self, ctx: Any) -> None:
        """Show the next page, or the one before."""
        ctx.panel.state.page = max(0, (ctx.panel.state.page or 0) + ctx.params.get("by", 1))
        self.refresh(ctx)

    def accept(self, ctx: Any) -> None:
        """Do what is suggested: a curator's change, which the next push carries to Label Studio."""
        self._decide(ctx, accept)

    def keep(self, ctx: Any) -> None:
        """Leave the label as it is, for good while it stays the same."""
        self._decide(ctx, keep)

    def undo(self, ctx: Any) -> None:
        """Take the last decision back."""
        with tell_problems(ctx):
            undo(ctx.dataset, find_curation_folder(os.environ))
            ctx.ops.reload_samples()
        self.refresh(ctx)

    def send(self, ctx: Any) -> None:
        """Have annotators look: the sample gets its task, where it has none, with what is suspected marked on it."""
        with tell_problems(ctx):
            params = {"sample_ids": [ctx.params["sample_id"]], "mark_mistakes": True}
            report = run_for_python(ctx.dataset.name, "push", params)
            told = report["lines"][0]
            if report["details"].get(MARKED):
                told = f"{told}. It is marked there: the tab «{fields.MISTAKES_VERSION}» of its task"
            ctx.ops.notify(told, variant="warning" if report["failed"] else "success")
            self.refresh(ctx)

    def show(self, ctx: Any) -> None:
        """Show the samples of the list in the grid, the likeliest mistakes first."""
        ctx.ops.set_view(ctx.dataset.exists(fields.MISTAKENNESS).sort_by(fields.MISTAKENNESS, reverse=True))

    def open_sample(self, ctx: Any) -> None:
        """Open the sample in the App's own window."""
        ctx.ops.open_sample(id=ctx.params["sample_id"])

    def fill(self, ctx: Any, panel: types.Object) -> None:
        """Add the buttons and a page of the list."""
        state = ctx.panel.state
        buttons = panel.h_stack("buttons", gap=1, wrap=True)
        buttons.btn("find", label="Find mistakes", icon="spellcheck", variant="contained", on_click=self.find)
        buttons.btn("undo", label="Undo", icon="undo", variant="outlined", on_click=self.undo)
        buttons.btn("refresh", label="Refresh", icon="refresh", variant="outlined", on_click=self.refresh)
        buttons.btn("show", label="Show in grid", icon="grid_view", variant="outlined", on_click=self.show)
        counts = state.counts or {}
        if not counts:
            panel.md("Nothing is suspected here. «Find mistakes» compares the labels with a detector.", name="nothing")
        else:
            self._add_kinds(panel, counts, state.kind or ALL)
            for row in state.rows or []:
                self._add_row(panel, row)
            self._add_pages(panel, state.page or 0, state.total or 0)

    def _decide(self, ctx: Any, decision: Any) -> None:
        rows = {row["key"]: row for row in ctx.panel.state.rows or []}
        row = rows.get(ctx.params.get("key"))
        if row is not None:
            with tell_problems(ctx):
                decision(ctx.dataset, find_curation_folder(os.environ), to_finding(row))
                ctx.ops.reload_samples()
        self.refresh(ctx)

    def _add_kinds(self, panel: types.Object, counts: dict[str, int], chosen: str) -> None:
        kinds = panel.h_stack("kinds", gap=1, wrap=True)
        for kind, label in {ALL: "All", **KINDS}.items():
            count = sum(counts.values()) if kind == ALL else counts.get(kind, 0)
            if count:
                kinds.btn(
                    f"kind_{kind}",
                    label=f"{label} ({count})",
                    variant="contained" if kind == chosen else "outlined",
                    on_click=self.choose_kind,
                    params={"kind": kind},
                )

    def _add_row(self, panel: types.Object, row: dict[str, Any]) -> None:
        stack = panel.h_stack(row["name"], gap=2, align_y="top")
        if row["picture"]:
            stack.img(
                "picture", height="150px", width="200px", alt_text=row["reason"], on_click=self.open_sample,
                params={"sample_id": row["sample_id"]},
            )  # fmt: skip
        about = stack.v_stack("about", gap=0.5)
        about.md(row["text"], name="reason")
        decide = about.h_stack("decide", gap=1, wrap=True)
        target = {"key": row["key"], "sample_id": row["sample_id"]}
        if row["remedy"] is not None:
            decide.btn(
                "accept", label=row["accept_label"], icon="check", variant="contained",
                on_click=self.accept, params=target,
            )  # fmt: skip
        if row["kind"] != DISAGREEMENT:
            decide.btn(
                "keep", label="Keep as it is", icon="block", variant="outlined", on_click=self.keep, params=target
            )
        look = about.h_stack("look", gap=1, align_y="center")
        look.btn(
            "send", label="Send to Label Studio", icon="send", variant="outlined", on_click=self.send, params=target
        )
        if row["link"] is not None:
            look.md(f"[Open in Label Studio]({row['link']})", name="link")

    def _add_pages(self, panel: types.Object, page: int, total: int) -> None:
        last = max(0, (total - 1) // PER_PAGE)
        pages = panel.h_stack("pages", gap=1, align_y="center")
        for name, label, by, is_end in (("back", "Back", -1, page == 0), ("on", "Next", 1, page == last)):
            if name == "on":
                pages.md(f"{page + 1} of {last + 1} pages, {total:,} in all", name="where")
            step = {"by": by}
            pages.btn(name, label=label, variant="outlined", disabled=is_end, on_click=self.turn, params=step)


def make_shown_mark(dataset: Any, view: Any) -> str:
    """Return what differs once another view is shown or a sample of the dataset was written."""
    stages = [] if view is None else view._serialize(include_uuids=False)
    described = json_util.dumps(stages, sort_keys=True).encode()
    latest = dataset._sample_collection.find_one({}, {CHANGED_AT: True}, sort=[(CHANGED_AT, DESCENDING)])
    return f"{hashlib.sha256(described).hexdigest()} {None if latest is None else latest[CHANGED_AT]}"


def read_list(dataset: Any, sample_ids: Sequence[str] | None = None) -> list[Finding]:
    """Return what is likely wrong in a dataset, or in these samples, the likeliest first, without what was kept."""
    names = read_judged(dataset)
    kept = Decisions(find_curation_folder(os.environ), dataset.name).kept()
    documents: dict[str, Any] = {}
    for field in (fields.MISTAKENNESS, fields.DISAGREEMENT, f"{fields.MISTAKE_DATALAB}.score"):
        if dataset.has_sample_field(field):
            found = read_highest(dataset, field, MOST_SAMPLES, names, sample_ids)
            documents |= {str(document["_id"]): document for document in found}
    return list_findings(documents.values(), names, kept)


def to_finding(row: dict[str, Any]) -> Finding:
    """Return the finding of a row of the panel's state."""
    values = {name: row[name] for name in Finding.__dataclass_fields__}
    for name in ("box", "new_box"):
        values[name] = None if values[name] is None else tuple(values[name])
    return Finding(**values)


def _list_shown_ids(ctx: Any) -> list[str] | None:
    view = ctx.view
    if view is None or view == ctx.dataset.view():
        return None
    ids = view.values("sample_id" if view._is_generated else "id")
    return [str(one) for one in ids] if len(ids) <= MOST_SHOWN_IDS else None


def _to_row(finding: Finding, link: str | None) -> dict[str, Any]:
    """Return a finding as the panel shows it."""
    # Named by its picture: text and pictures reach the browser apart, and no text may stand beside another's picture.
    try:
        file = make_picture(finding, find_curation_folder(os.environ) / PICTURES)
        name, picture = f"row_{file.stem}", to_media_url(str(file))
    except ItemError:
        name, picture = f"row_{finding.key.replace(':', '_')}", ""
    accepting = "" if finding.remedy is None else IN_WORDS[finding.remedy]
    if finding.remedy == "relabel":
        accepting = f"Change to {finding.suggestion}"
    elif finding.kind == MISSING:
        accepting = f"Add {finding.label}"
    title = f"**{KINDS[finding.kind]}** · {finding.score:.2f}"
    text = f"{title}\n\n{escape(finding.reason)}\n\n{escape(finding.filepath.rsplit('/', 1)[-1])}"
    return asdict(finding) | {
        "key": finding.key,
        "name": name,
        "picture": picture,
        "text": text,
        "accept_label": accepting,
        "link": link,
    }


def make_links(dataset: Any, findings: Sequence[Finding]) -> dict[str, str]:
    """Return by a finding's key where its task opens in Label Studio.

    Nothing for samples without a task, nor where no console tells the address.
    """
    sample_ids = list({one.sample_id for one in findings})
    if not sample_ids or not dataset.has_sample_field(fields.TASK_ID):
        return {}
    tasks = dict(zip(*dataset.select(sample_ids).values(["id", fields.TASK_ID]), strict=True))
    if not any(tasks.values()):
        return {}
    try:
        status = Console.from_environ(os.environ).fetch_status(FORM_TIMEOUT_S)
        check_dataset(status, dataset.name)
    except LabelingError:
        return {}
    address = status.get("links", {}).get("label_studio")
    if address is None:
        return {}
    start = f"{address}{'&' if '?' in address else '?'}task="
    return {one.key: f"{start}{tasks[one.sample_id]}" for one in findings if tasks.get(one.sample_id) is not None}
