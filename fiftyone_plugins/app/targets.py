"""Which samples a person means: the selected ones, the current view, or everything. Knows no operator types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

# Every id travels in one request and one query: more than this would not fit into either.
MOST_IDS = 500_000

Target = Literal["selected", "view", "dataset"]


def collect(dataset: Any, view: Any, selected: Sequence[str], target: Target) -> Any:
    """Return the samples that are meant; where the App shows patches, the samples they were cut from."""
    if target == "dataset" or (target == "view" and view is None):
        return dataset
    if view is None or not view._is_generated:
        # From the dataset, not the view: a selection outlives the filter it was made under.
        return to_whole(view) if target == "view" else dataset.select(list(selected))
    return to_whole(view if target == "view" else view.select(list(selected)))


def to_whole(samples: Any) -> Any:
    """Return every sample that a dataset or view shows; of patches, frames and clips, those they were cut from.

    FiftyOne keeps patches in a dataset of their own that nobody sees: what is written there is lost. Of a view that is
    grouped by a field it gives, and counts, one sample a group.
    """
    if samples._is_dynamic_groups:
        return samples.flatten()
    if not samples._is_generated:
        return samples
    return samples._root_dataset.select(list(set(samples.values("sample_id"))))


def find_media_problem(samples: Any) -> str | None:
    """Return why the plugins cannot work on a dataset or view, or None: they look at images alone."""
    if samples.media_type in (None, "image"):
        return None
    if samples.media_type == "group":
        return (
            "This dataset has several slices in a group, of which only one would be looked at: make a dataset of one of"
            " them (in Python: dataset.select_group_slices(NAME).clone())."
        )
    return f"Plugins look at images, and this dataset holds another kind of media ({samples.media_type})."


def offer_targets(dataset: Any, view: Any, selected: Sequence[str], everything: str) -> dict[Target, str]:
    """Return the choices that differ, with their labels, the narrowest first; ``everything`` is the last one's."""
    targets: dict[Target, str] = {}
    if selected:
        targets["selected"] = f"Selected samples ({len(collect(dataset, view, selected, 'selected')):,})"
    if view is not None and view != dataset.view():
        targets["view"] = f"Current view ({len(collect(dataset, view, selected, 'view')):,})"
    targets["dataset"] = everything
    return targets


def choose_target(chosen: object, targets: dict[Target, str]) -> Target:
    """Return the chosen target; the first one offered where none was chosen, or the choice is no longer offered."""
    return next((target for target in targets if target == chosen), next(iter(targets)))


def find_count_problem(count: int, target: Target) -> str | None:
    """Return why so many samples cannot be worked on in one go, or None."""
    if count == 0:
        return "There is no sample in it."
    if target != "dataset" and count > MOST_IDS:
        return f"{count:,} samples are too many for one go (at most {MOST_IDS:,}): take a smaller view."
    return None


def to_sample_params(dataset: Any, view: Any, selected: Sequence[str], target: Target) -> dict[str, Any]:
    """Return the part of a job's parameters that names its samples; nothing of it means all of them."""
    if target == "dataset":
        return {}
    return {"sample_ids": [str(sample_id) for sample_id in collect(dataset, view, selected, target).values("id")]}
