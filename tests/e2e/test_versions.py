"""Labels of another tool through the whole loop, on the real tools: imported, sent, frozen, exported, imported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from labels import fields
from labels.errors import LabelingError
from labels.geometry import Box
from labels.results import Label, is_same
from sync.catalogue.samples import SampleLabels
from sync.jobs.datasets.export import export
from sync.jobs.datasets.import_labels import Wish, ingest_labels
from sync.jobs.exchange.push import push
from sync.media import link_folder
from sync.settings import Home
from sync.versions.diff import compare_versions
from sync.versions.manifest import read_version
from sync.versions.verify import verify_export
from tests.e2e.conftest import RunningStack
from tests.e2e.fresh_project import FreshProject, open_fresh_project
from tests.fakes.pictures import write_picture
from tests.fakes.project import CONFIG, SIZE
from tests.sync.test_imports import XML

KEEP = Label("c" * 24, "quality", ("keep",))


def at_home(project: FreshProject, folder: Path) -> FreshProject:
    """Return the project with a home of its own: that of the stack is left as it is."""
    home = Home(folder)
    home.make()
    for image in project.context.dataset.images().values():
        link_folder(home, image.path.parent)
    return replace(project, context=replace(project.context, home=home))


def labels_of(project: FreshProject) -> dict[str, tuple[Label, ...]]:
    images = project.context.dataset.images()
    said = project.context.dataset.labels()
    return {images[key].sha256: one.labels for key, one in said.items() if isinstance(one, SampleLabels)}


def test_labels_of_another_tool_go_through_the_whole_loop(stack: RunningStack, tmp_path: Path):
    photos = tmp_path / "photos"
    for number, name in enumerate(("car", "dog", "bus")):
        write_picture(photos / f"{name}.png", number)
        said = {"name": f"{name}.png", "width": SIZE.width, "height": SIZE.height, "label": name, "box": (1, 2, 30, 40)}
        (photos / f"{name}.xml").write_text(XML.format(**said))
    with (
        open_fresh_project(stack, tmp_path / "one", images=1, config=CONFIG, draw=False) as made,
        open_fresh_project(stack, tmp_path / "two", images=1, config=CONFIG, draw=False) as empty,
    ):
        first, second = at_home(made, tmp_path / "home-1"), at_home(empty, tmp_path / "home-2")
        report = ingest_labels(first.context, Wish(photos, photos))
        assert (report.moved, report.details["labels"], report.failed) == (3, 3, ())
        first.fiftyone.reload()
        path = f"{fields.GROUND_TRUTH}.detections.{fields.IMPORTED_FROM}"
        assert first.fiftyone.values(path, unwind=True) == ["photos"] * 3
        with pytest.raises(LabelingError, match="3 images are not in it: they were labelled in FiftyOne"):
            export(first.context, export_format="coco")
        assert push(first.context).failed == ()
        written = export(first.context, export_format="coco", out_dir=tmp_path / "coco")
        assert (written.moved, written.failed) == (3, ())
        assert verify_export(first.context.home, tmp_path / "coco").failed == ()
        version = read_version(first.context.home)
        assert {one.source for image in version.images for one in image.labels} == {"photos"}

        again = ingest_labels(second.context, Wish(tmp_path / "coco", tmp_path / "coco"))
        assert (again.details["labels"], again.failed) == (3, ())
        expected, found = labels_of(first), labels_of(second)
        assert found.keys() == expected.keys()
        for sha256, (label,) in expected.items():
            assert is_same(found[sha256][0], label)
            assert found[sha256][0].id == label.id

        # An answer alone, as folders of classes give it: nobody looked for objects.
        sample_id = next(key for key, image in first.context.dataset.images().items() if image.path.name == "0000.png")
        first.context.dataset.write_labels({sample_id: [KEEP]}, controls={"quality"}, source="folders")
        (said,) = first.context.dataset.labels([sample_id]).values()
        assert isinstance(said, SampleLabels)
        assert (said.labels, said.has_regions) == ((KEEP,), False)
        assert first.context.dataset.label_sources()[KEEP.id] == "folders"
        assert first.context.dataset.field_values("listing") is None
        assert len(first.context.dataset.field_values("tags") or {}) == 4

        # Everything that is not an answer is changed by one label, and a view shows it.
        changed = next(iter(version.images))
        moved = replace(changed.regions[0], geometry=Box(5, 5, 20, 20))
        first.context.dataset.write_labels({changed.sample_id: [moved]})
        export(first.context, export_format="coco", out_dir=tmp_path / "coco")
        difference = compare_versions(version, read_version(first.context.home))
        assert [image.sample_id for image in difference.images] == [changed.sample_id]
