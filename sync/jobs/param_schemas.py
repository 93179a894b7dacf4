"""What jobs may be given, as JSON Schema: for programs that read the API's document. ``parameters.py`` is what checks.

What only the command line may choose, a folder to write to or a file of weights, is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ml_backend.environment import DEVICE_PATTERN
from ml_backend.models.calibration_fit import METHODS
from sync.exports.formats import FORMATS, IMAGES_MODES
from sync.imports.formats import FORMAT_NAMES
from sync.jobs.exchange.pull import PREFERENCES
from sync.jobs.exchange.queue import RANDOM_PERCENT, STRATEGIES
from sync.jobs.exchange.resolve import SIDES
from sync.jobs.model_parameters import MOST_WEIGHT, TRAIN_NUMBERS
from sync.jobs.parameters import FOR_LABELS
from sync.jobs.schema_words import (
    SAMPLE_IDS,
    SOME_TEXT,
    Schema,
    a_choice,
    a_count,
    a_flag,
    a_number,
    a_text,
    texts_by_name,
    to_object,
)
from sync.jobs.work_schemas import WORK_SCHEMAS
from sync.models.gate import Rules
from sync.review.annotators import POLICIES
from sync.versions.version import SPLITS

_SIDE: Final = a_choice(SIDES, "whose version: Label Studio's or FiftyOne's")
_VERSION: Final = "A frozen version, by its number or name; without, "
# Of this machine's files only the command line may name one.
_MODEL_NAME: Final = "^[A-Za-z0-9_][^/]*$"
_RULES: Final = Rules()


def _a_training_count(name: str, description: str, *, default: int | None = None) -> Schema:
    least, most = TRAIN_NUMBERS[name]
    return a_count(description, least=least, most=most, default=default)


PARAM_SCHEMAS: Final[Mapping[str, Schema]] = {
    "ingest": to_object(
        {
            "folder": a_text("A folder of images on this machine"),
            "labels": a_text("What another tool said of them: a file or a folder on this machine"),
            "format": a_choice(FORMAT_NAMES, "The format of the labels; without, it is told by what is there"),
            "classes": texts_by_name("By their class: which of ours it is; empty: its labels are left out"),
            "control": a_text("For class folders: the Choices that the folders answer"),
            "dry_run": a_flag("Only say what would be imported"),
            "restore": a_flag("Add images again whose samples were deleted"),
            "unpack": a_flag("Take the images that lie inside the labels, into a folder of the home"),
        }
    )
    | {
        "dependentRequired": {name: ["labels"] for name in FOR_LABELS},
        "if": {"properties": {"unpack": {"const": True}}, "required": ["unpack"]},
        "then": {"not": {"required": ["folder"]}},
        "else": {"required": ["folder"]},
    },
    "prelabel": to_object(
        {
            "sample_ids": SAMPLE_IDS,
            "everything": a_flag("Draw anew what these weights have drawn"),
            "unreviewed": a_flag("Only what nobody has answered"),
        }
    ),
    "push": to_object(
        {
            "sample_ids": SAMPLE_IDS,
            "mark_mistakes": a_flag("Also mark in Label Studio what is likely wrong; without samples, of those tagged"),
        }
    ),
    "pull": to_object(
        {
            "prefer": a_choice(PREFERENCES, "Which side wins where both changed a label; without, that is a conflict"),
            "everything": a_flag("Read all tasks again, not only those changed since the last pull"),
            "annotators": a_choice(POLICIES, "What counts where several people answered; without, as the project says"),
        }
    ),
    "sweep": to_object({}),
    "verify": to_object({}),
    "resolve": to_object(
        {
            "decisions": {
                "type": "object",
                "additionalProperties": {"anyOf": [_SIDE, {"type": "object", "additionalProperties": _SIDE}]},
                "description": "By sample id: whose version, for the whole sample or by label id",
            },
            "shown": texts_by_name(
                "By sample id: the name of what the person saw; what has changed since is not decided"
            ),
        },
        "decisions",
    ),
    "export": to_object(
        {
            "format": a_choice(FORMATS, "What is written", default="coco"),
            "images": a_choice(IMAGES_MODES, "What becomes of the image files", default="copy"),
            "version": a_text(f"{_VERSION}what is reviewed now is frozen first"),
            "splits": {
                "type": "string",
                "examples": ["80,10,10"],
                "description": "Shares of train, val, test in percent",
            },
            "group_by": a_text(
                "A field: samples that share its value stay in one split; empty: none", pattern=f"^$|{SOME_TEXT}"
            ),
            "control": a_text("The control of the label config that is written, for formats that hold one"),
        }
    ),
    "queue": to_object(
        {
            "by": a_text(f"What is chosen by: {', '.join(STRATEGIES)}, or a field with a number for each sample"),
            "count": a_count("How many images"),
            "view": a_text("The name of the view that shows what was chosen"),
            "seed": {
                "type": "integer",
                "default": 0,
                "description": "Of a random choice: the same seed, the same images",
            },
            "random_percent": a_count(
                "So many percent are drawn at random all the same", least=0, most=100, default=RANDOM_PERCENT
            ),
            "dry_run": a_flag("Only say what would be chosen"),
        },
        "by",
        "count",
    ),
    "relabel": to_object(
        {
            "old": a_text("The class as it is named now"),
            "new": a_text("Its new name, or the class it goes into"),
            "control": a_text("The control of the label config, where several have the class"),
            "dry_run": a_flag("Only count what would change"),
        },
        "old",
        "new",
    ),
    "calibrate": to_object(
        {
            "method": a_choice(METHODS, "How probabilities are mended", default=METHODS[0]),
            "look_again": a_flag("Have the model look at the reviewed images again"),
        }
    ),
    "train": to_object(
        {
            "version": a_text(f"{_VERSION}what is reviewed now is frozen first"),
            "model": a_text(
                "What is trained on; without, as the last training, else the served model", pattern=_MODEL_NAME
            ),
            "control": a_text("Learn the classes of this control of the label config alone"),
            "device": a_text("auto, cpu, cuda or cuda:N", default="auto", pattern=f"^({DEVICE_PATTERN.pattern})$"),
            "epochs": _a_training_count("epochs", "Passes over the images", default=50),
            "imgsz": _a_training_count(
                "imgsz", "Longer side of the input in pixels; without, as the kind of model needs it"
            ),
            "batch": _a_training_count("batch", "Images learned from at once", default=8),
            "seed": _a_training_count("seed", "The same seed trains the same on a CPU", default=0),
            "freeze": _a_training_count("freeze", "So many first layers stay as they are", default=0),
            "workers": _a_training_count("workers", "How many read images ahead", default=0),
            "patience": _a_training_count("patience", "End after so many epochs without a gain", default=20),
            "replay": _a_training_count(
                "replay", "Go on from a model trained here with what is new and so many older images"
            ),
            "lr": {"type": "number", "exclusiveMinimum": 0, "description": "Learning rate"},
            "corrections_weight": {
                "type": "number",
                "minimum": 1,
                "maximum": MOST_WEIGHT,
                "default": 1,
                "description": "How often an image that people corrected is seen in an epoch",
            },
            "dry_run": a_flag("Only say what would be trained on what"),
        }
    ),
    "evaluate": to_object(
        {
            "model": a_text(
                "A candidate, or a registered or known name; without, the current model", pattern=_MODEL_NAME
            ),
            "version": a_text(f"{_VERSION}the one the model learned from, else the newest"),
            "split": a_choice(SPLITS, "Which of its images", default="test"),
            "fields": a_flag("Write what is right and wrong into FiftyOne, with a view of the worst"),
            "precision_floor": a_number("Choose thresholds that keep this precision; without, the best F1"),
        }
    ),
    "promote": to_object(
        {
            "candidate": a_text("What train made, or another known model", pattern=_MODEL_NAME),
            "version": a_text(f"{_VERSION}the one the candidate learned from"),
            "force": a_flag("Promote it whatever the gate says; needs a reason"),
            "reason": a_text("Why; it is kept"),
            "by": a_text("Who asks; it is kept"),
            "margin": a_number("By how much no class may fall", default=_RULES.class_margin),
            "min_examples": a_count("Of a class, for that to count", default=_RULES.fewest_examples),
            "confidence": a_number("Of the interval", least=0.5, most=0.999, default=_RULES.confidence),
            "dry_run": a_flag("Only say what the gate says"),
        },
        "candidate",
    )
    | {
        "if": {"properties": {"force": {"const": True}}, "required": ["force"]},
        "then": {"required": ["reason"], "properties": {"reason": {"type": "string"}}},
    },
    "rollback": to_object(
        {
            "to": a_text("A registered model; without, the one before the current one"),
            "reason": a_text("Why; it is kept"),
            "by": a_text("Who asks; it is kept"),
            "dry_run": a_flag("Only say which model would come back"),
        }
    ),
    "report": to_object({}),
    **WORK_SCHEMAS,
}
