"""What the images of a dataset were asked last: classes, criteria and claim. Kept as a run of the dataset.

Each outcome carries the mark of the question it answers, so that an answer to an earlier one is not taken for one.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Final

from fiftyone_plugins.clean.claims import Claim
from fiftyone_plugins.clean.judging import UNSURE, Criteria, name_classes
from labels import fields

RUN_KEY: Final = "clean"
OWN_FIELDS: Final = (
    fields.CLEAN_OUTCOME,
    fields.CLEAN_SCORE,
    fields.CLEAN_CONFIDENCE,
    fields.CLEAN_SEEN,
    fields.CLEAN_ABOUT,
)


@dataclass(frozen=True, slots=True)
class Question:
    """What images are asked: whether they hold what is claimed of them."""

    criteria: Criteria
    claim: Claim

    @property
    def name(self) -> str:
        """The classes as one name."""
        return name_classes(self.criteria.classes)

    @property
    def mark(self) -> str:
        """What names the question on a sample: the same for the same criteria and claim, 16 hexadecimal digits.

        >>> person = Question(Criteria(("person",)), Claim("all"))
        >>> person.mark == Question(Criteria(("person",)), Claim("all")).mark
        True
        >>> person.mark == Question(Criteria(("person",), threshold=0.6), Claim("all")).mark
        False
        """
        said = json.dumps({"criteria": asdict(self.criteria), "claim": asdict(self.claim)}, sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()[:16]


def remember(dataset: Any, question: Question, *, model: str | None, seen_in: str | None) -> None:
    """Keep what the samples of a dataset are asked now, and by what it is looked at."""
    criteria = asdict(question.criteria) | {"classes": list(question.criteria.classes)}
    about = {"criteria": criteria, "claim": asdict(question.claim), "model": model, "seen_in": seen_in}
    dataset.register_run(RUN_KEY, dataset.init_run(about=about), overwrite=True)


def was_asked(dataset: Any) -> bool:
    """Return whether its samples were ever asked anything."""
    return RUN_KEY in dataset.list_runs()


def read_memory(dataset: Any) -> Question | None:
    """Return what the samples of a dataset were asked last; None: nothing yet, or no answer is there any more."""
    if not was_asked(dataset) or not all(dataset.has_sample_field(name) for name in OWN_FIELDS):
        return None
    about = dataset.get_run_info(RUN_KEY).config.about
    criteria = Criteria(**about["criteria"] | {"classes": tuple(about["criteria"]["classes"])})
    return Question(criteria, Claim(**about["claim"]))


def view_judged(samples: Any, mark: str) -> Any:
    """Return those samples of a dataset or view that have an answer to the question of this mark."""
    return samples.match({fields.CLEAN_ABOUT: mark})


def view_unsure(samples: Any) -> Any:
    """Return those samples of a dataset or view of which the detector is unsure; None: they were asked nothing yet."""
    question = read_memory(samples._dataset)
    return (
        None if question is None else view_judged(samples, question.mark).match({fields.CLEAN_OUTCOME: {"$in": UNSURE}})
    )
