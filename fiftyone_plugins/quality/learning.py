"""What needs votes or verdicts: training the head for ratings, and choosing examples to train a keep/trash model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from fiftyone_plugins.app.work import Tools
from fiftyone_plugins.embeddings.reading import only_current, tell_outdated
from fiftyone_plugins.embeddings.store import EmbeddingStore
from fiftyone_plugins.quality.aesthetics import compute_mean, read_histograms
from fiftyone_plugins.quality.example_folders import Example, to_part, write_folders
from fiftyone_plugins.quality.files import read_files
from fiftyone_plugins.quality.proposals import KEEP, TRASH, Rules, Scored, Word, find_limit, propose, read_scored
from labels import fields
from labels.errors import LabelingError
from labels.report import Report

Source = Literal["checks", "people", "votes"]
SOURCES: Final = ("checks", "people", "votes")
EXAMPLES: Final = "keep-trash"
CLEARLY: Final = 0.75
"""An image is a clear keep where every score is below this part of its threshold; those between are no examples."""


def learn(samples: Any, tools: Tools, *, votes: Path) -> Report:
    """Train the head for ratings on the samples that have an embedding and votes: file name without its end = image id.

    Raises:
        LabelingError: the votes cannot be read, there are no embeddings, or too few images have both.
    """
    from fiftyone_plugins.quality.aesthetic_training import train_head

    tools.on_progress(None, "reading votes")
    histograms = read_histograms(votes)
    store = EmbeddingStore(tools.folder, samples._dataset.name)
    latest = store.latest()
    if latest is None:
        raise LabelingError("no image has an embedding yet: labelloop embed computes them")
    files = read_files(samples)
    by_id = {file.sample_id: file.path.stem for file in files if file.path.stem in histograms}
    current = only_current(store.read(latest), samples)
    embeddings = current.only(list(by_id))
    tools.on_progress(None, f"training on {len(embeddings)} images")
    true = np.array([histograms[by_id[one]] for one in embeddings.ids.tolist()]).reshape(-1, 10)
    head = train_head(embeddings.model, embeddings.normalised() if len(embeddings) else embeddings.vectors, true)
    file = head.write(tools.folder)
    notes = (
        f"for embeddings of {head.model}, written to {file}",
        "on images it was not trained on: " + ", ".join(f"{name} {value:.3g}" for name, value in head.scores.items()),
        "labelloop quality rates the images of a dataset with it",
        *tell_outdated(current),
    )
    return Report("quality_learn", moved=len(embeddings), unchanged=len(files) - len(embeddings), notes=notes)


def write_examples(
    samples: Any, tools: Tools, *, source: Source, rules: Rules, votes: Path | None, out: Path | None, copy: bool
) -> Report:
    """Write ``{train,val}/{keep,trash}`` with links to the images (or copies), which trainers of classifiers read.

    The word comes from the checks, from people, or from votes; images between keep and trash are left out. One fifth
    validates; near-duplicates of one group are on one side. The same input gives the same folders; only what an
    earlier run of this wrote is replaced, and files of others in there stay.

    Raises:
        LabelingError: nothing to learn from, or the folder is somebody else's.
    """
    target = out or tools.folder / EXAMPLES / samples._dataset.name.replace("/", "_")
    tools.on_progress(None, "choosing examples")
    examples = _choose(samples, source, rules, votes)
    counts = Counter(one.word for one in examples)
    if not counts[KEEP] or not counts[TRASH]:
        raise LabelingError(
            f"there are {counts[KEEP]} images to keep and {counts[TRASH]} of trash: both are needed to learn from"
        )
    failed = write_folders(examples, target, tools.on_progress, copy=copy)
    counted = Counter((to_part(one), one.word) for one in examples)
    details = {f"{word} ({part})": count for (part, word), count in sorted(counted.items())}
    return Report(
        "quality_examples",
        moved=len(examples) - len(failed),
        unchanged=len(samples) - len(examples),
        failed=tuple(failed),
        notes=(f"written to {target}",),
        details=details,
    )


def choose_by_checks(scored: Sequence[Scored], rules: Rules) -> dict[str, tuple[Word, str]]:
    """Return word and reason of the samples about which the checks are sure, by sample id; people's words are left out.

    >>> scored = [Scored("1", {"dark": 0.9, "corrupt": 0.0}), Scored("2", {"dark": 0.7, "corrupt": 0.0})]
    >>> choose_by_checks([*scored, Scored("3", {"dark": 0.1, "corrupt": 0.0})], Rules({"dark": 0.8}))
    {'1': ('trash', 'dark 0.90'), '3': ('keep', 'no check speaks against it')}
    """
    chosen: dict[str, tuple[Word, str]] = {}
    for one, proposal in zip(scored, propose(scored, rules), strict=True):
        known = [(one.scores.get(name), threshold) for name, threshold in rules.thresholds.items()]
        is_clear = all(score is None or score < CLEARLY * threshold for score, threshold in known)
        # What cannot be decoded teaches nobody anything.
        if proposal.word is None or one.scores.get("corrupt") == 1.0:
            continue
        if proposal.word == TRASH:
            chosen[one.sample_id] = ("trash", proposal.reason or "")
        elif is_clear:
            chosen[one.sample_id] = ("keep", "no check speaks against it")
    return chosen


def choose_by_votes(means: Mapping[str, float], rules: Rules, *, gap: float = 0.25) -> dict[str, tuple[Word, str]]:
    """Return word and reason by sample id: trash below the rules' rating, keep above it, nothing within the gap.

    >>> choose_by_votes({"1": 4.0, "2": 5.9, "3": 7.0}, Rules({}, below_mean=6))
    {'1': ('trash', 'rated 4.0 of 10'), '3': ('keep', 'rated 7.0 of 10')}
    """
    limit = find_limit(means.values(), rules)
    if limit is None:
        raise LabelingError("give a rating from 1 to 10, or a percentage, below which an image is trash")
    words: dict[str, tuple[Word, str]] = {}
    for sample_id, mean in means.items():
        if abs(mean - limit) >= gap:
            words[sample_id] = ("trash" if mean < limit else "keep", f"rated {mean:.1f} of 10")
    return words


def _choose(samples: Any, source: Source, rules: Rules, votes: Path | None) -> list[Example]:
    files = read_files(samples)
    if source == "votes":
        if votes is None:
            raise LabelingError("give the file with the votes")
        histograms = read_histograms(votes)
        found = {one.sample_id: histograms[one.path.stem] for one in files if one.path.stem in histograms}
        words = choose_by_votes({key: compute_mean(histogram) for key, histogram in found.items()}, rules)
    elif source == "people":
        words = {one.sample_id: (one.said, "a person said so") for one in read_scored(samples) if one.said is not None}
    else:
        words = choose_by_checks(read_scored(samples), rules)
    groups = _read_groups(samples, len(files))
    return [
        Example(one.sample_id, one.path, *words[one.sample_id], group or one.sample_id)
        for one, group in zip(files, groups, strict=True)
        if one.sample_id in words
    ]


def _read_groups(samples: Any, count: int) -> list[str | None]:
    if not samples._dataset.has_sample_field(fields.DUPLICATE_GROUP):
        return [None] * count
    return list(samples.values(fields.DUPLICATE_GROUP))
