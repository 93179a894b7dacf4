"""How often two say the same of one thing: counts of every pair of answers. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Answer = str | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """Counts of (said by the first, said by the second), of what both have an answer for.

    ``only_first`` and ``only_second`` are those that the other said nothing of.
    """

    pairs: Counter[tuple[str, str]]
    only_first: int
    only_second: int

    @property
    def compared(self) -> int:
        """How many both have an answer for."""
        return self.pairs.total()

    @property
    def agreed(self) -> int:
        """How often both say the same."""
        return sum(count for (first, second), count in self.pairs.items() if first == second)

    @property
    def rate(self) -> float | None:
        """The part of those compared that agrees; None: there is nothing to compare."""
        return self.agreed / self.compared if self.compared else None

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa: 0 agreed as by chance, 1 always; None: chance would agree always, or nothing was compared."""
        if not self.compared:
            return None
        firsts, seconds = self._sums()
        by_chance = sum(count * seconds[name] for name, count in firsts.items()) / self.compared**2
        return None if by_chance == 1 else (self.agreed / self.compared - by_chance) / (1 - by_chance)

    @property
    def classes(self) -> list[str]:
        """All classes either of them said, sorted."""
        return sorted({name for pair in self.pairs for name in pair})

    def disagreements(self) -> list[tuple[str, str, int]]:
        """Return what is confused with what and how often, the most frequent first."""
        pairs = ((first, second, count) for (first, second), count in self.pairs.items() if first != second)
        return sorted(pairs, key=lambda one: (-one[2], one[0], one[1]))

    def table(self, classes: Sequence[str]) -> list[list[int]]:
        """Return counts, a row for each class the first said and a column for each the second said."""
        return [[self.pairs[first, second] for second in classes] for first in classes]

    def _sums(self) -> tuple[Counter[str], Counter[str]]:
        firsts: Counter[str] = Counter()
        seconds: Counter[str] = Counter()
        for (first, second), count in self.pairs.items():
            firsts[first] += count
            seconds[second] += count
        return firsts, seconds


def compare(answers: Iterable[tuple[Answer, Answer]]) -> Agreement:
    """Return how two agree; None: that one said nothing.

    >>> said = compare([("cat", "cat"), ("cat", "dog"), ("dog", "dog"), (None, "dog")])
    >>> said.agreed, said.compared, said.only_second, said.disagreements()
    (2, 3, 1, [('cat', 'dog', 1)])
    """
    pairs: Counter[tuple[str, str]] = Counter()
    only_first = only_second = 0
    for first, second in answers:
        if first is not None and second is not None:
            pairs[first, second] += 1
        elif first is not None:
            only_first += 1
        elif second is not None:
            only_second += 1
    return Agreement(pairs, only_first, only_second)
