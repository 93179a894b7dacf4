"""Which images are reviewed, and why the others are not: what a version of the dataset is made of."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from labels import fields
from labels.errors import ItemError
from labels.report import Failure
from sync.catalogue.samples import SampleImage, SampleLabels
from sync.jobs.context import Context
from sync.ledger import Link

QUALITY_CONTROL: Final = "quality"
TRASH: Final = "trash"

TRASHED: Final = "images marked as trash"
DROPPED: Final = "images dropped as duplicates"
SKIPPED: Final = "images skipped"
REOPENED: Final = "images reopened"
LABELLED: Final = "labelled in FiftyOne, not reviewed"
NOT_REVIEWED: Final = "images not reviewed"
ONLY_ANSWERED: Final = "images with an answer and no look for objects"
CLEARED: Final = (
    "was reviewed, and its labels were cleared in FiftyOne, which says nothing: left out. pull --all brings them back; "
    "to say that nothing is there, leave an empty list"
)
FAILED_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Reviewed:
    """A reviewed image with what FiftyOne says of it; ``sha256`` is of the bytes of ``image.path``."""

    image: SampleImage
    sha256: str
    link: Link
    said: SampleLabels


@dataclass(slots=True)
class Choice:
    """The reviewed images, and why the others are none. Those that were only answered are among both.

    ``base_records`` are the labels last agreed on of the samples for which that mattered; None: never agreed.
    """

    chosen: list[Reviewed] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    base_records: dict[str, list[dict[str, Any]] | None] = field(default_factory=dict)


def choose_reviewed(context: Context) -> Choice:
    """Return the reviewed images of the catalogue.

    Whether an image was reviewed is the ledger's word; what is on it is FiftyOne's.
    """
    choice = Choice()
    images, labels, links = context.dataset.images(), context.dataset.labels(), context.ledger.links()
    unsure = [key for key in images if key in links and not _is_plain(links[key], labels.get(key))]
    agreed = context.ledger.base_records(unsure)
    choice.base_records = {key: agreed.get(key) for key in unsure}
    tags = context.dataset.field_values("tags") or {}
    for sample_id, image in images.items():
        said, link = labels.get(sample_id), links.get(sample_id)
        if _is_trash(said) or fields.TRASH_TAG in (tags.get(sample_id) or ()):
            choice.left_out[TRASHED] += 1
        elif fields.DUPLICATE_TAG in (tags.get(sample_id) or ()):
            choice.left_out[DROPPED] += 1
        elif link is None or link.state not in (fields.REVIEWED, fields.CONFLICT):
            choice.left_out[_name_reason(link, said, was_agreed=sample_id in agreed)] += 1
        else:
            _add(choice, image, link, said, agreed.get(sample_id, []))
    return choice


def _is_plain(link: Link, said: SampleLabels | ItemError | None) -> bool:
    """Return whether nothing more needs to be known: it was reviewed, and every field says something."""
    is_reviewed = link.state in (fields.REVIEWED, fields.CONFLICT)
    return is_reviewed and isinstance(said, SampleLabels) and not said.silent


def _name_reason(link: Link | None, said: SampleLabels | ItemError | None, *, was_agreed: bool) -> str:
    """Return why an image that is not reviewed is left out."""
    if link is not None and link.state == fields.SKIPPED:
        return SKIPPED
    if link is not None and was_agreed:
        return REOPENED
    is_labelled = isinstance(said, ItemError) or (said is not None and said.has_regions)
    return LABELLED if is_labelled else NOT_REVIEWED


def _add(
    choice: Choice,
    image: SampleImage,
    link: Link,
    said: SampleLabels | ItemError | None,
    base: Sequence[Mapping[str, Any]],
) -> None:
    name = (image.source_path or image.path).name
    if isinstance(said, ItemError):
        choice.failed.append(Failure(f"{name} (sample {image.sample_id})", said.problem, image.sample_id))
        return
    if said is None or any(record["control"] in said.silent for record in base):
        choice.failed.append(Failure(f"{name} (sample {image.sample_id})", CLEARED, image.sample_id))
        return
    if not said.has_regions:
        # Somebody who only said «keep» did not look for objects: that image is no negative example.
        choice.left_out[ONLY_ANSWERED] += 1
    try:
        # The catalogue knows the sum of the person's own file, a version holds the copy that browsers show.
        is_known = image.sha256 and image.source_path is None
        sha256 = image.sha256 if is_known else hashlib.sha256(image.path.read_bytes()).hexdigest()
    except OSError as error:
        problem = f"{image.path} cannot be read ({error.strerror})"
        choice.failed.append(Failure(f"{name} (sample {image.sample_id})", problem, image.sample_id))
        return
    choice.chosen.append(Reviewed(image, sha256, link, said))
    if link.state == fields.CONFLICT:
        choice.conflicts.append(f"{image.path.name}: exported with FiftyOne's labels (sample {image.sample_id})")


def describe(choice: Choice) -> Iterator[str]:
    """Yield what can be done about images that are left out."""
    if choice.left_out[LABELLED]:
        yield (
            f"{choice.left_out[LABELLED]} images are not in it: they were labelled in FiftyOne and not reviewed. Those "
            "never sent count as reviewed once push has sent their labels, the others once their task is submitted"
        )
    if choice.left_out[REOPENED]:
        yield (
            f"{choice.left_out[REOPENED]} images are not in it: their annotation was deleted in Label Studio, and they "
            "wait for a new one"
        )
    if choice.left_out[NOT_REVIEWED]:
        yield f"{choice.left_out[NOT_REVIEWED]} images are not in it: nobody has reviewed them"


def explain_nothing(choice: Choice, what: str = "export", *, advice: str | None = None) -> str:
    """Return why there is nothing to export, or whatever is done, and what to do about it.

    ``advice`` stands in place of the usual reason, that nothing is reviewed.
    """
    found = "; ".join((*describe(choice), *(f"{one.item}: {one.problem}" for one in choice.failed[:FAILED_SHOWN])))
    advice = advice or f"no image is reviewed yet, there is nothing to {what}; submit some in Label Studio and pull"
    return f"{advice} ({found})" if choice.left_out[LABELLED] or choice.left_out[REOPENED] or choice.failed else advice


def _is_trash(said: SampleLabels | ItemError | None) -> bool:
    return isinstance(said, SampleLabels) and any(
        label.control == QUALITY_CONTROL and TRASH in label.classes for label in said.labels
    )
