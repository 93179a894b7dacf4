"""What every model of torch does the same: device, number format, batches, and reading weights without running code."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Any, Final

import httpx
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from fiftyone_plugins.embeddings.embedders import CURE
from labels.errors import LabelingError

# What the libraries answer when weights are neither here nor to be had: no network, no such name, no room.
CANNOT_LOAD: Final = (OSError, RuntimeError, ValueError, KeyError, httpx.HTTPError, pickle.UnpicklingError)

# How torch begins what it says of tensors that are another architecture's; what follows are hundreds of names.
OTHER_TENSORS: Final = "Error(s) in loading state_dict"
TOLD_AT_MOST: Final = 300
WEIGHTS_SUFFIXES: Final = (".bin", ".safetensors", ".pt", ".pth")

Forward = Callable[[torch.Tensor], torch.Tensor]


class TorchEmbedder:
    """A module of torch that gives a vector for each picture; on a GPU it works in half precision."""

    def __init__(
        self,
        name: str,
        module: torch.nn.Module,
        transform: Callable[[Image.Image], torch.Tensor],
        *,
        side: int,
        device: str,
    ) -> None:
        self.name = name
        self.side = side
        self.device = torch.device(device)
        self.module = module.eval().to(self.device)
        self._transform = transform

    def prepare(self, picture: Image.Image) -> torch.Tensor:
        """Return an RGB picture as the model takes it; may be called in several threads."""
        return self._transform(picture)

    def embed(self, prepared: Sequence[torch.Tensor]) -> NDArray[np.float32]:
        """Return the vectors (n, d); a row of what the model cannot do is not finite."""
        with torch.inference_mode():
            batch = torch.stack(list(prepared))
            if self.device.type != "cuda":
                return self._to_rows(self.forward(batch))
            batch = batch.pin_memory().to(self.device, non_blocking=True)
            with torch.autocast("cuda", dtype=torch.float16):
                rows = self._to_rows(self.forward(batch))
            # Half precision ends at 65504; a model whose numbers grow beyond that is asked again in whole.
            return rows if np.isfinite(rows).all() else self._to_rows(self.forward(batch))

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the model's answer to a batch."""
        answer = self.module(batch)
        assert isinstance(answer, torch.Tensor)
        return answer

    @staticmethod
    def _to_rows(answer: torch.Tensor) -> NDArray[np.float32]:
        return np.asarray(answer.flatten(1).float().cpu().numpy(), dtype=np.float32)


def choose_device(device: str) -> str:
    """Return torch's name of the device: the GPU where there is one and «auto», else what was asked for.

    Raises:
        LabelingError: it is not there.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device != "cpu" and not (device.startswith("cuda") and torch.cuda.is_available()):
        raise LabelingError(f"device {device!r}: is not there (use auto or cpu)")
    return device


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a file of weights, without running code from it.

    Raises:
        LabelingError: it holds something else.
    """
    with loading(str(path)):
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    for name in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise LabelingError(f"weights {str(path)!r}: expected a dictionary of tensors (a state_dict)")
    return content


def fill(module: torch.nn.Module, state: dict[str, torch.Tensor], *, head: Sequence[str], name: str) -> None:
    """Load tensors into a model that has no classifier any more; what the file has of one (``head``) is left out.

    Raises:
        LabelingError: the tensors are another architecture's.
    """
    # What training in several processes puts before every name.
    tensors = {key.removeprefix("module."): value for key, value in state.items()}
    kept = {key: value for key, value in tensors.items() if key.split(".")[0] not in head}
    with loading(name):
        module.load_state_dict(kept, strict=True)


@contextmanager
def loading(name: str) -> Iterator[None]:
    """Turn what goes wrong with weights into one sentence that says what to do."""
    try:
        yield
    except CANNOT_LOAD as error:
        if OTHER_TENSORS in str(error):
            raise LabelingError(f"{name}: these are not the weights of this architecture; {CURE}") from error
        told = shorten(str(error), TOLD_AT_MOST, placeholder=" ...") or type(error).__name__
        raise LabelingError(f"{name}: its weights cannot be loaded ({told}); {CURE}") from error


def refuse_fetching(name: str, *, is_here: bool) -> None:
    """Refuse a model whose weights would have to be fetched where nothing may be fetched.

    Raises:
        LabelingError: its weights are not here, and LABELLOOP_OFFLINE=1.
    """
    if os.environ.get("LABELLOOP_OFFLINE") == "1" and not is_here:
        raise LabelingError(f"{name}: its weights are not here, and LABELLOOP_OFFLINE=1 fetches nothing; {CURE}")


def is_in_hub_cache(repo: str) -> bool:
    """Return whether weights of a repository of Hugging Face's hub were fetched before; asks nobody."""
    from huggingface_hub.constants import HF_HUB_CACHE

    snapshots = Path(HF_HUB_CACHE) / f"models--{repo.strip('/').replace('/', '--')}" / "snapshots"
    return any(file.suffix in WEIGHTS_SUFFIXES for file in snapshots.glob("*/*"))
