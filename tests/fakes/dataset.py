"""A FiftyOne dataset in memory, with the interface of ``sync/catalogue/dataset.py`` and what a curator does.

``tests/e2e/test_contract.py`` plays one script to both and compares.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from labels import fields
from labels.config import Control, LabelConfig
from labels.errors import ItemError
from labels.geometry import ImageSize
from labels.results import Label
from sync.catalogue.samples import NewImage, Reviewer, SampleImage, SampleLabels, SamplePrediction, SampleState
from tests.fakes.clock import FakeClock

SHAPES = {"RectangleLabels": "boxes", "BrushLabels": "boxes", "PolygonLabels": "outlines", "KeyPointLabels": "points"}


@dataclass
class FakeSample:
    """One sample. ``said`` holds the labels by field; a field that is not in it was never set, or cleared.

    ``size`` None: not known.
    """

    image: NewImage
    modified_at: datetime
    size: ImageSize | None
    said: dict[str, tuple[Label, ...]] = field(default_factory=dict)
    prediction: SamplePrediction | None = None
    state: SampleState = field(default_factory=lambda: SampleState(None, None))
    reviewer: Reviewer | None = None
    tags: frozenset[str] = frozenset()
    values: dict[str, object] = field(default_factory=dict)


class FakeDataset:
    """The catalogue; sample ids are 24 hexadecimal digits as FiftyOne's are."""

    def __init__(self, config: LabelConfig, clock: FakeClock) -> None:
        self._config = config
        self._clock = clock
        self.samples: dict[str, FakeSample] = {}
        self.sources: dict[str, str] = {}
        self._given = 0
        # Boxes and masks share one field, each answer about the image has its own; shapes come first.
        controls = sorted(config.controls, key=lambda one: [*SHAPES].index(one.kind) if one.is_region else len(SHAPES))
        self._fields: dict[str, list[Control]] = {}
        for control in controls:
            self._fields.setdefault(SHAPES.get(control.kind, control.name), []).append(control)

    @property
    def name(self) -> str:
        return "fake"

    def known_files(self) -> dict[str, str | None]:
        return {str(one.image.source_path or one.image.path): one.image.sha256 for one in self.samples.values()}

    def write_images(self, images: Iterable[NewImage]) -> list[str]:
        added = []
        for image in images:
            self._given += 1
            sample_id = f"{self._given:024x}"
            self.samples[sample_id] = FakeSample(image, self._clock.now(), image.size)
            added.append(sample_id)
        return added

    def sample_ids(self) -> list[str]:
        return list(self.samples)

    def incomplete_images(self, sample_ids: Sequence[str] | None = None) -> dict[str, Path]:
        return {key: sample.image.path for key, sample in self._chosen(sample_ids) if sample.size is None}

    def byte_counts(self, sample_ids: Sequence[str]) -> dict[str, int]:
        return {sample_id: sample.image.byte_count for sample_id, sample in self._chosen(sample_ids)}

    def write_sizes(self, sizes: Mapping[str, tuple[ImageSize, str, int]]) -> None:
        for sample_id, (size, _, _) in sizes.items():
            self._touch(sample_id).size = size

    def images(self, sample_ids: Sequence[str] | None = None) -> dict[str, SampleImage]:
        return {
            sample_id: SampleImage(
                sample_id, sample.image.path, sample.size, sample.image.sha256, sample.image.source_path
            )
            for sample_id, sample in self._chosen(sample_ids)
            if sample.size is not None
        }

    def labels(self, sample_ids: Sequence[str] | None = None) -> dict[str, SampleLabels | ItemError]:
        said = {sample_id: self._read(sample) for sample_id, sample in self._chosen(sample_ids) if sample.size}
        return {sample_id: labels for sample_id, labels in said.items() if labels is not None}

    def _read(self, sample: FakeSample) -> SampleLabels | None:
        if not sample.said:
            return None
        silent = {one.name for name, controls in self._fields.items() if name not in sample.said for one in controls}
        said = [label for name in self._fields for label in sample.said.get(name, ())]
        has_regions = not sample.said.keys().isdisjoint(SHAPES.values())
        return SampleLabels(tuple(replace(one, confidence=None) for one in said), has_regions, frozenset(silent))

    def said(self, sample_id: str) -> SampleLabels | None:
        """Return what people said of a sample, of whatever size it is; None where nobody did."""
        return self._read(self.samples[sample_id])

    def predictions(self, sample_ids: Sequence[str] | None = None) -> dict[str, SamplePrediction | ItemError]:
        return {key: one.prediction for key, one in self._chosen(sample_ids) if one.prediction is not None and one.size}

    def states(self, sample_ids: Sequence[str] | None = None) -> dict[str, SampleState]:
        return {
            sample_id: replace(sample.state, is_tagged=fields.CONFLICT_TAG in sample.tags)
            for sample_id, sample in self._chosen(sample_ids)
        }

    def count(self) -> int:
        return len(self.samples)

    def unsent_ids(self) -> Iterator[str]:
        waiting = [key for key, sample in self.samples.items() if sample.state.review_state is None]
        yield from sorted(waiting, key=lambda key: (-self._uncertainty_of(key), key))

    def sent_ids(self) -> Iterator[str]:
        yield from (key for key, sample in self.samples.items() if sample.state.review_state is not None)

    def changed_ids(self, since: datetime | None) -> Iterator[str]:
        yield from (key for key, sample in self.samples.items() if since is None or sample.modified_at >= since)

    def newest_change(self) -> datetime | None:
        return max((sample.modified_at for sample in self.samples.values()), default=None)

    def changed_at(self, sample_ids: Sequence[str]) -> dict[str, datetime]:
        return {sample_id: sample.modified_at for sample_id, sample in self._chosen(sample_ids)}

    def undrawn_ids(self, model_version: str) -> Iterator[str]:
        for sample_id, sample in self.samples.items():
            if sample.prediction is None or sample.prediction.model_version != model_version:
                yield sample_id

    def incomplete_ids(self) -> Iterator[str]:
        yield from self.incomplete_images()

    def prediction_versions(self, sample_ids: Sequence[str]) -> dict[str, str | None]:
        chosen = self._chosen(sample_ids)
        return {key: None if one.prediction is None else one.prediction.model_version for key, one in chosen}

    def ids_of_files(self, names: Sequence[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for sample_id, sample in self.samples.items():
            paths = [path for path in (sample.image.path, sample.image.source_path) if path is not None]
            for name in dict.fromkeys(names):
                if name and any(str(path) == name or str(path).endswith(f"/{name}") for path in paths):
                    found.setdefault(name, []).append(sample_id)
        return found

    def label_counts(self) -> dict[str, int]:
        said = [label for one in self.samples.values() for labels in one.said.values() for label in labels]
        return dict(Counter(label.class_name for label in said if label.geometry is not None))

    def sort_ids(self, sample_ids: Iterable[str]) -> list[str]:
        return sorted(self.images(list(sample_ids)), key=lambda key: (-self._uncertainty_of(key), key))

    def write_predictions(self, predictions: Mapping[str, SamplePrediction]) -> None:
        for sample_id, prediction in predictions.items():
            if sample_id in self.samples:
                self._touch(sample_id).prediction = prediction

    def field_values(self, name: str) -> dict[str, object] | None:
        if name == "tags":
            return {key: sorted(sample.tags) for key, sample in self.samples.items()}
        values = {key: sample.values.get(name) for key, sample in self.samples.items()}
        return values if any(name in sample.values for sample in self.samples.values()) else None

    def label_sources(self) -> dict[str, str]:
        return dict(self.sources)

    def write_labels(
        self,
        labels: Mapping[str, Sequence[Label]],
        *,
        instead_of: Mapping[str, SampleLabels] | None = None,
        controls: Collection[str] | None = None,
        source: str | None = None,
    ) -> list[str]:
        changed = []
        for sample_id, sample in self._chosen(list(labels)):
            if sample.size is None:
                changed.append(sample_id)
                continue
            if instead_of is not None and self._read(sample) != instead_of.get(sample_id):
                changed.append(sample_id)
                continue
            self._touch(sample_id)
            known = {label.id for held in sample.said.values() for label in held}
            if source is not None:
                self.sources |= {label.id: source for label in labels[sample_id] if label.id not in known}
            for name, held in self._fields.items():
                if controls is None or any(control.name in controls for control in held):
                    self._say(sample, name, labels[sample_id])
        return changed

    def _say(self, sample: FakeSample, name: str, labels: Iterable[Label]) -> None:
        """Set a field to those of the labels that belong there: a single answer that is not given leaves it unset."""
        controls = self._fields[name]
        said = tuple(label for label in labels if label.control in {control.name for control in controls})
        is_set = bool(said) or controls[0].is_region or controls[0].is_multiple
        sample.said = {key: held for key, held in sample.said.items() if key != name} | ({name: said} if is_set else {})
        assert controls[0].is_region or len(said) < 2, f"two answers of one control: {said}"

    def write_reviewers(self, reviewers: Mapping[str, Reviewer | None]) -> None:
        for sample_id, reviewer in reviewers.items():
            if sample_id in self.samples:
                self._touch(sample_id).reviewer = reviewer

    def write_states(self, states: Mapping[str, SampleState]) -> None:
        for sample_id, state in states.items():
            if sample_id in self.samples:
                sample = self._touch(sample_id)
                sample.state = state
                others = sample.tags - {fields.CONFLICT_TAG}
                sample.tags = others | ({fields.CONFLICT_TAG} if state.review_state == fields.CONFLICT else set())

    def curate(self, sample_id: str, labels: Sequence[Label]) -> None:
        """Do what a curator does who edits labels in the App: fields nobody touched stay as they are."""
        sample = self._touch(sample_id)
        for name, controls in self._fields.items():
            if name in sample.said or any(label.control == one.name for label in labels for one in controls):
                self._say(sample, name, labels)

    def clear(self, sample_id: str, control: str) -> None:
        """Do what a curator does who clears the field of a control: nothing is said there any more."""
        sample = self._touch(sample_id)
        cleared = next(name for name, controls in self._fields.items() if control in {one.name for one in controls})
        sample.said = {name: held for name, held in sample.said.items() if name != cleared}

    def clear_regions(self, sample_id: str) -> None:
        """Clear all fields of shapes: nothing is said about objects any more."""
        for control in self._config.controls:
            if control.is_region:
                self.clear(sample_id, control.name)

    def forget_size(self, sample_id: str) -> None:
        """Do what ``clear_sample_field("metadata")`` does."""
        self._touch(sample_id).size = None

    def delete(self, sample_id: str) -> None:
        """Do what a curator does who deletes a sample."""
        del self.samples[sample_id]

    def _uncertainty_of(self, sample_id: str) -> float:
        prediction = self.samples[sample_id].prediction
        return -1.0 if prediction is None else prediction.uncertainty

    def _touch(self, sample_id: str) -> FakeSample:
        self.samples[sample_id].modified_at = self._clock.now()
        return self.samples[sample_id]

    def _chosen(self, sample_ids: Sequence[str] | None) -> list[tuple[str, FakeSample]]:
        wanted = self.samples if sample_ids is None else set(sample_ids)
        return [(sample_id, sample) for sample_id, sample in self.samples.items() if sample_id in wanted]
