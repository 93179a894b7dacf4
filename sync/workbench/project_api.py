"""How one project of Label Studio is asked: the connection, errors in words, people's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import httpx
from label_studio_sdk.core.request_options import RequestOptions

from sync.workbench.connection import connect_sdk
from sync.workbench.refusals import in_words

READ_TIMEOUT_S: Final = 120
READ: Final = RequestOptions(max_retries=3, timeout_in_seconds=READ_TIMEOUT_S)

Answer = TypeVar("Answer")


class ProjectApi:
    """The connection to one project of a Label Studio server; the calls are its subclasses'.

    Raises:
        ServiceError: from every method, when Label Studio does not answer or says no.
    """

    def __init__(self, url: str, token: str, project_id: int) -> None:
        self.url = url.rstrip("/")
        self.project_id = project_id
        # A proxy of this shell must not be asked for a server of this machine.
        self._http = httpx.Client(timeout=READ_TIMEOUT_S, trust_env=False, follow_redirects=True)
        # It looks at the token, and does not take one that has expired.
        with in_words(self.url, "the token"):
            self._sdk = connect_sdk(self.url, token, self._http)
        self._emails: dict[int, str] = {}

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _ask(self, what: str, call: Callable[[], Answer]) -> Answer:
        with in_words(self.url, what):
            return call()

    def _email_of(self, user: Any) -> str:
        user_id = user.get("id") if isinstance(user, Mapping) else user
        if user_id is None:
            return ""
        if user_id not in self._emails:
            users = self._ask("GET users", lambda: self._sdk.users.list(request_options=READ))
            self._emails = {person.id: person.email or str(person.id) for person in users}
        return self._emails.get(user_id, str(user_id))
