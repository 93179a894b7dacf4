"""From pairs that show the same to groups: what belongs together, its lasting name, whom to keep, what leaks."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

Method = Literal["exact", "phash", "near"]
METHODS: Final[tuple[Method, ...]] = ("exact", "phash", "near")
"""From the surest to the one that finds most."""

NAME_DIGITS: Final = 12


@dataclass(frozen=True, slots=True, order=True)
class Pair:
    """Two images, by their numbers, that one method holds for the same; ``distance`` 0..1, the surest pairs first."""

    rank: int
    distance: float
    first: int
    second: int

    @property
    def method(self) -> Method:
        """What found the pair."""
        return METHODS[self.rank]


@dataclass(frozen=True, slots=True)
class Member:
    """What of an image decides whom of its group to keep, and its name: ``content`` is the sum of its bytes.

    ``said`` is what each field of labels says, in the same order for all; None: nothing.
    """

    sample_id: str
    content: str
    pixels: int = 0
    sharpness: float = 0.0
    bytes: int = 0
    is_reviewed: bool = False
    labels: int = 0
    old_group: str | None = None
    splits: tuple[str, ...] = ()
    said: tuple[Hashable | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """Images that show the same: ``members`` by number, the keeper first, each with how and how nearly it was found."""

    name: str
    members: tuple[int, ...]
    pairs: Mapping[int, Pair]
    is_leak: bool
    differs: bool | None


def join_pairs(
    pairs: Iterable[Pair],
    count: int,
    apart: Collection[tuple[int, int]] = (),
    is_same: Callable[[Pair], bool] = lambda _pair: True,
) -> dict[int, list[Pair]]:
    """Return the pairs that hold groups together, by the lowest number of the group.

    The surest come first. A pair inside a group is not looked at again, so ``is_same``, which may take long, is asked
    for few. Two images that a person set ``apart`` never come into one group, whatever lies between them.
    """
    parents = list(range(count))
    strangers: dict[int, set[int]] = defaultdict(set)
    for one, other in apart:
        strangers[one].add(other)
        strangers[other].add(one)
    members: dict[int, list[int]] = {}
    held: dict[int, list[Pair]] = {}
    for pair in sorted(pairs):
        one, other = sorted((_find(parents, pair.first), _find(parents, pair.second)))
        if one == other or not strangers[one].isdisjoint(members.get(other, [other])) or not is_same(pair):
            continue
        parents[other] = one
        strangers[one] |= strangers.pop(other, set())
        members.setdefault(one, [one]).extend(members.pop(other, [other]))
        held.setdefault(one, []).extend((*held.pop(other, []), pair))
    return held


def make_groups(held: Mapping[int, Sequence[Pair]], members: Sequence[Member]) -> list[Group]:
    """Return the groups with their names and keepers, in the order of their lowest numbers."""
    rows_by_root = {
        root: sorted({row for pair in pairs for row in (pair.first, pair.second)}) for root, pairs in held.items()
    }
    names = name_groups([[members[row] for row in rows] for rows in rows_by_root.values()])
    groups = []
    for (root, rows), name in zip(rows_by_root.items(), names, strict=True):
        nearest: dict[int, Pair] = {}
        for pair in sorted(held[root]):
            nearest.setdefault(pair.first, pair)
            nearest.setdefault(pair.second, pair)
        splits = {split for row in rows for split in members[row].splits}
        differs = find_difference([members[row].said for row in rows])
        best_first = sorted(rows, key=lambda row: _rank_keeper(members[row]))
        groups.append(Group(name, tuple(best_first), nearest, len(splits) > 1, differs))
    return groups


def find_difference(said: Sequence[Sequence[Hashable | None]]) -> bool | None:
    """Return whether two images say different things in a field; None: in no field do two say anything.

    >>> find_difference([("car", None), ("car", "sunny")]), find_difference([("car", None), (None, "sunny")])
    (False, None)
    """
    columns = [[value for value in column if value is not None] for column in zip(*said, strict=True)]
    compared = [len(set(column)) > 1 for column in columns if len(column) > 1]
    return any(compared) if compared else None


def name_groups(groups: Sequence[Sequence[Member]]) -> list[str]:
    """Return a name for each group: the one most of its members had, else one made of its lowest content.

    An old name goes to the group with most of those that had it, so a group keeps its name when images join or leave.
    """
    claims = [
        (-count, name, number)
        for number, group in enumerate(groups)
        for name, count in Counter(member.old_group for member in group if member.old_group is not None).items()
    ]
    names: dict[int, str] = {}
    taken: set[str] = set()
    for _, name, number in sorted(claims):
        if number not in names and name not in taken:
            names[number] = name
            taken.add(name)
    for number, group in enumerate(groups):
        if number not in names:
            names[number] = _make_name(group, taken)
            taken.add(names[number])
    return [names[number] for number in range(len(groups))]


def _make_name(group: Sequence[Member], taken: Collection[str]) -> str:
    lowest = min((member.content, member.sample_id) for member in group)
    for text in (lowest[0], "/".join(lowest)):
        name = hashlib.sha256(text.encode()).hexdigest()[:NAME_DIGITS]
        if name not in taken:
            return name
    # The images that the old name came from went elsewhere, and left this one behind.
    return hashlib.sha256("/".join([*lowest, *sorted(taken)]).encode()).hexdigest()[:NAME_DIGITS]


def _rank_keeper(member: Member) -> tuple[bool, bool, int, float, int, str]:
    """Return what the keeper is the lowest of: reviewed, labelled, many pixels, sharp, little compressed."""
    is_labelled = member.labels > 0
    return (
        not member.is_reviewed,
        not is_labelled,
        -member.pixels,
        -round(member.sharpness, 3),
        -member.bytes,
        member.sample_id,
    )


def _find(parents: list[int], row: int) -> int:
    while parents[row] != row:
        parents[row] = parents[parents[row]]
        row = parents[row]
    return row
