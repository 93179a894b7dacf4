"""One class becomes another: in Label Studio's regions, in the ledger's records, in feedback.

Pure. Merging two classes is the same as renaming: whatever had the old name has the new one, and nothing has it twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from labels.config import Control, LabelConfig
from labels.errors import LabelConfigError, LabelingError
from labels.results import VALUE_KEYS


@dataclass(frozen=True, slots=True)
class Renaming:
    """The class of one control that becomes another; ``kind`` is the control's."""

    control: str
    kind: str
    old: str
    new: str

    def to_json(self) -> str:
        """Return it as a text; ``from_json`` is its inverse."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the renaming of a text."""
        return cls(**json.loads(text))

    @property
    def command(self) -> str:
        """The command that does it, or finishes it."""
        return f"labelloop relabel {_quote(self.old)} {_quote(self.new)} --control {_quote(self.control)}"


def _quote(text: str) -> str:
    return text if text.replace("-", "").replace("_", "").isalnum() else json.dumps(text, ensure_ascii=False)


def choose_renaming(config: LabelConfig, old: str, new: str, control: str | None) -> Renaming:
    """Return what is to be renamed: in the named control, or in the only one that has the class.

    A control that has the new class alone is right too: the end of a renaming that was interrupted.

    Raises:
        LabelConfigError: no control has the class, or several have it and none was named.
        LabelingError: the names are no two names.
    """
    new = new.strip()
    if not new or old == new or new.startswith("$"):
        raise LabelingError(f"relabel {old!r} to {new!r}: expected two different names")
    candidates = [config.control(control)] if control is not None else [one for one in config.controls if one.classes]
    found = [one for one in candidates if old in one.classes] or [one for one in candidates if new in one.classes]
    if not found:
        raise LabelConfigError(f"class {old!r} is in no control of label_config.xml{_describe(candidates)}")
    if len(found) > 1:
        names = ", ".join(one.name for one in found)
        raise LabelConfigError(f"several controls have the class {old!r} ({names}): name one with --control")
    return Renaming(found[0].name, found[0].kind, old, new)


def _describe(controls: Sequence[Control]) -> str:
    known = [name for control in controls for name in control.classes]
    return f" (known: {', '.join(known[:12])}{', …' if len(known) > 12 else ''})" if known else ""


def rename_regions(result: Sequence[Any], renaming: Renaming) -> list[Any] | None:
    """Return Label Studio's regions with the new name; None where none of them has the old one.

    Whatever else is in a region, or is no region at all, stays as it is.
    """
    renamed = [_rename_region(region, renaming) for region in result]
    return renamed if any(after is not before for after, before in zip(renamed, result, strict=True)) else None


def _rename_region(region: Any, renaming: Renaming) -> Any:
    key = VALUE_KEYS[renaming.kind]
    value = region.get("value") if isinstance(region, Mapping) else None
    if not isinstance(value, Mapping) or region.get("from_name") != renaming.control:
        return region
    names = value.get(key)
    if not isinstance(names, list) or renaming.old not in names:
        return region
    return {**region, "value": {**value, key: rename_classes(names, renaming)}}


def rename_classes(names: Sequence[str], renaming: Renaming) -> list[str]:
    """Return the names with the new one for the old one, each once.

    >>> rename_classes(["a", "b", "c"], Renaming("q", "Choices", "a", "c"))
    ['c', 'b']
    """
    return list(dict.fromkeys(renaming.new if name == renaming.old else name for name in names))


def rename_records(text: str | None, renaming: Renaming) -> str | None:
    """Return a ledger's JSON of a label, or of a list of labels, with the new name.

    >>> renaming = Renaming("label", "RectangleLabels", "car", "Vehicle")
    >>> rename_records('[{"classes":["car"],"control":"label","id":"1"}]', renaming)
    '[{"classes":["Vehicle"],"control":"label","id":"1"}]'
    """
    if text is None:
        return None
    found = json.loads(text)
    if found is None:
        return text
    for record in found if isinstance(found, list) else [found]:
        if record["control"] == renaming.control and "classes" in record:
            record["classes"] = rename_classes(record["classes"], renaming)
    return json.dumps(found, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def rename_class_text(text: str | None, renaming: Renaming) -> str | None:
    """Return the class of a verdict with the new name; several choices are joined by ", "."""
    if text is None or text == renaming.old:
        return None if text is None else renaming.new
    if renaming.kind != "Choices":
        return text
    return ", ".join(rename_classes(text.split(", "), renaming))
