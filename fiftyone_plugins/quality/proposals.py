"""Keep or trash: what the scores propose, and why. A person's word stands above every proposal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from more_itertools import chunked

from fiftyone_plugins.app.work import Tools
from fiftyone_plugins.app.writing import write_values
from fiftyone_plugins.quality.checks import CHECKS, CORRUPT, default_thresholds, find_check
from labels import fields

KEEP: Final = "keep"
TRASH: Final = "trash"
QUALITY_CONTROL: Final = "quality"
"""The control of the label config by which people say keep or trash in Label Studio, and its sample field."""
SAMPLES_PER_WRITE: Final = 5000
NO_RATINGS: Final = (
    "no image is rated, so --below and --worst choose nothing: ratings come of 'labelloop embed', then"
    " 'labelloop quality --learn VOTES' once, then 'labelloop quality'"
)

Word = Literal["keep", "trash"]


@dataclass(frozen=True, slots=True)
class Rules:
    """When an image is proposed as trash: a check's score reaches its threshold, or its rating is low.

    ``below_mean`` is on AVA's scale of 1 to 10; ``worst_percent`` takes that part of the rated images, the lowest.
    """

    thresholds: Mapping[str, float] = field(default_factory=default_thresholds)
    below_mean: float | None = None
    worst_percent: float | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """One sample: its scores by check, its rating, and what a person said of it."""

    sample_id: str
    scores: Mapping[str, float | None]
    mean: float | None = None
    said: Word | None = None
    is_trashed: bool = False


@dataclass(frozen=True, slots=True)
class Proposal:
    """What is proposed for a sample; ``reasons`` are the names of the checks that speak for trash, the surest first."""

    sample_id: str
    word: Word | None
    reasons: tuple[str, ...] = ()
    reason: str | None = None
    is_trashed: bool = False


@dataclass(frozen=True, slots=True)
class Counts:
    """Proposals in numbers."""

    details: dict[str, int]
    notes: tuple[str, ...] = ()


def propose(samples: Sequence[Scored], rules: Rules) -> list[Proposal]:
    """Return a proposal for each sample; a word of None: a person decided, or it was not measured.

    >>> blurred = Scored("1", {"blurry": 0.9, "corrupt": 0.0})
    >>> [one.reason for one in propose([blurred], Rules({"blurry": 0.6}))]
    ['blurry 0.90']
    >>> propose([Scored("1", {"blurry": 0.9, "corrupt": 0.0}, said="keep")], Rules({"blurry": 0.6}))[0].word is None
    True
    """
    limit = find_limit([one.mean for one in samples], rules)
    return [_propose_one(one, rules, limit) for one in samples]


def find_limit(means: Iterable[float | None], rules: Rules) -> float | None:
    """Return the rating below which an image is trash; None: ratings do not count, or there are none.

    >>> find_limit([3.0, 4.0, 5.0, 6.0, None], Rules({}, worst_percent=50))
    4.5
    """
    limits = [] if rules.below_mean is None else [rules.below_mean]
    known = [mean for mean in means if mean is not None]
    if rules.worst_percent is not None and known:
        limits.append(float(np.percentile(known, rules.worst_percent)))
    return max(limits, default=None)


def read_scored(samples: Any) -> list[Scored]:
    """Return scores, ratings and words of a dataset's or view's samples, read as columns."""
    dataset = samples._dataset
    present = [check for check in CHECKS.values() if dataset.has_sample_field(check.field)]
    has_mean = dataset.has_sample_field(fields.AESTHETIC_MEAN)
    names = ["id", "tags", *([fields.AESTHETIC_MEAN] if has_mean else []), *(check.field for check in present)]
    ids, tags, *columns = samples.values(names)
    means = columns.pop(0) if has_mean else [None] * len(ids)
    words = _read_words(samples, dataset, len(ids))
    scores = zip(*columns, strict=True) if columns else [()] * len(ids)
    return [
        Scored(
            str(sample_id),
            dict(zip((check.name for check in present), row, strict=True)),
            mean,
            "keep" if fields.KEEP_TAG in (tagged or ()) else word,
            fields.TRASH_TAG in (tagged or ()),
        )
        for sample_id, tagged, mean, word, row in zip(ids, tags, means, words, scores, strict=True)
    ]


def write_proposals(samples: Any, rules: Rules, tools: Tools) -> Counts:
    """Write what is proposed for every sample, where it is not there already; return the numbers."""
    tools.on_progress(None, "proposing what to keep")
    scored = read_scored(samples)
    proposals = propose(scored, rules)
    written = zip(*samples.values([fields.QUALITY_PROPOSAL, fields.QUALITY_REASON]), strict=True)
    changed = {
        one.sample_id: {fields.QUALITY_PROPOSAL: one.word, fields.QUALITY_REASON: one.reason}
        for one, before in zip(proposals, written, strict=True)
        if (one.word, one.reason) != before
    }
    for done, chunk in enumerate(chunked(changed.items(), SAMPLES_PER_WRITE)):
        tools.on_progress(done * SAMPLES_PER_WRITE / len(changed), "writing proposals")
        write_values(samples._dataset, dict(chunk))
    return count_proposals(scored, proposals, rules)


def find_idle_rules(scored: Sequence[Scored], rules: Rules) -> tuple[str, ...]:
    """Return in words which rules choose nothing because what they ask for is not known of any sample.

    >>> find_idle_rules([Scored("1", {}, mean=4.0)], Rules(worst_percent=10))
    ()
    """
    is_asked = rules.below_mean is not None or rules.worst_percent is not None
    return (NO_RATINGS,) if is_asked and all(one.mean is None for one in scored) else ()


def count_proposals(scored: Sequence[Scored], proposals: Sequence[Proposal], rules: Rules) -> Counts:
    """Return proposals in numbers: by word, by check, and how many people decided."""
    words = Counter(one.word for one in proposals)
    reasons = Counter(reason for one in proposals for reason in one.reasons)
    details = {"proposed as trash": words[TRASH], "proposed to keep": words[KEEP]}
    details |= {f"trash for {name}": count for name, count in sorted(reasons.items())}
    said = sum(one.said is not None for one in scored)
    return Counts(details | ({"decided by people": said} if said else {}), find_idle_rules(scored, rules))


def _propose_one(one: Scored, rules: Rules, limit: float | None) -> Proposal:
    if one.said is not None or one.scores.get(CORRUPT) is None:
        return Proposal(one.sample_id, None, is_trashed=one.is_trashed)
    reached = [
        (score, name)
        for name, threshold in rules.thresholds.items()
        if (score := one.scores.get(name)) is not None and score >= threshold
    ]
    words = [f"{find_check(name).label} {score:.2f}" for score, name in sorted(reached, reverse=True)]
    reasons = [name for _, name in sorted(reached, reverse=True)]
    if limit is not None and one.mean is not None and one.mean < limit:
        words.append(f"rated {one.mean:.1f} of 10")
        reasons.append("rating")
    if not reasons:
        return Proposal(one.sample_id, "keep", is_trashed=one.is_trashed)
    return Proposal(one.sample_id, "trash", tuple(reasons), ", ".join(words), one.is_trashed)


def _read_words(samples: Any, dataset: Any, count: int) -> list[Word | None]:
    """Return what people said in Label Studio of each sample: keep or trash."""
    import fiftyone as fo

    schema = dataset.get_field_schema().get(QUALITY_CONTROL)
    if schema is None or getattr(schema, "document_type", None) is not fo.Classification:
        return [None] * count
    return [word if word in (KEEP, TRASH) else None for word in samples.values(f"{QUALITY_CONTROL}.label")]
