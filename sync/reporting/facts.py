"""What the report tells, as values: read from the ledger, the catalogue and the files of the state folder, once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from labels import fields
from labels.errors import LabelingError
from sync.jobs.context import Context
from sync.jobs.datasets.reviewed import Reviewed, choose_reviewed
from sync.jobs.exchange.queue import UNCERTAINTY, choose
from sync.ledger.promotions import Promotion
from sync.ledger.rows import FeedbackRow
from sync.models.answers import METRIC as ANSWERS
from sync.models.candidate import TRAINED, list_candidates
from sync.models.gate import METRIC as BOXES
from sync.models.results import Result, list_results
from sync.review.feedback_summary import FeedbackSummary, group_feedback, summarize_feedback
from sync.settings import Home
from sync.simulation.experiment import RESULTS_NAME
from sync.simulation.summary import Point
from sync.versions.diff import VersionDiff, compare_versions
from sync.versions.manifest import list_versions, read_version
from sync.versions.summary import VersionSummary, summarize
from sync.versions.version import Version

DAYS: Final = 90
KINDS: Final = ("confirmed", "moved", "relabelled", "deleted", "added")
NEXT_SHOWN: Final = 20
DRAWN_HERE: Final = "drawn in FiftyOne, or imported without a label"
SIMULATIONS: Final = "simulations"


@dataclass(frozen=True, slots=True)
class Learned:
    """A trained model: on how many images and labels, and how good it is. ``split`` says on which images: test or val.

    ``score`` is 0..1, as ``metric`` says: mAP50-95, by whatever overlaps, or top-1; None: it was never measured.
    """

    model_version: str
    images: int
    labels: int
    score: float | None
    split: str
    trained_at: str
    metric: str = BOXES


@dataclass(frozen=True, slots=True)
class Unsubmitted:
    """Images that count as reviewed without anybody having submitted them, and their drawn labels, by where from."""

    origin: str
    images: int
    labels: int


@dataclass(frozen=True, slots=True)
class NextUp:
    """An image that would be labelled next, and how unsure the model is of it."""

    name: str
    uncertainty: float | None


@dataclass(frozen=True, slots=True)
class Facts:
    """All of it. ``weeks`` count verdicts of reviews by the Monday they were given after (UTC), the oldest first.

    ``classes`` counts reviewed labels of each class of the label config, also those with none; ``boxes`` counts
    reviewed images by how many labels they have. ``next_up`` empty: ``next_problem`` says why.
    """

    dataset: str
    made_at: str
    states: Mapping[str, int]
    classes: Mapping[str, int]
    boxes: Mapping[int, int]
    weeks: Mapping[str, Mapping[str, int]]
    feedback: FeedbackSummary
    reviewers: Mapping[str, FeedbackSummary]
    unsubmitted: tuple[Unsubmitted, ...] = ()
    versions: tuple[VersionSummary, ...] = ()
    changes: tuple[VersionDiff, ...] = ()
    results: tuple[Result, ...] = ()
    promotions: tuple[Promotion, ...] = ()
    learned: tuple[Learned, ...] = ()
    simulations: Mapping[str, tuple[Point, ...]] = field(default_factory=dict)
    next_up: tuple[NextUp, ...] = ()
    next_problem: str | None = None


def collect_facts(context: Context, *, now: datetime | None = None) -> Facts:
    """Return the facts of a project; reads only."""
    now = now or datetime.now(UTC)
    rows, reviews = context.ledger.feedback(), context.ledger.reviews()
    chosen = choose_reviewed(context).chosen
    classes, boxes = _count_labels(context, chosen)
    versions = [read_version(context.home, name) for name in list_versions(context.home)]
    results = tuple(list_results(context.home))
    next_up, problem = _find_next(context)
    return Facts(
        dataset=context.project.name,
        made_at=now.isoformat(timespec="minutes"),
        states=_count_states(context),
        classes=classes,
        boxes=boxes,
        weeks=_count_weeks(rows, since=(now - timedelta(days=DAYS)).date().isoformat()),
        feedback=summarize_feedback(rows, reviews),
        reviewers=group_feedback(rows, reviews, by="reviewer"),
        unsubmitted=tuple(find_unsubmitted(context, chosen, reviews)),
        versions=tuple(summarize(version) for version in versions),
        changes=tuple(compare_versions(old, new) for old, new in pairwise(versions)),
        results=results,
        promotions=tuple(context.ledger.promotions()),
        learned=tuple(find_learned(context.home, versions, results)),
        simulations=read_simulations(context.home),
        next_up=next_up,
        next_problem=problem,
    )


def _count_states(context: Context) -> dict[str, int]:
    counts = context.ledger.counts()
    return {
        "not sent": context.dataset.unsent_count(),
        "queued": counts[fields.QUEUED],
        "reviewed": counts[fields.REVIEWED],
        "skipped": counts[fields.SKIPPED],
        "in conflict": counts[fields.CONFLICT],
    }


def find_unsubmitted(
    context: Context, chosen: Sequence[Reviewed], reviews: Sequence[Mapping[str, Any]]
) -> Iterator[Unsubmitted]:
    """Yield where the labels come from that count as reviewed since they were sent: files first, by their name."""
    submitted = {review["sample_id"] for review in reviews}
    sources = context.dataset.label_sources()
    images, labels = Counter[str](), Counter[str]()
    for one in chosen:
        if one.image.sample_id in submitted:
            continue
        files = sorted({sources[label.id] for label in one.said.labels if label.id in sources})
        origin = f"imported from {files[0]}" if files else DRAWN_HERE
        images[origin] += 1
        labels[origin] += sum(label.geometry is not None for label in one.said.labels)
    for origin in sorted(images, key=lambda name: (name == DRAWN_HERE, name)):
        yield Unsubmitted(origin, images[origin], labels[origin])


def _count_labels(context: Context, chosen: Sequence[Reviewed]) -> tuple[dict[str, int], dict[int, int]]:
    """Return how many reviewed labels each class has, and how many images have how many."""
    names = Counter[str]()
    sizes = Counter[int]()
    for one in chosen:
        drawn = [label for label in one.said.labels if label.geometry is not None]
        if one.said.has_regions:
            sizes[len(drawn)] += 1
        names.update(name for label in drawn for name in label.classes)
    known = dict.fromkeys(name for control in context.config.controls if control.is_region for name in control.classes)
    return {name: names[name] for name in (*known, *sorted(names.keys() - known.keys()))}, dict(sorted(sizes.items()))


def _count_weeks(rows: list[FeedbackRow], *, since: str) -> dict[str, dict[str, int]]:
    weeks: dict[str, Counter[str]] = {}
    for row in rows:
        if row.annotation_updated_at >= since:
            day = datetime.fromisoformat(row.annotation_updated_at).date()
            monday = day - timedelta(days=day.weekday())
            weeks.setdefault(monday.isoformat(), Counter())[row.verdict.kind] += 1
    return {monday: {kind: weeks[monday][kind] for kind in KINDS} for monday in sorted(weeks)}


def find_learned(home: Home, versions: list[Version], results: tuple[Result, ...]) -> Iterator[Learned]:
    """Yield the trained models, the oldest first: measured on the test images where somebody did, else on val."""
    known = {version.id: version for version in versions}
    newest = {one.model_version: one.evaluation for one in reversed(results) if one.split == "test"}
    for one in list_candidates(home):
        version = known.get(one.version_id)
        if one.state != TRAINED or one.model_version is None or version is None:
            continue
        # What it learned from may be less than the train split: of one control, or new with a few older ones.
        images, labels = one.counts.get("train images"), one.counts.get("train labels")
        if images is None or labels is None:
            train = version.in_split("train")
            images, labels = len(train), sum(len(image.regions) for image in train)
        tested = newest.get(one.model_version)
        is_tested = tested is not None and tested.score is not None
        yield Learned(
            one.model_version,
            images,
            labels,
            tested.score if tested is not None and is_tested else one.scores.get("map50_95", one.scores.get("top1")),
            "test" if is_tested else "val",
            one.trained_at or "",
            tested.metric if tested is not None else ANSWERS if "top1" in one.scores else BOXES,
        )


def read_simulations(home: Home) -> dict[str, tuple[Point, ...]]:
    """Return what simulations of the state folder measured, by name; a broken line is left out."""
    found = {}
    for file in sorted((home.path / SIMULATIONS).glob(f"*/{RESULTS_NAME}")):
        points = tuple(_read_points(file))
        if points:
            found[file.parent.name] = points
    return found


def _read_points(file: Path) -> Iterator[Point]:
    for line in file.read_text(encoding="utf-8").split("\n"):
        with suppress(ValueError, LookupError, TypeError):
            yield Point(**json.loads(line)["point"])


def _find_next(context: Context) -> tuple[tuple[NextUp, ...], str | None]:
    try:
        chosen = choose(context, by=UNCERTAINTY, count=NEXT_SHOWN).chosen
    except LabelingError as error:
        return (), str(error)
    images = context.dataset.images([one.sample_id for one in chosen])
    return tuple(
        NextUp((images[one.sample_id].source_path or images[one.sample_id].path).name, one.value)
        for one in chosen
        if one.sample_id in images
    ), None
