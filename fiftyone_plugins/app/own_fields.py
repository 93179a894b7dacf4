"""Fields that plugins write: each says in its description whose it is, so that a person's own field stays theirs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fiftyone_plugins.app.writing import group_in_sidebar
from labels.errors import LabelingError

MARK: Final = "labelloop"
"""Begins the description of every field that labelloop's plugins write."""


def declare_own(
    dataset: Any, kinds: Mapping[str, Any], *, by: str, group: str | None = None, known: bool = False
) -> None:
    """Make the fields that the work ``by`` writes, by path and FiftyOne's class; a second time changes nothing.

    Paths with a dot are attributes of labels. ``group`` is the heading of sample fields in the App's sidebar. A field
    that is there and does not say whose it is was made by labelloop where it stands under that heading, or where the
    plugin knows otherwise that it wrote here before (``known``).

    Raises:
        LabelingError: a field of that name is a person's, or of another kind; nothing was made then.
    """
    import fiftyone as fo

    grouped = _read_group(dataset, group)
    present = {path: dataset.get_field(path) for path in kinds}
    for path, field in present.items():
        if field is not None and not (_is_ours(path, field, known or path in grouped) and _is_kind(field, kinds[path])):
            raise LabelingError(
                f"field {path!r} is there already and is not labelloop's: give it another name"
                f" (in Python: dataset.rename_sample_field({path!r}, {_rename(path)!r})), then run this again"
            )
    about = f"{MARK}: written by {by}"
    for path, kind in kinds.items():
        field = present[path]
        if field is None:
            is_labels = isinstance(kind, type) and issubclass(kind, fo.Label)
            ftype, more = (fo.EmbeddedDocumentField, {"embedded_doc_type": kind}) if is_labels else (kind, {})
            dataset.add_sample_field(path, ftype, description=about, **more)
        elif not (field.description or "").startswith(MARK):
            field.description = about
            field.save()
    if group is not None:
        group_in_sidebar(dataset, group, [path for path in kinds if "." not in path])


def _is_ours(path: str, field: Any, is_known: bool) -> bool:
    # An attribute of labels that says nothing is taken for ours: there is no heading to go by.
    return is_known or "." in path or (field.description or "").startswith(MARK)


def _is_kind(field: Any, kind: Any) -> bool:
    return isinstance(field, kind) if not hasattr(field, "document_type") else field.document_type is kind


def _read_group(dataset: Any, name: str | None) -> set[str]:
    groups = dataset.app_config.sidebar_groups or ()
    return {path for group in groups if name is not None and group.name == name for path in group.paths}


def _rename(path: str) -> str:
    root, dot, name = path.rpartition(".")
    return f"{root}{dot}my_{name}"
