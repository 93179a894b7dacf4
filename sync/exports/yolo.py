"""YOLO: ``images/SPLIT``, ``labels/SPLIT`` and ``data.yaml``, as Ultralytics reads them, for each of its tasks.

The class counts from 0 in the order of the label config, numbers are in 0..1 of the image. An image that was reviewed
and shows nothing has an empty file. ``data.yaml`` names no ``path``: Ultralytics would read "." as the folder the
trainer was started in, while without one it starts at the place of the file. Where nothing is in val, ``val`` is
``train``. FiftyOne's importer reads detection with ``yaml_path="data.yaml"``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from labels.config import LabelConfig
from sync.exports.drafts import Draft, Written
from sync.exports.items import Item
from sync.exports.poses import Pose, find_pose
from sync.exports.records import ExportImage, ImagesMode
from sync.exports.yolo_lines import KINDS, TASK_NAMES, Lines, Task, to_lines
from sync.versions.version import SPLITS, Split

SPLIT: Final = "train"


def write_yolo(images: Iterable[ExportImage], draft: Draft, *, task: Task = "detect") -> Written:
    """Write the reviewed images as a YOLO data set.

    Raises:
        LabelingError: the label config has no keypoints, for ``pose``.
    """
    pose = find_pose(draft.config) if task == "pose" else None
    items = draft.prepare(images, lambda image: f"images/{image.part}")
    lines = Lines()
    for item in items:
        text = "".join(f"{line}\n" for line in to_lines(item, task, pose, lines))
        draft.stage.write(f"labels/{item.image.part}/{item.stem}.txt", text.encode())
    draft.stage.write("data.yaml", _to_yaml(draft.config, items, pose).encode())
    draft.tally.left_out += lines.left_out
    return Written(items, lines.labels, _to_notes(items, draft.order.images_mode, task, lines))


def _find_parts(items: Sequence[Item]) -> dict[Split, Split]:
    """Return which folder stands for each split: train for a val that is empty; a test that is empty is none."""
    filled = {item.image.part for item in items}
    parts: dict[Split, Split] = {"train": "train", "val": "val" if "val" in filled else "train"}
    return parts | ({"test": "test"} if "test" in filled else {})


def _to_yaml(config: LabelConfig, items: Sequence[Item], pose: Pose | None) -> str:
    lines = [f"{split}: images/{folder}" for split, folder in _find_parts(items).items()]
    classes: Sequence[str] = config.region_classes
    if pose is not None:
        classes = pose.classes
        lines += [f"kpt_shape: [{len(pose.points)}, 3]", f"flip_idx: {pose.flip_idx}"]
        lines += ["kpt_names:", *(f"  {index}: {_quote(pose.points)}" for index, _ in enumerate(classes))]
    # A JSON string is a YAML string whatever is in it; bare, a class named "no" would be read as false.
    names = [f"  {index}: {_quote(name)}" for index, name in enumerate(classes)]
    return "\n".join([*lines, "names:", *names]) + "\n"


def _quote(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _to_notes(items: Sequence[Item], images_mode: ImagesMode, task: Task, written: Lines) -> Iterator[str]:
    if all(item.image.split is None for item in items):
        yield "there is no split: val is the same as train"
    elif "val" not in {item.image.part for item in items}:
        yield "no image is in val yet: val is the same as train"
    yield from _describe(written.changed, "were written as the {} round them")
    yield from _describe(written.dropped, f"are not in it: YOLO {TASK_NAMES[task]} holds {{}} only")
    if images_mode == "none":
        parts = Counter(item.image.part for item in items)
        folders = ", ".join(f"images/{split}" for split in SPLITS if parts[split]) or f"images/{SPLIT}"
        yield f"it holds no images: put them into {folders} under the names in labelloop.json to train on it"


def _describe(counts: Counter[tuple[str, str]], end: str) -> Iterator[str]:
    for (kind, what), count in sorted(counts.items(), key=lambda entry: KINDS.index(entry[0][0])):
        yield f"{count} labels ({kind}) {end.format(what)}"
