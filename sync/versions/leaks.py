"""Whether val and test can be learned by heart: images in two splits that are the same, or belong together. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from typing import Final, Literal

from sync.versions.splits import Candidate, Place
from sync.versions.version import LeakPair, Leaks, Split

PAIRS_SHOWN: Final = 100

Reason = Literal["file", "group", "look"]


def compute_leaks(
    candidates: Iterable[Candidate],
    places: Mapping[str, Place],
    *,
    alike: Iterable[tuple[str, str]] | None,
    threshold_bits: int | None,
    unhashed: int = 0,
) -> Leaks:
    """Return how many images of val and test have a twin in another split; each counts once, for its gravest reason.

    ``alike`` None: nobody looked at the images.
    """
    known = list(candidates)
    by_file: dict[str, list[str]] = defaultdict(list)
    by_key: dict[str, list[str]] = defaultdict(list)
    for one in known:
        by_file[one.sha256].append(one.sample_id)
        for key in one.keys:
            by_key[key].append(one.sample_id)
    found: dict[frozenset[str], Reason] = {}
    sources: tuple[tuple[Reason, Iterable[tuple[str, str]]], ...] = (
        ("file", _pairs(by_file, places)),
        ("group", _pairs(by_key, places)),
        ("look", alike or ()),
    )
    for reason, pairs in sources:
        for first, second in pairs:
            if places[first].split != places[second].split:
                found.setdefault(frozenset((first, second)), reason)
    reasons = _worst_by_image(found, places)
    counts = {reason: sum(one == reason for one in reasons.values()) for reason in ("file", "group", "look")}
    listed = sorted((*sorted(pair), reason) for pair, reason in found.items())
    return Leaks(
        same_file=counts["file"],
        same_group=counts["group"],
        near=None if alike is None else counts["look"],
        threshold_bits=threshold_bits,
        unhashed=unhashed,
        pairs=tuple(LeakPair(first, second, _to_reason(reason)) for first, second, reason in listed[:PAIRS_SHOWN]),
    )


def _pairs(groups: Mapping[str, list[str]], places: Mapping[str, Place]) -> Iterator[tuple[str, str]]:
    for members in groups.values():
        if len({places[name].split for name in members}) > 1:
            yield from combinations(sorted(members), 2)


def _worst_by_image(found: Mapping[frozenset[str], Reason], places: Mapping[str, Place]) -> dict[str, Reason]:
    judging: tuple[Split, ...] = ("val", "test")
    worst: dict[str, Reason] = {}
    for reason in ("file", "group", "look"):
        for pair, why in found.items():
            for name in pair if why == reason else ():
                if places[name].split in judging:
                    worst.setdefault(name, why)
    return worst


def _to_reason(text: str) -> Reason:
    return "file" if text == "file" else "group" if text == "group" else "look"
