"""The SDK on an HTTP client of ours; a request whose access token ran out on the way is sent again with a new one."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

import httpx
from label_studio_sdk import LabelStudio as Sdk

REFRESH_PATH: Final = "/api/token/refresh/"
BEARER: Final = "Bearer "


class RenewingAuth(httpx.Auth):
    """Answers a 401 to an access token with a new one.

    The SDK looks at the end of an access token before it sends, to the second: on a busy server it ends on the way.
    What was refused so was not carried out, so every request may be sent again.
    """

    def __init__(self, url: str, token: str) -> None:
        self._refresh_url = f"{url.rstrip('/')}{REFRESH_PATH}"
        self._token = token

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send the request, and once more where its token is not taken."""
        response = yield request
        had_access = request.headers.get("Authorization", "").startswith(BEARER)
        if response.status_code != httpx.codes.UNAUTHORIZED or not had_access:
            return
        renewed = yield httpx.Request("POST", self._refresh_url, json={"refresh": self._token})
        if renewed.status_code == httpx.codes.OK:
            renewed.read()
            request.headers["Authorization"] = f"{BEARER}{renewed.json()['access']}"
            yield request


def connect_sdk(url: str, token: str, http: httpx.Client) -> Sdk:
    """Return the SDK for a server, by a personal access token or a legacy one, on a client that renews access.

    Raises:
        ApiError: the token cannot be one, or has expired.
    """
    http.auth = RenewingAuth(url, token)
    return Sdk(base_url=url, api_key=token, httpx_client=http)  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
