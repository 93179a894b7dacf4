"""What the plugins' jobs may be given, as JSON Schema. Their own readers are what checks; a test compares the two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fiftyone_plugins.clean.planning import ACTIONS
from fiftyone_plugins.clean.work import DEFAULT_THRESHOLD as SEEN_FROM
from fiftyone_plugins.clean.work import DEFAULT_UNSURE_FROM
from fiftyone_plugins.duplicates.work import DEFAULT_THRESHOLD as NEAR_TO
from fiftyone_plugins.duplicates.work import METHODS as DUPLICATE_METHODS
from fiftyone_plugins.embeddings.embedders import DEFAULT_MODEL, FAMILIES, LITE0, SHORT_NAMES
from fiftyone_plugins.embeddings.grouping import METHODS as GROUPINGS
from fiftyone_plugins.embeddings.indexes import BACKENDS, LANCEDB, QDRANT
from fiftyone_plugins.embeddings.maps import METHODS as MAPS
from fiftyone_plugins.mistakes.work import KINDS
from fiftyone_plugins.mistakes.work import THRESHOLD as MISTAKEN_FROM
from fiftyone_plugins.quality.checks import ALL_CHECKS
from fiftyone_plugins.quality.learning import SOURCES
from labels import fields
from sync.jobs.schema_words import (
    SAMPLE_IDS,
    Schema,
    a_choice,
    a_count,
    a_flag,
    a_number,
    a_text,
    some_texts,
    to_object,
)

_SAMPLES: Final = {"sample_ids": SAMPLE_IDS, "view": a_text("Only the samples of this saved view")}
_PATCHES: Final = a_text("Of the crops of this field's labels; without, of whole images")
_VECTORS: Final = {"vectors": a_text("Which embeddings, as embed names them; without, the newest"), "patches": _PATCHES}
_DEVICE: Final = a_text("auto, cpu or cuda", default="auto")
_WEIGHTS: Final = a_text("A file or folder of weights on this machine")
_SEED: Final = a_count("The same seed, the same answer", least=0, default=0)
_NAMED: Final = [f"{name}:" for name in FAMILIES if name != LITE0]
_MODEL: Final[Schema] = {
    "anyOf": [{"enum": [LITE0, *SHORT_NAMES]}, {"type": "string", "pattern": f"^({'|'.join(_NAMED)})\\S+$"}],
    "description": "A short name, or FAMILY:ARCHITECTURE; of open_clip with /TAG, or with weights",
}
_RULES: Final[Mapping[str, Schema]] = {
    "thresholds": {
        "type": "object",
        "properties": {name: {"type": ["number", "null"], "minimum": 0, "maximum": 1} for name in ALL_CHECKS},
        "additionalProperties": False,
        "description": "By check: from which score on an image is trash; null: this check throws nothing away",
    },
    "below_mean": a_number("Trash below this expected rating, 1 to 10", least=1, most=10),
    "worst_percent": a_number("Trash this part of the lowest rated, in percent", most=100),
}
_UNDONE: Final = {"run": a_text("The decision that is taken back, by its name; without, the last one")}
_REHEARSED: Final[Schema] = {
    "dependentSchemas": {
        name: {"properties": {"dry_run": {"const": True}}, "required": ["dry_run"]}
        for name in ("action", "to", "min_score")
    },
    "not": {"required": ["model", "seen_in"]},
}
_ACTING: Final[Mapping[str, Schema]] = {
    "action": a_choice(ACTIONS, "What becomes of images that are not what they are claimed to be"),
    "min_score": a_number("Only contradictions that are this sure", default=0.0),
}


def _of_samples(properties: Mapping[str, Schema], *required: str) -> Schema:
    """Return the schema of a work that can be done for some samples."""
    return to_object({**properties, **_SAMPLES}, *required)


WORK_SCHEMAS: Final[Mapping[str, Schema]] = {
    "embed": _of_samples(
        {
            "model": _MODEL | {"default": DEFAULT_MODEL},
            "weights": _WEIGHTS,
            "patches": _PATCHES,
            "device": _DEVICE,
            "batch_size": a_count("Images at once"),
            "again": a_flag("Everything, not only what is new or was changed"),
            "dry_run": a_flag("Only say how many would be computed"),
        }
    ),
    "visualize": _of_samples(
        {"method": a_choice(MAPS, "How", default=next(iter(MAPS))), **_VECTORS, "seed": _SEED},
    ),
    "cluster": _of_samples(
        {
            "method": a_choice(GROUPINGS, "How", default=next(iter(GROUPINGS))),
            "count": a_count("kmeans: how many groups; hdbscan: the fewest members", least=2),
            "words": some_texts("Name the groups by such words; for a CLIP"),
            **_VECTORS,
            "seed": _SEED,
        }
    ),
    "outliers": _of_samples({"neighbours": a_count("How many of the nearest count", default=10), **_VECTORS}),
    "similarity": _of_samples(
        {
            "backend": a_choice(BACKENDS, "What keeps the index", default=LANCEDB),
            "url": a_text("The address of the Qdrant server"),
            **_VECTORS,
        }
    )
    | {
        "if": {"properties": {"backend": {"const": QDRANT}}, "required": ["backend"]},
        "then": {"required": ["url"]},
        "else": {"not": {"required": ["url"]}},
    },
    "zeroshot": _of_samples(
        {
            "model": _MODEL | {"default": "clip", "description": "A CLIP: clip, clip-large or open_clip:NAME/TAG"},
            "weights": _WEIGHTS,
            "patches": _PATCHES,
            "device": _DEVICE,
            "classes": some_texts("Class names, two or more; without, those of the label config")
            | {"uniqueItems": True},
            "control": a_text("Whose classes, of the label config's controls"),
            "templates": some_texts("Sentences with {} for the class name", pattern=r"^[^{}]*\{\}[^{}]*$"),
            "compare": some_texts("Fields to compare with; without, all"),
            "unlabelled": a_text("Only samples without a label in this field"),
            "dry_run": a_flag("Only say how many would be classified"),
        }
    ),
    "mistakes": _of_samples(
        {
            "labels": a_text("The field that is judged", default=fields.GROUND_TRUTH),
            "kind": a_choice(KINDS, "Refuse a field of another kind"),
            "model": a_text("Of boxes: the weights they are compared with"),
            "against": a_text("A field to compare with in place of the detector; of images: embeddings, or a field"),
            "threshold": a_number("Tagged and shown from this score on", default=MISTAKEN_FROM),
            "objectlab": a_flag("Also cleanlab's ObjectLab score of each image"),
            "datalab": a_flag("Also what cleanlab's Datalab says of images with a class"),
            "dry_run": a_flag("Only say how many samples would be judged"),
        }
    ),
    "duplicates": _of_samples(
        {
            "methods": {
                "type": "array",
                "items": {"enum": list(DUPLICATE_METHODS)},
                "minItems": 1,
                "description": "How; without, all of them",
            },
            "threshold": a_number("Distance of embeddings up to which near looks at a pair", default=NEAR_TO),
            "unchecked": a_flag("Let the threshold decide alone, without comparing the pictures"),
            "vectors": a_text("Embeddings to go by; without, the newest"),
            "splits": a_text("The field that names a sample's split; without, tags train, val, test"),
            "dry_run": a_flag("Only say what would be written"),
        }
    ),
    "duplicates_drop": _of_samples({"dry_run": a_flag("Only say what would be dropped")}),
    "duplicates_undo": _of_samples({}),
    "quality": _of_samples({"everything": a_flag("Measure anew what was measured"), **_RULES}),
    "quality_decide": _of_samples({"dry_run": a_flag("Only say how many would be tagged"), **_RULES}),
    "quality_undo": _of_samples(_UNDONE),
    "quality_learn": _of_samples({"votes": a_text("The file with the votes, on this machine")}, "votes"),
    "quality_examples": _of_samples(
        {
            "source": a_choice(SOURCES, "Who says what is good", default=SOURCES[0]),
            "votes": a_text("The file with the votes, for the source votes"),
            "copy": a_flag("Copies in place of links"),
            **_RULES,
        }
    ),
    "clean": _of_samples(
        {
            "classes": some_texts("What the images should hold", least=1),
            "claim": a_text(
                "Who says that they do: all, folder, folder:NAME, tag:NAME, field:NAME or field:NAME=VALUE",
                default="all",
                pattern=r"^(all|folder|folder:\S+|tag:\S+|field:[^\s=]+(=\S+)?)$",
            ),
            "threshold": a_number("From this confidence on a class is seen", default=SEEN_FROM),
            "unsure_from": a_number("Below this it is not seen", default=DEFAULT_UNSURE_FROM),
            "min_size": a_number("Part of the image that a box must cover", default=0.0),
            "model": a_text("The detector; without, the one that is served"),
            "seen_in": a_text("Compare with the boxes of this field, without a detector"),
            "only_new": a_flag("Only what was not judged yet"),
            "dry_run": a_flag("Only say what is seen, and what would become of it"),
            "to": a_text("In a dry run of copy or move: where to"),
            **_ACTING,
        },
        "classes",
    )
    | _REHEARSED,
    "clean_apply": _of_samples({**_ACTING, "dry_run": a_flag("Only say what would be done")}),
    "clean_undo": _of_samples(_UNDONE),
}
