"""The reader of bodies reads what Python's own reads, and refuses what that one refuses."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.exceptions import BadRequest

from ml_backend.serving.bodies import read_context, read_label_counts, read_object, write_answer

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(value=st.dictionaries(st.text(), json_values, max_size=4), indent=st.sampled_from([None, 0, 3]))
def test_every_object_is_read_as_python_reads_it(value: dict[str, object], indent: int | None) -> None:
    expected = {key: item for key, item in value.items() if key != "tasks"}

    assert read_object(json.dumps(expected, indent=indent).encode()) == expected


@given(text=st.text('{}[]":,0a \n', max_size=12))
def test_what_is_no_object_is_refused(text: str) -> None:
    try:
        expected = json.loads(text)
    except ValueError:
        expected = None
    if isinstance(expected, dict):
        assert read_object(text.encode()) == expected
    else:
        with pytest.raises(BadRequest):
            read_object(text.encode())


@pytest.mark.parametrize(
    "body", [b"\xff{}", b'{"a": NaN}', b'{"a": Infinity}', b'{"a": 1} x', b'{"a": ' + b"9" * 5000 + b"}"]
)
def test_what_is_not_quite_json_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        read_object(body)


def test_the_last_of_two_equal_keys_counts_as_it_does_for_python() -> None:
    assert read_object(b'{"a": 1, "a": [2]}') == {"a": [2]}


def test_of_a_task_only_what_is_needed_is_kept() -> None:
    task = {"id": 1, "data": {"image": "x"}, "predictions": [{"result": [{}] * 9}], "annotations": []}

    assert read_object(json.dumps({"tasks": [task, "odd", None]}).encode()) == {
        "tasks": [{"id": 1, "data": {"image": "x"}}, "odd", None]
    }


@pytest.mark.parametrize(
    ("params", "context"),
    [
        (None, []),
        ({"context": None}, []),
        ({"context": {"result": None}}, []),
        ({"context": {"result": [{"id": "a"}, 3]}}, [{"id": "a"}]),
        ({"context": []}, []),
        ([], []),
    ],
)
def test_what_an_annotator_drew_is_a_list_whatever_comes(params: object, context: list[object]) -> None:
    assert read_context({"params": params}) == context


@pytest.mark.parametrize(
    ("params", "counts"),
    [
        ({}, None),
        (None, None),
        ({"label_counts": []}, None),
        ({"label_counts": {}}, {}),
        ({"label_counts": {"car": 3, "person": -1, "dog": True, "cat": 1.5, "bus": 0}}, {"car": 3, "bus": 0}),
    ],
)
def test_label_counts_are_whole_numbers_or_nothing(params: object, counts: dict[str, int] | None) -> None:
    assert read_label_counts({"params": params}) == counts


def test_an_answer_is_json() -> None:
    answer = write_answer(['{"score": 1.0}', "[]"], [{"task": "ü", "error": "no"}])

    assert json.loads(answer) == {"results": [{"score": 1.0}, []], "errors": [{"task": "ü", "error": "no"}]}
