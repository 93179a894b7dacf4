"""An annotator corrects pre-labels in the browser; what they did arrives, box for box, where it should."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from pycocotools.coco import COCO

from labels.geometry import Box, ImageSize
from labels.results import to_label_id
from sync.settings import Home
from tests.e2e.conftest import RunningStack, log_in, open_window
from tests.e2e.editor import Editor

SCORE = re.compile(r"0\.\d{3}")


@pytest.fixture(scope="module")
def reviewed(browser: Browser, stack: RunningStack) -> dict[str, Any]:
    """The most uncertain task after somebody moved, relabelled, deleted and added one box each, and submitted."""
    window = open_window(browser)
    page = log_in(window, stack)
    page.goto(stack.project_url)
    page.wait_for_selector("[data-testid=table-row]")
    page.locator("[data-testid=table-row]").first.click()
    editor = Editor(page)
    before = editor.regions
    assert len(before) >= 5, "the most uncertain photo of the demo has at least five pre-labels"
    # The large boxes first: what is dragged must not lie under what is not.
    by_size = sorted(before, key=lambda region: region["width"] * region["height"])
    moved, deleted, relabelled = by_size[0]["id"], by_size[1]["id"], by_size[-1]["id"]
    editor.move(moved, 30, -20)
    editor.relabel(relabelled, "d")
    editor.delete(deleted)
    editor.draw("2", 88, 5, 97, 25)
    drawn = editor.regions
    answer = editor.submit()
    assert answer.status == 201
    annotation = answer.json()
    window.close()
    return {
        "before": {region["id"]: region for region in before},
        "drawn": {region["id"]: region for region in drawn},
        "annotation": annotation,
        "moved": moved,
        "deleted": deleted,
        "relabelled": relabelled,
        "pull": stack.run("pull"),
    }


def test_the_tasks_are_listed_with_the_most_uncertain_first(annotator: Page, stack: RunningStack):
    annotator.goto(stack.project_url)
    annotator.wait_for_selector("[data-testid=table-row]")
    with stack.open() as context:
        sent = list(context.ledger.links())
        scores = [1 - prediction.uncertainty for prediction in context.dataset.predictions(sent).values()]
    rows = annotator.locator("[data-testid=table-row]").all_inner_texts()
    shown = [float(word) for row in rows for word in row.split() if SCORE.fullmatch(word)]
    assert len(shown) >= 5
    assert shown == [round(score, 3) for score in sorted(scores)[: len(shown)]]


def test_fiftyone_holds_what_was_submitted_under_the_same_ids(reviewed: dict[str, Any], stack: RunningStack):
    assert reviewed["pull"].returncode == 0, reviewed["pull"].stderr
    with stack.open() as context:
        (sample_id,) = [
            link.sample_id for link in context.ledger.links().values() if link.task_id == reviewed["annotation"]["task"]
        ]
        labels = {label.id: label for label in context.dataset.labels([sample_id])[sample_id].labels}
        size = context.dataset.images([sample_id])[sample_id].size
        predicted = {label.id: label for label in context.dataset.predictions([sample_id])[sample_id].labels}
    assert set(labels) == {to_label_id(region_id) for region_id in reviewed["drawn"]}
    for region_id, region in reviewed["drawn"].items():
        label = labels[to_label_id(region_id)]
        assert label.class_name == region["label"]
        assert to_percent(label.geometry, size) == pytest.approx(
            [region[side] for side in ("x", "y", "width", "height")], abs=1e-6
        )
    untouched = set(reviewed["before"]) - {reviewed["moved"], reviewed["relabelled"], reviewed["deleted"]}
    for label_id in untouched:
        assert to_percent(labels[label_id].geometry, size) == pytest.approx(
            to_percent(predicted[label_id].geometry, size), abs=1e-6
        )
        assert labels[label_id].classes == predicted[label_id].classes
    assert labels[reviewed["relabelled"]].class_name == "dog"


def to_percent(geometry: Any, size: ImageSize) -> list[float]:
    assert isinstance(geometry, Box)
    return list(geometry.to_percent(size))


def test_the_ledger_tells_what_became_of_each_predicted_box(reviewed: dict[str, Any], stack: RunningStack):
    with stack.open() as context:
        rows = [row for row in context.ledger.feedback() if row.task_id == reviewed["annotation"]["task"]]
        version = context.backend.fetch_model_version()
    (added,) = set(reviewed["drawn"]) - set(reviewed["before"])
    expected = dict.fromkeys(reviewed["before"], "confirmed") | {
        reviewed["moved"]: "moved",
        reviewed["relabelled"]: "relabelled",
        reviewed["deleted"]: "deleted",
        to_label_id(added): "added",
    }
    assert {row.verdict.label_id: row.verdict.kind for row in rows} == expected
    verdicts = {row.verdict.label_id: row.verdict for row in rows}
    assert 0 < (verdicts[reviewed["moved"]].iou or 0) < 1
    assert verdicts[reviewed["relabelled"]].class_after == "dog"
    assert {row.reviewer for row in rows} == {"admin@labelloop.local"}
    assert {row.model_version for row in rows} == {version}
    assert all((row.lead_time_s or 0) > 0 for row in rows)


def test_a_coco_export_holds_the_boxes_at_their_pixels(reviewed: dict[str, Any], stack: RunningStack, tmp_path: Path):
    exported = stack.run("export", "--format", "coco", "--out", str(tmp_path / "coco"))
    assert exported.returncode == 0, exported.stderr
    coco = COCO(str(tmp_path / "coco" / "labels.json"))
    names = {category["id"]: category["name"] for category in coco.dataset["categories"]}
    assert [names[1], names[2], names[3]] == ["person", "bicycle", "car"]
    result = reviewed["annotation"]["result"]
    width, height = result[0]["original_width"], result[0]["original_height"]
    assert width != height
    found = {annotation["label_id"]: annotation for annotation in coco.dataset["annotations"]}
    for region in result:
        value = region["value"]
        annotation = found[to_label_id(region["id"])]
        pixels = [
            value["x"] * width / 100,
            value["y"] * height / 100,
            value["width"] * width / 100,
            value["height"] * height / 100,
        ]
        assert annotation["bbox"] == pytest.approx(clip(pixels, width, height), abs=0.001)
        assert names[annotation["category_id"]] == value["rectanglelabels"][0]


def clip(xywh: list[float], width: int, height: int) -> list[float]:
    x, y, w, h = xywh
    left, top, right, bottom = max(0.0, x), max(0.0, y), min(float(width), x + w), min(float(height), y + h)
    return [left, top, right - left, bottom - top]


def test_two_exports_are_the_same_bytes(reviewed: dict[str, Any], stack: RunningStack, tmp_path: Path):
    contents = []
    for name in ("first", "second"):
        assert stack.run("export", "--format", "yolo", "--out", str(tmp_path / name)).returncode == 0
        folder = tmp_path / name
        contents.append(
            {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        )
    assert contents[0] == contents[1]
    assert any(name.endswith(".txt") for name in contents[0])


def test_no_secret_is_in_a_log_or_open_to_others(stack: RunningStack):
    secrets = {path.name: path.read_text(encoding="utf-8").strip() for path in stack.home.secrets.iterdir()}
    assert set(secrets) >= {"admin_password", "label_studio_token", "console_token", "webhook_secret"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in (stack.home.secrets, *stack.home.secrets.iterdir()))
    for path in (*stack.home.logs.iterdir(), *(one for one in Home(stack.home.path).run.iterdir() if one.is_file())):
        text = path.read_text(encoding="utf-8", errors="replace")
        leaked = [name for name, secret in secrets.items() if secret in text]
        assert leaked == [], f"{path.name} holds {leaked}"


def test_the_console_counts_the_review(reviewed: dict[str, Any], stack: RunningStack, annotator: Page):
    password, token = (
        (stack.home.secrets / name).read_text(encoding="utf-8").strip() for name in ("admin_password", "console_token")
    )
    annotator.goto(stack.addresses.console)
    annotator.get_by_label("Password of the console").fill(password)
    annotator.keyboard.press("Enter")
    annotator.wait_for_selector(".funnel")
    header = {"Authorization": f"Bearer {token}"}
    status = json.loads(annotator.request.get(f"{stack.addresses.console}/api/status", headers=header).text())
    assert status["counts"]["reviewed"] >= 1
    shown = dict(
        zip(("not_sent", "queued", "reviewed"), annotator.locator(".funnel b").all_inner_texts(), strict=False)
    )
    assert shown == {name: str(status["counts"][name]) for name in shown}
    with stack.open() as context:
        sent = len(context.ledger.links())
    assert status["counts"]["queued"] == sent - status["counts"]["reviewed"]
