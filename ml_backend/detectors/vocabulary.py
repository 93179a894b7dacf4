"""YOLO-World and YOLOE: networks that look for the classes they are told, by embeddings of their names.

A file holds the embeddings of its own classes, so these are found without a text encoder; any other class needs one,
whose weights lie beside the network's file or in the models folder.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from ultralytics.nn.tasks import WorldModel, YOLOEModel

from labels.errors import LabelingError
from ml_backend.detectors import Detections, Image
from ml_backend.detectors.text_encoder import CLIP_FILES, MOBILE_CLIP_FILES, TextEncoder, find_text_encoder
from ml_backend.detectors.yolo import Forward, Network, YoloDetector

logger = logging.getLogger(__name__)

SHOWN_NAMES: Final = 10


@dataclass
class Vocabulary:
    """A network's embeddings: those it uses now, under ``attribute``, and all that are known, by lower-cased name.

    ``finish`` makes the network's own embeddings of a text encoder's.
    """

    model: Any
    attribute: str
    encoder: TextEncoder | None
    finish: Callable[[torch.Tensor], torch.Tensor]
    known: dict[str, torch.Tensor] = field(default_factory=dict)

    def learn(self, names: Sequence[str]) -> list[str]:
        """Make the embeddings of names known, and return the names for which that cannot be done."""
        missing = [name for name in names if name.lower() not in self.known]
        if not missing or self.encoder is None:
            return missing
        for name, row in zip(missing, self.finish(self.encoder(missing)), strict=True):
            self.known[name.lower()] = row
        return []

    def use(self, names: Sequence[str]) -> None:
        """Have the network look for these known names."""
        rows = torch.stack([self.known[name.lower()] for name in names])
        example = next(self.model.parameters())
        setattr(self.model, self.attribute, rows[None].to(example))
        self.model.model[-1].nc = len(names)

    def find_unknown(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the names that could not be learned."""
        return () if self.encoder is not None else tuple(name for name in names if name.lower() not in self.known)


class VocabularyDetector(YoloDetector):
    """A YOLO network with classes of one's own, whose ids are their places among the names it was told."""

    def __init__(self, network: Network, forward: Forward, vocabulary: Vocabulary, *, nms_iou: float | None) -> None:
        super().__init__(network, forward, nms_iou=nms_iou)
        self._vocabulary = vocabulary
        self._told = tuple(network.names.values())
        self._places: npt.NDArray[np.int64] = np.arange(len(self._told), dtype=np.int64)

    @property
    def names(self) -> Mapping[int, str]:
        """The classes it looks for, by their places among those it was told."""
        return {int(place): self._told[place] for place in self._places}

    def set_classes(self, names: Sequence[str]) -> None:
        """Look for these classes from now on: see ``OpenVocabularyDetector``."""
        if tuple(names) == self._told:
            return
        missing = set(self._vocabulary.learn(names))
        found = [place for place, name in enumerate(names) if name not in missing]
        if missing:
            problem = (
                f"{_list(name for name in names if name in missing)}: cannot be looked for (the network's file does not"
                " know them, and there is no text encoder)"
            )
            if not found:
                raise LabelingError(problem)
            logger.warning("%s", problem)
        self._vocabulary.use([names[place] for place in found])
        self._network = replace(self._network, names={row: names[place] for row, place in enumerate(found)})
        self._told, self._places = tuple(names), np.array(found, np.int64)

    def find_unknown(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return those of the names that cannot be looked for: see ``LimitedVocabularyDetector``."""
        return self._vocabulary.find_unknown(names)

    def detect(self, images: Sequence[Image], *, score_floor: float) -> list[Detections]:
        """Return one Detections for each image, in order."""
        return [self._place(found) for found in super().detect(images, score_floor=score_floor)]

    def _place(self, found: Detections) -> Detections:
        """Return the detections with the ids of the names that were told, where the network counts its own."""
        probabilities = None
        if found.probabilities is not None:
            probabilities = np.zeros((len(found), len(self._told)), np.float32)
            probabilities[:, self._places] = found.probabilities
        return replace(found, class_ids=self._places[found.class_ids], probabilities=probabilities)


def find_vocabulary(model: Any, weights: Path, models_dir: Path | None) -> Vocabulary | None:
    """Return the vocabulary of an open-vocabulary network, or None for any other."""
    folders = [weights.parent] + ([models_dir] if models_dir is not None else [])
    names = list(model.names.values()) if isinstance(model.names, dict) else list(model.names)
    head = model.model[-1]
    if isinstance(model, WorldModel):
        known = dict(zip((name.lower() for name in names), model.txt_feats[0].float(), strict=True))
        return Vocabulary(model, "txt_feats", find_text_encoder(folders, CLIP_FILES), lambda rows: rows, known)
    # A network without prompts has its classes built in.
    if not isinstance(model, YOLOEModel) or hasattr(head, "lrpc") or head.is_fused:
        return None
    vocabulary = Vocabulary(
        model, "pe", find_text_encoder(folders, MOBILE_CLIP_FILES), lambda rows: _finish_prompts(head, rows)
    )
    if hasattr(model, "pe"):
        vocabulary.known |= dict(zip((name.lower() for name in names), model.pe[0].float(), strict=True))
    elif not vocabulary.learn(names):
        vocabulary.use(names)
    else:
        raise LabelingError(
            f"{weights}: has no embeddings of its classes (put one of {', '.join(MOBILE_CLIP_FILES)} beside it, or save"
            " it once after set_classes)"
        )
    return vocabulary


@torch.no_grad()
def _finish_prompts(head: Any, rows: torch.Tensor) -> torch.Tensor:
    example = next(head.parameters())
    finished: torch.Tensor = head.get_tpe(rows[None].to(example))
    return finished[0].float()


def _list(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - SHOWN_NAMES} more" if len(every) > SHOWN_NAMES else ""
    # A label of the config may hold a line break, and the log has one line a message.
    return ", ".join(name if name.isprintable() else repr(name) for name in every[:SHOWN_NAMES]) + more
