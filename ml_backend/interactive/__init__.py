"""What an annotator draws with Auto-Annotation on, answered with more of it.

A key point becomes the object under it; a box becomes its object where a segmenter's weights are given and the label
config has masks, and otherwise the boxes of all that looks like it in the same image. Nothing is loaded before the
first call; what is made of an image is kept, so the second click answers at once.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from labels.config import Control
from labels.geometry import Box, Geometry, compute_iou
from labels.results import Label, to_result
from ml_backend.answers.label_plans import LabelPlan
from ml_backend.answers.regions import PredictedItem, compute_region_id, to_mask, to_polygon
from ml_backend.detectors import Image, MaskCrop
from ml_backend.interactive.features import FeatureCache
from ml_backend.interactive.lookalikes import find_lookalikes
from ml_backend.interactive.prompts import Prompt, read_boxes, read_drawn, read_prompt
from ml_backend.interactive.segmenters import Segmenter, load_segmenter

logger = logging.getLogger(__name__)

CACHED_IMAGES: Final = 16
MASK_KINDS: Final = ("PolygonLabels", "BrushLabels")
# A suggestion that overlaps a region of its class by more than this is that region once more.
REPEATED_IOU: Final = 0.7


class Assistant:
    """Answers the regions drawn so far with suggestions; safe for many threads, one of which works at a time."""

    def __init__(
        self,
        *,
        models_dir: Path,
        device: str = "auto",
        segmenter: str | None = None,
        max_cached_images: int = CACHED_IMAGES,
    ) -> None:
        self._models_dir = models_dir
        self._device = device
        self._segmenter_name = segmenter
        self._segmenter: Segmenter | None = None
        self._features = FeatureCache(models_dir, max_images=max_cached_images)
        self._max_cached_images = max_cached_images
        self._lock = threading.Lock()

    def suggest(
        self,
        image: Image,
        sha256: str,
        context_result: Sequence[Mapping[str, Any]],
        plan: LabelPlan,
        *,
        model_version: str,
        item: PredictedItem,
    ) -> list[dict[str, Any]]:
        """Return the regions that follow from those drawn so far, the newest of them last; none is an answer too.

        Raises:
            ItemError: the newest region cannot be read.
            LabelingError: the segmenter's weights cannot be loaded.
        """
        prompt = read_prompt(context_result, plan.config, item.size, item=item.identity)
        if prompt is None:
            return []
        masks = _find_controls(plan, prompt.label, MASK_KINDS)
        boxes = _find_controls(plan, prompt.label, ("RectangleLabels",))
        with self._lock:
            if self._segmenter_name is not None and (prompt.points or masks):
                shapes = self._segment(image, sha256, prompt, masks, boxes, item)
            elif prompt.box is not None and boxes:
                shapes = self._look_alike(image, sha256, prompt.box, read_boxes(context_result, item.size), boxes[0])
            else:
                shapes = []
        # Further clicks refine one object: what they lead to may well be close to what there is.
        is_new_object = len(prompt.points) < 2 and not prompt.away
        drawn = read_drawn(context_result, plan.config, item.size, item=item.identity) if is_new_object else []
        shapes = [one for one in shapes if not _is_repeated(one[1], one[2], drawn)]
        labels = [
            Label(
                # The region that asked is part of the id: asked again, the answer is one of its own.
                compute_region_id(item, model_version, f"{prompt.region_id} {control.name} {number}"),
                control.name,
                (label,),
                shape,
                confidence=round(min(max(score, 0.0), 1.0), 6),
            )
            for number, (control, label, shape, score) in enumerate(shapes)
        ]
        return to_result(labels, plan.config, item.size)

    def _segment(
        self,
        image: Image,
        sha256: str,
        prompt: Prompt,
        masks: Sequence[tuple[Control, str]],
        boxes: Sequence[tuple[Control, str]],
        item: PredictedItem,
    ) -> list[tuple[Control, str, Geometry, float]]:
        if self._segmenter is None:
            assert self._segmenter_name is not None
            self._segmenter = load_segmenter(
                self._segmenter_name,
                models_dir=self._models_dir,
                device=self._device,
                max_images=self._max_cached_images,
            )
        found = self._segmenter.segment(image, sha256, prompt)
        if found is None:
            return []
        crop, score = found
        shapes: list[tuple[Control, str, Geometry, float]] = []
        for control, label in (*masks[:1], *(boxes[:1] if prompt.box is None else ())):
            shape = _to_shape(crop, control, item)
            if shape is not None:
                shapes.append((control, label, shape, score))
        return shapes

    def _look_alike(
        self, image: Image, sha256: str, box: Box, drawn: Sequence[Box], target: tuple[Control, str]
    ) -> list[tuple[Control, str, Geometry, float]]:
        control, label = target
        features = self._features.get(image, sha256)
        return [(control, label, found, score) for found, score in find_lookalikes(features, box, drawn)]


def _find_controls(plan: LabelPlan, label: str, kinds: Sequence[str]) -> list[tuple[Control, str]]:
    """Return the controls that know a label, with what they call it, in the order of the config."""
    controls = [control for control in plan.config.controls if control.kind in kinds]
    named = [(control, control.class_for(label)) for control in controls]
    return [(control, name) for control, name in named if name is not None]


def _is_repeated(label: str, shape: Geometry, drawn: Sequence[Label]) -> bool:
    """Return whether a region of the class is there already. A mask adds to a box; a box adds nothing to an outline."""
    for other in drawn:
        if other.geometry is None or not any(name.lower() == label.lower() for name in other.classes):
            continue
        there: Geometry = other.geometry
        if isinstance(shape, Box) and not isinstance(there, Box):
            there = Box.from_xyxy(*there.to_xyxy())
        elif isinstance(there, Box) and not isinstance(shape, Box):
            continue
        with contextlib.suppress(ValueError):
            if compute_iou(shape, there) > REPEATED_IOU:
                return True
    return False


def _to_shape(crop: MaskCrop, control: Control, item: PredictedItem) -> Geometry | None:
    mask = to_mask(crop, item.size)
    if not mask.area:
        return None
    if control.kind == "BrushLabels":
        return mask
    if control.kind == "PolygonLabels":
        return to_polygon(crop, item.size)
    return Box.from_xyxy(*mask.to_xyxy())
