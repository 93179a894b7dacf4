"""From class names to directions, and from pictures' directions to probabilities. Pure but for the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fiftyone_plugins.embeddings.embedders import TextEmbedder
from labels.errors import LabelingError

TEMPLATES: Final = (
    "a photo of a {}.",
    "a photo of the {}.",
    "a close-up photo of a {}.",
    "a cropped photo of a {}.",
    "a blurry photo of a {}.",
    "a photo of one {}.",
    "a photo of many {}.",
)
"""Sentences around a class name; what a CLIP sees in them is averaged."""
FEWEST_CLASSES: Final = 2

Vectors = NDArray[np.float32]


def check_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """Return the templates, the usual ones where none is given.

    Raises:
        LabelingError: one has no place for the class name, or more than one kind of brackets.

    >>> check_templates(["a drawing of a {}"])
    ('a drawing of a {}',)
    """
    for template in templates:
        if template.count("{}") != 1 or template.count("{") != 1 or template.count("}") != 1:
            raise LabelingError(f"template {template!r}: expected one {{}} where the class name goes")
    return tuple(templates) or TEMPLATES


def check_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """Return the class names without blanks round them.

    Raises:
        LabelingError: there are fewer than two, or one is there twice.
    """
    names = tuple(name.strip() for name in classes)
    if len(names) < FEWEST_CLASSES or not all(names):
        raise LabelingError(f"classes {', '.join(names) or 'none'}: expected at least {FEWEST_CLASSES} names")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise LabelingError(f"class {twice[0]!r} is given twice")
    return names


def embed_classes(reader: TextEmbedder, classes: Sequence[str], templates: Sequence[str]) -> Vectors:
    """Return a direction (n, d) of length 1 for each class: the mean of its sentences' directions.

    Source: Radford et al. 2021, prompt ensembling.
    """
    sentences = [template.replace("{}", name) for name in classes for template in templates]
    rows = reader.embed_texts(sentences).reshape(len(classes), len(templates), -1).mean(axis=1)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def compute_probabilities(unit: Vectors, classes: Vectors, scale: float) -> NDArray[np.float64]:
    """Return how probable each class (k, d) is for each picture (n, d), as (n, k): each row's sum is 1.

    Of these classes one is taken to be right: a picture of something else gets a class too.
    """
    logits = scale * (unit.astype(np.float64) @ classes.T.astype(np.float64))
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True))
