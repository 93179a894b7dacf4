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

IMPORTED_FROM: Final = "imported_from"
"""Attribute of a label: the file it was imported from; absent: people drew it here, or a detector did."""

CLUSTER: Final = "cluster"
"""The group of like images, or on a label of like crops: its place by size and what it shows. Written by a plugin."""

MAIN_CLASS: Final = "main_class"
"""The class the image shows most often when it was last put onto a plane, to colour points by. Written by a plugin."""

OUTLIER: Final = "outlier"
"""How unlike its nearest images the image (or crop) is, 0..1. None: not computed. Written by a plugin."""

UNIQUENESS: Final = "uniqueness"
"""The same beside the loneliest of all, 0..1, as FiftyOne's brain computes it. None: not computed."""

ZERO_SHOT: Final = "zero_shot"
"""What a model that reads class names says of the image (Classification); never a person's word. None: not asked."""

MISTAKENNESS: Final = "mistakenness"
"""How likely a reviewed label of the sample is wrong, 0..1. None: not computed. Written by a plugin."""

MISTAKE_SWAPPED: Final = "mistake_swapped"
"""How likely the class is another one, 0..1: on a box, and of a sample its highest. None: the detector cannot tell."""

MISTAKE_LOCATION: Final = "mistake_location"
"""How likely the object lies elsewhere than its box, likewise."""

MISTAKE_SPURIOUS: Final = "mistake_spurious"
"""How likely there is no such object, likewise."""

MISTAKE_MISSING: Final = "mistake_missing"
"""How likely an object has no box, 0..1: of a sample, and on each of its ``mistake_proposals``. None: not computed."""

MISTAKE_RULE: Final = "mistake_rule"
"""How likely a box is wrong by its shape alone, 0..1: on a box, and of a sample its highest. None: not computed."""

MISTAKE_CLASS: Final = "mistake_class"
"""How likely the class of a whole image is another one, 0..1: on the label and its sample. None: not computed."""

MISTAKE_OBJECTLAB: Final = "mistake_objectlab"
"""1 - ObjectLab's label quality of the sample, 0..1 (cleanlab). None: not computed."""

MISTAKE_DATALAB: Final = "mistake_datalab"
"""What cleanlab's Datalab says of a sample with a class: ``score``, ``kind`` and ``reason`` of its likeliest issue
beside a wrong label (0 and None: it has none), and 1 - Datalab's score of each kind, 0..1. None: not asked."""

MISTAKE_KIND: Final = "mistake_kind"
"""Attribute of a label: the mistake that is likeliest; None: none is likely."""

MISTAKE_REASON: Final = "mistake_reason"
"""Attribute of a label: why it is suspected, in words; None: it is not."""

MISTAKE_SUGGESTION: Final = "mistake_suggestion"
"""Attribute of a label: the class that is likely the right one; None: no other."""

MISTAKE_BOX: Final = "mistake_box"
"""Attribute of a label: the box that is likely the right one, as FiftyOne holds boxes; None: no other."""

MISTAKE_FIELD: Final = "mistake_field"
"""Attribute of a proposal: the field that it is missing from."""

MISTAKE_PROPOSALS: Final = "mistake_proposals"
"""Boxes that are likely missing (Detections); never a person's word. None: not computed."""

MISTAKE_TAG: Final = "mistake"
"""Sample tag of those whose ``mistakenness`` was high when it was computed last."""

MISTAKES_VERSION: Final = "mistakes"
"""Model version of predictions in Label Studio that mark what is likely wrong: no detector's, and never pre-labels."""

SENT_LABELS: Final = "labels sent with the task"
"""Model version of reviews whose task had labels of people from the start: no model's, and no work from nothing."""

DUPLICATE_GROUP: Final = "duplicate_group"
"""Names the images that show nearly the same. None: like no other, or not computed. Written by a plugin."""

DUPLICATE_LIKENESS: Final = "duplicate_likeness"
"""How like the image is to the nearest of its group, 0..1; 1: the same bytes. None: it is in no group."""

DUPLICATE_METHOD: Final = "duplicate_method"
"""What found the image to be like another: ``exact``, ``phash`` or ``near``; None: it is in no group."""

DUPLICATE_KEEPER: Final = "duplicate_keeper"
"""Whether the image is the one of its group that is proposed to be kept; None: it is in no group."""

DUPLICATE_LEAK: Final = "duplicate_leak"
"""Whether the image's group spans several splits; None: it is in no group."""

DUPLICATE_DIFFERS: Final = "duplicate_differs"
"""Whether the labels of the image's group differ; None: it is in no group, or nobody labelled two of it."""

AESTHETIC_MEAN: Final = "aesthetic_mean"
"""How much people would like the picture, 1 to 10 as in AVA (not a score). None: not computed. Written by a plugin."""

QUALITY_PROPOSAL: Final = "quality_proposal"
"""What a plugin proposes of the image, ``keep`` or ``trash``; never a person's word. None: not proposed."""

QUALITY_REASON: Final = "quality_reason"
"""Why ``trash`` is proposed, in words; None: it is not."""

QUALITY_STAMP: Final = "quality_stamp"
"""Size and time of the last change of the file that was measured. None: not measured. Written by a plugin."""

CLEAN_OUTCOME: Final = "clean_outcome"
"""How a claim about the image compares with the detector: a word of the plugin clean. None: not judged."""

CLEAN_SCORE: Final = "clean_score"
"""How surely the detector contradicts the claim about the image, 0..1. None: not judged. Written by a plugin."""

CLEAN_CONFIDENCE: Final = "clean_confidence"
"""The detector's best confidence in what the image is claimed to hold, 0..1; 0: it saw none. None: not judged."""

CLEAN_ABOUT: Final = "clean_about"
"""Which question the outcome answers: a mark of classes, criteria and claim. None: not judged. Written by a plugin."""

CLEAN_SEEN: Final = "clean_seen"
"""The boxes (Detections) of what the image is claimed to hold, as the detector saw them. Written by a plugin."""

EVALUATED: Final = "evaluated"
"""What a model found on the images it was evaluated on (Detections); ``evaluation`` on each says tp or fp."""

EVALUATION: Final = "evaluation"
"""FiftyOne's name of that evaluation, and of what it writes: on boxes tp, fp or fn, on samples how many of each."""

POLYGONS_SUFFIX: Final = "_polygons"
KEYPOINTS_SUFFIX: Final = "_keypoints"

QUEUED: Final = "queued"
REVIEWED: Final = "reviewed"
SKIPPED: Final = "skipped"
CONFLICT: Final = "conflict"

CONFLICT_TAG: Final = "conflict"
"""Sample tag of a conflict that waits for a person."""

DUPLICATE_TAG: Final = "duplicate"
"""Sample tag of an image that was dropped since another one shows the same: it is neither queued nor exported."""

TRASH_TAG: Final = "trash"
"""Sample tag of an image that was decided to be of no use: it is neither queued nor exported."""

KEEP_TAG: Final = "keep"
"""Sample tag by which a curator says that an image is good: it is never proposed as trash."""
