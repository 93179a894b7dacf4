"""The order of fields in the App's sidebar: what a curator reads first stands first."""

from __future__ import annotations

from typing import Any, Final

import fiftyone as fo

from labels import fields

REVIEW_GROUP: Final = (
    fields.REVIEW_STATE,
    fields.UNCERTAINTY,
    fields.U_SUM,
    fields.U_DISAGREE,
    fields.U_RARE,
    fields.REVIEWER,
    fields.REVIEWED_AT,
    fields.ANNOTATORS,
    fields.DISAGREEMENT,
    fields.TASK_ID,
)
FILE_GROUP: Final = (fields.MODEL_VERSION, fields.IMAGE_SHA256, fields.SOURCE_PATH)


def group_sidebar(dataset: Any) -> None:
    """Give a new dataset a group for the review, and a closed one for what only programs read."""
    groups = fo.DatasetAppConfig.default_sidebar_groups(dataset)
    for group in groups:
        group.paths = [path for path in group.paths if path not in (*REVIEW_GROUP, *FILE_GROUP)]
        if group.name == "metadata":
            group.expanded = False
    place = 1 + next((number for number, group in enumerate(groups) if group.name == "labels"), 0)
    groups.insert(place, fo.SidebarGroupDocument(name="review", paths=list(REVIEW_GROUP), expanded=True))
    groups.append(fo.SidebarGroupDocument(name="files", paths=list(FILE_GROUP), expanded=False))
    dataset.app_config.sidebar_groups = groups
    dataset.save()
