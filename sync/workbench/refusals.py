"""What Label Studio says in place of an answer, in the words of ``labels/errors.py``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import httpx
from label_studio_sdk.core.api_error import ApiError

from labels.errors import ServiceError

UNAUTHORIZED_STATUS: Final = 401
# A proxy in between says so: what Label Studio does or did is not known.
GATEWAY_STATUSES: Final = (502, 504)
NOT_ASKED: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class RefusedError(ServiceError):
    """Label Studio answered no, with this status; None: the answer had none."""

    def __init__(self, problem: str, status_code: int | None) -> None:
        super().__init__(problem)
        self.status_code = status_code


class NoAnswerError(ServiceError):
    """Label Studio was asked and did not answer: it may have done what was asked, or be about to."""


@contextmanager
def in_words(url: str, what: str) -> Iterator[None]:
    """Raise what the SDK raises in the block as an error a person can read; ``what`` was asked of Label Studio.

    Raises:
        RefusedError: it said no.
        NoAnswerError: it was asked, and nobody knows what became of it.
        ServiceError: it could not be asked.
    """
    try:
        yield
    except ApiError as error:
        hint = ""
        if error.status_code == UNAUTHORIZED_STATUS:
            hint = ", check the token of Label Studio (labelloop up makes a new one)"
        problem = f"Label Studio, {what}: {error.status_code}{hint} {_detail(error.body)}".strip()
        if error.status_code in GATEWAY_STATUSES:
            raise NoAnswerError(problem) from error
        raise RefusedError(problem, error.status_code) from error
    except httpx.HTTPError as error:
        kind = ServiceError if isinstance(error, NOT_ASKED) else NoAnswerError
        raise kind(f"Label Studio at {url}, {what}: no answer ({error})") from error
    except json.JSONDecodeError as error:
        # The SDK reads some answers before it looks at their status.
        raise NoAnswerError(
            f"Label Studio at {url}, {what}: the answer is no JSON; is something else there?"
        ) from error


def _detail(body: Any) -> str:
    text = json.dumps(body, default=str) if isinstance(body, Mapping | list) else str(body or "")
    return " ".join(text.split())[:300]
