"""What a model found on some images, and the file that keeps it. Pure, but for the file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np

from labels.geometry import Box, ImageSize
from labels.report import Failure
from sync.models.answers import Answers
from sync.models.boxes import Boxes, Overlap, Shape, from_turned_box
from sync.models.examples import AnswerExamples, Examples

FORM: Final = 2
"""Of the files: what was kept in an earlier form is asked for again."""
Kind = Literal["shapes", "answers"]
"""What a model gives: things drawn in an image, or what is said of it as a whole."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What there is to know of a model once it is loaded.

    ``classes`` is how many of its classes and key points the label config has a place for; 0: it gives nothing by it.
    ``control`` is the one Choices that a classifier answers; None: it is no classifier, or answers none.
    """

    task: str
    licence: str
    version: str
    classes: int = 0
    control: str | None = None

    @property
    def kind(self) -> Kind:
        """What it gives."""
        return "answers" if self.task == "classify" else "shapes"


@dataclass(frozen=True, slots=True)
class Row:
    """An object that was found, or one class of an answer, whose box is the whole image.

    ``shape`` is its mask's run lengths or the five numbers of its turned box, as text; "": it has none.
    """

    sample_id: str
    label: str
    xyxy: tuple[float, float, float, float]
    score: float
    shape: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What a model found on some images; ``failed`` are those it could not be shown, by sample id."""

    facts: ModelFacts
    rows: Sequence[Row]
    failed: Mapping[str, Failure]

    def to_boxes(self, examples: Examples) -> Boxes:
        """Return what was found of these classes on these images, as the examples are matched."""
        places = {image.sample_id: place for place, image in enumerate(examples.images)}
        numbers = {name: number for number, name in enumerate(examples.classes)}
        overlap = examples.truth.overlap
        kept = [row for row in self.rows if row.sample_id in places and row.label in numbers]
        boxes = Boxes.from_rows([(places[row.sample_id], numbers[row.label], row.xyxy) for row in kept])
        return replace(
            boxes,
            scores=np.array([row.score for row in kept], np.float64),
            overlap=overlap,
            shapes=tuple(_to_shape(row, overlap, examples.sizes[places[row.sample_id]]) for row in kept)
            if overlap != "box"
            else (),
        )

    def to_answers(self, examples: AnswerExamples) -> Answers:
        """Return what the model says of these images; of several of its classes that are one here, the surest."""
        places = {image.sample_id: place for place, image in enumerate(examples.images)}
        numbers = {name: number for number, name in enumerate(examples.classes)}
        scores = np.full((len(examples.images), len(examples.classes)), np.nan)
        for row in self.rows:
            if row.sample_id in places and row.label in numbers:
                place = places[row.sample_id], numbers[row.label]
                scores[place] = np.fmax(scores[place], row.score)
        return Answers(scores)


def _to_shape(row: Row, overlap: Overlap, size: ImageSize) -> Shape:
    if overlap == "mask":
        return {"size": [size.height, size.width], "counts": row.shape.encode()}
    if row.shape:
        return tuple(float(number) for number in row.shape.split())
    return from_turned_box(Box.from_xyxy(*row.xyxy))


def write_look(path: Path, seen: Look) -> None:
    """Keep a look; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = seen.rows
    part = path.with_suffix(f".{os.getpid()}.part")
    with part.open("wb") as file:
        np.savez_compressed(
            file,
            facts=np.array(json.dumps(asdict(seen.facts))),
            samples=np.array([row.sample_id for row in rows], np.str_),
            labels=np.array([row.label for row in rows], np.str_),
            xyxy=np.array([row.xyxy for row in rows], np.float32).reshape(-1, 4),
            scores=np.array([row.score for row in rows], np.float32),
            # One text: as an array of texts each would take the room of the longest.
            shapes=np.array("\n".join(row.shape for row in rows)),
        )
    part.replace(path)


def read_look(path: Path) -> Look | None:
    """Return what was kept; None: nothing, or nothing that can be used, and it is asked for again."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        with np.load(path, allow_pickle=False) as kept:
            facts = ModelFacts(**json.loads(str(kept["facts"])))
            columns = (kept["samples"].tolist(), kept["labels"].tolist(), kept["xyxy"].tolist())
            scores, shapes = kept["scores"].tolist(), str(kept["shapes"]).split("\n")
        rows = [
            Row(sample, label, (box[0], box[1], box[2], box[3]), score, shape)
            for sample, label, box, score, shape in zip(*columns, scores, shapes if scores else (), strict=True)
        ]
        return Look(facts, rows, {})
    return None
