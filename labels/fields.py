"""Every FiftyOne field name we write, and the values of the ones that hold a state.

All our scores are 0..1 and higher means: look here first. ``None`` means not computed, or never sent.
"""

from __future__ import annotations

from typing import Final

GROUND_TRUTH: Final = "ground_truth"
"""Boxes and masks of people (Detections). None: nothing is said; an empty list: nothing is there."""

PREDICTIONS: Final = "predictions"
"""What the detector drew (Detections with confidence); each carries ``model_version``."""

UNCERTAINTY: Final = "uncertainty"
"""1 - the prediction's score, 0..1."""

U_SUM: Final = "u_sum"
"""How much there is to correct in the prediction as a whole, 0..1. None: not computed."""

U_DISAGREE: Final = "u_disagree"
"""How much several views or models of the image disagree, 0..1. None: there was one view only."""

U_RARE: Final = "u_rare"
"""How rare the predicted classes are among the reviewed ones, weighed with doubt, 0..1. None: not computed."""

REVIEW_STATE: Final = "review_state"
"""One of the review states below; None: never sent to Label Studio."""

TASK_ID: Final = "task_id"
"""The Label Studio task of the sample."""

REVIEWER: Final = "reviewer"
"""E-mail address of the person who submitted the review."""

REVIEWED_AT: Final = "reviewed_at"
"""When the review was last changed, UTC."""

ANNOTATORS: Final = "annotators"
"""How many people answered the sample's task. None: nobody did."""

DISAGREEMENT: Final = "disagreement"
"""How much the annotators of the sample disagree, 0..1. None: fewer than two answered."""

IMAGE_SHA256: Final = "image_sha256"
"""SHA-256 of the image file's bytes, hex."""

SOURCE_PATH: Final = "source_path"
"""The person's own file, where the App shows a converted copy; None: the sample's file is the person's own."""

MODEL_VERSION: Final = "model_version"
"""Names the weights by content: on a sample those of its predictions, on a label those that drew it."""

ROTATION_DEG: Final = "rotation_deg"
"""Attribute of a detection: its clockwise turn round the box's centre in degrees; absent: upright."""

CONTROL: Final = "control"
"""Attribute of a label: the control of the label config it belongs to."""

VOTES: Final = "votes"
"""Attribute of a predicted box or mask: how many members of an ensemble saw it; None: one model drew it."""

EMBEDDING: Final = "embedding"
"""Where the image lies among the others (a vector); near is alike. None: not computed. Written by a plugin."""

MISTAKENNESS: Final = "mistakenness"
"""How likely a reviewed label of the sample is wrong, 0..1. None: not computed. Written by a plugin."""

DUPLICATE_GROUP: Final = "duplicate_group"
"""Names the images that show nearly the same. None: like no other, or not computed. Written by a plugin."""

POLYGONS_SUFFIX: Final = "_polygons"
KEYPOINTS_SUFFIX: Final = "_keypoints"

QUEUED: Final = "queued"
REVIEWED: Final = "reviewed"
SKIPPED: Final = "skipped"
CONFLICT: Final = "conflict"

CONFLICT_TAG: Final = "conflict"
"""Sample tag of a conflict that waits for a person."""
