"""What Label Studio says in place of an answer: it reaches people as one line that says what to do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest

from labels.errors import ServiceError
from sync.services.bootstrap import connect
from sync.workbench.label_studio import LabelStudio, NoAnswerError, RefusedError

KEY = "k" * 40
NOWHERE = "http://127.0.0.1:9"
LEGACY = "0" * 40


def to_token(**claims: Any) -> str:
    """Return a token as Label Studio makes them."""
    return jwt.encode({"token_type": "refresh", **claims}, KEY, algorithm="HS256")


EXPIRED = to_token(exp=datetime.now(UTC) - timedelta(days=1))
ENDLESS = to_token()
VALID = to_token(exp=datetime.now(UTC) + timedelta(days=1))


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """Give the block the address of a server that has one answer to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815  the name the base class looks for

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def ask(url: str, token: str) -> int:
    """Ask one thing, as any job does first."""
    with closing(LabelStudio(url, token, 1)) as label_studio:
        return label_studio.fetch_task_count()


@pytest.mark.parametrize("token", [EXPIRED, ENDLESS], ids=["expired", "without an end"])
def test_a_token_that_cannot_be_used_is_an_error_in_one_line_before_anything_is_asked(token: str):
    with pytest.raises(ServiceError, match="401, check the token of Label Studio") as caught:
        ask(NOWHERE, token)
    assert "\n" not in str(caught.value)
    assert token not in str(caught.value)


@pytest.mark.parametrize("token", [VALID, LEGACY], ids=["of today", "of old"])
def test_a_token_that_is_refused_is_an_error_in_one_line(token: str):
    with (
        answering(401, b'{"detail": "Token is blacklisted"}') as url,
        pytest.raises(RefusedError, match=r"401, check the token .*Token is blacklisted") as caught,
    ):
        ask(url, token)
    assert "\n" not in str(caught.value)
    assert token not in str(caught.value)


@pytest.mark.parametrize("use", [ask, lambda url, token: connect(url, token).__enter__()], ids=["jobs", "set-up"])
def test_set_up_says_it_too(use: Callable[[str, str], Any]):
    with pytest.raises(ServiceError, match="401"):
        use(NOWHERE, EXPIRED)


def test_something_else_on_the_port_is_an_error_in_one_line():
    with answering(200, b"<html>hello</html>") as url, pytest.raises(NoAnswerError, match="is no JSON"):
        ask(url, VALID)


def test_nobody_on_the_port_is_an_error_in_one_line():
    with pytest.raises(ServiceError, match=r"http://127.0.0.1:9, GET project: no answer") as caught:
        ask(NOWHERE, VALID)
    assert type(caught.value) is ServiceError
