"""Which tensors of known weights fit into a new network: by name and shape; class by class where classes differ."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class ClassRows:
    """Where the classes of two networks stand among their outputs: by name, each with its number.

    ``old_outputs`` and ``new_outputs`` are how many each network tells apart, a background included.
    """

    old: Mapping[str, int]
    new: Mapping[str, int]
    old_outputs: int
    new_outputs: int

    def pairs(self) -> list[tuple[int, int]]:
        """Return (old, new) numbers of what both know, the background (0, where no class has it) too."""
        old = {name.lower(): number for name, number in self.old.items()}
        found = [(old[name.lower()], number) for name, number in self.new.items() if name.lower() in old]
        has_background = 0 not in self.old.values() and 0 not in self.new.values()
        return [*([(0, 0)] if has_background else []), *found]


def transfer_tensors(
    old: Tensors, new: Tensors, rows: ClassRows, *, counting: Collection[str], class_first: Sequence[str] = ()
) -> Tensors:
    """Return the new network's tensors with what the old one knows put in.

    Those named in ``counting`` are taken class by class. They count anchors first and classes within each, except those
    whose name contains one of ``class_first``: they count classes first.
    """
    made = {}
    for name, tensor in new.items():
        known = old.get(name)
        if known is None:
            made[name] = tensor
        elif name in counting and rows.old != rows.new:
            is_class_first = any(word in name for word in class_first)
            is_like = _is_like(known, tensor, rows)
            made[name] = _take_classes(known, tensor, rows, is_class_first=is_class_first) if is_like else tensor
        else:
            made[name] = known.to(tensor.dtype) if known.shape == tensor.shape else tensor
    return made


def _is_like(known: torch.Tensor, tensor: torch.Tensor, rows: ClassRows) -> bool:
    if known.ndim != tensor.ndim or known.shape[1:] != tensor.shape[1:] or known.shape[0] % rows.old_outputs:
        return False
    return known.shape[0] // rows.old_outputs == tensor.shape[0] // rows.new_outputs


def _take_classes(known: torch.Tensor, tensor: torch.Tensor, rows: ClassRows, *, is_class_first: bool) -> torch.Tensor:
    each = tensor.shape[0] // rows.new_outputs
    rest = tensor.shape[1:]
    old_shape = (rows.old_outputs, each) if is_class_first else (each, rows.old_outputs)
    new_shape = (rows.new_outputs, each) if is_class_first else (each, rows.new_outputs)
    axis = 0 if is_class_first else 1
    made = tensor.clone().reshape(*new_shape, *rest)
    source = known.reshape(*old_shape, *rest).to(tensor.dtype)
    for old, new in rows.pairs():
        made.select(axis, new).copy_(source.select(axis, old))
    return made.reshape(tensor.shape)
