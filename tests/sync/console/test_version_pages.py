"""The pages of frozen versions: the list, one of them, and how two differ."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from labels.config import LabelConfig
from sync.ledger import FrozenVersion
from sync.settings import Home
from sync.versions.manifest import compute_content_sha256, write_version
from sync.versions.version import LeakPair, Leaks, Version, VersionImage, VersionLabel
from tests.sync.console.conftest import (
    CAR,
    OTHER_SAMPLE,
    SAMPLE,
    SIZE,
    FakeCatalogue,
    FakeRunner,
    MakeSettings,
    make_box,
    submit,
)


@pytest.fixture
def home(make_settings: MakeSettings) -> Home:
    """The home of the console."""
    return make_settings().home


def freeze_two(home: Home, catalogue: FakeCatalogue) -> tuple[Version, Version]:
    """Freeze two versions in the home: in the second a car is a lorry, and an image is new."""
    config = LabelConfig.from_xml(
        '<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">'
        '<Label value="car"/><Label value="&lt;lorry&gt;"/></RectangleLabels></View>'
    )
    car = make_box(CAR, "car", 30)
    lorry = replace(car, classes=("<lorry>",))
    leaks = Leaks(same_group=1, near=0, threshold_bits=6, pairs=(LeakPair(SAMPLE, OTHER_SAMPLE, "group"),))
    found = []
    for number, labels in enumerate(({SAMPLE: car}, {SAMPLE: lorry, OTHER_SAMPLE: car}), start=1):
        images = tuple(
            VersionImage(key, Path(f"/{key}.jpg"), "ab" * 32, SIZE, "train", labels=(VersionLabel(label),))
            for key, label in labels.items()
        )
        whole = Version("", "", "photos", config.region_classes, config.xml, images, leaks=leaks)
        content = compute_content_sha256(whole)
        version = replace(whole, id=f"v{number}-{content[:8]}", content_sha256=content)
        write_version(home, version)
        found.append(version)
        details = {"splits": version.split_counts(), "leaks": 1}
        catalogue.versions.insert(0, FrozenVersion(version.id, number, content, len(images), len(images), details))
    return found[0], found[1]


def test_versions_are_listed_shown_and_taken_along(admin: FlaskClient, home: Home, catalogue: FakeCatalogue) -> None:
    first, second = freeze_two(home, catalogue)
    page = admin.get("/exports/").text
    assert page.index(second.id) < page.index(first.id)
    shown = admin.get(f"/exports/versions/{second.id}").text
    assert "&lt;lorry&gt;" in shown
    assert f"{OTHER_SAMPLE}.jpg" in shown, "the leak is named"
    with admin.get(f"/exports/versions/{second.id}/manifest.json") as manifest:
        assert manifest.json is not None
        assert manifest.json["content_sha256"] == second.content_sha256
    for wrong in ("v9-00000000", "..%2f..%2fsecrets", "latest"):
        assert admin.get(f"/exports/versions/{wrong}").status_code == 404


def test_two_versions_are_compared(admin: FlaskClient, home: Home, catalogue: FakeCatalogue) -> None:
    first, second = freeze_two(home, catalogue)
    page = admin.get(f"/exports/diff?before={first.id}&after={second.id}").text
    assert "~1 &lt;lorry&gt; (car before)" in page
    assert "+1 car" in page
    assert 'role="img"' in page
    assert "The two hold the same." in admin.get(f"/exports/diff?before={first.id}&after={first.id}").text
    assert admin.get(f"/exports/diff?before={first.id}").status_code == 404


def test_a_version_is_exported_again_as_it_was(
    admin: FlaskClient, runner: FakeRunner, home: Home, catalogue: FakeCatalogue
) -> None:
    first, _ = freeze_two(home, catalogue)
    submit(admin, "/exports/", format="voc", images="copy", version=first.id)
    assert runner.submitted == [("export", {"format": "voc", "images": "copy", "version": first.id}, "console")]
