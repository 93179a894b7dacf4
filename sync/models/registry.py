"""The registry: every model that ever drew pre-labels by promotion, with a card that says what is known of it.

``models/registry/ID/`` of the state folder holds the weights, ``card.json`` and ``card.md``, and curves. ID is the
model version. The card has the sum of each file, which is checked whenever the model is loaded. An entry appears whole
or not at all, and its weights never change. Which model is current, ``project.json`` says; what happened when, the
ledger.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from labels.errors import LabelingError
from ml_backend.models.registered import CARD_NAME, ID, REGISTRY_NAME
from ml_backend.models.weights import Weights, compute_digest
from sync.models.answers import AnswerEvaluation, AnyEvaluation, read_evaluation
from sync.models.gate import Comparison
from sync.settings import Home

SHEET_NAME: Final = "card.md"
BESIDE: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys((".pth", ".safetensors", ".onnx"), (".json",)),
    ".xml": (".bin", ".json"),
}
"""What belongs to weights of a form, under the same name."""


@dataclass(frozen=True, slots=True)
class Card:
    """What is known of a registered model; None and empty: not known, or not measured.

    ``weights`` and ``files`` (sha256 by name) lie beside the card. ``trained_on`` and ``tested_on`` are dataset
    versions. ``control`` is the Choices that a classifier answers.
    ``comparison`` is what the gate saw when it was promoted last, in the place of the model ``replaces``.
    ``thresholds`` are by label, for raw scores.
    ``trusted_by``: who let weights in that could run code when they are read.
    """

    id: str
    weights: str
    files: Mapping[str, str]
    source: str
    registered_at: str
    registered_by: str
    task: str | None = None
    control: str | None = None
    licence: str | None = None
    base_version: str | None = None
    trained_on: str | None = None
    tested_on: str | None = None
    evaluation: AnyEvaluation | None = None
    replaces: str | None = None
    comparison: Comparison | None = None
    decision: str | None = None
    reasons: tuple[str, ...] = ()
    forced_by: str | None = None
    forced_reason: str | None = None
    trusted_by: str | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    calibration_error: float | None = None
    curves: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON; ``from_dict`` is its inverse."""
        return asdict(self) | {
            "evaluation": None if self.evaluation is None else self.evaluation.to_dict(),
            "comparison": None if self.comparison is None else self.comparison.to_dict(),
            "reasons": list(self.reasons),
            "curves": list(self.curves),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Card:
        """Return the card of ``to_dict``."""
        evaluation, comparison = values["evaluation"], values["comparison"]
        return cls(
            **{
                **values,
                "evaluation": None if evaluation is None else read_evaluation(evaluation),
                "comparison": None if comparison is None else Comparison.from_dict(comparison),
                "reasons": tuple(values["reasons"]),
                "curves": tuple(values["curves"]),
            }
        )


class Registry:
    """The registered models of a state folder."""

    def __init__(self, home: Home) -> None:
        self.folder = home.models / REGISTRY_NAME

    def ids(self) -> list[str]:
        """Return the ids of all models, sorted."""
        if not self.folder.is_dir():
            return []
        return sorted(path.parent.name for path in self.folder.glob(f"*/{CARD_NAME}") if ID.fullmatch(path.parent.name))

    def folder_of(self, model_id: str) -> Path:
        """Return where a model lies, or would."""
        if not ID.fullmatch(model_id):
            raise LabelingError(f"model {model_id!r}: is no name of a registered model; give the file another one")
        return self.folder / model_id

    def has(self, model_id: str) -> bool:
        """Return whether a model is registered."""
        return bool(ID.fullmatch(model_id)) and (self.folder / model_id / CARD_NAME).is_file()

    def read(self, model_id: str) -> Card:
        """Return a model's card.

        Raises:
            LabelingError: there is no such model, or its card is damaged.
        """
        path = self.folder_of(model_id) / CARD_NAME
        try:
            return Card.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            known = ", ".join(self.ids()) or "none yet"
            raise LabelingError(f"model {model_id!r} is not registered (registered: {known})") from None
        except OSError as error:
            raise LabelingError(f"{path}: cannot be read ({error.strerror})") from error
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise LabelingError(f"{path}: is damaged ({type(error).__name__}: {error})") from error

    def write(self, weights: Weights, card: Card, curves: Mapping[str, bytes]) -> Card:
        """Register a model and return its card; of one that is there the card and the curves are replaced.

        Raises:
            LabelingError: the weights cannot be copied, or are several models.
        """
        target = self.folder_of(card.id)
        try:
            if self.has(card.id):
                _write_card(target, card, curves)
                return card
            stage = self.folder / f".{card.id}.partial-{os.getpid()}"
            shutil.rmtree(stage, ignore_errors=True)
            stage.mkdir(parents=True)
            try:
                for path in list_files(weights):
                    _copy(path, stage / path.name)
                _check_copies(stage, card)
                _write_card(stage, card, curves)
                # What a killed run left there has no card, and nobody knows it.
                shutil.rmtree(target, ignore_errors=True)
                stage.rename(target)
            finally:
                shutil.rmtree(stage, ignore_errors=True)
        except OSError as error:
            raise LabelingError(f"{target}: cannot be written ({error.strerror})") from error
        return card


def list_files(weights: Weights) -> list[Path]:
    """Return the files that make up a model, the weights first.

    Raises:
        LabelingError: it is an ensemble.
    """
    if len(weights.paths) != 1:
        raise LabelingError(f"{weights.version}: is an ensemble; one model can be registered at a time")
    if weights.path.stem == Path(CARD_NAME).stem:
        raise LabelingError(f"{weights.path.name}: would be taken for the card; give the file another name")
    beside = [weights.path.with_suffix(suffix) for suffix in BESIDE.get(weights.path.suffix.lower(), ())]
    return [weights.path, *(path for path in beside if path.is_file())]


def compute_files(weights: Weights) -> dict[str, str]:
    """Return the sha256 of each file of a model, by name."""
    return {path.name: compute_digest(path) for path in list_files(weights)}


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        # A copy, no link: what is registered stays when the other is written to.
        shutil.copyfile(source, target)


def _check_copies(stage: Path, card: Card) -> None:
    for name, digest in card.files.items():
        if compute_digest(stage / name) != digest:
            raise LabelingError(f"{name}: changed while it was registered; try again")


def _write_card(folder: Path, card: Card, curves: Mapping[str, bytes]) -> None:
    for name, content in curves.items():
        _replace(folder / name, content)
    _replace(folder / SHEET_NAME, write_sheet(card).encode())
    _replace(folder / CARD_NAME, (json.dumps(card.to_dict(), indent=1, sort_keys=True) + "\n").encode())


def _replace(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_bytes(content)
    part.replace(path)


def write_sheet(card: Card) -> str:
    """Return the card as Markdown, for people."""
    lines = [f"# {card.id}", ""]
    facts = {
        "Task": card.task,
        "Answers": card.control,
        "Licence of the weights": card.licence,
        "From": card.source,
        "Fine-tuned from": card.base_version,
        "Trained on": card.trained_on,
        "Tested on": None if card.tested_on is None else f"{card.tested_on}, split test",
        "Registered": f"{card.registered_at} by {card.registered_by}",
        "Gate": card.decision,
        "Forced": None if card.forced_by is None else f"by {card.forced_by}: {card.forced_reason}",
        "Read with trust": card.trusted_by,
        "Calibration error": None if card.calibration_error is None else f"{card.calibration_error:.4f}",
    }
    lines += [f"- {name}: {value}" for name, value in facts.items() if value is not None]
    lines += [f"- {reason}" for reason in card.reasons]
    if card.evaluation is not None:
        lines += ["", *_to_table(card.evaluation, card.thresholds)]
    lines += ["", *(f"![{name}]({name})" for name in card.curves)] if card.curves else []
    lines += ["", "Files:", "", *(f"- `{name}` sha256 `{digest}`" for name, digest in sorted(card.files.items()))]
    return "\n".join(lines) + "\n"


def _to_table(evaluation: AnyEvaluation, thresholds: Mapping[str, float]) -> list[str]:
    if isinstance(evaluation, AnswerEvaluation):
        return _to_answer_table(evaluation, thresholds)
    overall = f"{evaluation.metric} {_show(evaluation.map50_95)}, mAP50 {_show(evaluation.map50)}"
    rows = [
        f"{overall} on {evaluation.images} images with {evaluation.examples} examples.",
        "",
        f"| Class | Examples | {evaluation.metric} | mAP50 | Precision | Recall | Shown from |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in evaluation.classes:
        numbers = (one.map50_95, one.map50, one.precision, one.recall, thresholds.get(one.name))
        rows.append(f"| {_name(one.name)} | {one.examples} | {' | '.join(map(_show, numbers))} |")
    return rows


def _to_answer_table(evaluation: AnswerEvaluation, thresholds: Mapping[str, float]) -> list[str]:
    rows = [
        f"top-1 {_show(evaluation.top1)}, top-5 {_show(evaluation.top5)} on {evaluation.images} images;"
        f" {evaluation.unanswered} without a prediction.",
        "",
        "| Class | Images | top-1 | top-5 | Precision | Recall | Shown from |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in evaluation.classes:
        numbers = (one.top1, one.top5, one.precision, one.recall, thresholds.get(one.name))
        rows.append(f"| {_name(one.name)} | {one.examples} | {' | '.join(map(_show, numbers))} |")
    names = [_name(one.name) for one in evaluation.classes]
    rows += ["", "What was taken for what:", ""]
    rows += [f"| People say | {' | '.join(names)} | no prediction |", "|---" * (len(names) + 2) + "|"]
    rows += [f"| {name} | {' | '.join(map(str, row))} |" for name, row in zip(names, evaluation.confusion, strict=True)]
    return rows


def _name(text: str) -> str:
    return text.replace("|", "/")


def _show(number: float | None) -> str:
    return "–" if number is None else f"{number:.3f}"
