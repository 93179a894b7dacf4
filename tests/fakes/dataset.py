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
from labels.config import LabelConfig
from labels.errors import ItemError
from labels.geometry import ImageSize
from labels.results import Label
from sync.catalogue.samples import NewImage, Reviewer, SampleImage, SampleLabels, SamplePrediction, SampleState
from tests.fakes.clock import FakeClock

ORDER = ("RectangleLabels", "BrushLabels", "PolygonLabels", "KeyPointLabels", "Choices", "Rating")


@dataclass
class FakeSample:
    """One sample. ``regions`` None: nobody ever looked for objects."""

    image: NewImage
    modified_at: datetime
    regions: list[Label] | None = None
    answers: tuple[Label, ...] = ()
    prediction: SamplePrediction | None = None
    state: SampleState = field(default_factory=lambda: SampleState(None, None))
    reviewer: Reviewer | None = None
    tags: frozenset[str] = frozenset()
    values: dict[str, object] = field(default_factory=dict)

    def labels(self) -> SampleLabels | None:
        """Return what people said, None where nobody did."""
        if self.regions is None and not self.answers:
            return None
        said = (*(self.regions or ()), *self.answers)
        return SampleLabels(tuple(replace(label, confidence=None) for label in said), self.regions is not None)


class FakeDataset:
    """The catalogue; sample ids are 24 hexadecimal digits as FiftyOne's are."""

    def __init__(self, config: LabelConfig, clock: FakeClock) -> None:
        self._config = config
        self._clock = clock
        self.samples: dict[str, FakeSample] = {}
        self.sources: dict[str, str] = {}
        self._given = 0

    @property
    def name(self) -> str:
        return "fake"

    def known_files(self) -> dict[str, str]:
        return {str(one.image.source_path or one.image.path): one.image.sha256 for one in self.samples.values()}

    def write_images(self, images: Iterable[NewImage]) -> list[str]:
        added = []
        for image in images:
            self._given += 1
            sample_id = f"{self._given:024x}"
            self.samples[sample_id] = FakeSample(image, self._clock.now())
            added.append(sample_id)
        return added

    def sample_ids(self) -> list[str]:
        return list(self.samples)

    def incomplete_images(self, sample_ids: Sequence[str] | None = None) -> dict[str, Path]:
        return {}

    def write_sizes(self, sizes: Mapping[str, tuple[ImageSize, str]]) -> None:
        assert not sizes

    def images(self, sample_ids: Sequence[str] | None = None) -> dict[str, SampleImage]:
        return {
            sample_id: SampleImage(
                sample_id, sample.image.path, sample.image.size, sample.image.sha256, sample.image.source_path
            )
            for sample_id, sample in self._chosen(sample_ids)
        }

    def labels(self, sample_ids: Sequence[str] | None = None) -> dict[str, SampleLabels | ItemError]:
        said = {sample_id: sample.labels() for sample_id, sample in self._chosen(sample_ids)}
        return {sample_id: labels for sample_id, labels in said.items() if labels is not None}

    def predictions(self, sample_ids: Sequence[str] | None = None) -> dict[str, SamplePrediction | ItemError]:
        return {key: sample.prediction for key, sample in self._chosen(sample_ids) if sample.prediction is not None}

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
        yield from ()

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
        return dict(Counter(label.class_name for one in self.samples.values() for label in one.regions or ()))

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
        says_regions = controls is None or any(self._config.control(name).is_region for name in controls)
        for sample_id, sample in self._chosen(list(labels)):
            if instead_of is not None and sample.labels() != instead_of.get(sample_id):
                changed.append(sample_id)
                continue
            self._touch(sample_id)
            known = {label.id for label in (*(sample.regions or ()), *sample.answers)}
            if source is not None:
                self.sources |= {label.id: source for label in labels[sample_id] if label.id not in known}
            shapes = [label for label in labels[sample_id] if label.geometry is not None]
            if says_regions:
                sample.regions = sorted(shapes, key=self._rank)
            answers = [label for label in labels[sample_id] if label.geometry is None]
            assert len({label.control for label in answers}) == len(answers), f"two answers of one control: {answers}"
            sample.answers = tuple(sorted(answers, key=self._rank))
        return changed

    def write_reviewers(self, reviewers: Mapping[str, Reviewer]) -> None:
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
        shapes = [label for label in labels if label.geometry is not None]
        if shapes or sample.regions is not None:
            sample.regions = sorted(shapes, key=self._rank)
        sample.answers = tuple(label for label in labels if label.geometry is None)

    def clear_regions(self, sample_id: str) -> None:
        """Do what a curator does who clears the field: nothing is said about objects any more."""
        self._touch(sample_id).regions = None

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

    def _rank(self, label: Label) -> tuple[int, int]:
        """Return the place of a label: by field, and for answers by their control in the config."""
        control = self._config.control(label.control)
        # Boxes and masks share one field, and keep their order there.
        kind = max(ORDER.index(control.kind), 1)
        return kind, 0 if control.is_region else self._config.controls.index(control)
