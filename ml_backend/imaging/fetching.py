"""Fetches image bytes over HTTP: from Label Studio with our own token, from other allowed hosts without.

Every connection to another host goes to an address that was checked (``ml_backend/imaging/addresses.py``), and an
address is read by one parser alone, that of the connection: where two read it differently, one checks a host and the
other asks another.

The token Label Studio hands over at /setup is one it refuses by default, so it is not used. Ours is a personal access
token: it buys access tokens that live for minutes, and neither ever goes to any host but Label Studio's.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Final
from urllib.parse import urljoin

import requests
from urllib3.exceptions import HTTPError, LocationParseError
from urllib3.util import parse_url

from labels.errors import LabelingError, ServiceError
from ml_backend.imaging.addresses import CheckedAdapter, ForbiddenAddressError
from ml_backend.imaging.connections import TimelyAdapter

logger = logging.getLogger(__name__)

TIMEOUT_S: Final = (3.0, 10.0)  # to connect, and between two pieces of the answer
TOTAL_TIMEOUT_S: Final = 30.0
# Label Studio's access tokens live for 300 s.
ACCESS_LIFE_S: Final = 240.0
MAX_REDIRECTS: Final = 3
CHUNK_BYTES: Final = 1 << 16
DEFAULT_PORTS: Final = {"http": 80, "https": 443}

Origin = tuple[str, str, int]


class FetchError(ServiceError):
    """An image cannot be fetched; the text says why, without the token."""


class AccessToken:
    """Label Studio's ``Authorization`` header, bought with a personal access token and renewed before it runs out.

    ``read_key`` is asked again at each renewal, so that a new token in the file takes effect without a restart.
    """

    def __init__(self, label_studio_url: str, read_key: Callable[[], str | None]) -> None:
        self._url = f"{label_studio_url}/api/token/refresh/"
        self._read_key = read_key
        self._lock = threading.Lock()
        self._header: str | None = None
        self._valid_until = 0.0

    def get_header(self, *, refused: str | None = None) -> str | None:
        """Return the header, or None when we have no token; ``refused`` is a header that Label Studio no longer takes.

        Raises:
            FetchError: Label Studio refuses our token or does not answer.
        """
        with self._lock:
            is_good = self._header is not None and self._header != refused and time.monotonic() < self._valid_until
            if not is_good:
                self._header = self._fetch_header()
                self._valid_until = time.monotonic() + ACCESS_LIFE_S
            return self._header

    def _fetch_header(self) -> str | None:
        key = self._read_key()
        if key is None:
            return None
        if key.count(".") != 2:  # no JWT: a legacy token, which is used as it is
            return f"Token {key}"
        try:
            # An own session without the environment: a .netrc would put its password in the place of ours.
            with _new_session(TimelyAdapter()) as session:
                response = session.post(self._url, json={"refresh": key}, timeout=TIMEOUT_S, allow_redirects=False)
                response.raise_for_status()
                return f"Bearer {response.json()['access']}"
        except requests.HTTPError as error:
            raise FetchError(f"Label Studio refuses our token ({error.response.status_code})") from error
        except (requests.RequestException, ValueError, KeyError, TypeError) as error:
            raise FetchError(f"Label Studio gives no access token ({type(error).__name__})") from error


def read_api_key(key: str | None, key_file: Path | None) -> str | None:
    """Return the personal access token: the value, else the file's content, else None.

    Raises:
        LabelingError: the file is named but cannot be read.
    """
    if key is not None or key_file is None:
        return key
    try:
        return key_file.read_text(encoding="utf-8").strip() or None
    except OSError as error:
        # The message goes into an answer: the place of the file is nobody's business there.
        raise LabelingError("LABEL_STUDIO_API_KEY_FILE: cannot be read") from error


class Fetcher:
    """Fetches bytes from Label Studio and from the allowed hosts, and from nowhere else."""

    def __init__(
        self,
        *,
        label_studio_url: str | None,
        token: AccessToken | None,
        allowed_hosts: frozenset[str] = frozenset(),
        max_bytes: int,
    ) -> None:
        self.label_studio_url = label_studio_url
        self._own_origin = _to_origin(label_studio_url) if label_studio_url else None
        self._token = token
        self._allowed_hosts = allowed_hosts
        self._max_bytes = max_bytes
        self._local = threading.local()

    def is_label_studio(self, url: str) -> bool:
        """Return whether an absolute URL is on Label Studio's own scheme, host and port."""
        return self._own_origin is not None and _parse(url) == self._own_origin

    def fetch(self, url: str) -> bytes:
        """Return the body of an absolute URL, or of a path on Label Studio.

        Raises:
            FetchError: a host that is not allowed, here or at the end of a redirect; no answer, another answer than
                200, or one that is too large or too slow.
        """
        if self.label_studio_url is not None:
            url = urljoin(f"{self.label_studio_url}/", url)
        deadline = time.monotonic() + TOTAL_TIMEOUT_S
        for _ in range(MAX_REDIRECTS + 1):
            try:
                response = self._get(url)
                with response:
                    if not response.is_redirect:
                        return self._read(response, deadline)
                    url = urljoin(url, response.headers["location"])
                    _check_time(deadline)
            except ForbiddenAddressError as error:
                raise FetchError(str(error)) from error
            except (requests.RequestException, HTTPError) as error:
                raise FetchError(f"no answer ({type(error).__name__})") from error
        raise FetchError("redirects too often")

    def _get(self, url: str) -> requests.Response:
        origin = _parse(url)
        if origin != self._own_origin:
            self._check_allowed(origin)
            return self._get_session(is_own=False).get(url, stream=True, timeout=TIMEOUT_S, allow_redirects=False)
        header = self._token.get_header() if self._token is not None else None
        response = self._ask_label_studio(url, header)
        if response.status_code == requests.codes.unauthorized and self._token is not None and header is not None:
            response.close()
            response = self._ask_label_studio(url, self._token.get_header(refused=header))
        return response

    def _ask_label_studio(self, url: str, header: str | None) -> requests.Response:
        headers = {"Authorization": header} if header is not None else {}
        session = self._get_session(is_own=True)
        return session.get(url, headers=headers, stream=True, timeout=TIMEOUT_S, allow_redirects=False)

    def _get_session(self, *, is_own: bool) -> requests.Session:
        """Return this thread's session for Label Studio or for the others: sessions are not made for sharing.

        Where Label Studio is, was written down by whoever started us, and may well be this machine. The choice is made
        by the origin and not by the session, which goes by how an address begins.
        """
        name = "own" if is_own else "others"
        if not hasattr(self._local, name):
            setattr(self._local, name, _new_session(TimelyAdapter() if is_own else CheckedAdapter()))
        session: requests.Session = getattr(self._local, name)
        return session

    def _read(self, response: requests.Response, deadline: float) -> bytes:
        if response.status_code != requests.codes.ok:
            raise FetchError(f"answered {response.status_code}{_explain(response.status_code)}")
        pieces: list[bytes] = []
        size = 0
        # What is there, without waiting until a piece is full: of a host that drips, the deadline is seen in time.
        while piece := response.raw.read1(CHUNK_BYTES, decode_content=True):
            pieces.append(piece)
            size += len(piece)
            if size > self._max_bytes:
                raise FetchError(f"larger than {self._max_bytes} bytes")
            _check_time(deadline)
        return b"".join(pieces)

    def _check_allowed(self, origin: Origin) -> None:
        scheme, host, port = origin
        is_plain = port == DEFAULT_PORTS[scheme] and host in self._allowed_hosts
        if not is_plain and f"{host}:{port}" not in self._allowed_hosts:
            raise FetchError(f"host {host}:{port} is not allowed (LABELLOOP_ALLOWED_HOSTS)")


def _check_time(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise FetchError(f"not finished after {TOTAL_TIMEOUT_S:.0f} s")


def _new_session(adapter: TimelyAdapter) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    for scheme in DEFAULT_PORTS:
        session.mount(f"{scheme}://", adapter)
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    return session


def _explain(status: int) -> str:
    return ", check LABEL_STUDIO_API_KEY" if status in {401, 403} else ""


def _parse(url: str) -> Origin:
    try:
        return _to_origin(url)
    except (LocationParseError, ValueError) as error:
        raise FetchError("not an http or https address") from error


def _to_origin(url: str) -> Origin:
    """Return scheme, host and port as the connection will have them: read by the parser that connects.

    Raises:
        LocationParseError, ValueError: it is none of http or https, has no host, or what two programs may read
            differently: a user, a backslash before the query, a control character.
    """
    parts = parse_url(url)
    if parts.scheme not in DEFAULT_PORTS or not parts.host:
        raise ValueError("not an address of a host")
    if parts.auth is not None or "\\" in url.partition("?")[0] or not url.isprintable():
        raise ValueError("ambiguous")
    return parts.scheme, parts.host.strip("[]"), parts.port or DEFAULT_PORTS[parts.scheme]
