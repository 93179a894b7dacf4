"""Reads what the panel shows: the groups by what is to be decided, the images of one group, pairs at a distance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from fiftyone import ViewField as F

from fiftyone_plugins.app.markdown import MARKDOWN_SIGNS
from fiftyone_plugins.duplicates.collecting import find_label_fields, find_splits
from fiftyone_plugins.duplicates.deciding import is_decided
from fiftyone_plugins.duplicates.fingerprint_store import to_folder
from fiftyone_plugins.duplicates.scanning import EXAMPLES_FILE
from labels import fields

FILTERS: Final = {
    "all": "All groups",
    "undecided": "Undecided",
    "leaks": "Across splits",
    "differs": "Other labels",
}
MOST_CARDS: Final = 24
PAIRS_SHOWN: Final = 6
LABELS_SHOWN: Final = 6
NAME_SHOWN: Final = 24
"""So many letters of a file's name fit below an image."""

IN_WORDS: Final = {"keep": "✓ kept", "drop": "✗ dropped", "apart": "set apart"}


def read_groups(dataset: Any, latest: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the names of the groups for each of ``FILTERS``: leaks first, then with other labels, then large ones."""
    if not dataset.has_sample_field(fields.DUPLICATE_GROUP):
        return {name: [] for name in FILTERS}
    paths = ["id", fields.DUPLICATE_GROUP, fields.DUPLICATE_LEAK, fields.DUPLICATE_DIFFERS]
    columns = dataset.exists(fields.DUPLICATE_GROUP).values(paths)
    # Who is left alone, since the others were deleted, is no group any more.
    facts: dict[str, tuple[bool, bool, list[str]]] = {}
    for sample_id, group, is_leak, differs in zip(*columns, strict=True):
        facts.setdefault(group, (is_leak is True, differs is True, []))[2].append(sample_id)
    facts = {name: fact for name, fact in facts.items() if len(fact[2]) > 1}
    ranked = sorted(facts, key=lambda name: (not facts[name][0], not facts[name][1], -len(facts[name][2]), name))
    return {
        "all": ranked,
        "undecided": [name for name in ranked if not is_decided(latest.get(one) for one in facts[name][2])],
        "leaks": [name for name in ranked if facts[name][0]],
        "differs": [name for name in ranked if facts[name][1]],
    }


def read_cards(
    dataset: Any, group: str, latest: Mapping[str, str], *, most: int | None = MOST_CARDS
) -> list[dict[str, Any]]:
    """Return the images of a group, or ``most`` of them, the best first, with what is said under each."""
    label_fields = find_label_fields(dataset)
    paths = {
        "sample_id": "id",
        "path": "filepath",
        "tags": "tags",
        "width": "metadata.width",
        "height": "metadata.height",
        "likeness": fields.DUPLICATE_LIKENESS,
        "method": fields.DUPLICATE_METHOD,
        "is_keeper": fields.DUPLICATE_KEEPER,
        "is_leak": fields.DUPLICATE_LEAK,
        "differs": fields.DUPLICATE_DIFFERS,
    }
    if dataset.has_sample_field(fields.REVIEW_STATE):
        paths["review"] = fields.REVIEW_STATE
    if dataset.has_sample_field(fields.SOURCE_PATH):
        paths["source"] = fields.SOURCE_PATH
    members = dataset.match(F(fields.DUPLICATE_GROUP) == group)
    columns = members.values([*paths.values(), *label_fields.values()])
    cards = []
    for row in zip(*columns, strict=True):
        card: dict[str, Any] = dict(zip(paths, row, strict=False))
        said = dict(zip(label_fields, row[len(paths) :], strict=True))
        cards.append(_to_card(card, said, latest.get(card["sample_id"])))
    cards.sort(key=_rank)
    return cards[:most]


def read_examples(dataset: Any, folder: Path, distance: float) -> list[dict[str, Any]]:
    """Return the pairs nearest to a distance of embeddings, in the order of their distances."""
    try:
        listed = json.loads((to_folder(folder, dataset.name) / EXAMPLES_FILE).read_text(encoding="utf-8"))["pairs"]
    except (OSError, ValueError, KeyError):
        return []
    nearest = sorted(listed, key=lambda pair: (abs(pair["distance"] - distance), pair["first"], pair["second"]))
    chosen = sorted(nearest[:PAIRS_SHOWN], key=lambda pair: pair["distance"])
    ids = [pair[side] for pair in chosen for side in ("first", "second")]
    files = dict(zip(*dataset.select(ids).values(["id", "filepath"]), strict=True)) if ids else {}
    return [
        pair
        | {f"{side}_picture": to_picture(files[pair[side]]) for side in ("first", "second")}
        | {"text": f"distance **{pair['distance']:.3f}**\n\nthe pictures are {max(pair['likeness'], 0):.0%} alike"}
        for pair in chosen
        if pair["first"] in files and pair["second"] in files
    ]


def to_picture(path: str) -> str:
    """Return the address at which the App serves a file."""
    return f"/media?filepath={quote(path, safe='')}"


def shorten(name: str, most: int = NAME_SHOWN) -> str:
    """Return a file's name with its middle left out where it is long: beginning and end tell files apart.

    >>> shorten("holiday_in_the_mountains_0001.jpg", 16)
    'holiday_…001.jpg'
    """
    if len(name) <= most:
        return name
    end = (most - 1) // 2
    return f"{name[: most - 1 - end]}…{name[-end:]}"


def _to_card(card: dict[str, Any], said: Mapping[str, Any], decision: str | None) -> dict[str, Any]:
    # A converted image is a copy named by its sum; people know the file it was made of.
    name = Path(card.get("source") or card["path"]).name
    splits = find_splits(card["tags"])
    size = f"{card['width']} × {card['height']}" if card["width"] and card["height"] else None
    likeness = None if card["likeness"] is None else f"{card['method']} {card['likeness']:.0%}"
    facts = [one for one in (size, likeness, *splits, card.get("review")) if one is not None]
    lines = [
        f"{'★ ' if card['is_keeper'] else ''}**{_escape(shorten(name))}**",
        _escape(" · ".join(facts)),
        _describe_labels(said),
    ]
    if decision is not None:
        lines.append(f"**{IN_WORDS[decision]}**")
    kept = ("sample_id", "is_keeper", "is_leak", "differs", "likeness")
    return {key: card[key] for key in kept} | {
        "is_reviewed": card.get("review") == fields.REVIEWED,
        "is_labelled": any(said.values()),
        "pixels": (card["width"] or 0) * (card["height"] or 0),
        "name": name,
        "picture": to_picture(card["path"]),
        "splits": splits,
        "decision": decision,
        "text": "\n\n".join(line for line in lines if line),
    }


def _rank(card: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what the best card is the lowest of: the proposed one, then as keepers are proposed."""
    return (
        not card["is_keeper"],
        not card["is_reviewed"],
        not card["is_labelled"],
        -card["pixels"],
        -(card["likeness"] or 0),
        card["name"],
    )


def _describe_labels(said: Mapping[str, Any]) -> str:
    parts = []
    for value in said.values():
        if isinstance(value, str):
            parts.append(value)
        elif value is not None:
            names = sorted(str(one) for one in value)
            counted = [f"{names.count(name)} {name}" for name in sorted(set(names))]
            parts.append(", ".join(counted[:LABELS_SHOWN]) or "nothing on it")
    return _escape("labels: " + "; ".join(parts)) if parts else ""


def _escape(text: str) -> str:
    return MARKDOWN_SIGNS.sub(r"\\\1", text)
