"""The work «duplicates»: finds groups of images that show the same, and writes them as fields and saved views.

Nothing is deleted or tagged. What a person decided before counts; a second run changes nothing that is right already.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final

from fiftyone_plugins.app.own_fields import declare_own
from fiftyone_plugins.app.work import Tools
from fiftyone_plugins.app.writing import write_values
from fiftyone_plugins.duplicates.collecting import Collected, collect_prints, collect_vectors
from fiftyone_plugins.duplicates.comparing import compute_likeness
from fiftyone_plugins.duplicates.decisions import Decisions
from fiftyone_plugins.duplicates.finding import NEAR, Checker, Rules, choose_examples, find_pairs
from fiftyone_plugins.duplicates.fingerprint_store import to_folder
from fiftyone_plugins.duplicates.grouping import METHODS, Group, Member, Pair, join_pairs, make_groups
from labels import fields
from labels.report import Report

JOB: Final = "duplicates"
EXAMPLES_FILE: Final = "examples.json"
BEYOND: Final = 0.15
"""Pairs so much further apart than the threshold are kept to be looked at: is it too low?"""

FIELDS: Final = (
    fields.DUPLICATE_GROUP,
    fields.DUPLICATE_LIKENESS,
    fields.DUPLICATE_METHOD,
    fields.DUPLICATE_KEEPER,
    fields.DUPLICATE_LEAK,
    fields.DUPLICATE_DIFFERS,
)
VIEWS: Final = {
    "duplicate groups": (fields.DUPLICATE_GROUP, None),
    "duplicate leaks": (fields.DUPLICATE_LEAK, True),
    "duplicates with other labels": (fields.DUPLICATE_DIFFERS, True),
}
LONELY: Final = "dropped and like nothing now"
DESCRIPTION: Final = "written by labelloop duplicates"
ROWS_AT_ONCE: Final = 10_000
PAIRS_PER_WORD: Final = 100

Values = Mapping[str, Any]


def scan(
    samples: Any,
    tools: Tools,
    *,
    rules: Rules,
    vectors: str | None = None,
    splits: str | None = None,
    dry_run: bool = False,
) -> Report:
    """Find groups among the samples, and write them; ``dry_run`` only says what would be written.

    ``vectors`` is the key of embeddings to go by (None: the newest, or new ones of the model that comes with
    labelloop), ``splits`` a field that says which split a sample is in (None: its tags).

    Raises:
        LabelingError: the samples are no images, or there are no such vectors or splits.
    """
    folder = to_folder(tools.folder, samples._dataset.name)
    samples, notes = _widen(samples)
    collected = collect_prints(samples, tools, splits=splits)
    found = None
    if "near" in rules.methods:
        found, key = collect_vectors(samples, tools, collected.members, key=vectors)
        notes.append(f"vectors: {key}, up to a distance of {rules.threshold:g}")
    tools.on_progress(0.85, "comparing")
    wide = Rules(rules.methods, min(rules.threshold + BEYOND, 1.0), rules.check)
    pairs = find_pairs(collected.prints, found, wide)
    near_enough = [pair for pair in pairs if pair.rank != NEAR or pair.distance <= rules.threshold]
    values: dict[str, Values] = {}
    changed: dict[str, Values] = {}
    apart, is_written = None, False
    # A person may set images apart while this looks and writes: what it found is then put into groups again.
    while not is_written or apart != Decisions(folder).apart():
        apart = Decisions(folder).apart()
        groups = _group(collected, near_enough, apart, rules, tools)
        values = _to_values(collected.members, groups) | {
            # What cannot be read any more is nobody's duplicate either.
            failure.sample_id: dict.fromkeys(FIELDS)
            for failure in collected.failed
            if failure.sample_id is not None
        }
        now_changed = _find_changed(samples, values)
        changed |= now_changed
        if not dry_run:
            tools.on_progress(0.95, "writing")
            _write(samples._dataset, now_changed)
        is_written = True
    if not dry_run:
        notes += _tell_lonely(samples._dataset)
        _write_examples(folder / EXAMPLES_FILE, collected, choose_examples(pairs), rules)
    return Report(
        JOB,
        moved=len(changed),
        unchanged=len(values) - len(changed) - sum(one.sample_id not in changed for one in collected.failed),
        failed=collected.failed,
        notes=(*notes, *_describe(groups, dry_run)),
        details=_count(groups, collected.members),
        is_dry_run=dry_run,
    )


def _widen(samples: Any) -> tuple[Any, list[str]]:
    """Return the samples with those of the dataset that are in a group with one of them, and a note on how many.

    Without them a search in a view would take groups apart that reach out of it.
    """
    from fiftyone import ViewField as F

    if not samples.has_sample_field(fields.DUPLICATE_GROUP):
        return samples, []
    ids, groups = samples.values(["id", fields.DUPLICATE_GROUP])
    names = sorted({one for one in groups if one is not None})
    twins = samples._dataset.match(F(fields.DUPLICATE_GROUP).is_in(names)).values("id")
    outside = sorted(set(twins) - set(ids))
    if not outside:
        return samples, []
    note = f"compared as well, since they are in a group with one of these: {len(outside):,}"
    return samples._dataset.select([*ids, *outside]), [note]


def _group(
    collected: Collected, pairs: Sequence[Pair], said: Collection[tuple[str, str]], rules: Rules, tools: Tools
) -> list[Group]:
    rows = {member.sample_id: row for row, member in enumerate(collected.members)}
    apart = [(rows[one], rows[other]) for one, other in said if one in rows and other in rows]
    checker, joined = Checker(collected.prints, rules), count(1)

    def check(pair: Pair) -> bool:
        # What has the same bytes is not compared, and tells of itself all the same: here the work can be cancelled.
        if (number := next(joined)) % PAIRS_PER_WORD == 0:
            tools.on_progress(0.9, f"went through {number:,} pairs")
        return checker(pair)

    held = join_pairs(pairs, len(collected.members), apart, check)
    return make_groups(held, collected.members)


def _to_values(members: Sequence[Member], groups: Sequence[Group]) -> dict[str, Values]:
    """Return the fields of every sample; those of one in no group are None."""
    values: dict[str, Values] = {member.sample_id: dict.fromkeys(FIELDS) for member in members}
    for group in groups:
        for place, row in enumerate(group.members):
            pair = group.pairs[row]
            found = (group.name, 1 - round(pair.distance, 4), pair.method, place == 0, group.is_leak, group.differs)
            values[members[row].sample_id] = dict(zip(FIELDS, found, strict=True))
    return values


def _find_changed(samples: Any, values: Mapping[str, Values]) -> dict[str, Values]:
    known = [name for name in FIELDS if samples.has_sample_field(name)]
    ids, *columns = samples.values(["id", *known])
    before = {
        one: dict(zip(known, row, strict=True)) for one, row in zip(ids, zip(*columns, strict=True), strict=False)
    }
    return {
        one: named
        for one, named in values.items()
        if any(value != before.get(one, {}).get(name) for name, value in named.items())
    }


def _write(dataset: Any, changed: Mapping[str, Values]) -> None:
    import fiftyone as fo
    from fiftyone import ViewField as F

    kinds = (fo.StringField, fo.FloatField, fo.StringField, fo.BooleanField, fo.BooleanField, fo.BooleanField)
    known = any(_is_ours(dataset, name) for name in VIEWS)
    declare_own(dataset, dict(zip(FIELDS, kinds, strict=True)), by="duplicates", known=known)
    dataset.create_index(fields.DUPLICATE_GROUP)
    rows = list(changed.items())
    for start in range(0, len(rows), ROWS_AT_ONCE):
        write_values(dataset, dict(rows[start : start + ROWS_AT_ONCE]))
    dataset.reload()
    for name, (field, wanted) in VIEWS.items():
        if dataset.has_saved_view(name) and not _is_ours(dataset, name):
            # Somebody's own view of that name stays as it is.
            continue
        chosen = dataset.exists(field) if wanted is None else dataset.match(F(field) == wanted)
        view = chosen.group_by(fields.DUPLICATE_GROUP, order_by=fields.DUPLICATE_KEEPER, reverse=True)
        dataset.save_view(name, view, description=DESCRIPTION, overwrite=True)


def _is_ours(dataset: Any, view: str) -> bool:
    return bool(dataset.has_saved_view(view) and dataset.get_saved_view_info(view)["description"] == DESCRIPTION)


def _tell_lonely(dataset: Any) -> list[str]:
    """Return a note on images that were dropped and are in no group now, and keep them in a view to be looked at."""
    lonely = dataset.match_tags(fields.DUPLICATE_TAG).exists(fields.DUPLICATE_GROUP, False)
    if len(lonely) > 0 and (not dataset.has_saved_view(LONELY) or _is_ours(dataset, LONELY)):
        dataset.save_view(LONELY, lonely, description=DESCRIPTION, overwrite=True)
    told = f"tagged {fields.DUPLICATE_TAG!r} and like nothing now, still left out of queue and exports"
    return [f"{told} (saved view {LONELY!r}): {len(lonely):,}"] if len(lonely) > 0 else []


def _write_examples(file: Path, collected: Collected, examples: Sequence[Pair], rules: Rules) -> None:
    """Keep some pairs of each distance for the panel, with how like the pictures themselves are."""
    listed = [
        {
            "first": collected.members[pair.first].sample_id,
            "second": collected.members[pair.second].sample_id,
            "distance": round(pair.distance, 4),
            "likeness": compute_likeness(collected.prints[pair.first].small, collected.prints[pair.second].small),
        }
        for pair in examples
    ]
    content = {"threshold": rules.threshold, "check": rules.check, "pairs": listed}
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(content), encoding="utf-8")
    part.replace(file)


def _count(groups: Sequence[Group], members: Sequence[Member]) -> dict[str, int]:
    methods = Counter(group.pairs[row].method for group in groups for row in group.members)
    counts = {
        "images": len(members),
        "groups": len(groups),
        "images in groups": sum(len(group.members) for group in groups),
        "groups across splits": sum(group.is_leak for group in groups),
        "groups with other labels": sum(group.differs is True for group in groups),
        **{f"found by {name}": methods[name] for name in METHODS},
    }
    return {name: count for name, count in counts.items() if count}


def _describe(groups: Sequence[Group], dry_run: bool) -> list[str]:
    if not groups or dry_run:
        return []
    names = ", ".join(repr(name) for name in VIEWS)
    return [f"saved views: {names}; decide in the App's panel «Duplicates»"]
