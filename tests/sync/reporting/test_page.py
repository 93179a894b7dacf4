"""The report holds all it shows, says what is not known, and shows names as they are."""

from __future__ import annotations

import re
from dataclasses import replace

from labels.fields import REVIEWED
from sync.ledger.promotions import Promotion
from sync.ledger.rows import FeedbackRow
from sync.models.evaluation import Evaluation
from sync.models.results import Result
from sync.reporting.facts import DRAWN_HERE, Facts, Learned, NextUp, Unsubmitted, _count_weeks
from sync.reporting.page import write_page
from sync.review.feedback import Verdict
from sync.review.feedback_summary import group_feedback, summarize_feedback
from sync.simulation.summary import Point
from sync.versions.diff import ImageChange, LabelChange, VersionDiff
from sync.versions.summary import VersionSummary
from sync.versions.version import Leaks

NAME = "<b>ann & co</b>"


def row(kind: str, day: str, before: str | None = "car", after: str | None = "car") -> FeedbackRow:
    verdict = Verdict("a" * 24, "label", kind, before, after, None, None)  # type: ignore[arg-type]
    return FeedbackRow("s1", 1, 1, f"{day}T10:00:00+00:00", NAME, 12.0, "m-1", verdict)


ROWS = [
    row("confirmed", "2026-01-06"),
    row("deleted", "2026-01-08", after=None),
    row("added", "2026-01-14", None, "dog"),
]
REVIEWS = [{"state": REVIEWED, "reviewer": NAME, "model_version": "m-1", "lead_time_s": 12.0}]
EMPTY = Facts(
    dataset="cells",
    made_at="2026-02-01T09:30+00:00",
    states={"not sent": 3, "reviewed": 0},
    classes={"car": 0, "dog": 0},
    boxes={},
    weeks={},
    feedback=summarize_feedback([], []),
    reviewers={},
)


def evaluation(score: float | None) -> Evaluation:
    return Evaluation(5, 1, 9, 12, score, score, score, 0.5, None, None, (), ())


def result(model: str, score: float | None, version: str = "v2-00000000", split: str = "test") -> Result:
    return Result(model, version, split, "2026-01-20T00:00:00+00:00", evaluation(score))


def summary(version: str, images: int) -> VersionSummary:
    return VersionSummary(version, images, 9, 1, {"train": images - 2, "val": 1, "test": 1}, {}, Leaks(), None)


FULL = replace(
    EMPTY,
    states={"not sent": 1204, "reviewed": 3},
    classes={"car": 5, "dog": 2, "bus": 0},
    boxes={0: 1, 2: 1, 25: 1},
    weeks=_count_weeks(ROWS, since="2026-01-01"),
    feedback=summarize_feedback(ROWS, REVIEWS),
    reviewers=group_feedback(ROWS, REVIEWS, by="reviewer"),
    unsubmitted=(Unsubmitted("imported from <i>labels.json</i>", 120, 5600), Unsubmitted(DRAWN_HERE, 1, 2)),
    versions=(summary("v1-00000000", 4), summary("v2-00000000", 6)),
    changes=(
        VersionDiff(
            "v1-00000000",
            "v2-00000000",
            (ImageChange("s", "a.jpg", "changed", (LabelChange("l", "added", None, "car"),), "train", "train"),),
            unchanged=3,
        ),
    ),
    results=(
        result("better", 0.6),
        result("worse", 0.4),
        result("old", 0.9, "v1-00000000"),
        result("val", 0.9, split="val"),
    ),
    promotions=(Promotion("better", "worse", "forced", "ana", reason="she knows", recorded_at="2026-01-21T08:00:00"),),
    learned=(Learned("worse", 2, 9, 0.4, "test", ""), Learned("better", 4, 20, 0.6, "test", "")),
    simulations={
        "bccd": (
            Point("random", 0, 0, 10, 90, 0.2, 0.3),
            Point("random", 0, 1, 20, 180, 0.3, 0.4),
            Point("random", 0, 1, 20, 180, 0.1, 0.2, 0.5),
            Point("rare", 0, 0, 10, 90, 0.2, 0.3),
            Point("rare", 0, 1, 20, 200, 0.4, 0.5),
        )
    },
    next_up=(NextUp("b_1.jpg", 0.75), NextUp("c.jpg", None)),
)


def test_of_an_empty_project_it_says_what_is_not_known_and_what_to_do() -> None:
    page = write_page(EMPTY)

    for said in ("Nothing is reviewed yet", "labelloop export", "labelloop evaluate", "labelloop train"):
        assert said in page
    assert "Every image was sent." in page
    assert "not computed" in write_page(replace(EMPTY, next_problem="uncertainty was not computed"))
    assert "<figure" not in page


def test_it_loads_nothing_and_runs_nothing() -> None:
    page = write_page(FULL)

    assert "<script" not in page
    assert not re.findall(r'(?:src|href)\s*=\s*["\'](?!#)|@import|url\(', page)


def test_names_are_shown_as_they_are() -> None:
    page = write_page(replace(FULL, dataset=NAME))

    assert NAME not in page
    assert page.count("&lt;b&gt;ann &amp; co&lt;/b&gt;") >= 3


def test_every_part_is_told() -> None:
    page = write_page(FULL)

    assert "1,204" in page
    assert "From v1-00000000 to v2-00000000: images 0 added, 0 removed, 1 changed; labels 1 added" in page
    assert page.index("better") < page.index("worse")
    # Of another version, and on other images: not beside these.
    assert '<th scope="row">old</th>' not in page
    assert '<th scope="row">val</th>' not in page
    assert "forced" in page
    assert "she knows" in page
    assert "rare saves 25 % (one seed) of the images that random needs." in page
    assert "bus (0), dog (2), car (5)" in page
    assert "b_1.jpg (0.750), c.jpg." in page
    assert page.count('class="chart chart-wide"') == 6
    assert write_page(FULL) == page


def test_what_counts_as_reviewed_and_nobody_submitted_is_told_beside_the_people() -> None:
    said = "nobody submitted them"
    page = write_page(FULL)

    people = page[page.index('id="people"') : page.index('id="models"')]
    assert said in people
    assert (
        'imported from &lt;i&gt;labels.json&lt;/i&gt;</th><td class="number">120</td><td class="number">5,600' in people
    )
    assert said not in write_page(replace(FULL, unsubmitted=()))


def test_verdicts_are_counted_by_the_week_they_were_given_in() -> None:
    assert FULL.weeks == {
        "2026-01-05": {"confirmed": 1, "moved": 0, "relabelled": 0, "deleted": 1, "added": 0},
        "2026-01-12": {"confirmed": 0, "moved": 0, "relabelled": 0, "deleted": 0, "added": 1},
    }
    assert _count_weeks(ROWS, since="2026-01-10").keys() == {"2026-01-12"}
