"""The reader of bodies reads what Python's own reads, and refuses what that one refuses."""

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.exceptions import BadRequest

from ml_backend.serving import bodies
from ml_backend.serving.bodies import read_context, read_label_counts, write_answer

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def read_object(body: bytes) -> dict[str, Any]:
    return bodies.read_object(io.BytesIO(body))


class Trickle:
    """A body that comes in pieces of a few bytes, whatever is asked for."""

    def __init__(self, body: bytes, size: int) -> None:
        self._file = io.BytesIO(body)
        self._size = size

    def read(self, size: int, /) -> bytes:
        return self._file.read(min(size, self._size))


@given(value=st.dictionaries(st.text(), json_values, max_size=4), indent=st.sampled_from([None, 0, 3]))
def test_every_object_is_read_as_python_reads_it(value: dict[str, object], indent: int | None) -> None:
    expected = {key: item for key, item in value.items() if key != "tasks"}

    assert read_object(json.dumps(expected, indent=indent).encode()) == expected


@given(value=st.dictionaries(st.text(), json_values, max_size=4), size=st.integers(1, 7), is_ascii=st.booleans())
def test_a_body_in_pieces_is_the_same_body(value: dict[str, object], size: int, is_ascii: bool) -> None:
    body = json.dumps(value, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass")
    try:
        expected = read_object(body)
    except BadRequest:  # half of a pair, which is no UTF-8
        with pytest.raises(BadRequest):
            bodies.read_object(Trickle(body, size))
    else:
        assert bodies.read_object(Trickle(body, size)) == expected


@pytest.mark.parametrize("body", [b'{"a": 12.5e-3}', b'{"a": [1.5, -20]}', '{"ä": "\u2603"}'.encode()])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_number_or_a_letter_that_is_cut_off_is_read_to_its_end(body: bytes, size: int) -> None:
    assert bodies.read_object(Trickle(body, size)) == json.loads(body)


@pytest.mark.parametrize("body", [b'{"a": 1', b'{"a": "x', b'{"a"', b"{", b"", b'{"a": 1.}', b'{"a": [1,'])
def test_a_body_that_ends_too_soon_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        bodies.read_object(Trickle(body, 2))


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

    assert json.loads(b"".join(answer)) == {"results": [{"score": 1.0}, []], "errors": [{"task": "ü", "error": "no"}]}


def test_a_long_answer_is_in_pieces_and_they_are_the_same_answer() -> None:
    results = [json.dumps({"result": ["x" * 1000] * (number % 7)}) for number in range(500)]
    errors = [{"task": number, "error": "y" * 1000} for number in range(700)]

    answer = write_answer(results, errors)

    assert len(answer) > 2
    assert max(len(piece) for piece in answer) < 2 * bodies.PIECE_BYTES
    assert json.loads(b"".join(answer)) == {"results": [json.loads(result) for result in results], "errors": errors}
