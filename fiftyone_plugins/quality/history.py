"""Which decisions stand on a sample, in what order, and what it was before each. Reads no log and changes no tag.

Of every sample a decision logs the tags it had (``was_trash``, ``was_kept``) and the decision that stood on it last
(``after``): so each can be taken back on its own, in any order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

from fiftyone_plugins.app.journal import Change, Decided
from labels import fields

TRASH: Final = "trash"
KEEP: Final = "keep"
TAGS: Final[Mapping[str, str]] = {TRASH: fields.TRASH_TAG, KEEP: fields.KEEP_TAG}
"""The kinds of decisions, and the tag each gives."""
BY_HAND: Final[Mapping[str, str]] = {"by": "hand"}


class History:
    """What was decided on some samples of a dataset, those decisions included that were taken back."""

    def __init__(self, decided: Iterable[Decided], sample_ids: Collection[str]) -> None:
        wanted = frozenset(sample_ids)
        self._standing: set[str] = set()
        self._by_hand: set[str] = set()
        self._changes: defaultdict[str, dict[str, Change]] = defaultdict(dict)
        for one in decided:
            if one.end != "undone":
                self._standing.add(one.run)
            if one.about == BY_HAND:
                self._by_hand.add(one.run)
            for change in one.changes:
                if change["sample_id"] in wanted:
                    self._changes[change["sample_id"]][one.run] = change

    def find_last(self, sample_id: str) -> str | None:
        """Return the decision that stands on a sample and that none follows there; None: none stands."""
        return next((run for run in self._list_standing(sample_id) if not self.is_followed(sample_id, run)), None)

    def is_by_hand(self, run: str) -> bool:
        """Return whether a person chose the samples themselves."""
        return run in self._by_hand

    def is_followed(self, sample_id: str, run: str) -> bool:
        """Return whether a later decision stands on the sample: what it is now is that one's word."""
        return any(run in self._list_before(sample_id, later) for later in self._list_standing(sample_id))

    def find_tags_before(self, sample_id: str, run: str) -> frozenset[str]:
        """Return which of our tags a sample had before a decision, but for those of decisions taken back since."""
        change = self._changes[sample_id][run]
        tags = {TAGS[kind] for kind, was in ((TRASH, "was_trash"), (KEEP, "was_kept")) if change.get(was)}
        after = change.get("after")
        if after is None or after in self._standing or after not in self._changes[sample_id]:
            return frozenset(tags)
        return frozenset(tags - {TAGS[after.rpartition("-")[0]]}) | self.find_tags_before(sample_id, after)

    def _list_standing(self, sample_id: str) -> list[str]:
        return [run for run in self._changes.get(sample_id, ()) if run in self._standing]

    def _list_before(self, sample_id: str, run: str) -> Iterator[str]:
        """Yield the decisions before one on the same sample, the nearest first."""
        changes = self._changes[sample_id]
        while (after := changes[run].get("after")) in changes:
            yield after
            run = after
