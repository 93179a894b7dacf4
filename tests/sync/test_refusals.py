"""What Label Studio says in place of an answer: it reaches people as one line that says what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
import pytest
from label_studio_sdk.core.api_error import ApiError

from labels.errors import ServiceError
from sync.services.bootstrap import connect
from sync.workbench.connection import connect_sdk
from sync.workbench.label_studio import LabelStudio, NoAnswerError, RefusedError
from tests.fakes.answering import Answer, answering

KEY = "k" * 40
NOWHERE = "http://127.0.0.1:9"
LEGACY = "0" * 40


def to_token(**claims: Any) -> str:
    """Return a token as Label Studio makes them."""
    return jwt.encode({"token_type": "refresh", **claims}, KEY, algorithm="HS256")


EXPIRED = to_token(exp=datetime.now(UTC) - timedelta(days=1))
ENDLESS = to_token()
IN_AN_HOUR = datetime.now(UTC) + timedelta(hours=1)
VALID = to_token(exp=datetime.now(UTC) + timedelta(days=1))


def always(status: int, body: bytes) -> Answer:
    """Return the one answer to everything."""
    return lambda method, path, asked: (status, body)


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
        answering(always(401, b'{"detail": "Token is blacklisted"}')) as url,
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
    with answering(always(200, b"<html>hello</html>")) as url, pytest.raises(NoAnswerError, match="is no JSON"):
        ask(url, VALID)


def test_nobody_on_the_port_is_an_error_in_one_line():
    with pytest.raises(ServiceError, match=r"http://127.0.0.1:9, GET project: no answer") as caught:
        ask(NOWHERE, VALID)
    assert type(caught.value) is ServiceError


@dataclass
class ExpiringAccess:
    """A server that takes an access token twice, as if it ended on the way; it counts what it carried out."""

    refresh_status: int = 200
    bought: int = 0
    uses: int = 0
    created: int = 0

    def answer(self, method: str, path: str, asked: bytes) -> tuple[int, bytes]:
        if path.startswith("/api/token/refresh"):
            self.bought += 1
            self.uses = 0
            status = self.refresh_status if self.bought > 1 else 200
            return status, json.dumps({"access": to_token(exp=IN_AN_HOUR, number=self.bought)}).encode()
        self.uses += 1
        if self.uses > 1 and self.created == 0:
            return 401, b'{"detail": "Authentication credentials were not provided."}'
        self.created += method == "POST"
        return 201, b'{"id": 5}'


def test_a_token_that_ends_on_the_way_is_renewed_and_the_request_is_sent_again_once():
    server = ExpiringAccess()
    with answering(server.answer) as url, httpx.Client(trust_env=False) as http:
        sdk = connect_sdk(url, VALID, http)
        sdk.projects.get(1)
        sdk.projects.create(title="one")

    assert (server.bought, server.created) == (2, 1)


def test_what_is_refused_with_a_new_token_too_is_an_error():
    server = ExpiringAccess(refresh_status=401)
    with answering(server.answer) as url, httpx.Client(trust_env=False) as http:
        sdk = connect_sdk(url, VALID, http)
        sdk.projects.get(1)
        with pytest.raises(ApiError) as caught:
            sdk.projects.create(title="one")

    assert (caught.value.status_code, server.created) == (401, 0)
