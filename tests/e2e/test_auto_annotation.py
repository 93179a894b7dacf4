"""A person draws with Auto-Annotation on in the real editor, and the ML backend proposes more of the same."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from labels.geometry import Box, ImageSize, compute_iou
from sync.media import link_folder
from sync.services.ports import find_free_port
from sync.settings import read_secret
from tests.e2e.conftest import RunningStack
from tests.e2e.test_ml_backend import PASSWORD, Backend, LabelStudio

CONFIG = """<View>
<Image name="image" value="$image"/>
<RectangleLabels name="boxes" toName="image" smart="true"><Label value="somebody" hotkey="1"/></RectangleLabels>
</View>"""
SIZE = ImageSize(810, 1080)
PEOPLE = (Box.from_xyxy(222, 404, 345, 861), Box.from_xyxy(48, 399, 245, 903), Box.from_xyxy(669, 391, 810, 877))
WAIT_MS = 30_000
STAGE = """() => {
  const shown = window.Htx && Htx.annotationStore.selected;
  const image = shown && shown.objects.find(one => one.type === 'image');
  return image && image.stageWidth > 100 ? [image.stageWidth, image.stageHeight] : null;
}"""
SUGGESTED = """() => Array.from(Htx.annotationStore.selected.suggestions.values()).map(
  one => [one.x, one.y, one.width, one.height, one.labels[0]])"""


@pytest.fixture
def backend(stack: RunningStack, tmp_path: Path) -> Iterator[Backend]:
    port = find_free_port()
    environment = os.environ | {
        "LABELLOOP_HOME": str(tmp_path / "home"),
        "LABELLOOP_MEDIA_ROOT": str(stack.home.media),
        "LABELLOOP_PORT": str(port),
        "LABELLOOP_OFFLINE": "1",
        "LABELLOOP_DEVICE": "cpu",
        "LABELLOOP_ML_BACKEND_PASSWORD": PASSWORD,
        "LABEL_STUDIO_URL": stack.addresses.label_studio,
        "LABEL_STUDIO_API_KEY_FILE": str(stack.home.secrets / "label_studio_token"),
    }
    backend = Backend(environment, port, tmp_path / "log")
    backend.start()
    backend.wait_until(is_ready=True)
    yield backend
    assert backend.stop() == 0


def test_a_drawn_person_is_answered_with_the_others_as_suggestions(
    stack: RunningStack, backend: Backend, annotator: Page, tmp_path: Path
) -> None:
    import ultralytics

    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(Path(ultralytics.__file__).parent / "assets" / "bus.jpg", photos)
    link = link_folder(stack.home, photos.resolve())
    label_studio = LabelStudio(stack.addresses.label_studio, read_secret(stack.home, "label_studio_token") or "")
    project = int(
        label_studio.ask("POST", "/api/projects/", json={"title": "auto-annotation", "label_config": CONFIG}).json()[
            "id"
        ]
    )
    task = {"data": {"image": f"/data/local-files/?d=images/{link}/bus.jpg"}}
    label_studio.ask("POST", f"/api/projects/{project}/import", json=[task])
    assert label_studio.connect(project, backend.url, PASSWORD, is_interactive=True).status_code == 201
    (listed,) = label_studio.ask("GET", f"/api/tasks?project={project}").json()["tasks"]

    annotator.goto(f"{label_studio.url}/projects/{project}/data?task={listed['id']}")
    width, height = annotator.wait_for_function(STAGE, timeout=WAIT_MS).json_value()
    annotator.get_by_text("Auto-Annotation", exact=True).click()
    annotator.locator(".lsf-tool_smart").first.click()
    annotator.keyboard.press("1")
    canvas = annotator.locator(".konvajs-content canvas").first.bounding_box()
    assert canvas is not None
    x, y, across, down = PEOPLE[0].to_percent(SIZE)
    start = (canvas["x"] + x / 100 * width, canvas["y"] + y / 100 * height)
    end = (start[0] + across / 100 * width, start[1] + down / 100 * height)
    annotator.mouse.move(*start)
    annotator.mouse.down()
    annotator.mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2, steps=5)
    annotator.mouse.move(*end, steps=5)
    annotator.mouse.up()
    annotator.wait_for_function("() => Htx.annotationStore.selected.suggestions.size > 1", timeout=WAIT_MS)
    suggested = annotator.evaluate(SUGGESTED)

    boxes = [Box.from_percent(*one[:4], SIZE) for one in suggested]
    for person in PEOPLE[1:]:
        assert max(compute_iou(person, box) for box in boxes) > 0.8
    assert {one[4] for one in suggested} == {"somebody"}
    label_studio.ask("DELETE", f"/api/projects/{project}")
