"""The label config: the one place where class names are written, read from Label Studio's XML.

Holds which controls there are, their classes in order, which model classes stand for them, and thresholds. A config
with a part that labelloop cannot carry is refused when it is read, so that nothing drawn with it is lost later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from labels.errors import LabelConfigError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element  # nosec: for its type alone; reading goes through defusedxml

REGION_KINDS: Final = ("RectangleLabels", "PolygonLabels", "KeyPointLabels", "BrushLabels")
IMAGE_KINDS: Final = ("Choices", "Rating")
KINDS: Final = REGION_KINDS + IMAGE_KINDS
CLASS_TAGS: Final = {"Choices": "Choice"}
# Controls that only help to draw and never leave anything in an annotation.
SILENT_TAGS: Final = ("Filter", "Zoom", "Magicwand", "Magnifier")
# Sample fields of FiftyOne and of ours: an image-level control is a field of its own name.
RESERVED_NAMES: Final = frozenset(
    {
        "id",
        "filepath",
        "tags",
        "metadata",
        "created_at",
        "last_modified_at",
        "ground_truth",
        "predictions",
        "uncertainty",
        "review_state",
        "task_id",
        "reviewer",
        "reviewed_at",
        "image_sha256",
        "source_path",
        "model_version",
        "annotators",
        "disagreement",
        "embedding",
        "mistakenness",
        "duplicate_group",
        "aesthetic_mean",
        "clean_outcome",
        "clean_score",
        "clean_confidence",
        "clean_seen",
        "clean_about",
        "quality_proposal",
        "quality_reason",
        "quality_stamp",
        "u_sum",
        "u_disagree",
        "u_rare",
    }
)
DEFAULT_MAX_RATING: Final = 5


@dataclass(frozen=True, slots=True)
class Control:
    """One control of the label config, with its classes in the order of the file.

    ``aliases`` maps lower-cased names (the class's own and its ``predicted_values``) to the class; ``is_multiple``
    tells whether several choices may be ticked at once. ``score_threshold`` is the control's, ``thresholds`` are those
    of single classes. ``model_indices`` maps the numbers of a pose model's key points to classes. ``is_smart``: what is
    drawn with it while Auto-Annotation is on is sent to the ML backend.
    """

    name: str
    kind: str
    to_name: str
    classes: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    score_threshold: float | None = None
    max_rating: int | None = None
    is_multiple: bool = False
    thresholds: Mapping[str, float] = field(default_factory=dict)
    model_indices: Mapping[int, str] = field(default_factory=dict)
    is_smart: bool = False

    @property
    def is_region(self) -> bool:
        """Whether the control draws shapes; the others speak of the whole image."""
        return self.kind in REGION_KINDS

    def class_for(self, model_class: str) -> str | None:
        """Return the class a model's class stands for, whatever its case, or None when no class maps to it.

        >>> Control("label", "RectangleLabels", "image", ("Car",), {"car": "Car", "truck": "Car"}).class_for("TRUCK")
        'Car'
        """
        return self.aliases.get(model_class.strip().lower())


@dataclass(frozen=True, slots=True)
class LabelConfig:
    """A parsed label config; ``xml`` is the text it was read from."""

    xml: str
    controls: tuple[Control, ...]
    image_key: str

    @classmethod
    def read(cls, path: Path) -> LabelConfig:
        """Return the config of a file.

        Raises:
            LabelConfigError: the file cannot be read, or ``from_xml`` refuses it.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise LabelConfigError(f"{path}: cannot be read ({error})") from error
        try:
            return cls.from_xml(text)
        except LabelConfigError as error:
            raise LabelConfigError(f"{path}: {error}") from error

    @classmethod
    def from_xml(cls, text: str) -> LabelConfig:
        """Return the config of an XML text.

        Raises:
            LabelConfigError: no XML, not exactly one image, no control, a name or class given twice, or a control that
                labelloop cannot carry.
        """
        try:
            root = ElementTree.fromstring(text)
        except (ElementTree.ParseError, DefusedXmlException, ValueError) as error:
            raise LabelConfigError(f"the label config is not valid XML ({error})") from error
        image_name, image_key = _read_image(root)
        controls = tuple(_read_controls(root, image_name))
        if not controls:
            raise LabelConfigError(f"the label config has no control (expected one of {', '.join(KINDS)})")
        names = [control.name for control in controls]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise LabelConfigError(f"control name {doubled[0]!r} is used twice")
        return cls(text, controls, image_key)

    def control(self, name: str) -> Control:
        """Return the control of that name.

        Raises:
            LabelConfigError: there is none.
        """
        for control in self.controls:
            if control.name == name:
                return control
        known = ", ".join(control.name for control in self.controls)
        raise LabelConfigError(f"control {name!r} is not in label_config.xml (known: {known})")

    @property
    def region_classes(self) -> tuple[str, ...]:
        """Classes of all drawing controls, each once, in the order of the file: the class order of every export."""
        classes = (name for control in self.controls if control.is_region for name in control.classes)
        return tuple(dict.fromkeys(classes))

    @property
    def box_control(self) -> Control | None:
        """The first RectangleLabels control; None when boxes cannot be drawn."""
        return next((control for control in self.controls if control.kind == "RectangleLabels"), None)


def default_label_config_path() -> Path:
    """Return the label_config.xml that comes with labelloop."""
    here = Path(__file__).resolve().parent
    packaged = here / "label_config.xml"
    return packaged if packaged.exists() else here.parent / "label_config.xml"


def _read_image(root: Element) -> tuple[str, str]:
    images = list(root.iter("Image"))
    if len(images) != 1:
        raise LabelConfigError(f"the label config has {len(images)} <Image> tags (expected exactly one)")
    name, value = images[0].get("name", ""), images[0].get("value", "")
    if not name or not value.startswith("$") or len(value) < 2:
        raise LabelConfigError('<Image> needs a name and a value such as "$image"')
    return name, value[1:]


def _read_controls(root: Element, image_name: str) -> Iterator[Control]:
    for element in root.iter():
        if element.get("toName") is None or element.tag in SILENT_TAGS:
            continue
        yield _read_control(element, image_name)


def _read_control(element: Element, image_name: str) -> Control:
    name, kind, to_name = element.get("name", ""), str(element.tag), element.get("toName", "")
    where = f"<{kind} name={name!r}>"
    if kind not in KINDS:
        raise LabelConfigError(f"{where} is not supported (supported: {', '.join(KINDS)})")
    if to_name != image_name:
        raise LabelConfigError(f"{where} points to {to_name!r} (expected the image, {image_name!r})")
    if not name:
        raise LabelConfigError(f"{where} has no name")
    if kind in IMAGE_KINDS and name in RESERVED_NAMES:
        raise LabelConfigError(f"{where}: this name is taken by a field of FiftyOne or labelloop, choose another")
    if _is_true(element, "perRegion") or _is_true(element, "perItem"):
        raise LabelConfigError(f"{where}: perRegion and perItem are not supported")
    if kind in REGION_KINDS and element.get("choice", "single") != "single":
        raise LabelConfigError(f"{where}: several classes on one region are not supported (expected choice='single')")
    classes, aliases = _read_classes(element, where)
    if not classes and kind != "Rating":
        raise LabelConfigError(f"{where} has no classes")
    return Control(
        name=name,
        kind=kind,
        to_name=to_name,
        classes=classes,
        aliases=aliases,
        score_threshold=_read_threshold(element, where),
        max_rating=_read_max_rating(element, where) if kind == "Rating" else None,
        is_multiple=kind == "Choices" and element.get("choice", "single") == "multiple",
        thresholds=_read_thresholds(element, where),
        model_indices=_read_model_indices(element, where),
        is_smart=kind in REGION_KINDS and _is_true(element, "smart"),
    )


def _is_true(element: Element, attribute: str) -> bool:
    return element.get(attribute, "false").lower() == "true"


def _read_classes(element: Element, where: str) -> tuple[tuple[str, ...], dict[str, str]]:
    classes: list[str] = []
    aliases: dict[str, str] = {}
    predicted: list[tuple[str, str]] = []
    for child in _iter_classes(element):
        name = _name_of(child)
        if not name or name.startswith("$"):
            raise LabelConfigError(f"{where} has a class without a fixed name ({name!r})")
        if name in classes:
            raise LabelConfigError(f"{where}: class {name!r} is given twice")
        classes.append(name)
        aliases.setdefault(name.lower(), name)
        predicted += [(value.strip().lower(), name) for value in child.get("predicted_values", "").split(",")]
    for value, name in predicted:
        if value:
            aliases.setdefault(value, name)
    return tuple(classes), aliases


def _iter_classes(element: Element) -> Iterator[Element]:
    return element.iter(CLASS_TAGS.get(str(element.tag), "Label"))


def _name_of(child: Element) -> str:
    # Label Studio writes the alias, when there is one, in place of the value.
    return child.get("alias") or child.get("value") or ""


def _read_thresholds(element: Element, where: str) -> dict[str, float]:
    found = {
        _name_of(child): _read_threshold(child, f"{where}, {_name_of(child)!r}") for child in _iter_classes(element)
    }
    return {name: threshold for name, threshold in found.items() if threshold is not None}


def _read_model_indices(element: Element, where: str) -> dict[int, str]:
    indices: dict[int, str] = {}
    for child in _iter_classes(element):
        text = child.get("model_index")
        if text is None:
            continue
        if not text.isdigit() or int(text) in indices:
            raise LabelConfigError(f"{where}: model_index {text!r} (expected a whole number from 0, each one once)")
        indices[int(text)] = _name_of(child)
    return indices


def _read_threshold(element: Element, where: str) -> float | None:
    text = element.get("model_score_threshold")
    if text is None:
        return None
    try:
        threshold = float(text)
    except ValueError:
        threshold = -1.0
    if not 0 <= threshold <= 1:
        raise LabelConfigError(f"{where}: model_score_threshold {text!r} (expected a number in 0..1)")
    return threshold


def _read_max_rating(element: Element, where: str) -> int:
    text = element.get("maxRating", str(DEFAULT_MAX_RATING))
    if not text.isdigit() or int(text) < 1:
        raise LabelConfigError(f"{where}: maxRating {text!r} (expected a whole number above 0)")
    return int(text)
