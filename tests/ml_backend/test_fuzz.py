"""Bodies and files that nobody means to send: each is answered, counted, and leaves the server as it was.

LABELLOOP_TEST_FUZZ_CASES says how many of each; a few hundred take seconds, ten thousand take minutes.
"""

import io
import json
import logging
import os
import resource
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage
from werkzeug.test import TestResponse

from ml_backend.settings import Settings

CASES = int(os.environ.get("LABELLOOP_TEST_FUZZ_CASES", "300"))
HANG_S = 20
ROUTES = ["/", "/health", "/ready", "/versions", "/metrics", "/setup", "/predict", "/webhook", "/absent"]
RECORDED = json.loads((Path(__file__).parent / "recorded_requests.json").read_text(encoding="utf-8"))
BODIES = [entry["body"] for entry in RECORDED.values() if entry["body"] is not None]
ANSWERS = {200, 202, 400, 403, 404, 405, 413, 501, 503}
MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "I;16", "F", "YCbCr"]
FORMATS = ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "ICO", "PPM"]
GROWTH_BYTES = 600 * 1024 * 1024

fuzz = settings(
    max_examples=CASES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=30)
    | st.sampled_from(["/data/local-files/?d=images/f", "http://169.254.169.254/x", "../../etc/passwd", "\ud800"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


@pytest.fixture
def client(make_app: Callable[..., Flask], fake: Any) -> Iterator[FlaskClient]:
    # pytest keeps every line that is logged, with all that hangs on it.
    logging.disable(logging.CRITICAL)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield make_app(fake).test_client()
    logging.disable(logging.NOTSET)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < GROWTH_BYTES


def ask(client: FlaskClient, path: str, *, method: str = "POST", **request: Any) -> TestResponse:
    """Return the answer; one that does not come is an error of the test, and one that is a bug is too."""
    answers: list[TestResponse] = []
    thread = threading.Thread(
        target=lambda: answers.append(client.application.test_client().open(path, method=method, **request)),
        daemon=True,
    )
    thread.start()
    thread.join(HANG_S)
    assert answers, f"{method} {path} hangs"
    (answer,) = answers
    assert answer.status_code in ANSWERS
    assert client.application.extensions["engine"].metrics.read_value("errors_total", kind="unexpected") == 0
    return answer


def change(data: st.DataObject, value: Any) -> Any:
    """Return a JSON value with one part of it in another's place, or left out, or doubled."""
    if isinstance(value, dict) and value and data.draw(st.booleans()):
        key = data.draw(st.sampled_from(sorted(value)))
        how = data.draw(st.sampled_from(["deeper", "deeper", "replace", "drop"]))
        rest = {other: value[other] for other in value if other != key}
        return (
            rest
            if how == "drop"
            else rest | {key: change(data, value[key]) if how == "deeper" else data.draw(json_values)}
        )
    if isinstance(value, list) and value and data.draw(st.booleans()):
        index = data.draw(st.integers(0, len(value) - 1))
        return [*value[:index], change(data, value[index]), *value[index : index + data.draw(st.integers(0, 2))]]
    return data.draw(json_values)


@fuzz
@given(data=st.data())
def test_bodies_that_are_nearly_right(client: FlaskClient, data: st.DataObject) -> None:
    body = change(data, data.draw(st.sampled_from(BODIES)))
    path = data.draw(st.sampled_from(["/predict", "/predict", "/predict", "/setup", "/webhook", "/versions"]))

    answer = ask(
        client, path, data=json.dumps(body), headers={"Content-Type": data.draw(st.text("abc/;=", max_size=9))}
    )

    assert isinstance(answer.get_json(), dict)
    if path == "/predict" and answer.status_code == 200:
        assert len(answer.get_json()["results"]) == len(body["tasks"])


@fuzz
@given(
    path=st.sampled_from(ROUTES),
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"]),
    body=st.binary(max_size=200)
    | st.integers(1, 5000).map(lambda depth: b"[" * depth)
    | st.integers(1, 5000).map(lambda depth: b'{"tasks":' * depth + b"1" + b"}" * depth)
    | st.integers(1, 6000).map(lambda digits: b'{"tasks": [' + b"9" * digits + b"]}"),
    query=st.text("abc=&%?/", max_size=10),
)
def test_bodies_that_are_no_json(client: FlaskClient, path: str, method: str, body: bytes, query: str) -> None:
    answer = ask(client, path, method=method, data=body, query_string=query)

    assert answer.status_code in ANSWERS


@fuzz
@given(xml=st.text("<>/=\"' &;!?[]-ViewRectanglelsLbvutoNameIg$1", max_size=120))
def test_label_configs_that_are_none(client: FlaskClient, xml: str) -> None:
    for text in (xml, f'<View toName="i">{xml}</View>'):
        assert ask(client, "/setup", json={"schema": text}).status_code in {200, 400}
        assert ask(client, "/predict", json={"tasks": [], "label_config": text}).status_code in {200, 400}


def make_file(image_format: str, mode: str) -> bytes:
    image = PillowImage.new("L", (9, 7), 100).convert("RGB").convert("L" if mode.startswith(("I", "F")) else "RGB")
    try:
        image = PillowImage.new(mode, (9, 7)) if mode in {"I;16", "LA"} else image.convert(mode)
        buffer = io.BytesIO()
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(buffer, image_format, exif=exif)
    except (OSError, ValueError, KeyError):
        return b""
    return buffer.getvalue()


FILES = [content for image_format in FORMATS for mode in MODES if (content := make_file(image_format, mode))]


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of damage that it can live with
@fuzz
@given(data=st.data())
def test_files_that_are_nearly_images(
    client: FlaskClient, settings: Settings, config_xml: str, data: st.DataObject
) -> None:
    content = bytearray(data.draw(st.sampled_from(FILES) | st.binary(min_size=1, max_size=50)))
    for _ in range(data.draw(st.integers(0, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    (settings.media_root / "images" / "f").write_bytes(bytes(content))
    tasks = [{"id": 1, "data": {"image": "/data/local-files/?d=images/f"}}]

    answer = ask(client, "/predict", json={"tasks": tasks, "label_config": config_xml}).get_json()

    assert len(answer["results"]) == 1
    assert (answer["results"] == [[]]) == bool(answer["errors"])
    assert all(
        len(error["error"]) < 400 and str(settings.media_root) not in error["error"] for error in answer["errors"]
    )
