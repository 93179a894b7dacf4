"""Queue: choose what people see next among the samples that were never sent, save the choice as a view, and send it.

Order of writes: the view, which says that it is being sent, then the tasks (``push``), then the view says that it was
sent. Killed in between, the same call with the same view goes on with the same samples.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from labels import fields
from labels.errors import LabelingError
from labels.report import OnProgress, Report, ignore_progress
from sync.jobs.context import Context
from sync.jobs.exchange.push import push
from sync.review.choosing import Candidate, Chosen, by_group, choose_farthest, choose_highest, choose_random, is_missing

if TYPE_CHECKING:
    from sync.catalogue.fiftyone_views import Views

UNCERTAINTY: Final = "uncertainty"
MISTAKE: Final = "mistake"
DIVERSITY: Final = "diversity"
RANDOM: Final = "random"
STRATEGIES: Final = (UNCERTAINTY, MISTAKE, DIVERSITY, RANDOM)
FIELDS: Final = {UNCERTAINTY: fields.UNCERTAINTY, MISTAKE: fields.MISTAKENNESS}
NOT_OFFERED: Final = (fields.TASK_ID, fields.ANNOTATORS, fields.DISAGREEMENT)
"""Numbers of samples that were sent: among those that were not, nobody has one."""
EMBEDDING: Final = "embedding"
"""What a choice by diversity goes by; it lies in the store of embeddings, not on the samples."""
CURES: Final = {
    fields.UNCERTAINTY: "; labelloop prelabel computes it",
    fields.MISTAKENNESS: "; labelloop mistakes computes it",
    EMBEDDING: "; labelloop embed computes it",
}
NAMES_SHOWN: Final = 20
RANDOM_PERCENT: Final = 10
"""So much of what is chosen by anything else is drawn at random."""
PUT_ASIDE: Final = frozenset((fields.TRASH_TAG, fields.DUPLICATE_TAG))
"""Tags of samples that nobody is to see."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What would be sent next, best first, and why the others are not.

    ``candidates`` samples were never sent; ``without_value`` of the chosen have no value and came last; ``held_back``
    were passed over since they show nearly the same as what waits or was chosen. ``at_random`` of the chosen, the last
    ones, were drawn from the rest whatever their value is. ``put_aside`` of those that were never sent are no
    candidates: they are tagged trash or duplicate.
    """

    by: str
    field: str | None
    chosen: tuple[Chosen, ...]
    candidates: int
    without_value: int
    held_back: tuple[str, ...]
    at_random: int = 0
    put_aside: int = 0


@dataclass(slots=True)
class _Pool:
    """Samples by where they stand."""

    unsent: list[Candidate]
    waiting: list[Candidate]
    answered: list[Candidate]
    put_aside: int = 0


def queue(
    context: Context,
    *,
    by: str,
    count: int,
    view: str | None = None,
    seed: int = 0,
    random_percent: int = RANDOM_PERCENT,
    dry_run: bool = False,
    on_progress: OnProgress = ignore_progress,
) -> Report:
    """Choose up to ``count`` samples that were never sent, save them as a FiftyOne view, and send them.

    ``by`` is a strategy or the name of a field with a number for each sample: the highest first. ``random_percent`` of
    them are drawn at random all the same: what is measured on chosen images alone says nothing of all the others.
    ``dry_run`` says what would be sent and changes nothing.

    Raises:
        LabelingError: there is no such field, no sample has a value to choose by, or the view is somebody's own.
        ServiceError: a tool did not answer; what was sent before stays.
    """
    from sync.catalogue.fiftyone_views import SavedView, Views

    on_progress(None, f"choosing {count} samples by {by}")
    views = Views(context.dataset.name)
    wish = f"labelloop queue: {count} by {by}" + (f", seed {seed}" if by == RANDOM else "")
    wish += f", {random_percent} % at random" if by != RANDOM and random_percent != RANDOM_PERCENT else ""
    unfinished = None if view is None else _find_unfinished(context, views, view, wish)
    choice = unfinished or choose(context, by=by, count=count, seed=seed, random_percent=random_percent)
    notes = list(_explain(context, choice, is_rest=unfinished is not None, dry_run=dry_run))
    sample_ids = [one.sample_id for one in choice.chosen]
    details = _count(choice)
    if dry_run or not sample_ids:
        left = choice.candidates - len(sample_ids)
        moved = len(sample_ids) if dry_run else 0
        return Report("queue", moved, left, notes=tuple(notes), details=details, is_dry_run=dry_run)
    saved = None if view is None else SavedView(view, f"{wish}, being sent", tuple(sample_ids))
    if saved is not None and unfinished is None:
        views.write_view(saved)
    sent = push(context, sample_ids=sample_ids, mark_mistakes=by == MISTAKE, on_progress=on_progress)
    if saved is not None:
        whole = views.saved(saved.name) or saved
        views.write_view(replace(whole, description=f"{wish}, sent"))
        notes.append(f"saved as the view {view!r} of the dataset {context.dataset.name!r}")
    return Report(
        "queue",
        moved=sent.moved,
        unchanged=choice.candidates - len(sample_ids),
        failed=sent.failed,
        notes=(*notes, *sent.notes),
        details=details | {"tasks created": sent.details["tasks created"]},
    )


def choose(context: Context, *, by: str, count: int, seed: int = 0, random_percent: int = RANDOM_PERCENT) -> Choice:
    """Return what ``queue`` would send; reads only.

    Raises:
        LabelingError: there is no such field, or no sample that was never sent has a value to choose by.
    """
    from sync.catalogue.fiftyone_views import Views

    if count < 1:
        raise LabelingError(f"count {count}: expected a whole number above 0")
    views = Views(context.dataset.name)
    field = None if by in (DIVERSITY, RANDOM) else _check_field(views, FIELDS.get(by, by))
    pool = _read_pool(context, views, field)
    _check_any(pool.unsent, by, field)
    at_random = 0 if by == RANDOM else round(count * random_percent / 100)
    if by == DIVERSITY:
        found = choose_farthest(pool.unsent, pool.waiting, pool.answered, count - at_random)
    elif by == RANDOM:
        found = choose_random(pool.unsent, pool.waiting, count, seed=seed)
    else:
        found = choose_highest(pool.unsent, pool.waiting, count - at_random)
    chosen = {one.sample_id for one in found.chosen}
    has_none = (one.embedding is None if by == DIVERSITY else is_missing(one.value) for one in pool.unsent)
    without = {one.sample_id for one, is_none in zip(pool.unsent, has_none, strict=True) if is_none}
    without_value = 0 if by == RANDOM else len(without & chosen)
    drawn = _draw_rest(pool, chosen, count - len(chosen), seed) if at_random else ()
    held_back = tuple(one for one in found.held_back if one not in {rest.sample_id for rest in drawn})
    all_chosen = (*found.chosen, *drawn)
    return Choice(by, field, all_chosen, len(pool.unsent), without_value, held_back, len(drawn), pool.put_aside)


def _draw_rest(pool: _Pool, chosen: Collection[str], count: int, seed: int) -> tuple[Chosen, ...]:
    """Return samples drawn at random from those that were not chosen and are like none of them."""
    left = [one for one in pool.unsent if one.sample_id not in chosen]
    taken = [one for one in pool.unsent if one.sample_id in chosen]
    drawn = choose_random(left, [*pool.waiting, *taken], count, seed=seed)
    # What they were not chosen by would look like a reason.
    return tuple(replace(one, value=None) for one in drawn.chosen)


def _check_field(views: Views, name: str) -> str:
    numbers = views.numeric_fields()
    if name in numbers:
        return name
    if name in FIELDS.values():
        raise LabelingError(f"no sample has {name!r} yet{CURES.get(name, '; it is computed in the FiftyOne App')}")
    others = sorted(set(numbers) - {*STRATEGIES, *FIELDS.values(), *NOT_OFFERED})
    raise LabelingError(
        f"--by {name!r}: no such field with one number for each sample (known: {', '.join([*STRATEGIES, *others])})"
    )


def _check_any(unsent: Sequence[Candidate], by: str, field: str | None) -> None:
    """Refuse to rank by what nobody has: any order would look like an answer."""
    if not unsent or by == RANDOM:
        return
    if by == DIVERSITY and all(one.embedding is None for one in unsent):
        raise LabelingError(f"no sample that waits to be sent has an {EMBEDDING}{CURES[EMBEDDING]}")
    if field is not None and all(is_missing(one.value) for one in unsent):
        raise LabelingError(f"no sample that waits to be sent has {field!r}{CURES.get(field, '')}")


def _read_pool(context: Context, views: Views, field: str | None) -> _Pool:
    wanted = (fields.REVIEW_STATE, field or fields.REVIEW_STATE)
    rows = views.read_columns([*wanted, fields.IMAGE_SHA256, fields.DUPLICATE_GROUP, "tags"])
    groups = by_group({"bytes": [row[2] or None for row in rows.values()], "group": [row[3] for row in rows.values()]})
    embeddings = _read_embeddings(context)
    pool = _Pool([], [], [])
    linked = context.ledger.links(list(rows)).keys()
    for (sample_id, (state, value, *_, tags)), names in zip(rows.items(), groups, strict=True):
        number = None if field is None or value is None else float(value)
        candidate = Candidate(sample_id, number, embeddings.get(sample_id), names)
        if state is None and sample_id not in linked:
            if PUT_ASIDE.isdisjoint(tags or ()):
                pool.unsent.append(candidate)
            else:
                pool.put_aside += 1
        elif state in (None, fields.QUEUED):
            # A push that was killed may not have written the state of what it sent.
            pool.waiting.append(candidate)
        else:
            pool.answered.append(candidate)
    return pool


def _read_embeddings(context: Context) -> dict[str, Any]:
    """Return the newest vectors of whole images by sample id; none where none were computed."""
    from fiftyone_plugins.embeddings.store import EmbeddingStore

    store = EmbeddingStore(context.home.curation, context.dataset.name)
    key = store.latest()
    if key is None:
        return {}
    found = store.read(key)
    return dict(zip(found.ids.tolist(), found.vectors, strict=True))


def _find_unfinished(context: Context, views: Views, name: str, wish: str) -> Choice | None:
    """Return what is left to send of a choice that was saved and not sent to its end; None: nothing."""
    saved = views.saved(name)
    if saved is None or saved.description != f"{wish}, being sent":
        return None
    linked = context.ledger.links(list(saved.sample_ids)).keys()
    present = context.dataset.images(list(saved.sample_ids))
    left = [Chosen(one, None) for one in saved.sample_ids if one in present and one not in linked]
    return Choice(wish, None, tuple(left), len(left), 0, ())


def _count(choice: Choice) -> dict[str, int]:
    counts = {
        "chosen": len(choice.chosen),
        "never sent before": choice.candidates,
        "held back as near-duplicates": len(choice.held_back),
        "chosen without a value": choice.without_value,
        "drawn at random": choice.at_random,
    }
    return {name: count for name, count in counts.items() if count}


def _explain(context: Context, choice: Choice, *, is_rest: bool, dry_run: bool) -> Iterator[str]:
    """Yield why these were chosen, and which."""
    if is_rest:
        yield f"going on with a choice that was not sent to its end: {choice.by}"
    if not choice.chosen:
        aside = f"{choice.put_aside:,} never sent, tagged trash or duplicate; " if choice.put_aside else ""
        others = "every other sample" if choice.put_aside else "every sample"
        yield f"nothing to choose from: {aside}{others} was sent already, or shows nearly the same as one that waits"
        return
    if choice.without_value:
        name = choice.field or EMBEDDING
        yield f"without {name}: {choice.without_value} of the chosen; they come last{CURES.get(name, '')}"
    if choice.at_random:
        yield f"{choice.at_random} of them drawn at random from the rest, so that reviews tell of all images"
    images = context.dataset.images([one.sample_id for one in choice.chosen[:NAMES_SHOWN]])
    for one in choice.chosen[:NAMES_SHOWN] if dry_run else ():
        image = images.get(one.sample_id)
        path = Path(one.sample_id) if image is None else image.source_path or image.path
        yield f"would send {path.name}{_describe_value(choice, one.value)}"
    if dry_run and len(choice.chosen) > NAMES_SHOWN:
        yield f"would send {len(choice.chosen) - NAMES_SHOWN} more"
    values = [one.value for one in choice.chosen if one.value is not None]
    if values and not is_rest and choice.by != RANDOM:
        what = "distance to the nearest" if choice.by == DIVERSITY else choice.field
        yield f"chosen by {what}: {max(values):.3g} down to {min(values):.3g}"


def _describe_value(choice: Choice, value: float | None) -> str:
    if value is None:
        return ""
    return f" (distance {value:.3f})" if choice.by == DIVERSITY else f" ({choice.field} {value:.3g})"
