"""The work «zeroshot»: asks a CLIP which of some class names fits each image, or each crop, best.

It writes into a field of its own and never into what people said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from fiftyone_plugins.app.params import read_flag, read_path, read_text, read_texts, refuse_others
from fiftyone_plugins.app.work import Params, Tools, Work
from fiftyone_plugins.embeddings.work import embed
from fiftyone_plugins.zeroshot.agreement import Agreement
from fiftyone_plugins.zeroshot.prompts import check_classes, check_templates, compute_probabilities, embed_classes
from labels import fields
from labels.config import LabelConfig
from labels.errors import LabelingError
from labels.report import Report

JOB: Final = "zeroshot"
LABEL_CONFIG: Final = "label_config.xml"
DISAGREEMENTS_SHOWN: Final = 5
OF_THE_MODEL: Final = ("model", "weights", "patches", "device")


def read_params(params: Params) -> Mapping[str, Any]:
    """Return the arguments of ``classify``.

    Raises:
        LabelingError: a parameter cannot be used, or the model reads no text.
    """
    from fiftyone_plugins.embeddings.embedders import parse_model

    own = ("classes", "control", "templates", "compare", "unlabelled", "dry_run")
    refuse_others(params, *OF_THE_MODEL, *own)
    model, weights = read_text(params, "model") or "clip", read_path(params, "weights")
    wanted = parse_model(model, None if weights is None else str(weights))
    if not wanted.reads_text:
        raise LabelingError(f"model {model!r} reads no text: take a CLIP (clip, or open_clip:ARCHITECTURE/TAG)")
    classes = read_texts(params, "classes")
    return {
        "model": model,
        "weights": None if weights is None else str(weights),
        "patches": read_text(params, "patches"),
        "device": read_text(params, "device") or "auto",
        "classes": check_classes(classes) if classes else (),
        "control": read_text(params, "control"),
        "templates": check_templates(read_texts(params, "templates")),
        "compare": read_texts(params, "compare"),
        "unlabelled": read_text(params, "unlabelled"),
        "dry_run": read_flag(params, "dry_run"),
    }


def classify(
    samples: Any,
    tools: Tools,
    *,
    model: str,
    templates: Sequence[str],
    weights: str | None = None,
    patches: str | None = None,
    device: str = "auto",
    classes: Sequence[str] = (),
    control: str | None = None,
    compare: Sequence[str] = (),
    unlabelled: str | None = None,
    dry_run: bool = False,
) -> Report:
    """Write the most probable class of each image (or crop) with its probability, and say how it agrees with labels.

    ``classes`` empty: those of the label config's ``control``, its first Choices, else its first boxes. ``compare``
    names fields with one class an image; empty: all there are. ``unlabelled`` names a field: only samples without a
    label there.

    Raises:
        LabelingError: there are no classes, a field is not there, or the model cannot be loaded.
    """
    from fiftyone_plugins.embeddings.embedders import load_text_embedder, parse_model
    from fiftyone_plugins.embeddings.reading import read_vectors
    from fiftyone_plugins.embeddings.store import Key
    from fiftyone_plugins.zeroshot.answers import write_answers

    names = check_classes(classes or find_classes(tools.folder, control))
    if unlabelled is not None:
        samples = only_unlabelled(samples, unlabelled)
    fields_compared = _find_compared(samples, compare, patches)
    embedded = embed(samples, tools, model=model, weights=weights, patches=patches, device=device, dry_run=dry_run)
    about = f"classes: {', '.join(names)}"
    if dry_run:
        return Report(JOB, embedded.moved + embedded.unchanged, notes=(about,), is_dry_run=True)
    wanted = parse_model(model, weights)
    if embedded.moved + embedded.unchanged == 0:
        return Report(JOB, failed=embedded.failed, notes=(about, "there is no image to classify"))
    found = read_vectors(samples, tools, vectors=Key(wanted.name, patches).name)
    tools.on_progress(None, f"reading {len(names)} class names")
    reader = load_text_embedder(wanted, device=device)
    directions = embed_classes(reader, names, templates)
    probabilities = compute_probabilities(found.normalised(), directions, reader.scale)
    best = probabilities.argmax(axis=1)
    tools.on_progress(0.9, "writing the classes")
    confidences = probabilities[range(len(best)), best].tolist()
    write_answers(samples._dataset, found, [names[row] for row in best], confidences, wanted.name)
    notes = (about, *(note for one in fields_compared for note in describe(samples, patches, one)))
    return Report(JOB, moved=len(found), failed=embedded.failed, notes=notes)


def find_classes(folder: Path, control: str | None = None) -> tuple[str, ...]:
    """Return the classes of the project's label config: of a control, else of its first Choices, else of its boxes.

    Raises:
        LabelingError: there is no label config here, or none of its controls has classes.
    """
    path = folder.parent / LABEL_CONFIG
    if not path.is_file():
        raise LabelingError("there is no label config here to take classes from: give the classes")
    config = LabelConfig.read(path)
    if control is not None:
        return config.control(control).classes
    choices = (one.classes for one in config.controls if one.kind == "Choices" and one.name != "quality")
    found = next((classes for classes in choices if len(classes) > 1), config.region_classes)
    if not found:
        raise LabelingError("the label config has no classes for whole images or boxes: give the classes")
    return found


def only_unlabelled(samples: Any, field: str) -> Any:
    """Return the samples without a label in a field; a field that says «nothing is there» has said something.

    Raises:
        LabelingError: there is no such field.
    """
    if not samples.has_field(field):
        raise LabelingError(f"field {field!r}: there is none of that name")
    return samples.exists(field, False)


def describe(samples: Any, patches: str | None, other: str) -> list[str]:
    """Return in words how the answers agree with another field, and what is confused most."""
    from fiftyone_plugins.zeroshot.answers import compare_fields

    said = compare_fields(samples, patches, other)
    if said.rate is None:
        return [f"{other}: nothing to compare, no label there"]
    chance = "" if said.kappa is None else f", kappa {said.kappa:.2f}"
    first = f"agrees with {other} on {said.agreed:,} of {said.compared:,} ({said.rate:.0%}{chance})"
    return [first, *_describe_confusions(said, other)]


def _describe_confusions(said: Agreement, other: str) -> list[str]:
    shown = said.disagreements()[:DISAGREEMENTS_SHOWN]
    return [f"{fields.ZERO_SHOT} says {first}, {other} says {second}: {count}" for first, second, count in shown]


def _find_compared(samples: Any, asked: Sequence[str], patches: str | None) -> list[str]:
    from fiftyone_plugins.zeroshot.answers import list_class_fields

    if patches is not None:
        return [patches]
    known = list_class_fields(samples)
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise LabelingError(
            f"field {unknown[0]!r}: has no class of the image (those that have: {', '.join(known) or 'none'})"
        )
    return list(asked) or known


ZEROSHOT = Work(read_params, classify)
