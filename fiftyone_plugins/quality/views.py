"""What rules mean, asked of the database: counts and views for forms and charts that follow every move of a slider."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import or_
from typing import Any

import fiftyone as fo
from fiftyone import ViewField as F

from fiftyone_plugins.quality.checks import ALL_CHECKS, CORRUPT, find_check
from fiftyone_plugins.quality.proposals import KEEP, QUALITY_CONTROL, TRASH, Rules, find_limit
from labels import fields


def has_scores(dataset: Any) -> bool:
    """Return whether any sample was measured."""
    return bool(dataset.has_sample_field(find_check(CORRUPT).field))


def view_trash(samples: Any, rules: Rules) -> Any:
    """Return the samples that the rules propose as trash, of which no person said anything and none is tagged yet."""
    found = [F(find_check(name).field) >= limit for name, limit in rules.thresholds.items() if _has(samples, name)]
    rating = find_rating_limit(samples, rules)
    if rating is not None:
        found.append((F(fields.AESTHETIC_MEAN) != None) & (F(fields.AESTHETIC_MEAN) < rating))  # noqa: E711  # MongoDB
    if not found or not has_scores(samples._dataset):
        return samples.limit(0) if hasattr(samples, "limit") else samples[:0]
    measured = F(find_check(CORRUPT).field) != None  # noqa: E711  # an expression of MongoDB
    view = samples.match(measured & reduce(or_, found)).match_tags([fields.TRASH_TAG, fields.KEEP_TAG], bool=False)
    schema = samples._dataset.get_field_schema().get(QUALITY_CONTROL)
    if getattr(schema, "document_type", None) is not fo.Classification:
        return view
    return view.match(~F(f"{QUALITY_CONTROL}.label").is_in([KEEP, TRASH]))


def find_rating_limit(samples: Any, rules: Rules) -> float | None:
    """Return the rating below which an image is trash; None: ratings do not count, or there are none."""
    if not samples._dataset.has_sample_field(fields.AESTHETIC_MEAN):
        return None
    # FiftyOne's own quantiles are those of numpy only where no value lies between two images.
    return find_limit([] if rules.worst_percent is None else samples.values(fields.AESTHETIC_MEAN), rules)


def count_over(samples: Any, thresholds: Mapping[str, float]) -> dict[str, int]:
    """Return how many samples reach the threshold of each check that was measured."""
    names = [name for name in thresholds if _has(samples, name)]
    counts = samples.aggregate(
        [fo.Sum((F(find_check(name).field) >= thresholds[name]).if_else(1, 0)) for name in names]
    )
    return {name: int(count or 0) for name, count in zip(names, counts, strict=True)}


def view_range(dataset: Any, check: str, low: float, high: float) -> Any:
    """Return the samples whose score lies in a range, the highest first."""
    field = find_check(check).field
    # A bar ends where the next one begins; the last one ends with its own edge.
    inside = (F(field) >= low) & ((F(field) < high) if high < 1 else (F(field) <= high))
    return dataset.match(inside).sort_by(field, reverse=True)


def list_measured(dataset: Any) -> list[str]:
    """Return the checks of which a sample has a score, by name."""
    return [name for name, check in ALL_CHECKS.items() if dataset.has_sample_field(check.field)]


def _has(samples: Any, name: str) -> bool:
    return bool(samples._dataset.has_sample_field(find_check(name).field))
