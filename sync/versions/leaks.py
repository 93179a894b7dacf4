"""Whether val and test can be learned by heart: images in two splits that are the same, or belong together. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Literal

from sync.versions.splits import Candidate, Place
from sync.versions.version import LeakPair, Leaks, Split

PAIRS_SHOWN: Final = 100
JUDGING: Final[tuple[Split, ...]] = ("val", "test")

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

    ``alike`` are images that look alike, each of val and test with one of another split at least; None: nobody looked.
    """
    known = list(candidates)
    by_file: dict[str, list[str]] = defaultdict(list)
    by_key: dict[str, list[str]] = defaultdict(list)
    for one in known:
        by_file[one.sha256].append(one.sample_id)
        for key in one.keys:
            by_key[key].append(one.sample_id)
    worst: dict[str, tuple[str, Reason]] = {}
    sources: tuple[tuple[Reason, Iterable[tuple[str, str]]], ...] = (
        ("file", _find_twins(by_file, places)),
        ("group", _find_twins(by_key, places)),
        ("look", alike or ()),
    )
    for reason, pairs in sources:
        for first, second in pairs:
            for name, twin in ((first, second), (second, first)):
                if places[name].split in JUDGING and places[name].split != places[twin].split:
                    worst.setdefault(name, (twin, reason))
    counts = Counter(reason for _, reason in worst.values())
    listed = sorted({(*sorted((name, twin)), reason) for name, (twin, reason) in worst.items()})
    return Leaks(
        same_file=counts["file"],
        same_group=counts["group"],
        near=None if alike is None else counts["look"],
        threshold_bits=threshold_bits,
        unhashed=unhashed,
        pairs=tuple(LeakPair(first, second, _to_reason(reason)) for first, second, reason in listed[:PAIRS_SHOWN]),
    )


def _find_twins(groups: Mapping[str, list[str]], places: Mapping[str, Place]) -> Iterator[tuple[str, str]]:
    """Yield each member of a group with the first one that is in another split: all pairs are as many as its square."""
    for members in groups.values():
        firsts: dict[Split, str] = {}
        for name in sorted(members):
            firsts.setdefault(places[name].split, name)
        for name in members if len(firsts) > 1 else ():
            yield name, min(first for split, first in firsts.items() if split != places[name].split)


def _to_reason(text: str) -> Reason:
    return "file" if text == "file" else "group" if text == "group" else "look"
