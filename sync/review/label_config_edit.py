"""Renames a class in the text of a label config: first both names are in it, in the end the new one alone.

Pure. The rest of the text stays as it is, to the byte: comments, indentation, attributes labelloop knows nothing of.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from xml.parsers import expat  # nosec: only texts that LabelConfig has read, which goes through defusedxml
from xml.sax.saxutils import quoteattr  # nosec: writes

from labels.config import CLASS_TAGS, LabelConfig
from labels.errors import LabelConfigError

START_TAG: Final = re.compile(rb"<(?:[^<>\"']|\"[^\"]*\"|'[^']*')*>")
# Two classes of one control cannot share these.
OWN_ATTRIBUTES: Final = ("hotkey", "model_index")


@dataclass(frozen=True, slots=True)
class _Element:
    """One class's element: its place in the text, in bytes, and its attributes."""

    tag: str
    attributes: Mapping[str, str]
    start: int
    end: int
    start_tag_end: int

    @property
    def name(self) -> str:
        return self.attributes.get("alias") or self.attributes.get("value") or ""


def add_class(xml: str, control: str, old: str, new: str) -> str:
    """Return the config with both classes. What the model's classes for the old one are is then the new one.

    A new class gets the old one's place and attributes, its key among them; one that is there already stays where it
    is. A second time nothing changes.

    Raises:
        LabelConfigError: the config has no such control, or not the old class in it.

    >>> xml = '<View><Image name="i" value="$i"/><Choices name="q" toName="i"><Choice value="a"/></Choices></View>'
    >>> LabelConfig.from_xml(add_class(xml, "q", "a", "b")).control("q").classes
    ('b', 'a')
    """
    LabelConfig.from_xml(xml).control(control)
    before = _find(xml, control, old)
    if before is None:
        raise LabelConfigError(f"class {old!r} is not in control {control!r}")
    present = _find(xml, control, new)
    kept = {
        name: value for name, value in before.attributes.items() if name not in (*OWN_ATTRIBUTES, "predicted_values")
    }
    text = xml.encode()
    if present is None:
        attributes = {name: value for name, value in before.attributes.items() if name not in ("alias", "value")}
        attributes = {"value": new, **attributes, "predicted_values": _join_aliases(before, None)}
        text = _replace(
            text, before, _write(before, attributes) + _indent_of(text, before) + _write(before, kept, text)
        )
    else:
        own = {name: before.attributes[name] for name in OWN_ATTRIBUTES if name in before.attributes}
        attributes = {**present.attributes, **(own | dict(present.attributes))}
        attributes["predicted_values"] = _join_aliases(before, present)
        # The later one first, so that the place of the other stays right.
        for element, written in sorted([(before, kept), (present, attributes)], key=lambda pair: -pair[0].start):
            text = _replace(text, element, _write(element, written, text))
    return _checked(text)


def remove_class(xml: str, control: str, old: str) -> str:
    """Return the config without a class; without change where it does not have it.

    Raises:
        LabelConfigError: it is the control's only class, or the config has no such control.
    """
    LabelConfig.from_xml(xml).control(control)
    element = _find(xml, control, old)
    if element is None:
        return xml
    text = xml.encode()
    start = element.start - len(_indent_of(text, element))
    return _checked(text[:start] + text[element.end :])


def _checked(text: bytes) -> str:
    xml = text.decode()
    LabelConfig.from_xml(xml)
    return xml


def _join_aliases(before: _Element, present: _Element | None) -> str:
    """Return the model's classes the new class stands for: its own, then the old one's name and the old one's own."""
    given = [present.attributes.get("predicted_values", "")] if present is not None else []
    given += [before.name.replace(",", " "), before.attributes.get("predicted_values", "")]
    names = [name.strip() for part in given for name in part.split(",") if name.strip()]
    return ",".join(dict.fromkeys(names))


def _write(element: _Element, attributes: Mapping[str, str], text: bytes | None = None) -> bytes:
    """Return the element with these attributes, and with what is in it where its text is given."""
    start = f"<{element.tag} " + " ".join(f"{name}={quoteattr(value)}" for name, value in attributes.items())
    if text is None or element.start_tag_end == element.end:
        return (start + "/>").encode()
    return (start + ">").encode() + text[element.start_tag_end : element.end]


def _replace(text: bytes, element: _Element, new: bytes) -> bytes:
    return text[: element.start] + new + text[element.end :]


def _indent_of(text: bytes, element: _Element) -> bytes:
    """Return the line break and the blanks before an element that begins a line; empty where it does not."""
    line_start = text.rfind(b"\n", 0, element.start)
    blanks = text[line_start + 1 : element.start]
    if line_start < 0 or blanks.strip():
        return b""
    has_return = text[line_start - 1 : line_start] == b"\r"
    return text[line_start - has_return : element.start]


def _find(xml: str, control: str, name: str) -> _Element | None:
    return next((one for one in _list_classes(xml, control) if one.name == name), None)


def _list_classes(xml: str, control: str) -> list[_Element]:
    """Return the elements of a control's classes, with their places."""
    text = xml.encode()
    parser = expat.ParserCreate("utf-8")
    found: list[_Element] = []
    open_elements: list[tuple[str, dict[str, str], int]] = []

    def begin(tag: str, attributes: dict[str, str]) -> None:
        open_elements.append((tag, attributes, parser.CurrentByteIndex))

    def end(tag: str) -> None:
        _, attributes, start = open_elements.pop()
        holder = next(
            (one for one in open_elements if one[1].get("name") == control and one[1].get("toName") is not None), None
        )
        if holder is None or tag != CLASS_TAGS.get(holder[0], "Label"):
            return
        start_tag = START_TAG.match(text, start)
        assert start_tag is not None
        is_closed = start_tag.group().endswith(b"/>")
        end_at = start_tag.end() if is_closed else text.index(b">", parser.CurrentByteIndex) + 1
        found.append(_Element(tag, attributes, start, end_at, start_tag.end()))

    handlers: Any = parser
    handlers.StartElementHandler, handlers.EndElementHandler = begin, end
    parser.Parse(text, True)
    return found
