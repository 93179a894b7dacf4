"""Samples by the names that people type: an id, or the name of an image's file where only one image has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from labels.errors import LabelingError
from labels.report import Failure

if TYPE_CHECKING:
    from sync.catalogue.dataset import Dataset

IDS_SHOWN: Final = 5
EXPECTED: Final = "expected the id of a sample, as the FiftyOne App shows it, or the name of its file"


@dataclass(frozen=True, slots=True)
class Named:
    """The samples that were meant, each once and in their order, and a failure for every other name."""

    sample_ids: list[str]
    failed: tuple[Failure, ...]


def find_named(dataset: Dataset, names: Sequence[str]) -> Named:
    """Return the samples of these ids and file names; with folders in front, a name need not be the only one.

    Raises:
        LabelingError: names were given, and none of them is a sample's.
        ServiceError: MongoDB does not answer.
    """
    wanted = list(dict.fromkeys(names))
    present = set(dataset.prediction_versions(wanted))
    others = [name for name in wanted if name not in present]
    by_file = dataset.ids_of_files(others) if others else {}
    found = {name: [name] if name in present else by_file.get(name, []) for name in wanted}
    failed = [Failure(f"sample {name}", _describe(ids)) for name, ids in found.items() if len(ids) != 1]
    if wanted and len(failed) == len(wanted):
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise LabelingError(f"{failed[0].item}: {failed[0].problem}{more}")
    return Named(list(dict.fromkeys(ids[0] for ids in found.values() if len(ids) == 1)), tuple(failed))


def _describe(sample_ids: Sequence[str]) -> str:
    if not sample_ids:
        return f"is not in the dataset; {EXPECTED}"
    more = ", …" if len(sample_ids) > IDS_SHOWN else ""
    return f"{len(sample_ids)} images have this name; give the id of one: {', '.join(sample_ids[:IDS_SHOWN])}{more}"
