"""What jobs may be given, as JSON Schema: for programs that read the API's document. ``parameters.py`` is what checks.

A job that is not described here takes what its own reader allows, and says so when it is given something else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ml_backend.models.calibration_fit import METHODS
from sync.exports.formats import FORMATS, IMAGES_MODES
from sync.imports.formats import FORMAT_NAMES
from sync.jobs.pull import PREFERENCES
from sync.jobs.queue import RANDOM_PERCENT, STRATEGIES
from sync.jobs.resolve import SIDES
from sync.review.annotators import POLICIES

Schema = dict[str, Any]


def _object(properties: Mapping[str, Schema], *required: str) -> Schema:
    schema: Schema = {"type": "object", "properties": dict(properties), "additionalProperties": False}
    return schema | ({"required": list(required)} if required else {})


def _text(description: str) -> Schema:
    return {"type": "string", "pattern": "\\S", "description": description}


def _flag(description: str) -> Schema:
    return {"type": "boolean", "default": False, "description": description}


def _choice(words: Iterable[str], description: str, *, default: str | None = None) -> Schema:
    schema: Schema = {"enum": list(words), "description": description}
    return schema if default is None else schema | {"default": default}


_SIDE: Final = _choice(SIDES, "whose version: Label Studio's or FiftyOne's")
_SAMPLE_IDS: Final[Schema] = {
    "type": "array",
    "items": {"type": "string"},
    "description": "Only these samples: ids, or paths or names of their files; without, all",
}

PARAM_SCHEMAS: Final[Mapping[str, Schema]] = {
    "ingest": _object(
        {
            "folder": _text("A folder of images on this machine"),
            "labels": _text("What another tool said of them: a file or a folder on this machine"),
            "format": _choice(FORMAT_NAMES, "The format of the labels; without, it is told by what is there"),
            "classes": {
                "type": "object",
                "additionalProperties": {"type": "string"},
                "description": "By their class: which of ours it is; empty: its labels are left out",
            },
            "control": _text("For class folders: the Choices that the folders answer"),
            "dry_run": _flag("Only say what would be imported"),
        },
        "folder",
    )
    | {"dependentRequired": {name: ["labels"] for name in ("format", "classes", "control", "dry_run")}},
    "prelabel": _object(
        {
            "sample_ids": _SAMPLE_IDS,
            "everything": _flag("Draw anew what these weights have drawn"),
            "unreviewed": _flag("Only what nobody has answered"),
        }
    ),
    "push": _object({"sample_ids": _SAMPLE_IDS}),
    "pull": _object(
        {
            "prefer": _choice(PREFERENCES, "Which side wins where both changed a label; without, that is a conflict"),
            "everything": _flag("Read all tasks again, not only those changed since the last pull"),
            "annotators": _choice(POLICIES, "What counts where several people answered; without, as the project says"),
        }
    ),
    "sweep": _object({}),
    "verify": _object({}),
    "resolve": _object(
        {
            "decisions": {
                "type": "object",
                "additionalProperties": {"anyOf": [_SIDE, {"type": "object", "additionalProperties": _SIDE}]},
                "description": "By sample id: whose version, for the whole sample or by label id",
            },
            "shown": {
                "type": "object",
                "additionalProperties": {"type": "string"},
                "description": "By sample id: the name of what the person saw; what has changed since is not decided",
            },
        },
        "decisions",
    ),
    "export": _object(
        {
            "format": _choice(FORMATS, "What is written", default="coco"),
            "images": _choice(IMAGES_MODES, "What becomes of the image files", default="copy"),
            "version": _text("A frozen version, by its number or name; without, what is reviewed now is frozen first"),
            "splits": {
                "type": "string",
                "examples": ["80,10,10"],
                "description": "Shares of train, val, test in percent",
            },
            "group_by": _text("A field: samples that share its value stay in one split"),
            "control": _text("The control of the label config that is written, for formats that hold one"),
        }
    ),
    "queue": _object(
        {
            "by": _text(f"What is chosen by: {', '.join(STRATEGIES)}, or a field with a number for each sample"),
            "count": {"type": "integer", "minimum": 1, "description": "How many images"},
            "view": _text("The name of the view that shows what was chosen"),
            "seed": {
                "type": "integer",
                "default": 0,
                "description": "Of a random choice: the same seed, the same images",
            },
            "random_percent": {
                "type": "integer",
                "minimum": 0,
                "maximum": 100,
                "default": RANDOM_PERCENT,
                "description": "So many percent are drawn at random all the same",
            },
            "dry_run": _flag("Only say what would be chosen"),
        },
        "by",
        "count",
    ),
    "relabel": _object(
        {
            "old": _text("The class as it is named now"),
            "new": _text("Its new name, or the class it goes into"),
            "control": _text("The control of the label config, where several have the class"),
            "dry_run": _flag("Only count what would change"),
        },
        "old",
        "new",
    ),
    "calibrate": _object(
        {
            "method": _choice(METHODS, "How probabilities are mended", default=METHODS[0]),
            "look_again": _flag("Have the model look at the reviewed images again"),
        }
    ),
}
