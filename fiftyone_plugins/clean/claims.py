"""What is claimed of an image: by its folder, a tag, a field, or of all of them at once. Knows no detector.

A claim is True (it holds one of the classes), False (it holds none), or None: nothing is claimed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from labels.errors import LabelingError

Kind = Literal["all", "folder", "tag", "field"]
EXPECTED: Final = "expected all, folder, folder:NAME, tag:NAME, field:NAME or field:NAME=VALUE"


@dataclass(frozen=True, slots=True)
class Claim:
    """Where the claim stands: ``name`` is the folder's, tag's or field's, ``value`` what the field has to say.

    A folder without a name: each folder that is named like one of the classes claims to hold them.
    """

    kind: Kind
    name: str | None = None
    value: str | None = None

    @classmethod
    def from_text(cls, text: str) -> Claim:
        """Return the claim that a text names.

        Raises:
            LabelingError: it names none.

        >>> Claim.from_text("tag:people"), Claim.from_text("field:scene=street")
        (Claim(kind='tag', name='people', value=None), Claim(kind='field', name='scene', value='street'))
        """
        kind, has_name, name = text.strip().partition(":")
        if kind in ("all", "folder") and not has_name:
            return cls("all" if kind == "all" else "folder")
        if not name or kind not in ("folder", "tag", "field"):
            raise LabelingError(f"claim {text!r} is not known: {EXPECTED}")
        if kind == "folder":
            return cls("folder", name)
        if kind == "tag":
            return cls("tag", name)
        field, has_value, value = name.partition("=")
        if not field or (has_value and not value):
            raise LabelingError(f"claim {text!r} is not known: {EXPECTED}")
        return cls("field", field, value if has_value else None)

    @property
    def text(self) -> str:
        """The claim as people write it; ``from_text`` is the inverse."""
        name = "" if self.name is None else f":{self.name}"
        return f"{self.kind}{name}{'' if self.value is None else f'={self.value}'}"


def read_folder_claim(path: Path, classes: Sequence[str], name: str | None) -> bool:
    """Return whether an image lies in a folder that claims to hold the classes, at any depth.

    ``name`` is a folder's name or path; None: folders named like a class.

    >>> read_folder_claim(Path("/photos/Person/a.jpg"), ["person"], None)
    True
    >>> read_folder_claim(Path("/photos/no person/a.jpg"), ["person"], None)
    False
    """
    if name is not None and "/" in name:
        return path.is_relative_to(Path(name).expanduser().absolute())
    wanted = {to_plain(one) for one in ([name] if name is not None else classes)}
    return any(to_plain(part) in wanted for part in path.parent.parts)


def read_value_claim(value: Any, classes: Sequence[str], wanted: str | None) -> bool | None:
    """Return what a field's value claims: a text, a truth, a list of texts, or the labels of FiftyOne as a mapping.

    >>> read_value_claim("person", ["person"], None), read_value_claim(["car"], ["person"], None)
    (True, False)
    >>> read_value_claim([], ["person"], None), read_value_claim(None, ["person"], None)
    (False, None)
    """
    if value is None:
        return None
    if isinstance(value, bool) and wanted is None:
        return value
    names = {to_plain(one) for one in ([wanted] if wanted is not None else classes)}
    said: Iterable[Any] = value if isinstance(value, list | tuple) else [value]
    return any(to_plain(str(one)) in names for one in said if one is not None)


def to_plain(name: str) -> str:
    """Return a name without what people write differently: case, spaces, underscores, hyphens.

    >>> to_plain("Traffic_Light")
    'traffic light'
    """
    return re.sub(r"[\s_-]+", " ", name).strip().lower()


def read_claims(samples: Any, claim: Claim, classes: Sequence[str]) -> Mapping[str, bool | None]:
    """Return what is claimed of each sample of a dataset or view, by sample id in its order.

    Raises:
        LabelingError: the dataset has no such field, or one that claims nothing.
    """
    ids = [str(sample_id) for sample_id in samples.values("id")]
    if claim.kind == "all":
        return dict.fromkeys(ids, True)
    if claim.kind == "folder":
        found = [read_folder_claim(path, classes, claim.name) for path in read_files(samples)]
        if not any(found):
            raise LabelingError(f"no image lies in a folder named {claim.name or ' or '.join(classes)!r}")
        return dict(zip(ids, found, strict=True))
    if claim.kind == "tag":
        tagged = [claim.name in (tags or ()) for tags in samples.values("tags")]
        if not any(tagged):
            raise LabelingError(f"no image has the tag {claim.name!r}")
        return dict(zip(ids, tagged, strict=True))
    values = samples.values(_find_path(samples._dataset, str(claim.name)))
    return {key: read_value_claim(value, classes, claim.value) for key, value in zip(ids, values, strict=True)}


def read_files(samples: Any) -> list[Path]:
    """Return each sample's own file, as the person has it: not the copy that the App may show."""
    from labels import fields

    paths = samples.values("filepath")
    has_source = samples._dataset.has_sample_field(fields.SOURCE_PATH)
    sources = samples.values(fields.SOURCE_PATH) if has_source else [None] * len(paths)
    return [Path(source or path) for source, path in zip(sources, paths, strict=True)]


def _find_path(dataset: Any, name: str) -> str:
    """Return where the names of a field's labels stand."""
    import fiftyone as fo

    schema = dataset.get_field_schema()
    if name not in schema:
        raise LabelingError(f"the dataset has no field {name!r} (known: {', '.join(sorted(schema))})")
    field = schema[name]
    label = getattr(field, "document_type", None)
    if label is None:
        return name
    if label is fo.Classification:
        return f"{name}.label"
    items = getattr(label, "_LABEL_LIST_FIELD", None)
    if items is None:
        raise LabelingError(f"the field {name!r} holds {label.__name__}, of which no class can be read")
    return f"{name}.{items}.label"
