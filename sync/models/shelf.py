"""Every model there is to choose from: the current one, those that were current, and those that want to be."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from labels.errors import LabelingError
from sync.ledger import Ledger, Promotion
from sync.models.candidate import Candidate, list_candidates
from sync.models.registry import Card, Registry
from sync.models.results import GateResult, Result, list_results, read_gate
from sync.settings import Home, Project


@dataclass(frozen=True, slots=True)
class SeenCandidate:
    """A model that was trained here; ``result`` on the test split and ``gate`` are None where nobody asked yet."""

    candidate: Candidate
    result: Result | None
    gate: GateResult | None
    is_registered: bool


@dataclass(frozen=True, slots=True)
class Shelf:
    """What there is. ``current`` is the name the project has; it is registered where ``card`` is not None.

    ``promotions`` are the newest first, ``damaged`` registered models whose card cannot be read, with why.
    """

    current: str | None
    card: Card | None
    cards: tuple[Card, ...]
    candidates: tuple[SeenCandidate, ...]
    promotions: tuple[Promotion, ...]
    damaged: Mapping[str, str]

    def find_card(self, model_id: str) -> Card | None:
        """Return the card of a registered model."""
        return next((card for card in self.cards if card.id == model_id), None)

    def find_candidate(self, candidate_id: str) -> SeenCandidate | None:
        """Return a candidate by its id."""
        return next((one for one in self.candidates if one.candidate.id == candidate_id), None)


def read_shelf(home: Home, ledger: Ledger) -> Shelf:
    """Return what there is, the newest candidate and the model registered last first."""
    registry = Registry(home)
    cards: list[Card] = []
    damaged: dict[str, str] = {}
    for model_id in registry.ids():
        try:
            cards.append(registry.read(model_id))
        except LabelingError as error:
            damaged[model_id] = str(error)
    project: Project | None = None
    with suppress(LabelingError):
        project = Project.read(home)
    current = None if project is None else project.model
    return Shelf(
        current=current,
        card=next((card for card in cards if card.id == current), None),
        cards=tuple(sorted(cards, key=lambda card: (card.registered_at, card.id), reverse=True)),
        candidates=tuple(_read_candidates(home, {card.id for card in cards})),
        promotions=tuple(ledger.promotions()),
        damaged=damaged,
    )


def _read_candidates(home: Home, registered: set[str]) -> list[SeenCandidate]:
    results: dict[str, Result] = {}
    for one in reversed(list_results(home)):
        if one.split == "test":
            results[one.model_version] = one
    found = []
    for candidate in reversed(list_candidates(home)):
        version = candidate.model_version
        gate = None if version is None else read_gate(home, version)
        result = None if version is None else results.get(version)
        found.append(SeenCandidate(candidate, result, gate, version in registered))
    return found
