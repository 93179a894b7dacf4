"""The review plugin through FiftyOne's own loader and executor, against a console that pretends."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml

import fiftyone_plugins
from labels.errors import ServiceError
from tests.fiftyone_plugins.conftest import FakeConsole

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # FiftyOne's own

FOLDER = Path(fiftyone_plugins.__file__).parent
SEND = "@labelloop/review/send_to_label_studio"
PULL = "@labelloop/review/pull_reviewed_labels"
STATUS = "@labelloop/review/sync_status"
RESOLVE = "@labelloop/review/resolve_conflicts"
QUEUE = "@labelloop/review/queue_next"
TASKS = "@labelloop/review/show_tasks"


def resolve_form(fiftyone: Any, uri: str, dataset: Any, **context: Any) -> dict[str, Any]:
    """Return the form of an operator as the App gets it: property name to its JSON."""
    executor = fiftyone.operators.executor
    operator = fiftyone.operators.get_operator(uri)
    view = context.pop("view", None)
    request = executor._parse_ctx(dataset=dataset, view=view, **{"params": {}, **context})
    ctx = executor.ExecutionContext(request, operator_uri=uri)
    form: dict[str, Any] = operator.resolve_type(ctx, "inputs").to_json()["type"]["properties"]
    return form


def read_labels(form: dict[str, Any]) -> list[str]:
    """Return what a form says, in its order."""
    return [item["view"]["label"] for name, item in form.items() if name != "target"]


def run_as_the_app(fiftyone: Any, uri: str, dataset: Any, **context: Any) -> list[tuple[str, dict[str, Any]]]:
    """Execute an operator like the App's server and return what it tells the App to do: (operator, params)."""
    executor = fiftyone.operators.executor
    request = executor._parse_ctx(dataset=dataset, **{"params": {}, **context})
    result = asyncio.run(executor.execute_or_delegate_operator(uri, request))
    result.raise_exceptions()
    requests = [message.body for message in result.result] if result.is_generator else result.executor._requests
    return [(request.operator_uri.rpartition("/")[2], request.params) for request in requests]


def test_every_plugin_loads_and_every_listed_operator_registers(fiftyone: Any) -> None:
    registry = fiftyone.operators.registry.OperatorRegistry()
    listed = set()
    for file in FOLDER.glob("*/fiftyone.yml"):
        definition = yaml.safe_load(file.read_text(encoding="utf-8"))
        listed |= {f"{definition['name']}/{name}" for name in definition["operators"] + definition.get("panels", [])}

    assert registry.list_errors() == []
    assert {operator.uri for operator in registry.list_operators(builtin=False)} == listed
    assert {SEND, PULL, STATUS, RESOLVE, QUEUE, TASKS} <= listed


@pytest.mark.parametrize("uri", [SEND, PULL, RESOLVE, QUEUE, STATUS])
def test_every_operator_is_a_button_with_an_icon_in_the_grid(fiftyone: Any, dataset: Any, uri: str) -> None:
    operator = fiftyone.operators.get_operator(uri)
    placement = operator.resolve_placement(None).to_json()

    assert placement["place"] == "samples-grid-secondary-actions"
    assert placement["view"]["icon"] == operator.config.icon
    assert placement["view"]["label"] == operator.config.label
    assert operator.config.icon


def test_the_grid_has_no_more_buttons_than_there_is_room_for(fiftyone: Any) -> None:
    operators = fiftyone.operators.registry.OperatorRegistry().list_operators(builtin=False, type="operator")
    placements = {operator.uri: operator.resolve_placement(None) for operator in operators}
    in_grid = {
        uri
        for uri, placement in placements.items()
        if placement is not None and placement.to_json()["place"] == "samples-grid-secondary-actions"
    }

    assert in_grid == {SEND, PULL, RESOLVE, QUEUE, STATUS}


# Forms


@pytest.mark.usefixtures("console")
def test_the_form_counts_the_selected_samples_and_warns_of_conflicts(fiftyone: Any, dataset: Any) -> None:
    form = resolve_form(fiftyone, SEND, dataset, selected=dataset.values("id")[:3])

    assert form["target"]["default"] == "selected"
    assert [choice["label"] for choice in form["target"]["view"]["choices"]] == [
        "Selected samples (3)",
        "Everything not sent yet (4)",
    ]
    assert read_labels(form) == [
        "1 sample goes to Label Studio as a new task. 2 were already sent: they get newer pre-labels at most.",
        "1 of them is in conflict: changed on both sides and waiting for a decision. Sending decides nothing.",
    ]


@pytest.mark.usefixtures("console")
def test_the_form_offers_the_current_view(fiftyone: Any, dataset: Any) -> None:
    form = resolve_form(fiftyone, SEND, dataset, view=dataset.limit(5)[2:4])

    assert form["target"]["default"] == "view"
    assert form["target"]["view"]["choices"][0]["label"] == "Current view (2)"
    assert read_labels(form) == ["2 samples go to Label Studio as new tasks."]


def test_patches_stand_for_the_samples_they_were_cut_from(fiftyone: Any, dataset: Any, console: FakeConsole) -> None:
    box = fiftyone.Detection(label="car", bounding_box=[0, 0, 0.5, 0.5])
    sample_ids = dataset.values("id")[2:4]
    for sample in dataset.select(sample_ids):
        sample["predictions"] = fiftyone.Detections(detections=[box.copy(), box.copy()])
        sample.save()
    patches = dataset.to_patches("predictions")
    of_one = patches.limit(2)
    form = resolve_form(fiftyone, SEND, dataset, view=patches, selected=of_one.values("id"))
    run_as_the_app(fiftyone, SEND, dataset, view=patches, params={"target": "view"})

    assert [choice["label"] for choice in form["target"]["view"]["choices"]] == [
        "Selected samples (1)",
        "Current view (2)",
        "Everything not sent yet (4)",
    ]
    assert console.submitted == [{"job": "push", "params": {"sample_ids": sample_ids}}]


@pytest.mark.usefixtures("console")
def test_the_form_follows_the_choice(fiftyone: Any, dataset: Any) -> None:
    form = resolve_form(fiftyone, SEND, dataset, selected=dataset.values("id")[:3], params={"target": "dataset"})

    assert read_labels(form) == ["4 samples go to Label Studio as new tasks."]


@pytest.mark.usefixtures("console")
def test_a_dataset_that_was_never_sent_needs_no_field(fiftyone: Any, dataset: Any) -> None:
    dataset.delete_sample_field("review_state")

    assert read_labels(resolve_form(fiftyone, SEND, dataset)) == ["6 samples go to Label Studio as new tasks."]


@pytest.mark.parametrize("uri", [SEND, PULL, RESOLVE, QUEUE])
def test_without_a_console_the_form_says_so_and_cannot_be_executed(
    fiftyone: Any, dataset: Any, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    monkeypatch.delenv("LABELLOOP_CONSOLE_URL", raising=False)
    form = resolve_form(fiftyone, uri, dataset)

    assert read_labels(form) == [
        "This App was started without LABELLOOP_CONSOLE_URL: 'labelloop up' starts one that has it."
    ]
    assert form["problem"]["invalid"] is True
    with pytest.raises(fiftyone.operators.executor.ExecutionError, match="Validation error"):
        run_as_the_app(fiftyone, uri, dataset)


def test_a_console_that_is_gone_cannot_be_asked(
    fiftyone: Any, dataset: Any, console: FakeConsole, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABELLOOP_CONSOLE_URL", "http://127.0.0.1:9")

    assert read_labels(resolve_form(fiftyone, SEND, dataset)) == [
        "labelloop's console at http://127.0.0.1:9 does not answer: start it with 'labelloop up'."
    ]


def test_another_dataset_than_the_consoles_cannot_be_sent(fiftyone: Any, dataset: Any, console: FakeConsole) -> None:
    console.status["dataset"] = "streets"
    problem = "labelloop's console serves the dataset 'streets', not 'photos': open that one."

    assert read_labels(resolve_form(fiftyone, SEND, dataset)) == [problem]
    with pytest.raises(ServiceError, match="serves the dataset 'streets'"):
        fiftyone.operators.get_operator(SEND)(dataset)
    assert console.submitted == []


@pytest.mark.usefixtures("console")
def test_samples_that_were_sent_before_make_no_new_task(fiftyone: Any, dataset: Any) -> None:
    form = resolve_form(fiftyone, SEND, dataset, selected=dataset.values("id")[:2])

    assert read_labels(form)[0] == "No new task. 2 were already sent: they get newer pre-labels at most."
    assert "problem" not in form


@pytest.mark.usefixtures("console")
def test_everything_cannot_be_sent_twice(fiftyone: Any, dataset: Any) -> None:
    dataset.set_values("review_state", ["queued"] * 6)
    form = resolve_form(fiftyone, SEND, dataset)

    assert read_labels(form) == ["Every sample was already sent."]
    assert form["problem"]["invalid"] is True


# Execution


def test_sending_selected_samples_shows_progress_then_the_report_then_the_new_state(
    fiftyone: Any, dataset: Any, console: FakeConsole
) -> None:
    selected = dataset.values("id")[2:4]
    told = run_as_the_app(fiftyone, SEND, dataset, selected=selected, params={"target": "selected"})

    assert console.submitted == [{"job": "push", "params": {"sample_ids": selected}}]
    assert [operator for operator, _ in told] == ["set_progress", "show_output", "notify", "reload_dataset"]
    assert told[0][1] == {"label": "sent 1 of 2", "progress": 0.5}
    assert told[2][1] == {"message": "push: 2 sent, 0 unchanged, 1 failed", "variant": "warning"}
    shown = told[1][1]["outputs"]["type"]["properties"]
    assert shown["summary"]["view"]["label"] == "push: 2 sent, 0 unchanged, 1 failed"
    assert shown["details"]["default"] == r"- failed: b\_1\.jpg: is empty"


def test_sending_everything_names_no_sample(fiftyone: Any, dataset: Any, console: FakeConsole) -> None:
    run_as_the_app(fiftyone, SEND, dataset, params={"target": "dataset"})

    assert console.submitted == [{"job": "push", "params": {}}]


def test_sending_a_view_names_its_samples_in_order(fiftyone: Any, dataset: Any, console: FakeConsole) -> None:
    view = dataset.sort_by("filepath", reverse=True).limit(2)
    run_as_the_app(fiftyone, SEND, dataset, view=view, params={"target": "view"})

    assert console.submitted == [{"job": "push", "params": {"sample_ids": view.values("id")}}]


def test_a_job_that_failed_is_shown_as_an_error(fiftyone: Any, dataset: Any, console: FakeConsole) -> None:
    console.error = "GET /api/projects/3: 401, check LABEL_STUDIO_API_KEY"
    told = run_as_the_app(fiftyone, PULL, dataset)

    notices = [params for operator, params in told if operator == "notify"]
    assert notices == [{"message": f"pull failed: {console.error}", "variant": "error"}]


def test_the_status_is_shown_with_its_numbers_and_links(fiftyone: Any, dataset: Any, console: FakeConsole) -> None:
    ((operator, params),) = run_as_the_app(fiftyone, STATUS, dataset)
    text = params["outputs"]["type"]["properties"]["text"]["default"]

    assert operator == "show_output"
    assert "| not sent | 1,204 |" in text
    assert "| skipped | 0 |" in text
    assert "| failed | – |" in text
    assert "Pre-labels by: none yet" in text
    assert "[Label Studio](http://127.0.0.1:8080/projects/1/data)" in text


def test_a_job_that_was_cancelled_in_the_console_is_said(fiftyone: Any, dataset: Any, console: FakeConsole) -> None:
    console.is_cancelled = True
    told = run_as_the_app(fiftyone, PULL, dataset)

    notices = [params for operator, params in told if operator == "notify"]
    assert notices == [{"message": "pull: cancelled", "variant": "warning"}]


@pytest.mark.usefixtures("console")
def test_the_conflicts_of_the_selection_or_of_the_view_are_counted(fiftyone: Any, dataset: Any) -> None:
    of_selection = resolve_form(fiftyone, RESOLVE, dataset, selected=dataset.values("id")[:3])
    of_view = resolve_form(fiftyone, RESOLVE, dataset)
    of_others = resolve_form(fiftyone, RESOLVE, dataset, selected=dataset.values("id")[2:])

    assert of_selection["summary"]["view"]["label"] == "1 sample is in conflict of those selected."
    assert of_view["summary"]["view"]["label"] == "1 sample is in conflict of those in the current view."
    assert [choice["value"] for choice in of_view["side"]["view"]["choices"]] == ["reviewed", "curated"]
    assert of_others["problem"]["view"]["label"] == "There is nothing to decide."


def test_conflicts_are_decided_for_the_chosen_side_and_no_other_sample_is_named(
    fiftyone: Any, dataset: Any, console: FakeConsole
) -> None:
    told = run_as_the_app(fiftyone, RESOLVE, dataset, selected=dataset.values("id")[:3], params={"side": "curated"})

    assert console.submitted == [{"job": "resolve", "params": {"decisions": {dataset.values("id")[1]: "curated"}}}]
    assert told[2][1] == {"message": "resolve: 1 decided, 0 unchanged", "variant": "success"}
    assert told[-1][0] == "reload_dataset"


def test_no_side_is_chosen_for_a_person(fiftyone: Any, dataset: Any, console: FakeConsole) -> None:
    with pytest.raises(fiftyone.operators.executor.ExecutionError, match="Validation error"):
        run_as_the_app(fiftyone, RESOLVE, dataset, selected=dataset.values("id")[:3])
    assert console.submitted == []


@pytest.mark.usefixtures("console")
def test_what_comes_next_can_be_chosen_by_any_number_of_the_samples(fiftyone: Any, dataset: Any) -> None:
    dataset.add_sample_field("sharpness", fiftyone.FloatField)
    form = resolve_form(fiftyone, QUEUE, dataset)

    choices = {choice["value"]: choice["label"] for choice in form["by"]["view"]["choices"]}
    assert list(choices) == ["uncertainty", "mistake", "diversity", "random", "sharpness"]
    assert choices["sharpness"] == "The highest sharpness"
    assert form["count"]["default"] == 100
    assert "problem" not in form


@pytest.mark.usefixtures("console")
def test_no_sample_at_all_cannot_be_queued(fiftyone: Any, dataset: Any) -> None:
    form = resolve_form(fiftyone, QUEUE, dataset, params={"count": 0})
    assert form["problem"]["view"]["label"] == "Give a number of 1 or more."


def test_a_dry_run_says_what_would_be_queued(fiftyone: Any, dataset: Any, console: FakeConsole) -> None:
    params = {"by": "random", "count": 5, "view": "next five", "dry_run": True}
    told = run_as_the_app(fiftyone, QUEUE, dataset, params=params)

    assert console.submitted == [{"job": "queue", "params": params}]
    assert "would be" in told[2][1]["message"]


# Tasks


def test_the_tasks_of_the_selected_samples_are_shown_with_their_links(
    fiftyone: Any, dataset: Any, console: FakeConsole
) -> None:
    first, second = dataset.values("id")[:2]
    dataset.add_sample_field("task_id", fiftyone.IntField)
    dataset.add_sample_field("reviewer", fiftyone.StringField)
    dataset.set_values("task_id", {first: 41}, key_field="id")
    dataset.set_values("reviewer", {first: "ann_b@example.org"}, key_field="id")

    ((operator, params),) = run_as_the_app(fiftyone, TASKS, dataset, selected=[first, second])

    assert operator == "show_output"
    text = params["outputs"]["type"]["properties"]["text"]["default"]
    assert text.splitlines()[2:] == [
        "| 0\\.jpg | queued | ann\\_b@example\\.org | [task 41](http://127.0.0.1:8080/projects/1/data?task=41) |",
        "| 1\\.jpg | conflict | – | never sent |",
    ]


@pytest.mark.usefixtures("console")
def test_without_an_image_there_is_no_task_to_show(fiftyone: Any, dataset: Any) -> None:
    ((_, params),) = run_as_the_app(fiftyone, TASKS, dataset)
    shown = params["outputs"]["type"]["properties"]["problem"]["view"]["label"]
    assert shown == "Open an image, or select samples first."


# Python


def test_python_sends_a_view_and_gets_the_report(fiftyone: Any, dataset: Any, console: FakeConsole) -> None:
    send = fiftyone.operators.get_operator(SEND)

    assert send(dataset.limit(2))["lines"][0] == "push: 2 sent, 0 unchanged, 1 failed"
    assert send(dataset)["moved"] == 2
    assert [one["params"] for one in console.submitted] == [{"sample_ids": dataset.limit(2).values("id")}, {}]


def test_python_sends_the_samples_that_patches_were_cut_from(fiftyone: Any, dataset: Any, console: FakeConsole) -> None:
    sample = dataset.skip(2).first()
    box = fiftyone.Detection(label="car", bounding_box=[0, 0, 0.5, 0.5])
    sample["predictions"] = fiftyone.Detections(detections=[box])
    sample.save()
    patches = dataset.to_patches("predictions")
    fiftyone.operators.get_operator(SEND)(patches)

    assert console.submitted == [{"job": "push", "params": {"sample_ids": [sample.id]}}]


def test_python_pulls_and_reads_the_status(fiftyone: Any, dataset: Any, console: FakeConsole) -> None:
    assert fiftyone.operators.get_operator(PULL)(dataset)["moved"] == 3
    assert fiftyone.operators.get_operator(STATUS)()["counts"]["queued"] == 96


def test_a_job_that_failed_is_an_error_in_python(fiftyone: Any, dataset: Any, console: FakeConsole) -> None:
    console.error = "Label Studio does not answer"
    with pytest.raises(ServiceError, match="pull failed: Label Studio does not answer"):
        fiftyone.operators.get_operator(PULL)(dataset)


def test_python_decides_and_queues(fiftyone: Any, dataset: Any, console: FakeConsole) -> None:
    assert fiftyone.operators.get_operator(RESOLVE)(dataset, "reviewed")["moved"] == 1
    assert fiftyone.operators.get_operator(QUEUE)(dataset, by="diversity", count=5)["moved"] == 5
    assert [one["params"] for one in console.submitted] == [
        {"decisions": {dataset.values("id")[1]: "reviewed"}},
        {"by": "diversity", "count": 5},
    ]
