"""Whether a new label config still has every class that people used. Label Studio itself does not ask."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from labels.config import LabelConfig
from labels.errors import LabelConfigError

if TYPE_CHECKING:
    from label_studio_sdk.client import LabelStudio

IMAGES_SHOWN: Final = 20
# A region's control and class; the class is None for a control without classes, such as a rating.
Use = tuple[str, str | None]


def check_image_key_stays(project: Any, config: LabelConfig) -> None:
    """Refuse a config that looks for the image under another name than the project's tasks carry it.

    Raises:
        LabelConfigError: the name differs; every task would lose its picture.
    """
    if not project.task_number or not project.label_config:
        return
    present = LabelConfig.from_xml(project.label_config).image_key
    if config.image_key != present:
        raise LabelConfigError(
            f'the image is "${config.image_key}" in the label config and "${present}" in {project.task_number} tasks, '
            f'which would lose their picture; write value="${present}"'
        )


def check_nothing_in_use_is_lost(
    client: LabelStudio, project_id: int, config: LabelConfig, *, drafts: Mapping[str, Mapping[str, int]]
) -> None:
    """Compare what the project's annotations and drafts use with a config that is to replace its own.

    `drafts` is Label Studio's count of classes in drafts, by control: an export leaves out what was never submitted.

    Raises:
        LabelConfigError: a class or control in use is not in the config; it names all of them, and the images.
    """
    tasks = json.loads(b"".join(client.projects.exports.download_sync(id=project_id, export_type="JSON")))
    uses = count_uses(tasks)
    for control, classes in drafts.items():
        uses.update({(control, name): count for name, count in classes.items()})
    lost = find_lost(uses, config)
    if lost:
        images = name_images(tasks, config.image_key)
        raise LabelConfigError(_refuse("Label Studio", lost, uses, images, config))


def check_catalogue_keeps_its_classes(dataset_name: str, present: LabelConfig, config: LabelConfig) -> None:
    """Compare what a FiftyOne dataset uses with a config that is to replace the present one.

    What a curator drew and nobody sent is in no task. FIFTYONE_DATABASE_URI must be set.

    Raises:
        LabelConfigError: a class or control in use is not in the config; it names all of them, and the images.
        ServiceError: MongoDB does not answer.
    """
    known: list[Use] = [(one.name, name) for one in present.controls for name in one.classes or (None,)]
    gone = [use for use in known if find_lost(Counter([use]), config)]
    if not gone:
        return
    # Importing FiftyOne takes seconds, and most new configs only add classes.
    from sync.catalogue.fiftyone_classes import DatasetClasses

    if not DatasetClasses.exists(dataset_name):
        return
    classes = DatasetClasses(dataset_name, present)
    samples = {use: classes.reviewed_samples(*use) for use in gone}
    uses = Counter({use: len(found) for use, found in samples.items() if found})
    lost = find_lost(uses, config)
    if lost:
        images = {use: [path.rpartition("/")[2] for path in found.values()] for use, found in samples.items()}
        raise LabelConfigError(_refuse("FiftyOne", lost, uses, images, config))


def _refuse(
    where: str, lost: Mapping[str, int], uses: Counter[Use], images: Mapping[Use, Sequence[str]], config: LabelConfig
) -> str:
    """Return why, on which images, and what to do."""
    parts = []
    for words in lost:
        names = [name for use in uses if words in find_lost(Counter([use]), config) for name in images.get(use, ())]
        parts.append(f"{words} ({_list_images(names)})")
    return (
        f"the label config lacks what is in use in {where}: {'; '.join(parts)}. Put it back, or rename the class "
        f"first: labelloop relabel OLD NEW"
    )


def _list_images(names: Sequence[str]) -> str:
    """Return how many images, and which.

    >>> _list_images(["b.jpg", "a.jpg", "b.jpg"])
    '2 images: a.jpg, b.jpg'
    """
    found = sorted(set(names))
    if not found:
        return "in drafts"
    more = f" and {len(found) - IMAGES_SHOWN} more" if len(found) > IMAGES_SHOWN else ""
    return f"{len(found)} image{'s' if len(found) > 1 else ''}: {', '.join(found[:IMAGES_SHOWN])}{more}"


def name_images(tasks: Iterable[Mapping[str, Any]], image_key: str) -> dict[Use, list[str]]:
    """Return the file names of the images on which each class of each control is used, from exported tasks."""
    images: dict[Use, list[str]] = {}
    for task in tasks:
        data = task.get("data") or {}
        name = str(data.get(image_key) or f"task {task.get('id')}").rpartition("/")[2]
        for use in count_uses([task]):
            images.setdefault(use, []).append(name)
    return images


def count_uses(tasks: Iterable[Mapping[str, Any]]) -> Counter[Use]:
    """Return how many regions of the annotations of exported tasks use each class of each control."""
    uses: Counter[Use] = Counter()
    for task in tasks:
        for annotation in task["annotations"]:
            for region in annotation["result"]:
                # A relation between two regions has no control.
                if "from_name" not in region:
                    continue
                classes = region["value"].get(region["type"])
                for name in classes if isinstance(classes, list) else [None]:
                    uses[region["from_name"], name] += 1
    return uses


def find_lost(uses: Counter[Use], config: LabelConfig) -> dict[str, int]:
    """Return what is used and not in the config, in words, with the number of regions.

    >>> config = LabelConfig.from_xml(
    ...     '<View><Image name="image" value="$image"/><RectangleLabels name="box" toName="image"><Label value="car"/>'
    ...     "</RectangleLabels></View>"
    ... )
    >>> find_lost(Counter({("box", "car"): 9, ("box", "dog"): 2, ("stars", None): 1}), config)
    {"class 'dog' of control 'box'": 2, "control 'stars'": 1}
    """
    controls = {control.name: control for control in config.controls}
    lost: dict[str, int] = {}
    for (control, name), count in sorted(uses.items(), key=str):
        if control not in controls:
            words = f"control {control!r}"
        elif name is not None and name not in controls[control].classes:
            words = f"class {name!r} of control {control!r}"
        else:
            continue
        lost[words] = lost.get(words, 0) + count
    return lost
