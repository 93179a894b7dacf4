"""How good the pre-labels are, by what people did to them: per class, what is confused with what, the time it takes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Final

from flask import Blueprint, Response, render_template, request
from flask.typing import ResponseReturnValue

from sync.console.catalogue import GroupBy
from sync.console.charts import draw_stacked_rows
from sync.console.parts import Parts
from sync.review.feedback_summary import write_feedback_csv

CLASSES_DRAWN: Final = 15
CONFUSIONS_SHOWN: Final = 20
KINDS: Final = ("confirmed", "moved", "relabelled", "deleted", "added")
GROUPS: Final[Mapping[str, GroupBy]] = {"version": "version", "reviewer": "reviewer"}


def make_feedback(parts: Parts) -> Blueprint:
    """Return /feedback and its table as a file."""
    feedback = Blueprint("feedback", __name__, url_prefix="/feedback")

    @feedback.get("/")
    def show_feedback() -> ResponseReturnValue:
        by = GROUPS.get(request.args.get("by", ""))
        groups = parts.catalogue.summarize_feedback(by)
        names = sorted(groups)
        name = request.args.get("of", "")
        name = name if name in groups else next(iter(names), "")
        summary = groups.get(name)
        drawn = [] if summary is None else summary.classes[:CLASSES_DRAWN]
        return render_template(
            "feedback.html",
            by=by or "",
            names=names,
            name=name,
            summary=summary,
            kinds=KINDS,
            confusions=[] if summary is None else summary.confusions[:CONFUSIONS_SHOWN],
            classes_drawn=CLASSES_DRAWN,
            chart=draw_stacked_rows(
                "What people did to the labels of each class, the weakest first",
                [one.name for one in drawn],
                {kind: [getattr(one, kind) for one in drawn] for kind in KINDS},
            )
            if drawn
            else None,
        )

    @feedback.get("/feedback.csv")
    def download() -> ResponseReturnValue:
        stream = io.StringIO(newline="")
        write_feedback_csv(parts.catalogue.read_feedback(), stream)
        answer = Response(stream.getvalue(), mimetype="text/csv")
        answer.headers["Content-Disposition"] = 'attachment; filename="feedback.csv"'
        return answer

    return feedback
