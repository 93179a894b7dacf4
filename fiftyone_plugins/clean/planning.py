"""What is to be done about contradictions: one step for each sample, and why some are left alone. Changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from fiftyone_plugins.clean.claims import Claim
from fiftyone_plugins.clean.files import check_movable, place_beside, to_name
from fiftyone_plugins.clean.judging import CONTRADICTIONS, FALSE_NEGATIVE, FALSE_POSITIVE, Judgement, Outcome
from fiftyone_plugins.clean.memory import Question
from labels import fields
from labels.errors import ItemError
from labels.report import Failure

Action = Literal["retag", "copy", "move"]
ACTIONS: Final[tuple[str, ...]] = ("retag", "copy", "move")
IN_LABEL_STUDIO: Final = (
    "is in Label Studio, where its task would lose its image: it is not moved; retag it, or copy it"
)
SHARED: Final = "is the file of several samples: it is not moved"
STEPS_SHOWN: Final = 20
CONFIRMED: Final = "claim confirmed: "
"""Begins the sample tags by which a person says that a claim is right, whatever the detector sees."""

READ: Final = (
    fields.CLEAN_ABOUT,
    fields.CLEAN_OUTCOME,
    fields.CLEAN_SCORE,
    fields.SOURCE_PATH,
    fields.TASK_ID,
    fields.REVIEW_STATE,
)


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A sample whose claim the detector contradicts; ``own`` is the person's file, held in ``field`` of the sample."""

    sample_id: str
    outcome: Outcome
    score: float
    tags: tuple[str, ...]
    own: Path
    field: str
    is_linked: bool
    is_shared: bool


@dataclass(frozen=True, slots=True)
class Step:
    """One change: ``add`` or ``remove`` a tag, or the ``folder`` to which the file goes."""

    contradiction: Contradiction
    add: str | None = None
    remove: str | None = None
    folder: Path | None = None

    @property
    def text(self) -> str:
        """What would happen, for people."""
        if self.folder is not None:
            return f"{self.contradiction.own} to {self.folder}"
        return f"{self.contradiction.own}: " + (f"tag {self.add!r}" if self.add else f"without the tag {self.remove!r}")


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps, surest contradiction first; ``unchanged`` need none, ``failed`` cannot be done."""

    steps: tuple[Step, ...]
    unchanged: int
    failed: tuple[Failure, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        """The first steps in words, and how many more there are."""
        more = len(self.steps) - STEPS_SHOWN
        return (*(step.text for step in self.steps[:STEPS_SHOWN]), *((f"and {more} more",) if more > 0 else ()))


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What is to be done about contradictions, to be tried without writing anything; ``action`` None: nothing."""

    action: Action | None = None
    folder: Path | None = None
    min_score: float = 0.0


def plan(found: Sequence[Contradiction], action: Action, question: Question, folder: Path | None) -> Plan:
    """Return what retagging, copying or moving the contradictions would do; ``folder`` None: beside each file's own."""
    name = question.name
    steps: list[Step] = []
    failed: list[Failure] = []
    unchanged = 0
    for one in sorted(found, key=lambda each: (-each.score, each.sample_id)):
        if set(list_confirmations(name)[one.outcome]) & set(one.tags):
            unchanged += 1
            continue
        if action == "retag":
            step = _retag(one, question.claim, name)
        else:
            problem = find_problem(one) if action == "move" else None
            if problem is not None:
                failed.append(Failure(str(one.own), problem, one.sample_id))
                continue
            words = describe(one.outcome, name)
            step = Step(one, folder=place_beside(one.own, words) if folder is None else folder / to_name(words))
        if step is None:
            unchanged += 1
        else:
            steps.append(step)
    return Plan(tuple(steps), unchanged, tuple(failed))


def list_confirmations(name: str) -> dict[Outcome, tuple[str, ...]]:
    """Return, for each contradiction, the tags by which a person says that the claim is right; the first is given now.

    What is claimed to be there and is not seen was found to be there: that says nothing for a claim of the opposite.

    >>> list_confirmations("person")["false negative"]
    ('claim confirmed: with person', 'claim confirmed: person')
    """
    sides: dict[Outcome, Outcome] = {FALSE_NEGATIVE: FALSE_POSITIVE, FALSE_POSITIVE: FALSE_NEGATIVE}
    return {one: (CONFIRMED + describe(other, name), CONFIRMED + name) for one, other in sides.items()}


def find_problem(one: Contradiction) -> str | None:
    """Return why a file cannot be moved, or None."""
    if one.is_linked:
        return IN_LABEL_STUDIO
    if one.is_shared:
        return SHARED
    try:
        check_movable(one.own)
    except ItemError as error:
        return error.problem
    return None


def describe(outcome: str, name: str) -> str:
    """Return what an image is found to be.

    >>> describe("false positive", "person"), describe("false negative", "person")
    ('with person', 'without person')
    """
    return f"{'with' if outcome == FALSE_POSITIVE else 'without'} {name}"


def read_contradictions(
    samples: Any, question: Question, min_score: float, judged: Mapping[str, Judgement] | None = None
) -> list[Contradiction]:
    """Return the contradictions among samples that were asked this question, at least that sure.

    ``judged`` are, by sample id, judgements that are not written on the samples: they count in the place of those.
    """
    dataset = samples._dataset
    present = [name for name in READ if dataset.has_sample_field(name)]
    names = ("id", "filepath", "tags", *present)
    users = Counter(dataset.values("filepath"))
    if fields.SOURCE_PATH in present:
        users.update(path for path in dataset.values(fields.SOURCE_PATH) if path)
    found = []
    for row in zip(*samples.values(list(names)), strict=True):
        values = dict(zip(names, row, strict=True))
        is_answer = values.get(fields.CLEAN_ABOUT) == question.mark
        outcome, score = (
            values.get(name) if is_answer else None for name in (fields.CLEAN_OUTCOME, fields.CLEAN_SCORE)
        )
        if judged is not None and str(values["id"]) in judged:
            outcome, score = judged[str(values["id"])].outcome, judged[str(values["id"])].score
        if outcome not in CONTRADICTIONS or score is None or score < min_score:
            continue
        source = values.get(fields.SOURCE_PATH)
        own = source or values["filepath"]
        found.append(
            Contradiction(
                str(values["id"]),
                outcome,
                score,
                tuple(values["tags"] or ()),
                Path(own),
                fields.SOURCE_PATH if source else "filepath",
                values.get(fields.TASK_ID) is not None or values.get(fields.REVIEW_STATE) is not None,
                users[own] > 1,
            )
        )
    return found


def _retag(one: Contradiction, claim: Claim, name: str) -> Step | None:
    """Return the change of tags, or None where they say it already: a claim made by a tag is put right itself."""
    if claim.kind == "tag":
        tag = str(claim.name)
        if one.outcome == FALSE_POSITIVE:
            return None if tag in one.tags else Step(one, add=tag)
        return Step(one, remove=tag) if tag in one.tags else None
    tag = describe(one.outcome, name)
    return None if tag in one.tags else Step(one, add=tag)
