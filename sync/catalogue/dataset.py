"""The catalogue: images, labels and states in one FiftyOne dataset.

Reads columns, not samples: one query answers for thousands of images. Writes are by sample id and say the same a second
time. ``FIFTYONE_DATABASE_URI`` must be set before this module is imported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import fiftyone as fo
from bson import ObjectId
from more_itertools import chunked
from pymongo import UpdateOne
from pymongo.errors import PyMongoError

from fiftyone_plugins.app.work import select_samples
from labels import fields
from labels.config import LabelConfig
from labels.errors import ItemError, ServiceError
from labels.geometry import ImageSize
from labels.results import Label
from sync.catalogue.fiftyone_labels import read_labels, read_sample, split_columns, to_document
from sync.catalogue.fiftyone_sidebar import group_sidebar
from sync.catalogue.label_fields import LabelField, declare_fields, to_label_fields
from sync.catalogue.label_sources import declare_source, read_sources
from sync.catalogue.named_classes import name_classes
from sync.catalogue.sample_finder import CHANGED_AT, SampleFinder, to_utc
from sync.catalogue.samples import NewImage, Reviewer, SampleImage, SampleLabels, SamplePrediction, SampleState
from sync.catalogue.stored_labels import StoredLabels, reporting_errors

# A query that names more ids than this is refused by MongoDB for its size.
IDS_PER_QUERY: Final = 20_000
SCALARS: Final = {
    fields.UNCERTAINTY: fo.FloatField,
    fields.U_SUM: fo.FloatField,
    fields.U_DISAGREE: fo.FloatField,
    fields.U_RARE: fo.FloatField,
    fields.REVIEW_STATE: fo.StringField,
    fields.TASK_ID: fo.IntField,
    fields.REVIEWER: fo.StringField,
    fields.REVIEWED_AT: fo.DateTimeField,
    fields.ANNOTATORS: fo.IntField,
    fields.DISAGREEMENT: fo.FloatField,
    fields.IMAGE_SHA256: fo.StringField,
    fields.SOURCE_PATH: fo.StringField,
    fields.MODEL_VERSION: fo.StringField,
}


class Dataset(SampleFinder):
    """One FiftyOne dataset, laid out for one label config.

    Raises:
        ServiceError: from every method, when MongoDB does not answer.
    """

    def __init__(self, dataset: Any, config: LabelConfig) -> None:
        super().__init__(dataset)
        self.reviewed_fields = to_label_fields(config, fields.GROUND_TRUTH)
        self.predicted_fields = to_label_fields(config, fields.PREDICTIONS)
        self._stored = StoredLabels(dataset, self.reviewed_fields)

    @classmethod
    def open(cls, name: str, config: LabelConfig) -> Dataset:
        """Return the dataset of that name with every field and class declared; made for good where there is none."""
        fo.config.show_progress_bars = False
        try:
            is_new = not fo.dataset_exists(name)
            dataset = fo.Dataset(name, persistent=True) if is_new else fo.load_dataset(name)
            opened = cls(dataset, config)
            if is_new:
                # FiftyOne knows it with the first image; what can be annotated depends on it.
                dataset.media_type = "image"
            opened._declare()
            name_classes(dataset, config)
            if is_new:
                group_sidebar(dataset)
        except (PyMongoError, ConnectionError) as error:
            raise ServiceError(f"MongoDB: {error}") from error
        return opened

    def _declare(self) -> None:
        for name, kind in SCALARS.items():
            self._dataset.add_sample_field(name, kind)
        # What a detector says of a whole image is declared when one says it: until then the fields would only be in
        # the way.
        declare_fields(self._dataset, (*self.reviewed_fields, *(one for one in self.predicted_fields if one.is_region)))
        for name in {fields.UNCERTAINTY, fields.REVIEW_STATE} - self._dataset.get_index_information().keys():
            self._dataset.create_index(name)

    def refresh(self) -> None:
        """Learn which fields and saved views other processes added: a process has one object of a dataset, for good."""
        with reporting_errors():
            self._dataset.reload()

    @property
    def name(self) -> str:
        """The dataset's name in the App."""
        return str(self._dataset.name)

    def known_files(self) -> dict[str, str | None]:
        """Return the SHA-256 of every image by the path of the person's own file; None: not known."""
        paths, sources, sums = self._dataset.values(["filepath", fields.SOURCE_PATH, fields.IMAGE_SHA256])
        return {source or path: sha256 for path, source, sha256 in zip(paths, sources, sums, strict=True)}

    def write_images(self, images: Iterable[NewImage]) -> list[str]:
        """Add images and return their sample ids."""
        samples = (
            fo.Sample(
                filepath=str(image.path),
                metadata=fo.ImageMetadata(
                    size_bytes=image.byte_count,
                    mime_type=image.mime_type,
                    width=image.size.width,
                    height=image.size.height,
                ),
                image_sha256=image.sha256,
                source_path=None if image.source_path is None else str(image.source_path),
            )
            for image in images
        )
        return [str(sample_id) for sample_id in self._dataset.add_samples(samples, progress=False)]

    def select(self, params: Mapping[str, Any]) -> Any:
        """Return the samples that a plugin's work is for, as FiftyOne knows them; see ``select_samples``.

        Raises:
            LabelingError: there is no such sample or saved view.
        """
        return select_samples(self._dataset, params)

    def sample_ids(self) -> list[str]:
        """Return the ids of all samples in their order."""
        return [str(sample_id) for sample_id in self._dataset.values("id")]

    def incomplete_images(self, sample_ids: Sequence[str] | None = None) -> dict[str, Path]:
        """Return the files of those samples, of these or of all, whose size or content sum is not known."""
        wanted = None if sample_ids is None else set(sample_ids)
        incomplete = [sample_id for sample_id in self.incomplete_ids() if wanted is None or sample_id in wanted]
        return {sample_id: Path(path) for sample_id, (path,) in self._columns(["filepath"], incomplete)}

    def byte_counts(self, sample_ids: Sequence[str]) -> dict[str, int]:
        """Return how large the own files of these samples were when they were added; not known: left out."""
        columns = self._columns(["metadata.size_bytes"], sample_ids)
        return {sample_id: byte_count for sample_id, (byte_count,) in columns if byte_count is not None}

    def write_sizes(self, sizes: Mapping[str, tuple[ImageSize, str, int]]) -> None:
        """Write the size of upright images, and the SHA-256 and the bytes of their files."""
        present = dict(self._columns(["metadata"], list(sizes)))
        for sample_id, (size, _, byte_count) in sizes.items():
            metadata = present[sample_id][0] or fo.ImageMetadata()
            metadata.width, metadata.height, metadata.size_bytes = size.width, size.height, byte_count
            present[sample_id] = (metadata,)
        self._set("metadata", {sample_id: metadata for sample_id, (metadata,) in present.items()})
        self._set(fields.IMAGE_SHA256, {sample_id: sha256 for sample_id, (_, sha256, _) in sizes.items()})

    def images(self, sample_ids: Sequence[str] | None = None) -> dict[str, SampleImage]:
        """Return the images of these samples, or of all; what is gone, or has no known size, is left out."""
        paths = ["filepath", "metadata.width", "metadata.height", fields.IMAGE_SHA256, fields.SOURCE_PATH]
        return {
            sample_id: SampleImage(
                sample_id, Path(path), ImageSize(width, height), sha256 or "", Path(source) if source else None
            )
            for sample_id, (path, width, height, sha256, source) in self._columns(paths, sample_ids)
            if width and height
        }

    def labels(self, sample_ids: Sequence[str] | None = None) -> dict[str, SampleLabels | ItemError]:
        """Return what people said of these samples, or of all.

        A sample nobody ever looked at is left out; one whose labels cannot be carried has the error in their place.
        """
        found: dict[str, SampleLabels | ItemError] = {}
        for sample_id, size, columns in self._label_columns(self.reviewed_fields, sample_ids):
            try:
                said = read_sample(self.reviewed_fields, columns, size, item=f"sample {sample_id}")
            except ItemError as error:
                found[sample_id] = error
                continue
            if said is not None:
                found[sample_id] = said
        return found

    def predictions(self, sample_ids: Sequence[str] | None = None) -> dict[str, SamplePrediction | ItemError]:
        """Return what the detector drew on these samples, or on all; a sample it never saw is left out."""
        found: dict[str, SamplePrediction | ItemError] = {}
        present = [field for field in self.predicted_fields if self._dataset.has_sample_field(field.name)]
        scores = dict(self._columns([fields.MODEL_VERSION, fields.UNCERTAINTY], sample_ids))
        for sample_id, size, columns in self._label_columns(present, sample_ids):
            model_version, uncertainty = scores[sample_id]
            if model_version is None or uncertainty is None:
                continue
            try:
                parts = [
                    read_labels(field, part, size, item=f"sample {sample_id}")
                    for field, part in split_columns(present, columns)
                ]
            except ItemError as error:
                found[sample_id] = error
                continue
            labels = tuple(label for part in parts for label in part or ())
            found[sample_id] = SamplePrediction(model_version, uncertainty, labels)
        return found

    def label_counts(self) -> dict[str, int]:
        """Return how many reviewed regions each class has; one that has none is left out."""
        counts = Counter[str]()
        for label_field in self.reviewed_fields:
            if label_field.is_region:
                with reporting_errors():
                    found = self._dataset.count_values(f"{label_field.name}.{label_field.items}.label")
                counts.update({name: count for name, count in found.items() if name is not None})
        return dict(counts)

    def prediction_versions(self, sample_ids: Sequence[str]) -> dict[str, str | None]:
        """Return which weights drew the predictions of these samples; None: the detector never saw the sample."""
        return {sample_id: version for sample_id, (version,) in self._columns([fields.MODEL_VERSION], sample_ids)}

    def states(self, sample_ids: Sequence[str] | None = None) -> dict[str, SampleState]:
        """Return where these samples stand, or all; what is gone is left out."""
        columns = self._columns([fields.REVIEW_STATE, fields.TASK_ID, "tags"], sample_ids)
        return {
            sample_id: SampleState(state, task_id, fields.CONFLICT_TAG in (tags or ()))
            for sample_id, (state, task_id, tags) in columns
        }

    def changed_at(self, sample_ids: Sequence[str]) -> dict[str, datetime]:
        """Return when each of these samples was changed last (UTC), by whomever."""
        changed = ((sample_id, to_utc(at)) for sample_id, (at,) in self._columns([CHANGED_AT], sample_ids))
        return {sample_id: at for sample_id, at in changed if at is not None}

    def write_predictions(self, predictions: Mapping[str, SamplePrediction]) -> None:
        """Replace what the detector drew on these samples; labels of people stay as they are.

        A sample gets all of it at once: what names a version was drawn by it, whenever the process ends.
        """
        sizes = {sample_id: image.size for sample_id, image in self.images(list(predictions)).items()}
        for field in self.predicted_fields:
            if not field.is_region and any(_labels_of(field, one.labels) for one in predictions.values()):
                declare_fields(self._dataset, [field])
        declared = [field for field in self.predicted_fields if self._dataset.has_sample_field(field.name)]
        # FiftyOne's own write takes one query a field, and as long again as the drawing to look through each value.
        updates = [
            UpdateOne(
                {"_id": ObjectId(sample_id)},
                {
                    "$set": _to_stored(predictions[sample_id], declared, size),
                    "$currentDate": {CHANGED_AT: True},
                },
            )
            for sample_id, size in sizes.items()
        ]
        if updates:
            with reporting_errors():
                self._dataset._sample_collection.bulk_write(updates, ordered=False)

    def label_sources(self) -> dict[str, str]:
        """Return by label id which file a label was imported from; those that people drew here are not in it."""
        return read_sources(self._dataset, self.reviewed_fields)

    def write_labels(
        self,
        labels: Mapping[str, Sequence[Label]],
        *,
        instead_of: Mapping[str, SampleLabels] | None = None,
        controls: Collection[str] | None = None,
        source: str | None = None,
    ) -> list[str]:
        """Make these the labels of the samples. Labels that say the same keep all a curator added to them.

        With ``controls`` nothing is said with the others: their fields stay as they are. ``source`` is noted on labels
        that are new.

        With ``instead_of`` (what ``labels`` returned; a sample without an entry was never looked at) a sample that says
        something else by now is left as it is; the ids of such samples are returned, and those of samples whose size is
        not known. Nobody's edit is written over, however short the time between reading and writing.
        """
        images = self.images(list(labels))
        attributes = {} if source is None else {fields.IMPORTED_FROM: source}
        if source is not None:
            declare_source(self._dataset, self.reviewed_fields)
        changed = list(self.states([sample_id for sample_id in labels if sample_id not in images]))
        for sample_id, before in self._stored.fetch(list(images)).items():
            size = images[sample_id].size
            if instead_of is not None and self._stored.read(before, size) != instead_of.get(sample_id):
                changed.append(sample_id)
                continue
            after = [
                to_document(field, _labels_of(field, labels[sample_id]), document, size, **attributes)
                if controls is None or any(control.name in controls for control in field.controls)
                else document
                for field, document in zip(self.reviewed_fields, self._stored.decode(before), strict=True)
            ]
            if not self._stored.swap(sample_id, before, after):
                changed.append(sample_id)
        return changed

    def write_reviewers(self, reviewers: Mapping[str, Reviewer | None]) -> None:
        """Write who reviewed samples and when, how many people answered, and how much they disagree; None: nobody."""
        for name, attribute in (
            (fields.REVIEWER, "name"),
            (fields.REVIEWED_AT, "at"),
            (fields.ANNOTATORS, "annotators"),
            (fields.DISAGREEMENT, "disagreement"),
        ):
            self._set(
                name, {sample_id: getattr(reviewer, attribute, None) for sample_id, reviewer in reviewers.items()}
            )

    def write_states(self, states: Mapping[str, SampleState]) -> None:
        """Write where samples stand; the tag of a conflict is put on and taken off with its state."""
        in_conflict = [key for key, state in states.items() if state.review_state == fields.CONFLICT]
        others = [key for key, state in states.items() if state.review_state != fields.CONFLICT]
        for view in self._views(in_conflict):
            view.tag_samples(fields.CONFLICT_TAG)
        for view in self._views(others):
            view.match_tags(fields.CONFLICT_TAG).untag_samples(fields.CONFLICT_TAG)
        self._set(fields.TASK_ID, {sample_id: state.task_id for sample_id, state in states.items()})
        self._set(fields.REVIEW_STATE, {sample_id: state.review_state for sample_id, state in states.items()})

    def _set(self, name: str, values: Mapping[str, Any]) -> None:
        if not values:
            return
        try:
            # Every field is declared: to look for new ones in each value takes FiftyOne longer than to write them.
            self._dataset.set_values(name, dict(values), key_field="id", expand_schema=False)
        except PyMongoError as error:
            raise ServiceError(f"MongoDB: {error}") from error

    def _views(self, sample_ids: Sequence[str]) -> Iterator[Any]:
        # What is no id of FiftyOne's can be nobody's.
        for chunk in chunked(filter(ObjectId.is_valid, sample_ids), IDS_PER_QUERY):
            yield self._dataset.select(chunk)

    def _columns(self, paths: Sequence[str], sample_ids: Sequence[str] | None) -> Iterator[tuple[str, tuple[Any, ...]]]:
        views = iter([self._dataset]) if sample_ids is None else self._views(sample_ids)
        for view in views:
            try:
                ids, *columns = view.values(["id", *paths])
            except PyMongoError as error:
                raise ServiceError(f"MongoDB: {error}") from error
            yield from zip(map(str, ids), zip(*columns, strict=True), strict=True)

    def _label_columns(
        self, label_fields: Sequence[LabelField], sample_ids: Sequence[str] | None
    ) -> Iterator[tuple[str, ImageSize, tuple[Any, ...]]]:
        paths = [path for field in label_fields for path in field.paths]
        for sample_id, (width, height, *columns) in self._columns(
            ["metadata.width", "metadata.height", *paths], sample_ids
        ):
            if width and height:
                yield sample_id, ImageSize(width, height), tuple(columns)


def _to_stored(prediction: SamplePrediction, label_fields: Sequence[LabelField], size: ImageSize) -> dict[str, Any]:
    """Return a prediction as the database holds it, by field."""
    version = prediction.model_version
    stored: dict[str, Any] = {
        **{name: prediction.scores.get(name) for name in (fields.U_SUM, fields.U_DISAGREE, fields.U_RARE)},
        fields.UNCERTAINTY: prediction.uncertainty,
        fields.MODEL_VERSION: version,
    }
    for field in label_fields:
        attributes = {fields.MODEL_VERSION: version} if field.items else {}
        document = to_document(field, _labels_of(field, prediction.labels), None, size, **attributes)
        stored[field.name] = None if document is None else document.to_dict()
    return stored


def _labels_of(field: LabelField, labels: Iterable[Label]) -> list[Label]:
    names = {control.name for control in field.controls}
    return [label for label in labels if label.control in names]
