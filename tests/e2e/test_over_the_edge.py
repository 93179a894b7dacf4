"""A box that a curator drew over the image's edge: what Label Studio's editor makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from labels.geometry import Box
from labels.results import Label, is_same
from sync.catalogue.samples import SampleLabels
from sync.jobs.exchange.pull import pull
from sync.jobs.exchange.push import push
from tests.e2e.conftest import RunningStack, log_in, open_window
from tests.e2e.editor import Editor
from tests.e2e.fresh_project import SIZE, open_fresh_project

WIDTH, HEIGHT = SIZE.width / 10, SIZE.height / 10
OVER = Label("a" * 24, "label", ("car",), Box(-WIDTH, 2 * HEIGHT, 4 * WIDTH, 3 * HEIGHT))
WITHIN = Label("b" * 24, "label", ("car",), Box(6 * WIDTH, 6 * HEIGHT, 3 * WIDTH, 3 * HEIGHT))


def test_a_box_over_the_edge_stays_as_it_was_drawn_until_somebody_moves_it(
    browser: Browser, stack: RunningStack, tmp_path: Path
):
    with open_fresh_project(stack, tmp_path, images=1, draw=False) as project:
        (sample_id,) = project.context.dataset.sample_ids()
        project.context.dataset.write_labels({sample_id: [OVER, WITHIN]})
        assert "labels that reach over their image's edge: 1" in push(project.context).notes[0]
        (task_id,) = project.task_ids().values()
        window = open_window(browser)
        page = log_in(window, stack)
        # The page opens the task a second time while it loads; what was done before that would be gone.
        url = f"{stack.addresses.label_studio}/projects/{project.project_id}/data?task={task_id}"
        page.goto(url, wait_until="networkidle")
        editor = Editor(page)
        assert left_and_width(editor) == pytest.approx((-10, 40))
        editor.relabel(WITHIN.id, "d")
        with page.expect_response(lambda answer: "/annotations/" in answer.url and answer.request.method == "PATCH"):
            page.click("[data-testid=bottombar-update-button]")
        pull(project.context)
        held = project.context.dataset.labels()[sample_id]
        assert isinstance(held, SampleLabels)
        assert {label.id: label.class_name for label in held.labels} == {OVER.id: "car", WITHIN.id: "dog"}
        assert is_same(next(label for label in held.labels if label.id == OVER.id), OVER)
        page.reload(wait_until="networkidle")
        editor = Editor(page)
        editor.move(OVER.id, 0, 60)
        assert left_and_width(editor) == pytest.approx((0, 40), abs=1e-6)
        window.close()


def left_and_width(editor: Editor) -> tuple[float, float]:
    """Return where the box over the edge begins and how wide it is, in percent of the image."""
    region = next(region for region in editor.regions if region["id"] == OVER.id)
    return region["x"], region["width"]
