"""``torch.compile`` around a network's forward, where that is asked for: quicker on a GPU, minutes slower to start.

Everything is compiled while the model is loaded, for the shapes photos have; any other shape runs as it is. Else the
first image of a new shape would keep everybody waiting for the compiler.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch.utils._pytree import tree_map_only

from ml_backend.detectors import Image

logger = logging.getLogger(__name__)

# Width and height of what cameras and screens give.
RATIOS: Final = ((1, 1), (4, 3), (3, 4), (3, 2), (2, 3), (16, 9), (9, 16))
USUAL_SIDE: Final = 640  # where the library scales images itself, any will do
# One image is a network of its own, several are one network whatever their number.
COUNTS: Final = (1, 2)
# Versions of a network torch keeps before it gives up compiling.
RECOMPILE_LIMIT: Final = 64


class CompiledForward:
    """Stands in for a module's ``forward``: compiled for the shapes it has learnt, the module's own for any other."""

    def __init__(self, module: Any, place: torch.device, *, backend: str | Callable[..., Any] = "inductor") -> None:
        self._plain = module.forward
        self._place = place
        # CUDA graphs: what a small network costs on a GPU is the launching of its kernels.
        mode = "reduce-overhead" if place.type == "cuda" else None
        self._compiled: Any = torch.compile(self._plain, backend=backend, mode=mode, dynamic=False)
        self._known: set[tuple[Any, ...]] = set()
        self._is_learning = False
        module.forward = self

    def learn(self, detect: Callable[..., object], *, side: int = USUAL_SIDE) -> None:
        """Have images of the usual shapes detected, their longer side of so many pixels, and compile on the way."""
        started = time.monotonic()
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, RECOMPILE_LIMIT)
        self._is_learning = True
        try:
            for image in make_images(side):
                for count in COUNTS:
                    detect([image] * count, score_floor=0.5)
        finally:
            self._is_learning = False
        if self._compiled is not None:
            logger.info("compiled for %d shapes in %.0f s", len(self._known), time.monotonic() - started)

    def __call__(self, pixels: torch.Tensor) -> Any:
        """Return the network's answer to a batch."""
        key = (len(pixels) > 1, *pixels.shape[1:], pixels.dtype)
        if self._compiled is not None and (self._is_learning or key in self._known):
            try:
                answer = self._run(pixels)
                self._known.add(key)
                return answer
            except torch.OutOfMemoryError:
                raise  # the batch is run in halves
            except Exception as error:  # noqa: BLE001 - a compiler's errors have no common parent, and we can do without
                self._compiled = None
                logger.warning("torch.compile failed (%s), the model runs as it is", type(error).__name__)
        return self._plain(pixels)

    def _run(self, pixels: torch.Tensor) -> Any:
        if len(pixels) > 1:
            torch._dynamo.mark_dynamic(pixels, 0)
        if self._place.type != "cuda":
            return self._compiled(pixels)
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        # The next answer is written into the same memory.
        return tree_map_only(torch.Tensor, torch.clone, self._compiled(pixels))


def make_images(side: int) -> Sequence[Image]:
    """Return a black image for each of the usual shapes.

    >>> [image.shape[:2] for image in make_images(640)][:3]
    [(640, 640), (480, 640), (640, 480)]
    """
    longest = [(side * wide // max(wide, high), side * high // max(wide, high)) for wide, high in RATIOS]
    return [np.zeros((height, width, 3), np.uint8) for width, height in longest]
