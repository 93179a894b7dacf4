"""Which images train a model, which choose between models, and which only ever judge: train, val and test. Pure.

Images that belong together (the same file, a duplicate group, a value of a field, a near look) are one *unit* and go
to one split. What was assigned once stays: a unit with a member of old follows it. The others are dealt out class by
class, the rarest first, to the split that lacks that class most, where two lack it alike the one that lacks images most
(Sechidis, Tsoumakas and Vlahavas 2011, stratification of multi-label data). Within a class the SHA-256 of the content
is the order, so that names, times and places decide nothing.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from labels.errors import LabelingError
from sync.versions.version import SPLITS, Split

DEFAULT_RATIOS: Final = (80, 10, 10)
NOTHING: Final = ""
"""The class of an image that shows none: it is dealt out like every other."""
ANY: Final = "*"
"""Counts all images, beside those of each class; a class of that name is counted as ``**``."""
GROUP_DIGITS: Final = 12

Ratios = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Candidate:
    """An image to be put into a split: ``keys`` name what it must not be parted from, ``classes`` what it shows."""

    sample_id: str
    sha256: str
    keys: frozenset[str] = frozenset()
    classes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Assigned:
    """Where an image was put, by its content, and the keys it had then."""

    split: Split
    keys: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Place:
    """Where an image goes; ``group`` names its unit, None: it stands alone. ``is_new``: it was put there just now."""

    split: Split
    group: str | None
    is_new: bool


def read_ratios(text: str) -> Ratios:
    """Return the shares of train, val and test in percent.

    Raises:
        LabelingError: these are no three whole numbers that make 100.

    >>> read_ratios("80,10,10")
    (80, 10, 10)
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != len(SPLITS) or not all(part.isascii() and part.isdigit() for part in parts):
        raise LabelingError(f"splits {text!r}: expected three whole numbers, such as 80,10,10")
    train, val, test = (int(part) for part in parts)
    if train + val + test != 100 or train == 0:
        raise LabelingError(f"splits {text!r}: expected shares in percent that make 100, with some for train")
    return train, val, test


def assign_splits(
    candidates: Iterable[Candidate],
    frozen: Mapping[str, Assigned],
    *,
    ratios: Ratios = DEFAULT_RATIOS,
    alike: Iterable[tuple[str, str]] = (),
) -> dict[str, Place]:
    """Return the place of each image by sample id.

    ``frozen`` is what was assigned before, by the image's SHA-256; ``alike`` are pairs of samples that look the same.
    """
    ordered = sorted(candidates, key=lambda one: one.sample_id)
    units = _join(ordered, alike)
    by_key: dict[str, Counter[Split]] = defaultdict(Counter)
    for assigned in frozen.values():
        for key in assigned.keys:
            by_key[key][assigned.split] += 1
    places: dict[str, Place] = {}
    open_units: list[list[Candidate]] = []
    for unit in units:
        known = Counter(frozen[one.sha256].split for one in unit if one.sha256 in frozen)
        known = known or _follow(unit, by_key)
        if not known:
            open_units.append(unit)
            continue
        # Two of one unit may have been parted before anybody knew that they belong together: each stays.
        following = min(known, key=lambda split: (-known[split], split))
        for one in unit:
            split = frozen[one.sha256].split if one.sha256 in frozen else following
            places[one.sample_id] = Place(split, _name(unit), one.sha256 not in frozen)
    dealt = _deal(open_units, _count(ordered, places), ratios)
    for unit, split in zip(open_units, dealt, strict=True):
        places |= {one.sample_id: Place(split, _name(unit), is_new=True) for one in unit}
    return places


def _follow(unit: Sequence[Candidate], by_key: Mapping[str, Counter[Split]]) -> Counter[Split]:
    """Return how often images that had the keys of a unit and are gone were put into each split."""
    followed = Counter[Split]()
    for key, count in Counter(key for one in unit for key in one.keys).items():
        for split, held in by_key[key].items() if key in by_key else ():
            followed[split] += count * held
    return followed


def _name(unit: Sequence[Candidate]) -> str | None:
    """Return the name of a unit of several images, made from its first content."""
    if len(unit) == 1:
        return None
    return hashlib.sha256(min(one.sha256 for one in unit).encode()).hexdigest()[:GROUP_DIGITS]


def _join(candidates: Sequence[Candidate], alike: Iterable[tuple[str, str]]) -> list[list[Candidate]]:
    """Return the images that belong together, each with those it shares content or a key with, or looks like."""
    parents = {one.sample_id: one.sample_id for one in candidates}

    def find(name: str) -> str:
        while parents[name] != name:
            parents[name] = parents[parents[name]]
            name = parents[name]
        return name

    owners: dict[str, str] = {}
    for one in candidates:
        for key in (f"sha256={one.sha256}", *sorted(one.keys)):
            parents[find(one.sample_id)] = find(owners.setdefault(key, one.sample_id))
    for first, second in alike:
        parents[find(first)] = find(second)
    units: dict[str, list[Candidate]] = defaultdict(list)
    for one in candidates:
        units[find(one.sample_id)].append(one)
    return list(units.values())


def _shown(images: Iterable[Candidate]) -> Counter[str]:
    """Return how many images show each class, nothing at all, and how many there are."""
    shown = Counter[str]()
    for one in images:
        shown.update({name if name != ANY else ANY * 2 for name in one.classes} or {NOTHING})
        shown[ANY] += 1
    return shown


def _count(candidates: Iterable[Candidate], places: Mapping[str, Place]) -> dict[Split, Counter[str]]:
    held: dict[Split, list[Candidate]] = {split: [] for split in SPLITS}
    for one in candidates:
        if one.sample_id in places:
            held[places[one.sample_id].split].append(one)
    return {split: _shown(images) for split, images in held.items()}


def _deal(units: Sequence[Sequence[Candidate]], held: Mapping[Split, Counter[str]], ratios: Ratios) -> list[Split]:
    """Return the split of each unit. ``held`` counts what the splits have already."""
    shown = [_shown(unit) for unit in units]
    left = sum(shown, Counter[str]())
    totals = sum(held.values(), left)
    shares = {split: share / 100 for split, share in zip(SPLITS, ratios, strict=True) if share}
    lacks = {
        split: {name: share * total - held[split][name] for name, total in totals.items()}
        for split, share in shares.items()
    }
    waiting: dict[str, list[int]] = defaultdict(list)
    for number in sorted(range(len(units)), key=lambda number: _rank(units[number])):
        for name in shown[number]:
            waiting[name].append(number)
    chosen: dict[int, Split] = {}
    del left[ANY]
    while left := +left:
        rarest = min(left, key=lambda name: (left[name], name))
        for number in waiting[rarest]:
            if number in chosen:
                continue
            split = chosen[number] = max(shares, key=lambda one: (lacks[one][rarest], lacks[one][ANY]))
            for name, count in shown[number].items():
                lacks[split][name] -= count
                left[name] -= count
    return [chosen[number] for number in range(len(units))]


def _rank(unit: Collection[Candidate]) -> str:
    return hashlib.sha256(b"split " + min(one.sha256 for one in unit).encode()).hexdigest()
